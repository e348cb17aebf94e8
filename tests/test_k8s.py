"""launch.k8s: its manifests are valid, start the same commands as launch.local, and restart what can go on."""

import json
import os
import re
import subprocess
import sys

import jsonschema
import kubernetes_validate
import pytest
from absl import flags
from conftest import ROOT

from deepconv import main
from deepconv.run import preemption
from experiments import entries, jobs
from experiments.jobs import Job
from launch import k8s

OPTIONS = k8s.Options("registry/deepconv:1", "storage", nodes=1, gpus_per_node=8, restarts=20)
FOUR = k8s.Options("registry/deepconv:1", "storage", nodes=4, gpus_per_node=8, restarts=20)
DNS_LABEL = "[a-z]([-a-z0-9]*[a-z0-9])?"  # RFC 1035


def record(required, **properties):
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


def array(items):
    return {"type": "array", "minItems": 1, "items": items}


TEXT, COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
JOB_NAMES = {"enum": ["BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded"]}
JOB_NAMES["enum"] += ["PodFailurePolicy"]
# The fields that are used here of the custom resource's definition, jobset.x-k8s.io_jobsets.yaml of JobSet 0.9.
RULE = record(
    ["name", "action"],
    name={"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
    action={"enum": ["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"]},
    onJobFailureReasons=array(JOB_NAMES),
)
REPLICATED_JOB = record(
    ["name", "template"],
    name=TEXT,
    replicas=COUNT,
    dependsOn=array(record(["name", "status"], name=TEXT, status={"enum": ["Ready", "Complete"]})),
    template=record(["spec"], spec={"type": "object"}),  # checked by the schema of Kubernetes
)
JOBSET = record(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata=record(["name"], name=TEXT, labels=TEXTS, annotations=TEXTS),
    spec=record(
        ["replicatedJobs"],
        replicatedJobs=array(REPLICATED_JOB),
        failurePolicy=record(
            [],
            maxRestarts=COUNT,
            restartStrategy={"enum": ["Recreate", "BlockingRecreate"]},
            rules=array(RULE),
        ),
    ),
)


@pytest.fixture(scope="module")
def todo():
    """The jobs of all tables, as if nothing had been measured."""
    tables = entries.load()
    return jobs.missing(tables, dict.fromkeys(tables, {}), "/deepconv/runs", ["--data_dir=/deepconv/data"])


@pytest.fixture(scope="module")
def jobsets(todo):
    return {name: k8s.manifest(name, job, k8s.stage(name, todo), FOUR) for name, job in todo.items()}


def parts(jobset):
    return {part["name"]: part["template"]["spec"] for part in jobset["spec"]["replicatedJobs"]}


def command(job):
    (container,) = job["template"]["spec"]["containers"]
    return container["command"]


def expanded(argument, variables):
    """What Kubernetes makes of an argument."""
    return re.sub(r"\$(\$)|\$\((\w+)\)", lambda found: found[1] or variables[found[2]], argument)


def test_manifests_are_valid(jobsets):
    for jobset in jobsets.values():
        jsonschema.validate(jobset, JOBSET)
    for jobset in [*jobsets.values()][::20]:  # they are alike
        for name, spec in parts(jobset).items():
            job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
            kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)


def test_the_schemas_know_wrong_fields(jobsets):
    jobset = json.loads(json.dumps([*jobsets.values()][0]))
    jobset["spec"]["failurePolicy"]["backoffLimit"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(jobset, JOBSET)
    spec = parts(jobset)["run"]
    spec["podFailurePolicy"]["rules"][1]["onExitCodes"]["codes"] = [1]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "run"}, "spec": spec}
    with pytest.raises(kubernetes_validate.ValidationError, match="codes"):
        kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)


def test_names_suit_kubernetes_and_differ(jobsets):
    names = [jobset["metadata"]["name"] for jobset in jobsets.values()]
    assert len({*names}) == len(names) == len(jobsets)
    for jobset in jobsets.values():
        for part in parts(jobset):
            pod = f"{jobset['metadata']['name']}-{part}-0-999-abcde"
            assert len(pod) <= 63 and re.fullmatch(DNS_LABEL, pod)
    run = "resnet_cifar,model.depth=110,seed=4"
    assert jobsets[run]["metadata"]["annotations"]["deepconv-run"] == run
    assert k8s.short_name(run).startswith("resnet-cifar-model-depth-110-")


