"""The work of a GPU in a training step, read from the program that XLA compiles for it; no GPU is needed.

Needs jax's CUDA plugin: pip install -e '.[cuda]'. cuDNN chooses its kernels on a GPU only, hence neither their time nor
their workspace is known.
"""

import dataclasses
import importlib.util
import json
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import topologies
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from deepconv import distributed, resume, state, train
from deepconv import task as task_lib
from deepconv.benchmark import hlo
from deepconv.benchmark.record import Figures
from deepconv.data import sources, statistics
from deepconv.data.known import DATA
from deepconv.data.sources import described
from deepconv.data.sources.source import Source
from deepconv.data.statistics import Statistics
from deepconv.ops import counting, forms

# Each GPU's name, memory in bytes, and memory bandwidth in bytes per second, for TARGET
GPUS = {"h100": ("NVIDIA H100", 84_942_979_072, 3_352_320_000_000), "h200": ("NVIDIA H200", 151_397_597_184, 4.8e12)}
# Hopper, SXM. Without the versions, XLA puts no library call into a CUDA graph.
TARGET = """gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: {bandwidth} l2_cache_size: 52428800
  clock_rate_ghz: 1.98 device_memory_size: {memory} shared_memory_per_block_optin: 232448
  cuda_compute_capability {{ major: 9 feature_extension: ACCELERATED_FEATURES }} registers_per_core_limit: 65536
  registers_per_block_limit: 65536 driver_version: "13.0.0" runtime_version: "12.9.0"
  compile_time_toolkit_version: "12.9.0" dnn_version: "9.10.0" }}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 }} runtime_version {{ major: 12 minor: 9 }}
device_description_str: "{name}"
"""


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled training step."""

    kernels: Sequence[hlo.Kernel]
    launches: int  # CUDA graphs, and kernels outside of them
    temporary: int  # bytes
    least: float  # bytes, see least_bytes
    batch_size: int

    def figures(self) -> Figures:
        """Returns the numbers that a snapshot holds."""
        moved = sum(kernel.bytes for kernel in self.kernels)
        return {
            "kernels": sum(kernel.times for kernel in self.kernels),
            "launches": self.launches,
            "mb_per_image": round(moved / self.batch_size / 1e6, 3),
            "times_least_bytes": round(moved / self.least, 3),
            "temporary_gb": round(self.temporary / 1e9, 3),
        }


def prepare() -> None:
    """Makes JAX use the CPU; with the CUDA plugin, it would demand a GPU. Raises ValueError without the plugin."""
    if not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        raise ValueError("compiling for a GPU needs jax's CUDA plugin; pip install -e '.[cuda]'")
    jax.config.update("jax_platforms", "cpu")


def compile_step(config: ConfigDict, data_dir: str | None, target: str, accumulate: int = 1) -> Program:
    """Compiles a config's training step for one GPU. Raises ValueError and OSError as task.prepare does."""
    name, gpu_bytes, bandwidth = GPUS[target]
    text = TARGET.format(name=name, memory=gpu_bytes, bandwidth=int(bandwidth))
    given = _any_statistics(config)
    with forms.for_platform("gpu"), tempfile.TemporaryDirectory() as dump:
        task = task_lib.prepare(config, data_dir, given=given, accumulate=accumulate, find=_find)
        devices = topologies.get_topology_desc("1x1x1", "cuda", target_config=text, topology="1x1x1").devices
        task = dataclasses.replace(task, mesh=distributed.make_mesh(devices=devices[:1]))
        # level 0 compiles the same kernels faster; their code does not matter here
        options: dict[str, Any] = {
            "xla_backend_optimization_level": 0,
            "xla_dump_to": dump,
            "xla_gpu_dump_llvmir": False,
        }
        step = lower_step(task, given).compile(compiler_options=options)
        thunks = list(Path(dump).glob("*.thunk_sequence_after_thunk_passes.txt"))
        memory, program = step.memory_analysis(), step.as_text()
        if len(thunks) != 1 or memory is None or program is None:
            raise OSError(f"jax {jax.__version__} does not give its compiled kernels; use jax 0.10")
        return Program(
            hlo.kernels(program),
            hlo.launches(thunks[0].read_text()),
            memory.temp_size_in_bytes,
            least_bytes(task.model, config.data.image_size, config.batch_size),
            config.batch_size,
        )


