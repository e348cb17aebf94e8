"""Parts of a batch, one after the other or on several devices, with the random numbers of the full batch.

Within a part, `draw` draws numbers for the full batch and returns the part's share; models need no code for this.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Draw = Callable[[tuple[int, ...]], jax.Array]  # shape -> random numbers
Part = Callable[[Draw], Draw]  # turns a draw for the full batch into a draw for the part
_parts: contextvars.ContextVar[tuple[Part, ...]] = contextvars.ContextVar("parts", default=())


@contextlib.contextmanager
def within(part: Part) -> Iterator[None]:
    """Makes `draw` return this part's share of the numbers, within a with statement; parts may be nested."""
    token = _parts.set((*_parts.get(), part))
    try:
        yield
    finally:
        _parts.reset(token)


def draw(sample: Draw, shape: tuple[int, ...]) -> jax.Array:
    """Returns sample(shape) or, within a part, the part's share of the numbers sampled for the full batch."""
    for part in _parts.get():  # the outermost first
        sample = part(sample)
    return sample(shape)


def mean(function: Callable[[Any], Any], batch: Any, count: int, mesh: Mesh) -> Any:
    """Returns the mean of function(part) over `count` equal parts of a batch, computed in sequence.

    A part takes the next rows of every device, so that devices keep their rows: of 16 rows on 4 devices, the first of
    two parts takes rows 0-1, 4-5, 8-9 and 12-13. The function must return a tree of floating-point arrays whose values
    for the full batch are the means of those for its parts. The parts are one loop of the compiled program, since XLA
    may hold all parts of an unrolled loop in memory at once.
    """
    if count == 1:
        return function(batch)
    devices = mesh.shape["data"]

    def split(x: jax.Array) -> jax.Array:
        """[B, ...] -> [count, B / count, ...]"""
        return x.reshape(devices, count, -1, *x.shape[1:]).swapaxes(0, 1).reshape(count, -1, *x.shape[1:])

    def add(total: Any, numbered: tuple[jax.Array, Any]) -> tuple[Any, None]:
        number, rows = numbered

        def part(sample: Draw) -> Draw:
            return lambda shape: split(sample((count * shape[0], *shape[1:])))[number]

        with within(part):
            return jax.tree.map(lambda sums, x: sums + x / count, total, function(rows)), None

    placed = NamedSharding(mesh, PartitionSpec(None, "data"))
    parts = jax.tree.map(lambda x: lax.with_sharding_constraint(split(x), placed), batch)
    shapes = jax.eval_shape(lambda: function(jax.tree.map(lambda x: x[0], parts)))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return lax.scan(add, zeros, (jnp.arange(count), parts))[0]
