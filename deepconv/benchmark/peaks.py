"""The peaks of devices: floating-point operations and bytes of memory per second."""

import statistics
import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Peak:
    """The peak of one device, or of all devices of a CPU together."""

    flops_per_second: float
    bytes_per_second: float | None  # of its memory; None if unknown
    source: str


@dataclass(frozen=True)
class DataSheet:
    """A GPU's dense peaks as its maker gives them. JAX computes float32 in TensorFloat-32 by default."""

    bfloat16: float
    tensorfloat32: float
    bytes_per_second: float


SHEETS = {  # by JAX's device_kind
    "NVIDIA A100-SXM4-40GB": DataSheet(312e12, 156e12, 1.555e12),
    "NVIDIA A100-SXM4-80GB": DataSheet(312e12, 156e12, 2.039e12),
    "NVIDIA H100 80GB HBM3": DataSheet(989e12, 494e12, 3.35e12),
    "NVIDIA H200": DataSheet(989e12, 494e12, 4.8e12),
}


def peak(dtype: str) -> Peak:
    """Returns the peak of a device for a net's dtype: from the data sheet, or measured by a matrix product."""
    kind = jax.devices()[0].device_kind
    if kind in SHEETS:
        sheet = SHEETS[kind]
        flops = sheet.bfloat16 if dtype == "bfloat16" else sheet.tensorfloat32
        return Peak(flops, sheet.bytes_per_second, "data sheet")
    on_cpu = jax.default_backend() == "cpu"
    # On a CPU always float32: a product in bfloat16 may be slower there than a convolution in bfloat16.
    size, dtype = (2048, "float32") if on_cpu else (8192, dtype)
    return Peak(product(size, dtype), None, f"{dtype} product of {size} x {size} matrices")


def product(size: int, dtype: str) -> float:
    """Measures a matrix product; returns the median of its floating-point operations per second."""
    matrix = jnp.ones((size, size), dtype)
    multiply = jax.jit(jnp.dot)
    multiply(matrix, matrix).block_until_ready()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        multiply(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds)
