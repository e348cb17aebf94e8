"""Data parallelism: one mesh axis, replicated state, split batches."""

import os
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def check_devices() -> None:
    """Raises ValueError where JAX cannot use the devices that the environment asks for."""
    try:
        jax.devices()
    except (AssertionError, AttributeError, RuntimeError) as error:  # the first two for a plugin that is not installed
        asked = os.environ.get("JAX_PLATFORMS", "")
        reason = " ".join(str(error).split()) or "its plugin is not installed, or sees no device"
        raise ValueError(f"JAX cannot use JAX_PLATFORMS={asked}: {reason}; unset it, or choose cpu") from None


def check_processes() -> None:
    """Raises ValueError where this process is one of several."""
    if jax.process_count() > 1:
        raise ValueError(
            f"{jax.process_count()} processes work together here; deepconv runs in one, with all its devices"
        )


def make_mesh() -> Mesh:
    """All devices along one axis, "data"."""
    check_devices()
    return Mesh(np.asarray(jax.devices()), ("data",))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The first axis divided among the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """A batch on the host -> on the devices."""
    return jax.device_put(batch, split(mesh))


def compiler_options() -> dict[str, Any]:
    """Options for every jit of a step.

    XLA:CPU of jax 0.10 gives convolutions to YNNPACK, whose kernels take 1.7 times as long as Eigen's on 3x3
    convolutions of 32 and 64 channels; reductions stay with it. jax 0.12 chooses well by itself.
    """
    if jax.default_backend() == "cpu" and jax.__version_info__ < (0, 11):
        return {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}
    return {}
