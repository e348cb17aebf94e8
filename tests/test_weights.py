import json
import os
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from conftest import ROOT, STATISTICS, narrow, shell
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from deepconv import distributed, models, nets, resume, start
from deepconv import state as state_lib
from deepconv.config import recipes
from deepconv.data import statistics
from deepconv.models import alexnet, vgg
from deepconv.run import checkpoint
from deepconv.state import TrainState
from deepconv.weights import convert, files, inputs, names


def create(name, classes=10, **fields):
    return models.create(ConfigDict({"name": name, **fields}), classes)


def random_tensors(model, image_size, seed=0):
    """A file's content for a model, made up."""
    rng = np.random.default_rng(seed)
    shapes = state_lib.shapes_of(model, image_size)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)
    like = convert.to_torch(zeros, model)
    tensors = {name: rng.normal(size=tensor.shape).astype(np.float32) for name, tensor in like.items()}
    return {name: abs(tensor) if name.endswith("running_var") else tensor for name, tensor in tensors.items()}


NETS = {
    "resnet 18": (create("resnet", depth=18), 64),
    "resnet 50": (create("resnet", depth=50, shortcut="B"), 64),
    "resnet_cifar 20": (create("resnet_cifar", depth=20), 32),
    "resnet_cifar 8": (create("resnet_cifar", depth=8), 32),
    "vgg C": (create("vgg", configuration="C"), 64),
    "alexnet": (create("alexnet"), 64),
    "alexnet owt": (create("alexnet", variant="owt"), 64),
    "alexnet 150": (create("alexnet", communication=False), 64),
    "cifar 11pct": (create("alexnet_cifar", variant="11pct"), 24),
}


@pytest.mark.parametrize("name", NETS)
def test_there_and_back_is_bit_exact(name, monkeypatch):
    for module in (alexnet, vgg):
        narrow(monkeypatch, module)
    model, image_size = NETS[name]
    tensors = random_tensors(model, image_size)
    variables = convert.from_torch(tensors, model, image_size)
    shapes = flatten_dict(state_lib.shapes_of(model, image_size))
    assert {path: leaf.shape for path, leaf in flatten_dict(variables).items()} == {
        path: leaf.shape for path, leaf in shapes.items()
    }
    back = convert.to_torch(variables, model)
    assert back.keys() == tensors.keys()
    assert all(back[part].tobytes() == tensors[part].tobytes() for part in tensors)


def resnet_names(blocks, convolutions, projections):
    """torchvision's names of a ResNet's tensors, and the counts that it does not need."""
    norm = ("weight", "bias", "running_mean", "running_var")
    names = {"conv1.weight", *(f"bn1.{leaf}" for leaf in norm), "fc.weight", "fc.bias"}
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            for i in range(1, convolutions + 1):
                names |= {
                    f"layer{stage}.{block}.conv{i}.weight",
                    *(f"layer{stage}.{block}.bn{i}.{leaf}" for leaf in norm),
                }
        if stage in projections:
            names |= {f"layer{stage}.0.downsample.0.weight", *(f"layer{stage}.0.downsample.1.{leaf}" for leaf in norm)}
    return names


def plain_names(features, classifier):
    modules = [*(f"features.{i}" for i in features), *(f"classifier.{i}" for i in classifier)]
    return {f"{module}.{leaf}" for module in modules for leaf in ("weight", "bias")}


