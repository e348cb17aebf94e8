"""The state of a run: trees of arrays."""

from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from deepconv.ops import repeat


class TrainState(flax.struct.PyTreeNode):
    """Arrays only; the training step holds the model and the optimiser."""

    step: jax.Array  # int32, steps taken
    params: Any
    batch_stats: Any  # running mean and variance of BatchNorm; empty without it
    opt_state: Any
    ema: Any = flax.struct.field(default_factory=dict)  # moving averages of params and batch_stats, or empty


def create(
    key: jax.Array,
    image_shape: tuple[int, int, int],
    model: nn.Module,
    tx: optax.GradientTransformation,
    ema: bool = False,
) -> TrainState:
    """Returns the state at step 0; image_shape is (H, W, 3). With `ema`, it has moving averages."""
    variables = repeat.init(model, key, jnp.zeros((1, *image_shape)))
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=tx.init(variables["params"]),
    )
    return start_ema(state) if ema else state


def start_ema(state: TrainState) -> TrainState:
    """Returns the state with its variables as the first moving averages."""
    return state.replace(ema={"params": state.params, "batch_stats": state.batch_stats})


def update_ema(ema: Any, state: TrainState, decay: float) -> Any:
    """Returns moving averages with a state's variables in them: decay * ema + (1 - decay) * variables.

    The decay rises to this value as (1 + step) / (10 + step), as in TensorFlow's ExponentialMovingAverage, since the
    initial weights would otherwise count for long.
    """
    kept = jnp.minimum(decay, (1.0 + state.step) / (10.0 + state.step))
    variables = {kind: getattr(state, kind) for kind in ema}
    return jax.tree.map(lambda average, x: kept * average + (1 - kept) * x, ema, variables)


def averaged(state: TrainState) -> TrainState:
    """Returns the state whose net is tested: with moving averages, if it has them, in place of its variables."""
    return state.replace(ema={}, **state.ema)


def not_finite(tree: Any) -> str | None:
    """Describes the first array with NaN or infinite values; returns None if all values are finite."""
    for path, array in jax.tree.leaves_with_path(tree):
        if bad := int(array.size - np.isfinite(np.asarray(array)).sum()):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            return f"{name} holds {bad} of {array.size} values that are not finite (NaN or infinite)"
    return None


def shapes_of(model: nn.Module, image_size: int) -> dict[str, Any]:
    """Returns the shapes of a model's variables as jax.ShapeDtypeStruct, with blocks under their own names."""
    shapes = repeat.by_block(held_shapes(model, image_size))
    return {kind: {layer: layers[layer] for layer in repeat.names(layers)} for kind, layers in shapes.items()}


def held_shapes(model: nn.Module, image_size: int) -> dict[str, Any]:
    """Returns the shapes of a model's variables as held on this platform, where blocks may be stacked."""
    images = jnp.zeros((1, image_size, image_size, 3))
    return jax.eval_shape(lambda: repeat.init(model, jax.random.key(0), images))
