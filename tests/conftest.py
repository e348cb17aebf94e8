"""Strict by default: two devices, no silent broadcasting between ranks, the compiled steps shared between tests."""

import atexit
import dataclasses
import functools
import os
import shutil
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
# XLA compiles several times as fast so, and results differ by rounding. DEEPCONV_TESTS_XLA_FLAGS= leaves XLA as it is.
QUICK = ["--xla_backend_optimization_level=0", os.environ.get("XLA_FLAGS", "")]
if jax.__version_info__ < (0, 11):  # newer ones do not know it
    QUICK.insert(0, "--xla_cpu_use_fusion_emitters=false")
FLAGS = os.environ.setdefault("DEEPCONV_TESTS_XLA_FLAGS", " ".join(QUICK))
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


WIDTH = 64  # of fully connected layers, in place of 4096, which only take time in most tests
NARROW = f"""
import functools
from deepconv.models import alexnet, vgg

def narrow(whole, outputs, *args, **options):
    return whole(min(outputs, {WIDTH}), *args, **options)

for module in (alexnet, vgg):
    module.FullyConnected = functools.partial(narrow, module.FullyConnected)
"""  # to inject into a command


def narrow(patch, module, most=WIDTH):
    """Fully connected layers of a module's nets get at most so many outputs."""
    whole = module.FullyConnected
    patch.setattr(module, "FullyConnected", lambda outputs, *args, **kw: whole(min(outputs, most), *args, **kw))


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


@functools.cache
def shell():
    """Runs commands in forks of a process that has imported everything: imports take longer than most commands."""
    from faults.harness import Shell  # which imports this module

    made = Shell(Path(tempfile.mkdtemp(dir=CACHE)), FLAGS)
    atexit.register(made.close)
    return made


def answers(folder, module, mistakes, inject=""):
    """(exit code, output, errors, what was expected of them) of each command, begun with the code to inject."""
    done = [(shell().run(arguments, folder, module=module, inject=inject), named) for arguments, named in mistakes]
    return [(answer.code, answer.out, answer.err, named) for answer, named in done]