@pytest.mark.parametrize(
    ("model", "names", "shapes"),
    [
        (
            create("resnet", 1000, depth=18),
            resnet_names((2, 2, 2, 2), 2, (2, 3, 4)),
            {"conv1.weight": (64, 3, 7, 7), "layer2.0.conv1.weight": (128, 64, 3, 3), "fc.weight": (1000, 512)},
        ),
        (
            create("resnet", 1000, depth=50),
            resnet_names((3, 4, 6, 3), 3, (1, 2, 3, 4)),
            {"layer3.5.conv3.weight": (1024, 256, 1, 1), "layer1.0.downsample.0.weight": (256, 64, 1, 1)},
        ),
        (
            create("vgg", 1000, configuration="D"),
            plain_names((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), (0, 3, 6)),
            {"features.28.weight": (512, 512, 3, 3), "classifier.0.weight": (4096, 25088)},
        ),
        (
            create("vgg", 1000, configuration="A"),
            plain_names((0, 3, 6, 8, 11, 13, 16, 18), (0, 3, 6)),
            {"classifier.6.weight": (1000, 4096)},
        ),
        (
            create("alexnet", 1000, variant="owt"),
            plain_names((0, 3, 6, 8, 10), (1, 4, 6)),
            {"features.0.weight": (64, 3, 11, 11), "classifier.1.weight": (4096, 9216)},
        ),
    ],
    ids=["resnet18", "resnet50", "vgg16", "vgg11", "alexnet"],
)
def test_names_and_shapes_are_torchvisions(model, names, shapes):
    entries = {entry.name: entry for entry in convert.entries_of(model, state_lib.shapes_of(model, 224))}
    assert set(entries) == names
    for name, shape in shapes.items():
        assert entries[name].to_torch(np.empty(entries[name].shape, np.bool_)).shape == shape


def test_where_the_numbers_go():
    """By hand: out, in, row, column -> row, column, in, out; a fully connected layer's inputs are in, row, column."""
    model = create("alexnet", variant="owt")
    tensors = random_tensors(model, 95)  # a map of 2x2 pixels before fc6
    params = convert.from_torch(tensors, model, 95)["params"]
    assert params["conv2"]["kernel"][1, 4, 7, 100] == tensors["features.3.weight"][100, 7, 1, 4]
    assert params["fc6"]["kernel"][1, 0, 200, 3] == tensors["classifier.1.weight"][3, 200 * 4 + 1 * 2 + 0]
    model = create("resnet_cifar", depth=20)
    tensors = random_tensors(model, 32)
    params = convert.from_torch(tensors, model, 32)["params"]
    assert params["conv3_3"]["conv1"]["kernel"][0, 2, 5, 6] == tensors["layer2.2.conv1.weight"][6, 5, 0, 2]
    assert params["fc"]["kernel"][60, 3] == tensors["fc.weight"][3, 60]


