"""A net of two towers on two devices, as in Krizhevsky et al. 2012, Fig. 2.

A mesh has two axes. Along "model", each device computes one tower, with its half of the parameters and maps; along
"data", each pair of devices computes its rows of the batch. A kernel [k, k, C / groups, D] holds the outputs of one
tower after those of the other, so that half of the last axis is a tower's, and the layout is that of one device. A
layer whose kernel sees both towers gathers the other tower's channels first; models need no code for this.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from deepconv.ops import parts

_devices: contextvars.ContextVar[int] = contextvars.ContextVar("devices", default=1)


def apply(
    model: nn.Module, variables: dict[str, Any], images: jax.Array, dropout_key: jax.Array, mesh: Mesh
) -> tuple[jax.Array, dict[str, Any]]:
    """Applies a net to training images [B, H, W, 3]; returns scores [B, classes] and the updated batch_stats."""

    def forward(variables: dict[str, Any], images: jax.Array, dropout_key: jax.Array) -> tuple[jax.Array, Any]:
        rngs = {"dropout": dropout_key}
        return model.apply(variables, images, train=True, rngs=rngs, mutable=["batch_stats"])

    def forward_tower(*arguments: Any) -> tuple[jax.Array, Any]:
        with _spread(mesh):
            return forward(*arguments)

    if mesh.shape["model"] == 1:
        return forward(variables, images, dropout_key)
    rows = PartitionSpec("data")
    return jax.shard_map(
        forward_tower,
        mesh=mesh,
        in_specs=(partition(variables, mesh), rows, PartitionSpec()),
        out_specs=(PartitionSpec("data", "model"), rows),
        check_vma=False,
    )(variables, images, dropout_key)


def partition(tree: Any, mesh: Mesh) -> Any:
    """Returns the partition of parameters: the last axis is divided among towers, or nothing if a device has both."""
    # an axis "data" of one device is listed, too; else gradients would be summed over groups of one device
    axes = tuple(axis for axis in ("data", "model") if axis == "model" or mesh.shape[axis] == 1)
    return jax.tree.map(lambda x: PartitionSpec(*[None] * (x.ndim - 1), axes) if x.ndim else PartitionSpec(), tree)


@contextlib.contextmanager
def _spread(mesh: Mesh) -> Iterator[None]:
    def part(sample: parts.Draw) -> parts.Draw:
        def own(shape: tuple[int, ...]) -> jax.Array:
            full = sample((mesh.shape["data"] * shape[0], *shape[1:-1], mesh.shape["model"] * shape[-1]))
            own_rows = lax.dynamic_slice_in_dim(full, lax.axis_index("data") * shape[0], shape[0])
            return lax.dynamic_slice_in_dim(own_rows, lax.axis_index("model") * shape[-1], shape[-1], axis=-1)

        return own

    token = _devices.set(mesh.shape["model"])
    try:
        with parts.within(part):
            yield
    finally:
        _devices.reset(token)


def devices() -> int:
    """Returns the number of devices among which the towers are divided here."""
    return _devices.get()


def inputs(x: jax.Array, kernel: jax.Array, groups: int) -> tuple[jax.Array, int]:
    """Returns the channels of x [B, H, W, C] that a kernel [k, k, C / groups, D] sees, and the groups on this device.

    On several devices, a kernel that sees both towers gathers their channels; any other kernel sees all channels of one
    tower.
    """
    if devices() == 1:
        return x, groups
    sees_all = x.shape[-1] < kernel.shape[-2]
    return lax.all_gather(x, "model", axis=3, tiled=True) if sees_all else x, 1


def with_neighbours(x: jax.Array, width: int) -> jax.Array:
    """Adds the other towers' nearest channels to x [..., C] on both sides, and zeros at the borders: [..., C + 2 w]."""
    last = devices() - 1
    before = lax.ppermute(x[..., -width:], "model", [(i, i + 1) for i in range(last)])
    after = lax.ppermute(x[..., :width], "model", [(i + 1, i) for i in range(last)])
    return jnp.concatenate([before, x, after], -1)
