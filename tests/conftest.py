"""Strict by default: two devices, no silent broadcasting between ranks, the compiled steps shared between tests."""

import atexit
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import pytest
from absl import flags

from deepconv import task as task_lib
from deepconv.config import recipes
from deepconv.data import statistics

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
STATISTICS = dataclasses.replace(statistics.PUBLISHED, pixel_mean=np.full((256, 256, 3), 120, np.float32))
TINY = {"model.depth": 8, "data.image_size": 16, "total_steps": 6}

jax.config.update("jax_numpy_rank_promotion", "raise")
# What follows is set once, for pytest's workers and for the commands that tests start, which inherit the environment.
# XLA compiles several times as fast so, and results differ by rounding; flags that are given have the last word.
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
FLAGS = os.environ.setdefault("DEEPCONV_TESTS_XLA_FLAGS", QUICK + os.environ.get("XLA_FLAGS", ""))
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=2 {FLAGS}"
if "DEEPCONV_TESTS_CACHE" not in os.environ:
    os.environ["DEEPCONV_TESTS_CACHE"] = tempfile.mkdtemp(prefix="deepconv-tests-")
    atexit.register(shutil.rmtree, os.environ["DEEPCONV_TESTS_CACHE"], ignore_errors=True)
CACHE = os.environ["DEEPCONV_TESTS_CACHE"]
for name, value in (("jax_compilation_cache_dir", CACHE), ("jax_persistent_cache_min_compile_time_secs", 0.1)):
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)
flags.FLAGS.mark_as_parsed()  # Grain's worker processes look at absl's flags


def tiny_task(workers=0, **overrides):
    """A run of six small steps on the built-in data."""
    changes = TINY | {name.replace("__", "."): value for name, value in overrides.items()}
    return task_lib.prepare(recipes.load(ROOT / "configs" / "resnet_cifar.py", changes, smoke=True), None, workers)


def real_data(folder):
    """A folder of real data; the test is skipped where there is none."""
    data = Path(os.environ.get("DEEPCONV_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (data / folder).is_dir():
        pytest.skip(f"no {folder} in {data} (a folder named by DEEPCONV_TEST_DATA may hold it)")
    return data / folder


@pytest.fixture
def cifar_dir():
    """The directory with CIFAR-10 as TFDS lays it out."""
    return str(real_data("tfds/cifar10").parent)


# A process that has imported everything, and a child of it for each command: imports take longer than answers.
ANSWER = """
import importlib, json, os, sys, warnings
from deepconv import cli, train
from deepconv.run import checkpoint, preemption
from deepconv.weights import files
module, commands = importlib.import_module(sys.argv[1]), json.loads(sys.argv[2])
if hasattr(module, "__path__"):  # a package
    module = importlib.import_module(module.__name__ + ".__main__")
getattr(module, "define_flags", lambda: None)()
warnings.simplefilter("ignore")  # JAX warns of forks; none of its threads runs yet
codes = []
for i, arguments in enumerate(commands):
    child = os.fork()
    if not child:
        for stream in (1, 2):
            os.dup2(os.open(f"{i}.{stream}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY), stream)
        sys.argv = [module.__name__, *arguments]
        cli.run(module.main)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
json.dump(codes, open("codes.json", "w"))
"""


def answers(folder, module, mistakes):
    """(exit code, output, errors, what was expected of them) of each command."""
    commands = json.dumps([arguments for arguments, _ in mistakes])
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": FLAGS}
    subprocess.run([sys.executable, "-c", ANSWER, module, commands], cwd=folder, env=environment, check=True)
    codes = json.loads((folder / "codes.json").read_text())
    streams = [[(folder / f"{i}.{stream}").read_text() for stream in (1, 2)] for i in range(len(mistakes))]
    return [(code, *texts, named) for code, texts, (_, named) in zip(codes, streams, mistakes, strict=True)]