def test_timms_names_of_vgg_and_counts_of_batches(monkeypatch):
    narrow(monkeypatch, vgg)
    model = create("vgg", configuration="A")
    tensors = random_tensors(model, 64)
    renamed = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    timm = {}
    for name, tensor in tensors.items():
        module, leaf = name.rsplit(".", 1)
        side = {"classifier.0": 2, "classifier.3": 1}.get(module)
        if leaf == "weight" and side:
            tensor = tensor.reshape(64, -1, side, side)
        timm[f"{renamed.get(module, module)}.{leaf}"] = tensor
    a, b = convert.from_torch(tensors, model, 64), convert.from_torch(timm, model, 64)
    assert all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), a, b)))
    model = create("resnet_cifar", depth=8)
    tensors = random_tensors(model, 32) | {"bn1.num_batches_tracked": np.array(7)}
    convert.from_torch(tensors, model, 32)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda tensors: tensors.pop("layer1.0.bn2.running_var"), "missing.*layer1.0.bn2.running_var"),
        (
            lambda tensors: tensors.update({"bn1.running_var": -tensors["bn1.running_var"]}),
            "bn1.running_var has negative variances; were means and variances exchanged",
        ),
        (lambda tensors: tensors.update({"layer9.conv.weight": np.zeros(3, np.float32)}), "layer9.conv.weight"),
        (
            lambda tensors: tensors.update({"fc.weight": np.zeros((10, 63), np.float32)}),
            r"fc.weight.*\[10, 63\].*\[10, 64\]",
        ),
        (lambda tensors: tensors.update({"conv1.weight": np.zeros((16, 27, 1, 1), np.float32)}), "conv1.weight"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(change, named):
    model = create("resnet_cifar", depth=8)
    tensors = random_tensors(model, 32)
    change(tensors)
    with pytest.raises(convert.WeightsError, match=named):
        convert.from_torch(tensors, model, 32)


def test_only_safetensors_of_numbers_are_read(tmp_path):
    (tmp_path / "pickle").write_bytes(b"\x80\x04\x95" + bytes(50))
    with pytest.raises(convert.WeightsError, match="not a safetensors file"):
        files.load_file(tmp_path / "pickle")
    whole = safetensors.numpy.save({"a": np.zeros(100, np.float32)})
    (tmp_path / "cut").write_bytes(whole[:-8])
    with pytest.raises(convert.WeightsError, match="or an incomplete one"):
        files.load_file(tmp_path / "cut")
    safetensors.numpy.save_file({"a": np.zeros(3, bool)}, tmp_path / "bool")
    with pytest.raises(convert.WeightsError, match="a is BOOL; it must be one of F16, F32, F64"):
        files.load_file(tmp_path / "bool")


def command(*arguments, module="weights", cwd):
    answer = shell().run(arguments, cwd, module=f"deepconv.{module}")
    return answer.code, answer.out, answer.err


def test_import_start_and_export(tmp_path):
    """A file becomes a run, another run starts from that one and outlives it, and the file comes back as it was."""
    recipe = f"--config={ROOT}/configs/resnet_cifar.py"
    tensors = random_tensors(create("resnet_cifar", depth=8), 32)
    file, where = tmp_path / "in.safetensors", dict(cwd=tmp_path)
    safetensors.numpy.save_file(tensors, file)
    code, out, err = command("import", recipe, "--config.model.depth=8", f"--from={file}", "--out=imported", **where)
    assert code == 0 and "--init_from=imported" in out
    assert "in.safetensors does not record how its net is built" in err and "config.model.shortcut=A" in err
    files.export_run(tmp_path / "imported", tmp_path / "out.safetensors")
    back = safetensors.numpy.load_file(tmp_path / "out.safetensors")
    assert not inputs.recorded(tmp_path / "out.safetensors", "", "")  # nobody knows its mean image
    assert back.keys() == tensors.keys() and all((back[name] == tensors[name]).all() for name in tensors)

    run = [recipe, "--smoke", "--config.model.depth=8", "--config.total_steps=1", "--init_from=imported"]
    run += ["--init_layers=conv1,conv2_1"]
    code, out, err = command(*run, module="main", **where)
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if ": taken" in line or ": at random" in line]
    assert [line for line in lines if "taken" in line] == ["conv1: taken", "conv2_1: taken"] and len(lines) == 6
    (made,) = (tmp_path / "runs").iterdir()
    assert made.name.endswith("init_from=imported")
    config = json.loads((made / "config.json").read_text())
    assert (config["init_from"], config["init_layers"]) == ("imported", ["conv1", "conv2_1"])
    (made / "eval.center.json").unlink()
    (tmp_path / "imported").rename(tmp_path / "gone")  # the run goes on without what it started from
    code, out, err = command(*run, module="main", **where)
    assert (code, err) == (0, "") and "at random" not in out
    (made / "checkpoints" / "1").rename(made / "checkpoints" / "1.orbax-checkpoint-tmp")  # killed in its first save
    code, _, err = command(*run, module="main", **where)
    assert code == 2 and "imported" in err


def test_a_file_that_deepconv_exported_says_its_images_and_classes(tmp_path, capsys):
    tensors = random_tensors(create("resnet_cifar", depth=8), 32)
    config = recipes.load(ROOT / "configs" / "resnet_cifar.py", {"model.depth": 8, "data.mean": "120.12345,110,100"})
    safetensors.numpy.save_file(tensors, tmp_path / "in.safetensors")
    files.import_file(config, tmp_path / "in.safetensors", tmp_path / "run")
    (tmp_path / "run" / "classes.json").write_text(json.dumps([f"animal {number}" for number in range(10)]))
    files.export_run(tmp_path / "run", exported := tmp_path / "out.safetensors")
    net = nets.load_net("resnet_cifar", exported, overrides={"model.depth": 8})
    warning = capsys.readouterr().err
    assert "config.model.shortcut=A" in warning and "config.data.mean" not in warning
    assert (net.net.input.mean.ravel() == np.float32([120.12345, 110, 100])).all() and net.classes[9] == "animal 9"
    with pytest.raises(ValueError, match="the classes of .*out.safetensors are not those of cifar10"):
        start._check_classes(exported, [f"animal {number}" for number in reversed(range(10))], "cifar10")
    assert inputs.recorded(exported, "", "120.12345,110,100") == "120.12345,110,100"
    foreign = {"mean": "[0.485, 0.456, 0.406]", "std": "1,1,1", "channels": "3", "classes": "?"}
    safetensors.numpy.save_file(tensors, tmp_path / "foreign.safetensors", metadata=foreign)
    assert inputs.recorded(tmp_path / "foreign.safetensors", "torchvision", "") == ""
    assert inputs.exported_classes(tmp_path / "foreign.safetensors") is None
    assert inputs.recorded(exported, "", "paper") == "paper"
    with pytest.raises(
        ValueError, match="says --input=120.12345,110,100/1,1,1, unlike --library=timm; give --input=120"
    ):
        nets.load_net("resnet_cifar", exported, "timm")
    assert nets.load_net("resnet_cifar", tmp_path / "in.safetensors", "", "1,2,3", {"model.depth": 8}).classes[9] == "9"


