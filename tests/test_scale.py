"""docs/scale.md: its tables are what the program prints, and its model agrees with compiled steps and checkpoints."""

import dataclasses
import functools
import math
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT, STATISTICS, narrow

from deepconv import distributed, train
from deepconv import state as state_lib
from deepconv import task as task_lib
from deepconv.config import recipes
from deepconv.models import alexnet, vgg
from deepconv.run import checkpoint
from experiments.entry import Run
from experiments.marks import filled
from experiments.scale import model, page
from experiments.scale.__main__ import main
from experiments.scale.model import Assumptions
from experiments.scale.work import SPEEDS, count

GIVEN = Assumptions()
COLLECTIVES = r" = (.*?) (?:all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all)(?:-start)?\("
COMPILED = {  # recipe, changes, all-reduces for each BatchNorm layer
    "AlexNet": ("alexnet", {"data.image_size": 64}, 0),
    "VGG-11": ("vgg11", {"data.image_size": 32}, 0),
    "groups on one device": ("resnet_cifar", {"model.depth": 8, "data.image_size": 16, "model.bn_group": 4}, 0),
    "groups of the full batch": ("resnet_cifar", {"model.depth": 8, "data.image_size": 16}, 2),
}


@pytest.mark.slow
def test_the_page_has_the_tables_of_the_program():
    text = page.PAGE.read_text()
    assert filled(page.PAGE, page.tables(GIVEN, SPEEDS)) == text, "python -m experiments.scale --write"


WORK = model.Work(256, 100, 1e-3, 10, 1000, 100, 5, 32, "jpeg", 50)


def compiled(recipe, changes, devices):
    """(collectives of a compiled step, bytes they return, bytes of the model)."""
    task = task_lib.prepare(recipes.load(ROOT / "configs" / f"{recipe}.py", changes, smoke=True), None, 0)
    task = dataclasses.replace(task, mesh=distributed.make_mesh(devices=jax.devices()[:devices]))
    size, examples = task.config.data.image_size, task.config.batch_size
    create = functools.partial(state_lib.create, image_shape=(size, size, 3), model=task.model, tx=task.tx)
    state = jax.eval_shape(create, jax.random.key(0))
    image = jax.ShapeDtypeStruct((examples, size, size, 3), np.uint8)
    batch = {"image": image, "label": jax.ShapeDtypeStruct((examples,), np.int32)}
    mean = np.full((size, size, 3), 120, np.float32)
    step = train.jit_step(task, dataclasses.replace(STATISTICS, pixel_mean=mean))
    found = re.findall(COLLECTIVES, step.lower(state, batch).compile().as_text())
    arrays = re.findall(r"(\w+)\[([\d,]*)\]", " ".join(found))
    assert {kind for kind, _ in arrays} <= {"f32"}
    numbers = sum(math.prod(int(size) for size in shape.split(",") if size) for _, shape in arrays)
    counts = {"parameters": numbers_in(state.params), "statistics": numbers_in(state.batch_stats)}
    return len(found), 4 * numbers, dataclasses.replace(WORK, **counts).reduced_bytes


