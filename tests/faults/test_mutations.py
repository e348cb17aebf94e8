"""Mutated recipes"""

import functools
import math
import random
import shutil
import signal

import pytest
from conftest import CONFIGS
from ml_collections import ConfigDict

from deepconv import state as state_lib
from deepconv import task as task_lib
from deepconv.config import recipes
from faults.harness import SEED, tries

MUTATIONS, COMMANDS = tries(200), tries(24)
REMOVED = "REMOVED"
NUMBERS = [-1, 0, 1, 2, 7, 10**9, 2**31, 2**63 - 1, 2**63, 10**30, -(10**30), 0.5, 1e-300, 1e308, -1e308]
NUMBERS += [math.nan, math.inf, -math.inf, True, False]
TEXTS = [
    "",
    "x",
    "none",
    "é☃",
    "\x1b[31m\n",
    "../..",
    "%s{0}",
    "x" * 300,
    "train[:0]",
    "train[5:2]",
    "1,2,3",
    "nan,1,2",
]
OTHERS = [None, (), (1,), (1, 2), (2, 1), (0.5,), (math.nan,), ("a",), [1, 2], {}, {"x": 1}, b"x", 1j, REMOVED]
MUTANT = """
from math import inf, nan

from {base} import get_config as base

def get_config():
    config = base()
    node = config
    *path, name = {field!r}.split(".")
    for part in path:
        node = node[part]
    value = {value!r}
    if value == "REMOVED":
        del node[name]
    else:
        with config.unlocked(), config.ignore_type():
            node[name] = value
    return config
"""


def fields(config, prefix=""):
    """The names of all fields, those of parts, and one in each part that does not exist."""
    names = [f"{prefix}unknown"]
    for name, value in config.items():
        names.append(f"{prefix}{name}")
        if isinstance(value, ConfigDict):
            names += fields(value, f"{prefix}{name}.")
    return names


def mutation(rng, names):
    """A field, a value for it, and whether it is changed in the recipe's file, not on the command line."""
    value = rng.choice(rng.choice([NUMBERS, NUMBERS, TEXTS, OTHERS]))
    field = rng.choice(names)
    return field, value, value == REMOVED or rng.random() < 0.6


@pytest.fixture
def quick_shapes(monkeypatch):
    """Nets are built in the abstract once each: most mutations leave the model alone."""
    monkeypatch.setattr(state_lib, "shapes_of", functools.cache(state_lib.shapes_of))


def hang(number, frame):
    raise TimeoutError("no answer after a minute")


@pytest.mark.parametrize("recipe", CONFIGS, ids=lambda path: path.stem)
def test_recipe(quick_shapes, tally, tmp_path, recipe):
    """Random mutations of every shipped recipe: a field is removed, or of another type or size"""
    rng = random.Random(f"{SEED} {recipe.stem}")
    names = fields(recipes.load(recipe))
    shutil.copytree(recipe.parent, tmp_path / "configs")  # a recipe may import those beside it
    before = signal.signal(signal.SIGALRM, hang)
    for number in range(MUTATIONS):
        field, value, in_file = mutation(rng, names)
        with tally.attempt(f"{recipe.stem}, {number}: {field}={value!r:.50}{' in the file' * in_file}"):
            path, changes = recipe, {field: value}
            if in_file:
                path, changes = tmp_path / "configs" / "mutant.py", {}
                path.write_text(MUTANT.format(base=recipe.stem, field=field, value=value))
            signal.alarm(60)
            try:
                task_lib.prepare(recipes.load(path, changes, smoke=True), None)
            except (ValueError, OSError) as error:
                lines = str(error).splitlines()
                assert lines and all(line.isprintable() and 0 < len(line) < 1000 for line in lines), repr(str(error))
            finally:
                signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", ["quickstart", "resnet_cifar"])
def test_command(shell, tally, tmp_path, name):
    """Random mutations of quickstart and resnet_cifar by the command: it runs, or is refused with exit code 2"""
    shutil.copytree(CONFIGS[0].parent, tmp_path / "configs")
    names, rng = fields(recipes.load(tmp_path / "configs" / f"{name}.py")), random.Random(f"{SEED} {name} command")
    for number in range(COMMANDS):
        field, value, _ = mutation(rng, names)
        with tally.attempt(f"{name}, {number}: {field}={value!r:.50}"):
            mutant = tmp_path / "configs" / f"mutant{number}.py"
            mutant.write_text(MUTANT.format(base=name, field=field, value=value))
            answer = shell.run([f"--config={mutant}", "--smoke"], tmp_path).ends(0, 1, 2)
            if answer.code == 1:
                answer.says("not finite")
            if answer.code == 2:
                lines = answer.err.splitlines()
                assert all(line.startswith("deepconv: ") and line.isprintable() for line in lines), answer.err
                assert not (tmp_path / "runs").exists() or not [*(tmp_path / "runs").glob(f"mutant{number},*")]