def test_the_file_of_a_vgg_says_all_of_its_net(tmp_path, capsys):
    changes = {"data.image_size": 32, "data.mean": "1,2,3"}
    config = recipes.load(ROOT / "configs/vgg11.py", changes)
    safetensors.numpy.save_file(random_tensors(create("vgg", configuration="A"), 32), tmp_path / "in.safetensors")
    files.import_file(config, tmp_path / "in.safetensors", tmp_path / "run")
    files.export_run(tmp_path / "run", exported := tmp_path / "out.safetensors")
    for file, assumed in ((tmp_path / "in.safetensors", True), (exported, False)):
        nets.load_net("vgg11", file, overrides=changes)
        assert ("The recipe's are assumed" in capsys.readouterr().err) == assumed
    config = recipes.load(ROOT / "configs/vgg16_localization.py")
    with pytest.raises(ValueError, match="objective=per_class_regression predicts boxes, and .* lacks the classes"):
        files.import_file(config, exported, tmp_path / "other")


def test_nothing_is_written_over_and_nothing_from_nowhere(tmp_path):
    config = recipes.load(ROOT / "configs" / "resnet_cifar.py", {"model.depth": 14})
    safetensors.numpy.save_file(random_tensors(create("resnet_cifar", depth=8), 32), tmp_path / "a")
    with pytest.raises(convert.WeightsError, match="missing, such as layer1.1"):
        files.import_file(config, tmp_path / "a", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    safetensors.numpy.save_file(random_tensors(create("resnet_cifar", depth=14), 32), tmp_path / "b")
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError, match="out exists"):
        files.import_file(config, tmp_path / "b", tmp_path / "out")
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint in"):
        files.export_run(tmp_path / "nowhere", tmp_path / "c")


VGG_B = create("vgg", configuration="B")
FROM_A = ["conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8"]


def test_a_deeper_vgg_starts_from_net_a_as_the_paper_says(tmp_path, monkeypatch):
    """3.1: "the first four convolutional layers and the last three fully-connected layers" of net A."""
    narrow(monkeypatch, vgg)
    tensors = random_tensors(create("vgg", configuration="A"), 32)
    config = recipes.load(ROOT / "configs" / "vgg11.py", {"data.image_size": 32})
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors")
    files.import_file(config, tmp_path / "a.safetensors", tmp_path / "a")
    start = files.load_weights(tmp_path / "a", VGG_B, 32, FROM_A)
    params = jax.tree.map(lambda x: np.ones(x.shape, np.float32), state_lib.shapes_of(VGG_B, 32)["params"])
    before = TrainState(0, params, {}, {})
    state = resume.start_from(before, start, distributed.make_mesh())
    taken = {"conv1_1": 0, "conv2_1": 3, "conv3_1": 6, "conv3_2": 8}
    for layer, place in taken.items():
        assert (state.params[layer]["kernel"] == tensors[f"features.{place}.weight"].transpose(2, 3, 1, 0)).all()
        assert (state.params[layer]["bias"] == tensors[f"features.{place}.bias"]).all()
    for layer, place in {"fc6": 0, "fc7": 3, "fc8": 6}.items():
        assert (state.params[layer]["bias"] == tensors[f"classifier.{place}.bias"]).all()
    others = set(state.params) - set(FROM_A)
    assert others == {"conv1_2", "conv2_2", "conv4_1", "conv4_2", "conv5_1", "conv5_2"}
    assert all((state.params[layer]["kernel"] == before.params[layer]["kernel"]).all() for layer in others)

    with pytest.raises(convert.WeightsError, match="4 tensors are missing, such as conv1_2.bias, .*--init_layers"):
        files.load_weights(tmp_path / "a", VGG_B, 32, [])
    with pytest.raises(convert.WeightsError, match="2 tensors are missing, such as conv1_2.bias"):
        files.load_weights(tmp_path / "a", VGG_B, 32, ["conv1_1", "conv1_2"])
    with pytest.raises(convert.WeightsError, match="conv9 is not a layer of this net; choose from conv1_1"):
        files.load_weights(tmp_path / "a", VGG_B, 32, ["conv9"])
    with pytest.raises(OSError):
        files.load_weights(tmp_path / "nowhere.safetensors", VGG_B, 32, [])