def lower_step(task: task_lib.Task, computed: Statistics) -> jax.stages.Lowered:
    """Traces a task's training step."""
    batch = task_lib.batch_shapes(task)
    return train.jit_step(task, computed).lower(jax.eval_shape(resume.initial_state(task)), batch)


def least_bytes(model: nn.Module, image_size: int, batch_size: int) -> float:
    """Returns the bytes that a step moves if only its convolutions, matrix products and update move any.

    Each product is one kernel in the forward pass, which reads its input and its parameters and writes its output; the
    gradients of input and parameters are two more kernels over the same three arrays. All other operations are fused
    into these kernels and move no further bytes. The first layer has no gradient of its input; the bytes counted for it
    stand for writing that input. The update reads parameters, momentum and gradients, and writes the first two, all in
    float32.
    """
    with forms.using(*(f"{operation}:plain" for operation in forms.FORMS)):
        products = counting.products(model, (image_size, image_size, 3))
        parameters = counting.count_parameters(state.shapes_of(model, image_size)["params"])
    maps = sum(product.input_bytes + product.output_bytes for product in products)
    return 3 * (batch_size * maps + sum(product.kernel_bytes for product in products)) + 5 * 4 * parameters


def _find(name: str, split: str, **settings: Any) -> Source:
    """Finds a data set, or describes one of the papers, which may be missing."""
    return (described.describe if name in DATA else sources.find)(name, split, **settings)


def _any_statistics(config: ConfigDict) -> Statistics:
    """Returns statistics of the right shapes. The mean image varies, since XLA would make a constant one a number."""
    side = config.data.get("train_scale", (config.data.image_size,))[0]
    pixel_mean = np.random.default_rng(0).uniform(100, 140, (side, side, 3)).astype(np.float32)
    return dataclasses.replace(statistics.PUBLISHED, pixel_mean=pixel_mean)


def add_to_snapshot(path: Path, run: str, target: str, found: Figures) -> None:
    """Writes a run's figures into a JSON file of figures by run, with the versions that they depend on."""
    snapshot = json.loads(path.read_text()) if path.exists() else {}
    versions = {name: metadata.version(name) for name in ("jax", "jaxlib", "flax")}
    snapshot[run] = {"target": target, "versions": versions, "figures": found}
    path.write_text(json.dumps(dict(sorted(snapshot.items())), indent=2) + "\n")


def show_compiled(
    config: ConfigDict, data_dir: str | None, target: str, accumulate: int, run: str, snapshot: Path | None
) -> Figures:
    """Prints a GPU's work in a training step and the kernels that move most bytes; adds the figures to a snapshot."""
    program = compile_step(config, data_dir, target, accumulate)
    found = program.figures()
    batch = f"batch of {config.batch_size}, {config.model.dtype}"
    print(f"compiled for one {GPUS[target][0]}, {batch}, jax {jax.__version__}; nothing was run")
    table = Table("", "")
    for label, value in (
        ("kernels, library calls and copies", f"{found['kernels']:,}"),
        ("launches: CUDA graphs, and kernels outside of them", f"{found['launches']:,}"),
        ("moved to and from memory, MB an image", f"{found['mb_per_image']:.1f}"),
        ("relative to the minimum, see least_bytes", f"{found['times_least_bytes']:.2f}"),
        ("temporary memory, GB", f"{found['temporary_gb']:.2f}"),
    ):
        table.add_row(label, value)
    Console().print(table)
    largest = Table("GB", "times", "kernel", "operation", title="The ten kernels that move most bytes")
    for kernel in sorted(program.kernels, key=lambda kernel: -kernel.bytes)[:10]:
        largest.add_row(f"{kernel.bytes / 1e9:.3f}", str(kernel.times), kernel.name, kernel.operation)
    Console().print(largest)
    if snapshot:
        add_to_snapshot(snapshot, run, target, found)
    return found