def numbers_in(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_steps_reduce_the_modelled_bytes(name, devices, monkeypatch):
    narrow(monkeypatch, alexnet)
    narrow(monkeypatch, vgg)
    recipe, changes, each_norm = COMPILED[name]
    collectives, found, modelled = compiled(recipe, changes, devices)
    assert (collectives, found) == ((1 + 7 * each_norm, modelled) if devices > 1 else (0, 0))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_steps_for_four_devices_reduce_the_modelled_bytes(name):
    recipe, changes, each_norm = COMPILED[name]
    program = f"import test_scale; print(*test_scale.compiled({recipe!r}, {changes!r}, 4))"
    xla = f"{os.environ['DEEPCONV_TESTS_XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "DEEPCONV_TESTS_XLA_FLAGS": xla}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    collectives, found, modelled = map(int, done.stdout.split()[-3:])
    assert (collectives, found) == (1 + 7 * each_norm, modelled)


def test_checkpoints_have_the_modelled_bytes(tmp_path):
    """Random numbers, which hardly compress; a trained state is of this kind."""
    task = task_lib.prepare(recipes.load(ROOT / "configs" / "resnet_cifar.py", smoke=True), None, 0)
    draw = np.random.default_rng(0)
    size = task.config.data.image_size
    create = functools.partial(state_lib.create, image_shape=(size, size, 3), model=task.model, tx=task.tx)
    shapes = jax.eval_shape(create, jax.random.key(0))
    state = jax.tree.map(lambda x: jax.device_put(np.asarray(draw.normal(size=x.shape), x.dtype)), shapes)
    counts = {"parameters": numbers_in(state.params), "statistics": numbers_in(state.batch_stats)}
    modelled = dataclasses.replace(WORK, **counts).checkpoint_bytes
    assert sum(x.nbytes for x in jax.tree.leaves(state)) == pytest.approx(modelled, rel=1e-3)
    manager = checkpoint.open_manager(tmp_path / "checkpoints", 10)
    checkpoint.save(manager, state)
    checkpoint.close(manager)
    written = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert 0.9 * modelled < written < 1.05 * modelled


def test_work_is_counted_from_configs_and_nets():
    """Parameters as torchvision has them for VGG-16 and ResNet-50; steps and images by hand."""
    vgg16, resnet50, cifar = (count(Run(name), SPEEDS) for name in ("vgg16", "resnet50", "resnet_cifar"))
    assert (vgg16.parameters, vgg16.layers, vgg16.norms, vgg16.steps) == (138_357_544, 16, 0, 370_000)
    assert (resnet50.parameters, resnet50.layers, resnet50.norms) == (25_557_032, 54, 53)
    assert resnet50.statistics == 2 * 26_560 and resnet50.bn_group == 32
    assert (cifar.layers, cifar.norms, cifar.bn_group) == (20, 19, 128)
    assert count(Run("resnet101_localization"), SPEEDS).norms == 0  # constant, so nothing is exchanged for them
    assert count(Run("alexnet"), SPEEDS).steps == round(91 * 1_281_167 / 128)
    assert count(Run("alexnet_cifar_13pct", {"data.train_split": "train[:40000]"}), SPEEDS).steps == round(
        Run("alexnet_cifar_13pct").load().total_epochs * 40_000 / 128
    )
    assert [net.images for net in (count(Run("alexnet"), SPEEDS), vgg16, cifar)] == ["packed", "jpeg", "memory"]
    assert vgg16.seconds_per_image == 1 / 1190
    assert count(Run("resnet101"), SPEEDS).seconds_per_image == pytest.approx(7.57 / 3.86 / 2075, rel=1e-3)


def test_the_all_reduce_is_a_ring_in_nodes_and_one_between_them():
    given = Assumptions(node_gb_per_s=100, network_gb_per_s=10, node_hop_us=1, network_hop_us=20)
    assert model.all_reduce(10**9, 1, given) == 0
    assert model.all_reduce(10**9, 2, given) == pytest.approx(0.01 + 2e-6)
    assert model.all_reduce(10**9, 8, given) == pytest.approx(0.0175 + 14e-6)
    assert model.all_reduce(10**9, 64, given) == pytest.approx(0.0175 + 14e-6 + 0.175 + 280e-6)


def test_steps_have_the_parts_of_the_page():
    given = dataclasses.replace(GIVEN, us_per_layer=1000, overlap=0)
    one = model.step(WORK, 1, given)
    assert (one.seconds, one.norms, one.reduce) == (pytest.approx(0.266), 0, 0)
    eight = model.step(WORK, 8, given)  # a group of 32 on each
    assert (eight.compute, eight.norms) == (pytest.approx(0.042), 0)
    assert model.step(WORK, 16, given).norms == pytest.approx(2 * 5 * 2 * 3e-6)  # on two of them
    assert model.step(dataclasses.replace(WORK, bn_group=256), 2, given).norms == pytest.approx(2 * 5 * 2 * 3e-6)
    large = dataclasses.replace(WORK, parameters=10**10)
    slow, hidden = (model.step(large, 8, dataclasses.replace(given, overlap=part)) for part in (0, 0.5))
    assert slow.seconds - hidden.seconds == pytest.approx(0.5 * 2 / 3 * 0.042)
    assert model.step(WORK, 8, dataclasses.replace(given, overlap=1)).seconds == pytest.approx(0.042)
    starved = dataclasses.replace(given, cores=0.25)
    assert model.step(WORK, 8, starved).input == pytest.approx(256 / (8 * 0.25 * 404))
    assert model.step(WORK, 8, starved).seconds == pytest.approx(256 / (8 * 0.25 * 404) + eight.reduce)
    ordered = dataclasses.replace(given, order_us=1000)
    assert [model.step(WORK, gpus, ordered).input for gpus in (1, 8, 16)] == pytest.approx([0.256, 0.256, 0.128])


def test_the_fixed_time_gives_back_mlperfs_two_points():
    """ResNet-50 on H100s: 7,162 images/s a GPU at 400 images, 4,908 at 50, its all-reduce included."""
    fixed = 54 * GIVEN.us_per_layer * 1e-6
    net = dataclasses.replace(WORK, layers=54, norms=0, seconds_per_image=(400 / 7162 - fixed) / 400)
    assert 50 / model.step(dataclasses.replace(net, batch=50), 1, GIVEN).compute == pytest.approx(4908, rel=0.002)


def test_runs_wait_for_gpus_and_for_the_runs_they_need():
    hours = {"a": 4, "b": 2, "c": 3}
    assert model.finish(hours, dict.fromkeys(hours, 1), {"c": ["a"]}, 2) == 7
    assert model.finish(hours, dict.fromkeys(hours, 1), {}, 2) == 5
    assert model.finish(hours, dict.fromkeys(hours, 1), {"c": ["elsewhere"]}, 8) == 4
    assert model.finish(hours, dict.fromkeys(hours, 1), {"b": ["a"], "c": ["a", "b"]}, 8) == 9
    assert model.finish(hours, dict.fromkeys(hours, 2), {}, 2) == 9
    assert model.finish(hours, {"a": 4, "b": 8, "c": 4}, {}, 8) == 6


def test_a_run_takes_as_many_gpus_as_keep_half_its_efficiency():
    given = dataclasses.replace(GIVEN, us_per_layer=1e-9)
    net = dataclasses.replace(WORK, parameters=1, statistics=0, norms=0, images="memory")
    assert model.most_gpus(net, given) == 256  # one image each
    assert model.most_gpus(dataclasses.replace(net, batch=48), given) == 16
    work, most = dataclasses.replace(net, parameters=2_600_000_000), 2  # 1 / (1 + gpus * all-reduce / 0.256 s)
    assert [model.efficiency(work, gpus, given) for gpus in (2, 4)] == pytest.approx([0.711, 0.450], abs=1e-3)
    assert model.most_gpus(work, given) == most
    plan = model.plan({"a": work, "b": work}, {}, 512, given)
    seconds = model.step(work, most, given).seconds * work.steps
    assert (plan.hours, plan.gpu_hours) == pytest.approx((seconds / 3600, 2 * most * seconds / 3600))


@pytest.fixture
def small(monkeypatch):
    """The page of one entry and one net."""
    fig1 = page.entries.load(["resnet/fig1"])
    monkeypatch.setattr(page.entries, "load", lambda: fig1)
    monkeypatch.setattr(page, "NETS", {"ResNet-20": Run("resnet_cifar")})


def test_flags_change_the_assumptions(small, capsys):
    def all_runs(*arguments):
        assert main(arguments) == 0
        *_, cell, _, _, _, _ = capsys.readouterr().out.splitlines()[-1].split("|")
        return cell.strip()

    assert [all_runs(), all_runs("--price=20")] == ["0.14 h, $0.28", "0.14 h, $2.8"]
    seconds = 64_000 * 128 * (0.0406 + 0.1255) / 3.858 / 20.75  # multiply-adds of ResNet-20, 56 and 50 in 1e9
    cell = f"{seconds / 3600:.1f} h, ${seconds / 1800:.1f}"
    assert all_runs("--us_per_layer=1e-9", "--speed=resnet50=20.75") == cell
    main(["--price=3.5", "--speed=vgg16=2000"])
    out = capsys.readouterr().out
    assert "| price of a GPU hour, $ | 3.5 | --price |" in out
    assert "| training of vgg16 on one GPU, images/s | 2,000 | --speed |" in out


@pytest.mark.parametrize(
    "arguments, answer",
    [
        (["--price=-1"], "--price=-1; choose a number from 1e-09 to 1e+09"),
        (["--overlap=1.5"], "--overlap=1.5; choose a number from 0 to 1"),
        (["--cores=nan"], "--cores=nan; choose"),
        (["--speed=resnet5=3"], "--speed=resnet5=3; write NET=IMAGES/S, with alexnet, vgg16, resnet50, resnet152"),
        (["--speed=vgg16=fast"], "--speed=vgg16=fast; write"),
        (["--write", "--price=1"], "--write takes no other flags"),
    ],
)
def test_mistakes_are_answered_in_a_line(arguments, answer, capsys):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"experiments: {answer}")


def test_a_page_without_a_mark_is_refused(tmp_path):
    text, copy, found = page.PAGE.read_text(), tmp_path / "scale.md", {"steps": "| new |"}
    copy.write_text(text)
    assert "<!-- steps -->\n| new |\n<!-- end -->" in filled(copy, found)
    copy.write_text(text.replace("<!-- steps -->", ""))
    with pytest.raises(ValueError, match="scale.md has 0 marks <!-- steps -->; it needs one"):
        filled(copy, found)
