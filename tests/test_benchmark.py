"""Measurements of speed: their arithmetic, their records, and the nets of other libraries."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import CONFIGS, ROOT, answers, tiny_task

from deepconv import models, task
from deepconv.benchmark import growth, peaks, step
from deepconv.benchmark.peers import CLASSES, NETS, Job, compare, flax_nets
from deepconv.benchmark.timing import short, typical
from deepconv.config import recipes
from deepconv.data import sources
from deepconv.ops import counting
from deepconv.state import shapes_of
from experiments import pages, speed

QUICK = f"--config={next(path for path in CONFIGS if path.stem == 'quickstart')}"


def test_typical_is_the_median_of_the_means_of_five_windows():
    assert typical([0, 2, 5, 5, 0, 100, 3, 3, 4, 0]) == 3  # means 1, 5, 50, 3, 2
    assert typical([1, 1, 1, 1, 1, 13]) == 1  # the last window has two calls


def test_numbers_are_short():
    assert [short(value) for value in (12345.6, 123.456, 0.0012345)] == ["12,346", "123.5", "0.001234"]


def test_shares_are_of_the_data_sheet_or_of_a_product(monkeypatch):
    made, rate = tiny_task(), 1000.0

    class Step:
        def cost_analysis(self):
            return {"bytes accessed": 3.2e6}

    assert "bytes_share" not in (found := step.shares(made, Step(), rate))
    assert 0 < found["flops_share"] == found["flops_per_second"] / found["peak_flops_per_second"]
    assert found["peak_source"].startswith("float32 product")
    kind = jax.devices()[0].device_kind
    monkeypatch.setitem(peaks.SHEETS, kind, peaks.DataSheet(7e12, 2e10, 1e9))
    found = step.shares(made, Step(), rate)
    madds = counting.count_multiply_adds(made.model, (16, 16, 3))
    # conv1; two convolutions of each of three stages, their first with fewer channels; fc
    assert madds == 9 * (256 * 16 * (3 + 2 * 16) + 64 * 32 * (16 + 32) + 16 * 64 * (32 + 64)) + 640
    assert found["flops_per_second"] == 6 * madds * rate and found["flops_share"] == 6 * madds * rate / 2e10
    # two devices, each of which moves 3.2 MB for its half of a batch of 16
    assert found["bytes_per_second"] == pytest.approx(2 * 3.2e6 * rate / 16)
    assert found["bytes_share"] == pytest.approx(3.2e6 * rate / 16 / 1e9)


@pytest.mark.slow
def test_training_is_recorded(tmp_path):
    given = [
        ([QUICK, "--smoke", "--steps=10", "--json=figures.json"], "start to first step"),
        (["input", QUICK, "--smoke", "--steps=10", "--json=-"], '"measurement": "input"'),
        ([QUICK, "--smoke", "--json=nowhere/x.json"], "--json=nowhere/x.json: its folder does not exist; create it"),
    ]
    (code, out, _, named), (input_code, printed, table, _), (wrong, _, err, line) = answers(
        tmp_path, "deepconv.benchmark", given
    )
    assert (code, input_code, wrong) == (0, 0, 2) and named in out and line in err
    record = json.loads((tmp_path / "figures.json").read_text())
    assert record["command"].endswith("--smoke --steps=10") and record["versions"]["jax"] == jax.__version__
    figures = record["figures"]
    assert figures["batch_size"] == 16 and 0 <= figures["waiting_share"] < 1
    assert 0 < figures["compile_seconds"] < figures["start_to_first_step_seconds"]
    assert min(figures[f"{name}_images_per_second"] for name in ("input", "step", "training")) > 0
    (pipeline,) = json.loads(printed)["figures"]["pipelines"]
    assert "images/s" in table and pipeline["images_per_second"] > 0


def test_a_product_counts_two_operations_for_each_multiply_add(monkeypatch):
    ticks = iter([0.0, 1.0, 2.0, 4.0, 5.0, 5.5, 6.0, 9.0, 9.0, 10.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    assert peaks.product(8, "float32") == 2 * 8**3  # a median of one second


def net(name):
    """deepconv's net, and the side of its images."""
    size = Job("deepconv", name, "train", "float32", 1).pixels
    config = recipes.load(ROOT / "configs" / f"{name}.py", {"data.image_size": size}, smoke=True)
    return models.create(config.model, CLASSES), size


@pytest.mark.parametrize("name", NETS)
def test_the_plain_flax_net_does_the_same_work(name):
    ours, size = net(name)
    plain = flax_nets.net(name, "float32")
    images = jnp.zeros((1, size, size, 3))
    shapes = jax.eval_shape(lambda: plain.init(jax.random.key(0), images, train=False))
    jax.eval_shape(jax.grad(lambda variables: plain.apply(variables, images, train=False).sum()), shapes)  # it has one
    assert counting.count_parameters(shapes["params"]) == counting.count_parameters(shapes_of(ours, size)["params"])
    assert counting.count_multiply_adds(plain, (size, size, 3)) == counting.count_multiply_adds(ours, (size, size, 3))