def test_containers_run_the_commands_of_the_jobs(todo, jobsets):
    training = {name: job for name, job in todo.items() if job.commands[0][0] == "deepconv.main"}
    for name, job in training.items():
        one = parts(k8s.manifest(name, job, 1, OPTIONS))
        assert command(one["run"]) == ["python", "-m", *job.commands[0], "--expect_devices=8"]
        assert [command(part) for part in one.values()][1:] == [["python", "-m", *line] for line in job.commands[1:]]
        four = parts(jobsets[name])
        first, *others = [command(part) for part in four.values()]
        assert first[: -len(k8s.place("", FOUR))] == command(one["run"])[: -len(k8s.place("", OPTIONS))]
        assert others == [command(part) for part in one.values()][1:]
        assert [part["completions"] for part in four.values()] == [4, *[1] * len(others)]
    measuring = {name: job for name, job in todo.items() if name not in training}
    assert measuring  # on one node, without the flags of processes
    for name, job in measuring.items():
        (part,) = parts(jobsets[name]).values()
        assert (command(part), part["completions"]) == (["python", "-m", *job.commands[0]], 1)
        assert jobsets[name]["metadata"]["annotations"]["deepconv-needs"] == " ".join(job.needs)


def test_the_processes_of_a_run_find_each_other():
    part = parts(k8s.manifest("run=$(HOME)$x", Job([["deepconv.main", "--workdir=$(HOME)$x"]]), 1, FOUR))["run"]
    assert (part["completionMode"], part["completions"], part["parallelism"]) == ("Indexed", 4, 4)
    arguments = [expanded(argument, {"JOB_COMPLETION_INDEX": "2"}) for argument in command(part)]
    jobset = k8s.short_name("run=$(HOME)$x")
    assert arguments == [
        *("python", "-m", "deepconv.main", "--workdir=$(HOME)$x"),
        *(f"--coordinator={jobset}-run-0-0.{jobset}:{k8s.PORT}", "--processes=4", "--process=2"),
        "--expect_devices=32",
    ]


def test_the_training_command_takes_the_flags_of_processes():
    names = [flag.removeprefix("--").partition("=")[0] for flag in k8s.place("run", FOUR)]
    assert all(flags.FLAGS[name].help for name in names) and main.__name__ == "deepconv.main"


def test_further_commands_wait_for_those_before_them(jobsets):
    (name,) = [name for name in jobsets if name == "alexnet"]  # Fig. 4 needs features of both splits
    run, *others = jobsets[name]["spec"]["replicatedJobs"]
    assert "dependsOn" not in run and len(others) == 2
    assert [part["dependsOn"] for part in others] == [
        [{"name": "run", "status": "Complete"}],
        [{"name": "then1", "status": "Complete"}],
    ]
    assert all("deepconv.predict" in command(part["template"]["spec"]) for part in others)


def test_stages_follow_the_runs_that_others_start_from(todo, jobsets):
    stages = {name: int(jobset["metadata"]["labels"]["deepconv-stage"]) for name, jobset in jobsets.items()}
    for name, job in todo.items():
        assert stages[name] == 1 + max((stages[need] for need in job.needs), default=0)
    assert {*stages.values()} == {1, 2, 3, 4, 5}
    assert k8s.stage("child", {"child": Job([], ["done elsewhere"])}) == 1


def outcome(jobset, code=None, disrupted=False):
    """What a JobSet does when a pod of its run fails."""
    job, policy = parts(jobset)["run"], jobset["spec"]["failurePolicy"]
    reason = "BackoffLimitExceeded"
    for rule in job["podFailurePolicy"]["rules"]:
        if disrupted and "onPodConditions" in rule:
            assert rule["action"] == "Count"
            break
        if code is not None and "onExitCodes" in rule and code not in rule["onExitCodes"]["values"]:
            assert (rule["action"], rule["onExitCodes"]["operator"]) == ("FailJob", "NotIn")
            reason = "PodFailurePolicy"
            break
    assert job["backoffLimit"] == 0 and job["template"]["spec"]["restartPolicy"] == "Never"
    actions = [rule["action"] for rule in policy["rules"] if reason in rule["onJobFailureReasons"]]
    return [*actions, f"restart up to {policy['maxRestarts']} times"][0]


