"""Prints Kubernetes JobSets for the missing runs of tables, as JSON for kubectl. It starts nothing itself.

    python -m launch.k8s resnet/table6 --image=IMAGE --claim=CLAIM >runs.json
    kubectl apply -f runs.json

There is one JobSet per run, one pod per node, and one process per pod. The cluster needs JobSet 0.9 or newer
(https://jobset.sigs.k8s.io). The image's working directory is a checkout of deepconv, and its `python` has deepconv
installed. The claim, a PersistentVolumeClaim, is mounted at /deepconv and keeps the runs in /deepconv/runs; for several
nodes, its access mode must be ReadWriteMany.

A run that needs the weights or the proposals of another, or a command that reads runs, cannot wait for these, since
JobSets do not depend on each other. Its label `deepconv-stage` is higher than theirs: apply stage 1, wait until it is
complete, apply stage 2, and so on.

    kubectl apply -f runs.json -l deepconv-stage=1
    kubectl wait jobset -l deepconv-stage=1 --for=condition=Completed --timeout=-1s
    kubectl apply -f runs.json -l deepconv-stage=2

If a run has several nodes, the cluster must start its pods together, as Kueue does: a pod that waits five minutes for
the others ends, and this counts as one of the --restarts.

Applying a stage again changes nothing. To repeat a failed run: kubectl delete jobset NAME, then apply.
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports, which take seconds

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from absl import flags

from deepconv import cli
from deepconv.run import preemption
from experiments import entries, entry, jobs
from experiments.jobs import Arguments, Job
from launch import selection
from launch.script import GPU_PLATFORM

MOUNT = "/deepconv"
PORT = 8476  # of process 0, on which the processes of a run meet
REPEATABLE = (preemption.EXIT_CODE, *jobs.CRASHED)  # repeating the command continues the run
GRACE_SECONDS = 300  # from SIGTERM to SIGKILL: enough for the end of a step and the largest checkpoint, 1.2 GB
STAGE = "deepconv-stage"
MAX_NAME = 40  # letters of a JobSet's name; with 63, the names of its pods would be too long

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """The resources of every run."""

    image: str
    claim: str
    nodes: int
    gpus_per_node: int
    restarts: int


def main(arguments: list[str]) -> int:
    """Prints the manifests."""
    given = flags.FLAGS
    options = Options(given.image, given.claim, given.nodes, given.gpus_per_node, given.restarts)
    passed = [f"--data_dir={cli.DATA_DIR.value or f'{MOUNT}/data'}"]
    passed += [flag for flag in selection.passed_on() if not flag.startswith("--data_dir=")]
    try:
        if len(arguments) == 1:
            raise ValueError("no entry is given; name one, such as resnet/table6; deepconv experiments lists them")
        if single := [name for name in ("config", "smoke", "shorten", "forms") if given[name].present]:
            raise ValueError(f"--{single[0]} belongs to one run; remove it: an entry fixes its runs")
        if missing := [name for name in ("image", "claim") if not given[name].value]:
            raise ValueError(f"--{missing[0]} is missing: {given[missing[0]].help}")
        chosen = entries.load(arguments[1:])
        done = {name: entries.results(name) for name in chosen}
        trained = [run for run, _ in entry.jobs(jobs.missing_runs(chosen, done)).values()]
        selection.check_division(trained, options.nodes, max(1, options.gpus_per_node))
        todo = jobs.missing(chosen, done, f"{MOUNT}/runs", passed)
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=2)
    items = [manifest(name, job, stage(name, todo), options) for name, job in todo.items()]
    print(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1))
    stages = max((stage(name, todo) for name in todo), default=0)
    then = f"; apply them by stages, {STAGE}=1 to {stages}: see --help" if stages > 1 else ""
    print(f"{len(todo)} JobSets{then}", file=sys.stderr)
    return 0


def stage(name: str, todo: Mapping[str, Job]) -> int:
    """Returns the length of the longest chain of jobs that ends with this one."""
    return 1 + max((stage(need, todo) for need in todo[name].needs if need in todo), default=0)


def manifest(name: str, job: Job, stage: int, options: Options) -> Manifest:
    """Returns the JobSet of a run, or of a command that reads runs: a Job for each of its commands.

    Only training and its tests work on all nodes and with the flags of processes.
    """
    short = short_name(name)
    first, *others = [[argument.replace("$", "$$") for argument in command] for command in job.commands]
    trains = first[0] == jobs.MAIN
    first += place(short, options) if trains else []
    part = template(first, options, options.nodes if trains else 1)
    replicated: list[Manifest] = [{"name": "run", "replicas": 1, "template": part}]
    for number, command in enumerate(others, 1):
        after = [{"name": replicated[-1]["name"], "status": "Complete"}]
        part = {"name": f"then{number}", "replicas": 1, "dependsOn": after}
        replicated.append(part | {"template": template(command, options, 1)})
    failure = {
        "maxRestarts": options.restarts,
        "restartStrategy": "BlockingRecreate",  # no pod of the last try still holds the run's directory
        "rules": [{"name": "notRepeatable", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
    }
    annotations = {"deepconv-run": name} | ({"deepconv-needs": " ".join(job.needs)} if job.needs else {})
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": short, "labels": {STAGE: str(stage)}, "annotations": annotations},
        "spec": {"failurePolicy": failure, "replicatedJobs": replicated},
    }


def short_name(name: str) -> str:
    """Returns a name that Kubernetes accepts: the start of the run's name, and a digest of it."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    start = re.sub("[^a-z0-9]+", "-", name.lower())[: MAX_NAME - 9].strip("-")
    return f"{start}-{digest}"