@pytest.mark.parametrize("name", NETS)
def test_the_net_in_pytorch_does_the_same_work(name):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[parity]'")
    from torch.utils.flop_counter import FlopCounterMode

    from deepconv.benchmark.peers import torch_nets

    ours, size = net(name)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        theirs = torch_nets.net(name).eval()
        theirs(torch.zeros(1, 3, size, size))
    assert sum(p.numel() for p in theirs.parameters()) == counting.count_parameters(shapes_of(ours, size)["params"])
    assert counter.get_total_flops() == 2 * counting.count_multiply_adds(ours, (size, size, 3))


# Keras is imported by keras_nets alone, which chooses JAX first.
@pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="needs Keras: pip install -e '.[parity]'")
@pytest.mark.parametrize("name", ["alexnet", "resnet_cifar"])
def test_the_net_in_keras_does_the_same_work(name):
    from deepconv.benchmark.peers import keras_nets

    ours, size = net(name)
    theirs = keras_nets.net(name, size)
    count = sum(np.prod(v.shape) for v in theirs.trainable_weights)
    assert count == counting.count_parameters(shapes_of(ours, size)["params"])
    stages = [(16, 32), (32, 16), (64, 8)] if name == "resnet_cifar" else [(96, 55), (256, 27), (384, 13), (256, 13)]
    maps = {(layer.output.shape[-1], layer.output.shape[1]) for layer in theirs.layers if "conv2d" in layer.name}
    assert maps == set(stages)


class Fake:
    """A worker that answers at once; a step of a library takes as many seconds as given."""

    def __init__(self, job, seconds, parameters):
        self.job, self.seconds, self.parameters, self.ran = job, seconds, parameters, []

    def answer(self):
        if self.seconds is None:
            raise OSError("no compiler")
        return {"parameters": self.parameters, "versions": {"jax": "1"}, "warm_up_seconds": 1.0}

    def run(self, steps):
        self.ran.append(steps)
        if self.job.peer == "torch" and len(self.ran) == 2:
            raise OSError("out of memory")
        slow = 1 + (len(self.ran) == 2)  # one round takes twice as long
        return {"seconds": slow * self.seconds, "page_faults": 5.0, "peak_memory_bytes": 1e9, "peak_device_bytes": 1e9}


def test_libraries_take_turns_and_medians_count(monkeypatch, capsys):
    seconds, parameters = {"deepconv": 0.25, "torch": 0.5, "flax": 0.5, "compile": None}, {}
    workers = []

    @contextlib.contextmanager
    def started(job):
        workers.append(Fake(job, seconds[job.peer], parameters.get(job.peer, 7)))
        yield workers[-1]

    monkeypatch.setattr(compare, "started", started)
    monkeypatch.setattr(compare, "_is_installed", lambda peer: True)
    choice = compare.Choice(["alexnet"], ["train"], ["float32"], [*seconds], 3)
    figures = compare.show_peers(choice)
    own, flax = figures["speeds"]
    failures = [
        "alexnet, train, float32: torch.compile: not compared: no compiler",
        "alexnet, train, float32: PyTorch: not compared: out of memory",
    ]
    assert figures["not_compared"] == failures and "\n".join(failures) in capsys.readouterr().out
    assert (own["images_per_second"], own["speed_of_deepconv_relative_to_it"]) == (16 / 0.25, 1)
    assert (flax["images_per_second"], flax["speed_of_deepconv_relative_to_it"]) == (16 / 0.5, 2)
    assert (own["slowest_images_per_second"], flax["slowest_images_per_second"]) == (32, 16)
    assert flax["page_faults"] == 5 and flax["versions"] == {"jax": "1"}
    assert [worker.ran for worker in workers] == [[1, 4, 4, 4], [1, 4], [1, 4, 4, 4], []]  # four steps take a second

    parameters["flax"] = 8
    with pytest.raises(
        OSError, match="alexnet differ: their parameters are 7 in deepconv, 7 in PyTorch, 8 in plain Flax"
    ):
        compare.show_peers(choice)
    seconds["deepconv"] = None
    with pytest.raises(OSError, match="no compiler"):
        compare.show_peers(choice)