def test_a_file_for_other_classes_gives_all_but_the_last_layer(tmp_path):
    tensors = random_tensors(create("resnet_cifar", 100, depth=8), 32)
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors")
    model = create("resnet_cifar", depth=8)
    with pytest.raises(
        convert.WeightsError, match=r"fc.bias has shape \[100\], the net needs \[10\].*--init_layers=all_but_head"
    ):
        files.load_weights(tmp_path / "a.safetensors", model, 32, [])
    found = files.load_weights(tmp_path / "a.safetensors", model, 32, ["conv1", "bn1"])
    assert found.keys() == {"params", "batch_stats"} and found["params"].keys() == {"conv1", "bn1"}
    assert (found["batch_stats"]["bn1"]["mean"] == tensors["bn1.running_mean"]).all()


def test_all_but_the_head_start_a_net_of_other_classes(tmp_path):
    tensors = random_tensors(create("resnet_cifar", 100, depth=8), 32)
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors")
    found = files.load_weights(tmp_path / "a.safetensors", create("resnet_cifar", 12, depth=8), 32, ["all_but_head"])
    assert "fc" not in found["params"] and len(found["params"]) == 5  # conv1, bn1, three blocks
    assert (found["params"]["conv1"]["kernel"] == tensors["conv1.weight"].transpose(2, 3, 1, 0)).all()


@pytest.mark.parametrize(
    ("model", "other", "remedy"),
    [
        (create("alexnet"), create("alexnet", variant="owt"), "use configs/alexnet_owt.py"),
        (create("resnet", depth=18, shortcut="A"), create("resnet", depth=18), "--config.model.shortcut=B"),
        (create("resnet", depth=18), create("resnet", depth=18, shortcut="A"), "--config.model.shortcut=A"),
        (create("resnet_cifar", depth=14), create("resnet_cifar", depth=8), "Choose the recipe, and --config.model..."),
    ],
)
def test_the_remedy_is_named_and_only_what_is_missing(model, other, remedy, tmp_path):
    safetensors.numpy.save_file(random_tensors(other, 64), tmp_path / "a.safetensors")
    with pytest.raises(convert.WeightsError, match=remedy) as caught:
        files.load_weights(tmp_path / "a.safetensors", model, 64, [])
    assert "fc.weight" not in str(caught.value) and str(tmp_path / "a.safetensors") in str(caught.value)


def test_a_file_of_torch_is_answered_with_the_line_that_converts_it(tmp_path):
    torch = pytest.importorskip("torch")
    model = create("resnet_cifar", depth=8)
    tensors = random_tensors(model, 32)
    names = {name.replace("fc.", "linear."): name for name in tensors}  # as a well-known repository has them
    state = {f"module.{theirs}": torch.tensor(tensors[ours]) for theirs, ours in names.items()}
    torch.save({"state_dict": state, "best_prec1": 91.7}, tmp_path / "net.th")
    with pytest.raises(convert.WeightsError, match="net.th: not a safetensors file") as caught:
        files.load_weights(tmp_path / "net.th", model, 32, [])
    subprocess.run(str(caught.value).partition("torch: ")[2], shell=True, check=True)
    back = convert.to_torch(files.load_weights(tmp_path / "net.safetensors", model, 32, []), model)
    assert all((back[name] == tensors[name]).all() for name in tensors)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(value, tmp_path):
    model = create("resnet_cifar", depth=8)
    tensors = random_tensors(model, 32)
    safetensors.numpy.save_file(tensors, tmp_path / "good")
    tensors["layer2.0.conv1.weight"][3, 1, 2, 0] = value
    safetensors.numpy.save_file(tensors, tmp_path / "bad")
    config = recipes.load(ROOT / "configs" / "resnet_cifar.py", {"model.depth": 8})
    with pytest.raises(convert.WeightsError, match="layer2.0.conv1.weight holds 1 of 4608 values that are not finite"):
        files.import_file(config, tmp_path / "bad", tmp_path / "run")
    files.import_file(config, tmp_path / "good", tmp_path / "run")
    manager = checkpoint.open_manager(tmp_path / "run" / "checkpoints", 9)
    state = checkpoint.read(tmp_path / "run" / "checkpoints")
    state["params"]["conv3_1"]["conv1"]["kernel"][0, 0, 0, 0] = value
    bad = TrainState(jnp.int32(1), state["params"], state["batch_stats"], ())
    checkpoint.save(manager, bad)
    checkpoint.wait(manager)
    named = "params.conv3_1.conv1.kernel holds 1 of 4608 values"
    with pytest.raises(checkpoint.CheckpointError, match=named):
        files.load_weights(tmp_path / "run", model, 32, [])
    with pytest.raises(checkpoint.CheckpointError, match=named):
        checkpoint.restore(manager, bad)