def place(short: str, options: Options) -> list[str]:
    """Returns the flags for a process's place in its run and for the run's GPUs; Kubernetes fills in $(...)."""
    devices = options.nodes * options.gpus_per_node
    expected = [f"--expect_devices={devices}"] if devices else []
    if options.nodes == 1:
        return expected
    coordinator = f"{short}-run-0-0.{short}:{PORT}"  # <JobSet>-<replicated job>-<job>-<pod>.<JobSet>
    place = [f"--coordinator={coordinator}", f"--processes={options.nodes}", "--process=$(JOB_COMPLETION_INDEX)"]
    return place + expected


def template(command: Arguments, options: Options, nodes: int) -> Manifest:
    """Returns the template of a Job that runs a command once on each node.

    A pod that fails ends the Job. The JobSet then starts again, unless the exit code says that this would not help.
    """
    disrupted = {"action": "Count", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    unrepeatable = {"operator": "NotIn", "values": [*REPEATABLE]}
    spec = {
        "completionMode": "Indexed",
        "completions": nodes,
        "parallelism": nodes,
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": [disrupted, {"action": "FailJob", "onExitCodes": unrepeatable}]},
        "template": {"spec": pod(command, options)},
    }
    return {"spec": spec}


def pod(command: Arguments, options: Options) -> Manifest:
    """Returns the pod of a node. Its first process is Python, which gets SIGTERM and saves."""
    container: Manifest = {
        "name": "deepconv",
        "image": options.image,
        "command": ["python", "-m", *command],
        "volumeMounts": [{"name": "storage", "mountPath": MOUNT}, {"name": "memory", "mountPath": "/dev/shm"}],
    }
    if options.gpus_per_node:
        container["env"] = [{"name": "JAX_PLATFORMS", "value": GPU_PLATFORM}]
        container["resources"] = {"limits": {"nvidia.com/gpu": str(options.gpus_per_node)}}
    memory = {"name": "memory", "emptyDir": {"medium": "Memory"}}  # of loader processes and NCCL; the default is 64 MB
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [container],
        "volumes": [{"name": "storage", "persistentVolumeClaim": {"claimName": options.claim}}, memory],
    }


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("image", None, "The container image, as in registry.example.com/deepconv:0.2.0.")
    flags.DEFINE_string("claim", None, "The PersistentVolumeClaim that keeps runs and data.")
    flags.DEFINE_integer("nodes", 1, "Nodes of each run, with one process on each.", lower_bound=1)
    flags.DEFINE_integer("gpus_per_node", 8, "GPUs of each node; 0 for CPUs only.", lower_bound=0)
    flags.DEFINE_integer("restarts", 20, "Maximum number of restarts of a run that was stopped or lost a node.", 0)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