def test_each_form_is_compared_with_those_of_the_platform(monkeypatch, capsys):
    seconds = {"blocks:scan": 0.02, "rectifier:plain": 0.005, "groups:plain": None}
    workers = []

    @contextlib.contextmanager
    def started(job):
        workers.append(Fake(job, seconds.get(",".join(job.forms), 0.01), 7))
        yield workers[-1]

    monkeypatch.setattr(compare, "started", started)
    monkeypatch.chdir(ROOT)
    choice = compare.Choice(["resnet50"], ["train"], ["bfloat16"], ["deepconv"], 3, starts=4)
    figures = compare.show_forms(choice, "gpu")
    found = {",".join(line["forms"]): line["speed_of_deepconv_relative_to_it"] for line in figures["speeds"]}
    assert (found[""], found["blocks:scan"], found["rectifier:plain"]) == (1, 2, 0.5)
    assert {*found} > {"max_pool:plain", "max_pool:slices"} and not {"max_pool:index", "groups:plain"} & {*found}
    assert figures["not_compared"] == ["resnet50, train, bfloat16: groups:plain: not compared: no compiler"]
    assert {(worker.job.platform, worker.job.batch) for worker in workers} == {("gpu", 256)}  # the recipe's
    assert "convolution_gradients:convolutions" in capsys.readouterr().out


@pytest.mark.slow
def test_a_worker_serves_and_says_why_it_ends(monkeypatch):
    monkeypatch.chdir(ROOT)
    with compare.started(Job("flax", "resnet_cifar", "inference", "float32", 64)) as worker:
        assert worker.answer()["parameters"] == counting.count_parameters(shapes_of(*net("resnet_cifar"))["params"])
        cost = worker.run(1)
        assert 0 < cost["seconds"] and 0 < cost["user_seconds"] and cost["peak_memory_bytes"] > 1e8
        worker.process.kill()
        with pytest.raises(OSError, match="plain Flax ended with code -9"):
            worker.run(1)
    with compare.started(Job("flax", "resnet_cifar", "inference", "float99", 64)) as worker:
        with pytest.raises(OSError, match="plain Flax ended with code 1: .*float99"):
            worker.answer()


@pytest.mark.slow
@pytest.mark.parametrize(
    "choice",
    [
        ["--modes=train", "--dtypes=float32"],  # in all libraries
        ["--modes=inference", "--dtypes=bfloat16", "--peers=deepconv,flax"],
    ],
)
def test_peers_run(choice, tmp_path):
    command = [sys.executable, "-m", "deepconv.benchmark", "peers", "--nets=resnet_cifar", "--rounds=1", "--batch=8"]
    command += [*choice, f"--json={tmp_path}/peers.json"]
    subprocess.run(command, cwd=ROOT, check=True)
    record = json.loads((tmp_path / "peers.json").read_text())
    lines = record["figures"]["speeds"]
    assert {line["peer"] for line in lines} >= {"deepconv", "flax"} and record["hardware"]["device"] == "cpu"
    assert all(line["images_per_second"] > 0 and line["peak_memory_bytes"] > 1e8 for line in lines)


@pytest.mark.slow
def test_growth_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert set(growth.SHOWN) <= set(growth.measure(growth.AXES["side"][0], 10))  # with data that it makes


def test_growth_makes_data_and_changes_a_recipe(tmp_path):
    changes = growth._make(tmp_path, growth.Data(records=50_000, side=224, classes=9))
    changes |= {"data.train_scale": (224, 224), "model.bn_group": 0}  # given as text at the command line
    config = recipes.load(ROOT / "configs" / "resnet18.py", changes, smoke=True)
    made = task.prepare(config, str(tmp_path))
    assert made.train_source.examples == 50_000 and len(made.train_source.classes) == 9
    data = sources.find("packed", "train", str(tmp_path), 224).open()
    assert data.images.shape == (50_000, 224, 224, 3) and data.labels[10] == 1 and not data.images[np.array([3])].any()
    used = sum(file.stat().st_blocks * 512 for file in (tmp_path / "packed").iterdir())
    assert used < 2**21  # of 7.5 GB


def test_growth_measures_training_at_each_point(monkeypatch, capsys):
    commands = []

    def run(command, env, **options):
        commands.append((command, env["XLA_FLAGS"]))
        figures = dict.fromkeys(growth.SHOWN, 4e9)
        return subprocess.CompletedProcess(command, 0, json.dumps({"figures": figures}), "")

    monkeypatch.setattr(growth.subprocess, "run", run)
    monkeypatch.setenv("XLA_FLAGS", "")
    found = growth.show_growth(["devices", "depth"], 10)
    assert [point["devices"] for point in found["devices"]] == [1, 2, 4, 8]
    assert [flags[-1] for _, flags in commands[:4]] == ["1", "2", "4", "8"]
    assert "--config.model.depth=1202" in commands[-1][0] and "1,202" in capsys.readouterr().out
    failed = subprocess.CompletedProcess([], 1, "", "first\ndeepconv: no memory\n")
    monkeypatch.setattr(growth.subprocess, "run", lambda *args, **options: failed)
    with pytest.raises(OSError, match="ended with code 1: deepconv: no memory"):
        growth.measure(growth.AXES["depth"][0], 10)


