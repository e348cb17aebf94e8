"""Data parallelism: one mesh axis, replicated state, split batches."""

import os
from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def check_devices() -> None:
    """Raises ValueError if JAX cannot use the devices that the environment selects."""
    try:
        jax.devices()
    except (AssertionError, AttributeError, RuntimeError) as error:  # the first two for a plugin that is not installed
        selected = os.environ.get("JAX_PLATFORMS", "")
        reason = " ".join(str(error).split()) or "its plugin is not installed, or finds no device"
        raise ValueError(f"JAX cannot use JAX_PLATFORMS={selected}: {reason}; unset it, or choose cpu") from None


def check_processes() -> None:
    """Raises ValueError if this process is one of several."""
    if jax.process_count() > 1:
        raise ValueError(
            f"JAX runs in {jax.process_count()} processes; deepconv needs a single one, with all its devices"
        )


def make_mesh() -> Mesh:
    """Returns a mesh of all devices along one axis, "data"."""
    check_devices()
    return Mesh(np.asarray(jax.devices()), ("data",))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device holds in full."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that divides the first axis among the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def put_batch(batch: Mapping[str, object], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts a batch, a dict of arrays, from the host on the devices."""
    return jax.device_put(batch, split(mesh))


def compiler_options() -> dict[str, str]:
    """Returns the compiler options of every jitted step.

    XLA:CPU of jax 0.10 convolves with YNNPACK, whose kernels take 1.7 times as long as Eigen's on 3x3
    convolutions of 32 and 64 channels. YNNPACK is kept for reductions. jax 0.12 needs no options.
    """
    if jax.default_backend() == "cpu" and jax.__version_info__ < (0, 11):
        return {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}
    return {}