def test_numbers_too_large_for_float32_and_what_is_no_file_are_refused(tmp_path):
    model = create("resnet_cifar", depth=8)
    tensors = random_tensors(model, 32) | {"fc.bias": np.full(10, 1e300)}
    with pytest.raises(convert.WeightsError, match="params.fc.bias holds 10 of 10 values that are not finite"):
        convert.from_torch(tensors, model, 32)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(convert.WeightsError, match="pipe: not a file"):
        files.load_weights(tmp_path / "pipe", model, 32, [])


@pytest.mark.parametrize(("recipe", "change"), [("resnet_cifar", ("residual", False)), ("alexnet", ("dropout", 0.0))])
def test_what_changes_scores_but_not_shapes_is_taken_from_the_run(recipe, change):
    config, (field, value) = recipes.load(ROOT / f"configs/{recipe}.py"), change
    source = json.loads(recipes.load(ROOT / f"configs/{recipe}.py", {f"model.{field}": value}).to_json())
    assert inputs.run_fields(config, source, same_net=True) == {f"model.{field}": value}


def test_a_lrn_and_a_are_told_apart():
    """Their weights have the same names and shapes; those of other configurations do not."""
    a, lrn, d = (
        json.loads(recipes.load(ROOT / f"configs/{name}.py").to_json()) for name in ("vgg11", "vgg11_lrn", "vgg16")
    )
    fields = {"model.configuration": "A-LRN"}
    assert inputs.run_fields(ConfigDict(a), lrn, same_net=True) == fields
    assert inputs.run_fields(ConfigDict(lrn), a, same_net=True) == {"model.configuration": "A"}
    assert inputs.run_fields(ConfigDict(d), a, same_net=True) == inputs.run_fields(ConfigDict(a), lrn, False) == {}


def test_a_standard_deviation_of_zero_is_refused():
    assert inputs.parse_input("1,2,3/4,5,6").std == "4,5,6"
    for std in ("0,57,57", "57,57,-1"):
        with pytest.raises(ValueError, match=f"/{std}: a standard deviation must be above 0"):
            inputs.parse_input(f"123,116,103/{std}")


def test_exports_say_what_their_net_takes_and_leave_nothing_half_written(tmp_path, monkeypatch):
    config = recipes.load(ROOT / "configs" / "resnet_cifar.py", {"model.depth": 8, "data.mean": "100,101,102"})
    safetensors.numpy.save_file(random_tensors(create("resnet_cifar", depth=8), 32), tmp_path / "a")
    files.import_file(config, tmp_path / "a", tmp_path / "run")
    files.export_run(tmp_path / "run", tmp_path / "b")
    with safetensors.safe_open(tmp_path / "b", "numpy") as file:
        found = file.metadata()
    assert (found["step"], found["mean"], found["std"]) == ("0", "100,101,102", "1,1,1")
    assert json.loads(found["classes"]) == [str(number) for number in range(10)]

    def full(*arguments, **options):
        raise safetensors.SafetensorError("no space")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(OSError, match="c cannot be written: no space"):
        files.export_run(tmp_path / "run", tmp_path / "c")
    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(safetensors.SafetensorError):
        files.import_file(config, tmp_path / "a", tmp_path / "d")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "run"]