@pytest.mark.slow
def test_growth_that_is_stopped_leaves_nothing(tmp_path):
    command = [sys.executable, "-m", "deepconv.benchmark", "growth", "--axes=records"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    while not (children := subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout):
        assert process.poll() is None
        time.sleep(0.1)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75 and "stopped by SIGTERM" in err and not [*tmp_path.iterdir()]
    assert not any(os.path.exists(f"/proc/{child}") for child in children.split())


REFUSED = [
    (["peers", "--nets=resnet_cifra"], "--nets=resnet_cifra is unknown; choose from alexnet, vgg16"),
    (["peers", "--peers=flax"], "--peers=flax lacks deepconv"),
    (["peers", "--forms=blocks:plain"], "`peers` takes no --forms"),
    (["forms", "--peers=flax"], "`forms` takes no --peers"),
    (["peers", "--modes="], "--modes is empty; choose from train, inference"),
    (["peers", QUICK], "`peers` takes no --config"),
    (["peers", "growth"], "unknown argument 'growth'"),
    (["growth", "--axes=records", "--data_dir=x"], "`growth` takes no --data_dir; leave it out"),
    (["growth", "--axes=width"], "--axes=width is unknown; choose from records, depth"),
]


def test_peers_and_growth_refuse_mistakes(tmp_path):
    for code, out, err, named in answers(tmp_path, "deepconv.benchmark", REFUSED):
        assert code == 2 and named in err and len(err.splitlines()) == 1 and not out, err


def test_the_pages_and_the_picture_are_what_render_writes():
    records = speed.read()
    for page, text in speed.pages(records).items():
        assert page.read_text() == text, "python -m experiments render"
    drawn = speed.stamp(records) if any(speed.points(records).values()) else None
    assert pages.read_stamp(speed.PICTURE) == drawn, "python -m experiments render"


def of_peers(when, rate, ratio, peer="torch"):
    line = {"net": "vgg16", "mode": "train", "dtype": "float32", "peer": peer, "images_per_second": rate, "batch": 16}
    line |= {"speed_of_deepconv_relative_to_it": ratio, "versions": {"torch": "2"}}
    machine, versions = {"cpus": 2, "cpu": "EPYC"}, {"python": "3.11", "numpy": "2"}
    record = {"measurement": "peers", "time": when, "command": "python", "hardware": machine, "versions": versions}
    return record | {"commit": "0123456789abcdef", "dirty": True, "figures": {"speeds": [line]}}


def test_the_newest_figures_of_each_kind_are_shown(tmp_path):
    newest, old = of_peers("2026-02-01", 1.234, 0.5), of_peers("2026-01-01", 9.0, 9.0)
    newest["figures"]["speeds"] += of_peers("", 1234.5, 1.0, "deepconv")["figures"]["speeds"]
    old["figures"]["speeds"] += of_peers("", 8.0, 8.0, "flax")["figures"]["speeds"]  # of another day: not shown
    for name, record in {"a": newest, "b": old}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    for name, other in {"d": {"platform": "gpu"}, "e": {"batch": 64}}.items():  # neither replaces the CPU's batch of 16
        record = of_peers("2026-02-01T1", 7.0, 7.0)
        record["figures"]["speeds"][0] |= other
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    records = speed.read(tmp_path)
    assert "| VGG-16 | 7.00 |" in speed.peers_table(records, "train", ("float32",), ratios=False, platform="gpu")
    assert speed.peers_table(records, "train", ("float32",)).splitlines()[2:] == ["| VGG-16 | 1,234 | 1.23 (0.50) |"]
    assert speed.peers_table(records, "inference", ("float32",)) == "Not measured yet."
    last = speed.sources_list(records).splitlines()[-1]
    assert last == "- `python`: 2 cores of EPYC, python 3.11, torch 2; commit 0123456789 (dirty), 2026-02-01"


def test_points_of_growth_are_merged():
    def growing(when, **figures):
        return {"measurement": "growth", "time": when, "figures": figures}

    old = growing("1", depth=[{"depth": 56, "compile_seconds": 1}, {"depth": 20, "compile_seconds": 2}])
    new = growing("2", depth=[{"depth": 56, "compile_seconds": 3}])
    found = speed.points([old, new])
    assert [(depth, point["compile_seconds"]) for depth, point in found["depth"].items()] == [(20, 2), (56, 3)]
    assert set(found) == set(growth.AXES) == set(speed.AXES)
