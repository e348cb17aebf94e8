"""Devices: a mesh with the axes "data" and "model", and the sharding of batches and other arrays."""

import os
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from deepconv import compilation, processes
from deepconv.ops import forms


def check_devices(expected: int | None = None) -> None:
    """Raises ValueError if JAX cannot use the devices that the environment selects, or does not have `expected` ones.

    It also turns on the cache of compiled programs, unless the run has several processes.
    """
    try:
        count = len(jax.devices())
    except (AssertionError, AttributeError, RuntimeError) as error:  # the first two if a plugin is not installed
        selected = os.environ.get("JAX_PLATFORMS", "")
        reason = " ".join(str(error).split()) or "its plugin is not installed, or finds no device"
        raise ValueError(f"JAX cannot use JAX_PLATFORMS={selected}: {reason}; unset it, or choose cpu") from None
    if expected and count != expected:
        raise ValueError(
            f"--expect_devices={expected}, but JAX has {count} ({jax.devices()[0].device_kind}) in "
            f"{jax.process_count()} processes; check CUDA_VISIBLE_DEVICES, the driver, and the scheduler's allocation"
        )
    if not processes.several():  # with several, some would load programs that the rest compile jointly
        compilation.keep_programs()


def make_mesh(model_parallel: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns a mesh of all devices, or the given ones, of shape (data, model).

    A batch is split along "data". `model_parallel` neighbouring devices along "model" share a net. Raises ValueError if
    they do not divide the devices of each process.
    """
    check_devices()
    if jax.local_device_count() % model_parallel:
        raise ValueError(
            f"--model_parallel={model_parallel} needs a multiple of {model_parallel} devices in each process, not "
            f"{jax.local_device_count()}; leave it out"
        )
    devices = jax.devices() if devices is None else devices
    return Mesh(np.asarray(devices).reshape(-1, model_parallel), ("data", "model"))


def all_for_data(mesh: Mesh) -> Mesh:
    """Returns a mesh of the same devices, all along "data"."""
    return Mesh(mesh.devices.reshape(-1, 1), mesh.axis_names)


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device holds in full."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that divides the first axis along "data"."""
    return NamedSharding(mesh, PartitionSpec("data"))


def own_rows(mesh: Mesh, count: int) -> slice:
    """Returns the rows of a batch of `count` images that this process's devices hold."""
    shards = split(mesh).addressable_devices_indices_map((count,)).values()
    parts = [index[0].indices(count) for index in shards if index]
    return slice(min(first for first, *_ in parts), max(last for _, last, *_ in parts))


def put_batch(batch: Mapping[str, object], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts a batch, a dict of arrays with this process's rows, from the host on the devices."""
    return jax.make_array_from_process_local_data(split(mesh), batch)


def put_whole_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts this process's rows of a batch, which every process has in full, on the devices."""
    return put_batch({name: rows[own_rows(mesh, len(rows))] for name, rows in batch.items()}, mesh)


def settings(mesh: Mesh, accumulate: int) -> dict[str, object]:
    """Returns the settings, apart from the config, that must be the same in all processes of a run."""
    return {
        "--model_parallel": mesh.shape["model"],
        "--accumulate": accumulate,
        "--forms": forms.current_forms(),
        "devices of each process": jax.local_device_count(),
        "version of JAX": jax.__version__,
    }


def describe_devices() -> list[str]:
    """Returns a line for each process of the run: its number, host and devices, with their memory."""
    devices = jax.local_devices()
    memory = (devices[0].memory_stats() or {}).get("bytes_limit")
    kind = f"{len(devices)} x {devices[0].device_kind}" + (f", {memory / 1e9:.0f} GB each" if memory else "")
    if not processes.several():
        return [f"devices: {kind}"]
    lines = processes.collect(f"{os.uname().nodename}: {kind}")
    return [f"process {number} on {line}" for number, line in enumerate(lines)]


def compiler_options() -> dict[str, str]:
    """Returns the compiler options of every jitted step.

    XLA:CPU convolves with YNNPACK, with which AlexNet and ResNet-50 take up to 1.5 times as long as with Eigen
    (docs/speed.md). YNNPACK is kept for reductions. jax 0.10 to 0.12 know this option.
    """
    if forms.platform() == "cpu":
        return {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}
    return {}
