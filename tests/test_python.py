"""deepconv from Python: its names, and the code of docs/python.md and docs/quickstart.ipynb."""

import ast
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
from conftest import ROOT
from PIL import Image

import deepconv
from deepconv import models, nets
from deepconv.data import sources, statistics
from deepconv.run.files import write_json
from deepconv.state import shapes_of
from deepconv.weights import convert, files, inputs

PAGE = (ROOT / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def write_weights(model, size, file):
    """Random weights, as torchvision names them."""
    rng = np.random.default_rng(0)
    arrays = jax.tree.map(lambda x: rng.uniform(0.01, 0.1, x.shape).astype(np.float32), shapes_of(model, size))
    safetensors.numpy.save_file(convert.to_torch(arrays, model), file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the page's code reads: a run, a file of weights, a photograph."""
    folder = tmp_path_factory.mktemp("python")
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "runs").mkdir()
    config = nets.load_recipe(ROOT / "configs" / "quickstart.py")
    write_weights(models.create(config.model, 10), 24, folder / "quickstart.safetensors")
    files.import_file(config, folder / "quickstart.safetensors", folder / "runs" / "quickstart")
    write_json(folder / "runs" / "quickstart" / "classes.json", sources.find("shapes", "test", None, 24).classes)
    statistics.save(folder / "runs" / "quickstart" / "statistics.npz", statistics.PUBLISHED, "")
    recipe = ROOT / "configs" / "resnet18.py"
    changes = inputs.file_fields(nets.load_recipe(recipe), "torchvision", "")
    write_weights(models.create(nets.load_recipe(recipe, changes).model, 1000), 224, folder / "resnet18.safetensors")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)).save(folder / "photo.jpg")
    return folder


@pytest.fixture
def run_block(folder, monkeypatch, capsys):
    def run(block):
        monkeypatch.chdir(folder)
        found = {}
        exec(compile(block, "docs/python.md", "exec"), found)
        out, err = capsys.readouterr()
        assert not err
        return found, out

    return run


def block(name):
    """The code of the page that calls a function of deepconv."""
    (code,) = (code for code in BLOCKS if f"deepconv.{name}(" in code)
    return code


def test_the_code_of_the_page(run_block, folder):
    """Each block by itself, as it stands; what it finds is compared with the commands' functions."""
    found, out = run_block(block("create_model"))
    assert out == "(4, 10)\n" and found["model"].depth == 8
    net, out = run_block(block("load_net"))
    assert out == "tench (n01440764)\n" and net["net"].net.input.mean.ravel()[0] == np.float32(123.675)
    found, out = run_block(block("classify"))
    probabilities, lines = found["probabilities"], out.splitlines()
    assert len(lines) == 5 and float(lines[0].split()[0]) == pytest.approx(probabilities.max(), abs=0.0051)
    found, _ = run_block(block("extract_features"))
    assert found["features"].shape == (1, 6, 6, 64) and found["features"].any()
    (code,) = (code for code in BLOCKS if "net.net.model" in code)
    found, out = run_block(code)
    assert out.endswith(" 0\n") and found["net"].classes[:2] == [*sources.find("shapes", "test", None, 24).classes[:2]]
    assert len(BLOCKS) == 7


def test_arrays_have_the_scores_of_photographs(run_block, folder):
    found, _ = run_block(block("scores"))
    net, image = found["net"], np.random.default_rng(1).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(image).save(folder / "whole.png")
    expected = deepconv.classify(net, [folder / "whole.png"])
    np.testing.assert_allclose(jax.nn.softmax(deepconv.scores(net, image[None])), expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"images are float32 \[1, 24, 24, 3\], but must be uint8"):
        deepconv.scores(net, image[None].astype(np.float32))
    with pytest.raises(ValueError, match=r"images are uint8 \[1, 20, 24, 3\], but must be uint8 \[B, 24, 24, 3\]"):
        deepconv.scores(net, image[None, 4:])


def test_a_step_of_training_by_hand(run_block):
    found, out = run_block(block("jit_step"))
    assert out.startswith("1 {") and found["metrics"].keys() >= {"train_loss", "train_top1_error", "learning_rate"}
    assert 1 < float(found["metrics"]["train_loss"]) < 10


EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=1800).execute()
nbformat.write(notebook, sys.argv[2])
"""


@pytest.mark.slow
def test_the_notebook_runs(folder):
    if importlib.util.find_spec("nbclient") is None:
        pytest.skip("needs nbclient and ipykernel: pip install -e '.[test]'")
    arguments = [sys.executable, "-c", EXECUTE, str(ROOT / "docs" / "quickstart.ipynb"), "executed.ipynb"]
    done = subprocess.run(
        arguments, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    cells = json.loads((folder / "executed.ipynb").read_text())["cells"]
    text = "".join("".join(output.get("text", "")) for cell in cells for output in cell.get("outputs", ()))
    error = re.search(r"([\d.]+) % of 500 pictures are classified wrongly", text)
    assert error and float(error[1]) < 40, text  # 90 is chance
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", ())) == 2


def test_a_wrong_net_or_layer_is_refused(folder, monkeypatch):
    monkeypatch.chdir(folder)
    net = deepconv.load_run(str(folder / "runs" / "quickstart"))
    with pytest.raises(ValueError, match="'a.png' is one path; give a list of photographs"):
        deepconv.classify(net, "a.png")
    with pytest.raises(OSError, match="none.png cannot be read: No such file or directory"):
        deepconv.classify(net, ["none.png"])
    for wrong, call in {
        "the nearest recipe is": lambda: deepconv.load_recipe("resnet5"),
        "conv9 is not a layer of this net; it has bn1, conv1": lambda: deepconv.extract_features(net, [], "conv9"),
        "give --library or --input": lambda: deepconv.load_net("quickstart", "quickstart.safetensors"),
        "has no attribute 'clasify'; it offers batches, classify": lambda: deepconv.clasify,
    }.items():
        with pytest.raises((ValueError, AttributeError), match=wrong):
            call()


def test_names_are_imported_when_they_are_used():
    code = "import sys, deepconv; dir(deepconv); print(sorted({'jax', 'flax', 'numpy', 'cv2'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
    tree = ast.parse((ROOT / "deepconv" / "__init__.py").read_text())
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    places = {alias.asname or alias.name: f"{node.module}.{alias.name}" for node in typed.body for alias in node.names}
    assert places == deepconv._PLACES and {*places} == {*deepconv.__all__} <= {*dir(deepconv)}
    for name, place in places.items():
        module, _, attribute = place.rpartition(".")
        assert getattr(deepconv, name) is getattr(importlib.import_module(module), attribute)
        assert f"deepconv.{name}(" in PAGE or f"`{name}`" in PAGE, f"docs/python.md does not mention {name}"