def test_a_run_that_can_go_on_starts_again_so_many_times(jobsets):
    jobset = jobsets["resnet50"]
    again, ends = "restart up to 20 times", "FailJobSet"
    for code in (preemption.EXIT_CODE, 134, 137, 138, 143):
        assert outcome(jobset, code) == again
    for code in (1, 2, 139):
        assert outcome(jobset, code) == ends
    assert outcome(jobset, disrupted=True) == outcome(jobset, 1, disrupted=True) == again
    assert jobset["spec"]["failurePolicy"]["restartStrategy"] == "BlockingRecreate"


def test_pods_have_gpus_and_keep_the_runs():
    pods = [
        parts(k8s.manifest("run", Job([["deepconv.main"]]), 1, k8s.Options("i", "mine", 1, gpus, 3)))["run"]["template"]
        for gpus in (8, 0)
    ]
    containers = [pod["spec"]["containers"][0] for pod in pods]
    assert [container.get("resources") for container in containers] == [{"limits": {"nvidia.com/gpu": "8"}}, None]
    env = [{"name": "JAX_PLATFORMS", "value": "cuda"}]
    assert [container.get("env") for container in containers] == [env, None]
    mounted = {mount["name"]: mount["mountPath"] for mount in containers[0]["volumeMounts"]}
    volumes = {volume.pop("name"): volume for volume in pods[0]["spec"]["volumes"]}
    assert mounted == {"storage": "/deepconv", "memory": "/dev/shm"}
    assert volumes["storage"] == {"persistentVolumeClaim": {"claimName": "mine"}}
    assert pods[0]["spec"]["terminationGracePeriodSeconds"] >= 120


def printed(arguments):
    line = [sys.executable, "-m", "launch.k8s", *arguments.split()]
    return subprocess.run(line, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


def test_the_command_prints_a_list():
    found = printed("vgg/table5 --image=i --claim=c --nodes=2 --workers=3 --heartbeat_seconds=30 --restarts=7")
    assert found.returncode == 0
    assert found.stderr == "7 JobSets; apply them by stages, deepconv-stage=1 to 4: see --help\n"
    printed_list = json.loads(found.stdout)
    items = printed_list.pop("items")
    assert printed_list == {"apiVersion": "v1", "kind": "List"} and len(items) == 7
    assert {item["spec"]["failurePolicy"]["maxRestarts"] for item in items} == {7}
    first = command(parts(items[0])["run"])
    expected = {"--data_dir=/deepconv/data", "--workers=3", "--heartbeat_seconds=30", "--workdir=/deepconv/runs/vgg11"}
    assert expected <= {*first}


MISTAKES = {
    "": "no entry is given; name one, such as resnet/table6",
    "resnet/tabel6 --image=i --claim=c": "resnet/tabel6 is not an entry",
    "resnet/table6 --claim=c": "--image is missing: The container image, as in registry.example.com",
    "resnet/table6 --image=i": "--claim is missing: The PersistentVolumeClaim that keeps runs and data.",
    "resnet/table6 --image=i --claim=c --smoke": "--smoke belongs to one run",
    "resnet/table6 --image=i --claim=c --nodes=3": "resnet_cifar,model.depth=20: config.batch_size=128 cannot",
    "alexnet/table1 --image=i --claim=c --nodes=2 --gpus_per_node=1 --model_parallel=2": "--model_parallel=2 cannot",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_mistakes_are_answered_in_a_line(arguments):
    found = printed(arguments)
    (line,) = found.stderr.splitlines()
    assert (found.returncode, found.stdout) == (2, "")
    assert line.startswith(f"deepconv: {MISTAKES[arguments]}")