def test_narrow_nets_and_a_sixth_convolution_can_be_exported():
    model = create("vgg", configuration="A", narrow=8)
    tensors = random_tensors(model, 64)
    timm = names.as_timm_vgg(tensors)
    assert timm["pre_logits.fc1.weight"].shape == (512, 64, 2, 2) and timm["pre_logits.fc2.weight"].shape == (
        512,
        512,
        1,
        1,
    )
    back = convert.from_torch(timm, model, 64)
    there = convert.from_torch(tensors, model, 64)
    assert all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), there, back)))
    assert names.layer_name(create("alexnet", variant="owt", conv6=True), "conv6") == "conv6"


def test_what_a_library_s_net_is_and_takes():
    def fields(recipe, library="", given="", **overrides):
        return inputs.file_fields(recipes.load(ROOT / "configs" / f"{recipe}.py", overrides), library, given)

    images = {"data.mean": "123.675,116.28,103.53", "data.std": "58.395,57.12,57.375"}
    net = {"residual": True, "shortcut": "B", "stride_on": "3x3", "pool1": "symmetric"}
    for recipe, library in (("resnet18", "torchvision"), ("resnet152", "timm")):
        assert fields(recipe, library) == images | {f"model.{name}": value for name, value in net.items()}
    assert fields("vgg16", "timm") == images
    owt = recipes.load(ROOT / "configs" / "alexnet.py", fields("alexnet", "torchvision"))
    assert (owt.model.variant, owt.model.lrn, owt.data.central_square) == ("owt", False, False)
    assert fields("resnet50", given="caffe") == {"data.mean": "123.68,116.779,103.939", "data.std": "none"}
    assert fields("resnet50", given="1,2,3/4,5,6") == {"data.mean": "1,2,3", "data.std": "4,5,6"}
    assert fields("resnet50", given="paper") == fields("resnet50") == {}
    for recipe, library in (("resnet_cifar", "torchvision"), ("alexnet", "timm"), ("vgg16_1x1", "timm")):
        with pytest.raises(ValueError, match=f"{library} has no net like"):
            fields(recipe, library)
    for wrong in ("torch", "1,2", "1,2,x", "1,2,3/1,2", "nan,1,1"):
        with pytest.raises(ValueError, match="--input=.* is unknown; choose one of torchvision, caffe"):
            fields("resnet50", given=wrong)


def test_the_library_of_an_export_has_to_have_the_net(tmp_path):
    tensors = random_tensors(create("resnet", 7, depth=18), 64)
    safetensors.numpy.save_file(tensors, tmp_path / "a")
    for name, changes in (
        ("ours", {"data.mean": "channel"}),
        ("mean", {"data.mean": "pixel", "model.stride_on": "3x3", "model.pool1": "symmetric"}),
    ):
        config = recipes.load(ROOT / "configs" / "resnet18.py", {"model.shortcut": "B"} | changes)
        files.import_file(config, tmp_path / "a", tmp_path / name)
        statistics.save(tmp_path / name / "statistics.npz", STATISTICS, "")
    with pytest.raises(ValueError, match="the net is not timm's: config.model.stride_on=1x1, but 3x3 in timm"):
        files.export_run(tmp_path / "ours", tmp_path / "b", "timm")
    with pytest.raises(ValueError, match="takes images minus a mean image, not minus the colour 123.675"):
        files.export_run(tmp_path / "mean", tmp_path / "b", "timm")
    with pytest.raises(ValueError, match="takes images minus the colour 123.68,116.779,103.939, not minus the colour"):
        files.export_run(tmp_path / "ours", tmp_path / "b", given="torchvision")
    assert not (tmp_path / "b").exists()


def test_an_equal_net_gives_all_its_layers(tmp_path, monkeypatch):
    narrow(monkeypatch, vgg)
    tensors = random_tensors(VGG_B, 32)
    safetensors.numpy.save_file(tensors, tmp_path / "b.safetensors")
    back = convert.to_torch(files.load_weights(tmp_path / "b.safetensors", VGG_B, 32, []), VGG_B)
    assert all((back[name] == tensors[name]).all() for name in tensors)
