"""Momentum SGD in the papers' form, with their schedules."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

InSteps = Callable[[Any, str], Any]
Path = tuple[Any, ...]  # a parameter's path in its tree: layer, ..., "kernel" or "bias"


class LearningRateState(NamedTuple):
    """The state of `scale_by_learning_rate`."""

    count: jax.Array  # steps taken
    learning_rate: jax.Array  # of the last step
    train_error: jax.Array  # percent, running mean; only used by a warm-up
    warming_up: jax.Array  # bool


def create(config: ConfigDict, in_steps: InSteps, warm_up: bool) -> optax.GradientTransformationExtraArgs:
    """Returns SGD as in config.optimizer; its update takes `error`, the batch's training error in percent.

    The learning rate lies inside the momentum buffer, v <- m v + lr (g + wd w); w <- w - v, as in Caffe and
    cuda-convnet. This differs from optax.sgd after every drop: earlier updates keep their old, larger rate.
    in_steps(node, "drop_at") returns the steps of node.drop_at_steps or node.drop_at_epochs.
    """
    return optax.chain(
        add_decayed_weights(config),
        scale_by_learning_rate(config, in_steps, warm_up),
        optax.trace(config.momentum),
        *(
            freeze(layer, in_steps(node, "freeze_at"))
            for layer, node in _layers(config).items()
            if _has(node, "freeze_at")
        ),
    )


def warms_up(config: ConfigDict) -> bool:
    """Returns whether training begins with a warm-up, which a recipe has for residual nets of one depth."""
    depth = config.optimizer.get("warm_up_at_depth", -1)
    return config.model.get("residual", True) and config.model.get("depth") == depth


def freeze(layer: str, step: int) -> optax.GradientTransformation:
    """Stops all updates of a layer at this step, even those in the momentum buffer, as in cuda-convnet."""

    def mask(params: Any) -> Any:
        return jax.tree.map_with_path(lambda path, _: path[0].key == layer, params)

    return optax.masked(optax.scale_by_schedule(lambda count: jnp.less(count, step).astype(jnp.float32)), mask)


def add_decayed_weights(config: ConfigDict) -> optax.GradientTransformation:
    """Adds weight decay: config.weight_decay or a layer's own from config.layers; for biases, only that of config.bias.

    BatchNorm's scale and shift are not decayed: He et al. decay "just the weights of the convolution layers",
    according to fb.resnet.torch's README. Decaying the last layer's weights too is our reading.
    """

    def decay(path: Path) -> float:
        return _own(config, path).get("weight_decay", config.weight_decay if path[-1].key == "kernel" else 0.0)

    def update(updates: Any, params: Any) -> Any:
        return jax.tree.map_with_path(lambda path, u, w: u + decay(path) * w if decay(path) else u, updates, params)

    return optax.stateless(update)


def scale_by_learning_rate(
    config: ConfigDict, in_steps: InSteps, warm_up: bool
) -> optax.GradientTransformationExtraArgs:
    """Multiplies by minus the learning rate; with warm_up, by a small rate until the training error has come down.

    config.bias may set rate and drops of all biases, config.layers those of a layer's weights; these are not reduced.

    He et al. 2015, 4.2: "we use 0.01 to warm up the training until the training error is below 80% (about 400
    iterations), and then go back to 0.1". The error here is a running mean over about 50 batches, since that of a
    single batch of 128 varies by 3 points. Warm-up steps count as steps of the schedule.
    """

    def schedule(node: Mapping[str, Any]) -> optax.Schedule:
        drops = in_steps(node if _has(node, "drop_at") else config, "drop_at")
        rate = node.get("learning_rate", config.learning_rate)
        return optax.piecewise_constant_schedule(rate, dict.fromkeys(drops, config.drop_factor))

    def rate(path: Path, count: jax.Array, default: jax.Array) -> jax.Array:
        """Returns the rate of a parameter, which is the default unless the recipe sets its own."""
        own = _own(config, path)
        own_rate = _has(own, "drop_at") or "learning_rate" in own
        return jnp.asarray(schedule(own)(count), jnp.float32) if own_rate else default

    def init(params: Any) -> LearningRateState:
        return LearningRateState(
            count=jnp.zeros((), jnp.int32),
            learning_rate=jnp.zeros(()),
            train_error=jnp.full((), 100.0, jnp.float32),
            warming_up=jnp.array(warm_up),
        )

    def update(updates: Any, state: Any, params: Any = None, **measured: Any) -> tuple[Any, LearningRateState]:
        default = jnp.asarray(schedule(config)(state.count), jnp.float32)
        if warm_up:
            small = jnp.minimum(default, config.warm_up_learning_rate)  # a drop may come before the warm-up ends
            default = jnp.where(state.warming_up, small, default)
        train_error = 0.98 * state.train_error + 0.02 * measured["error"]
        warming_up = state.warming_up & (train_error >= config.get("warm_up_until_error", 100.0))
        updates = jax.tree.map_with_path(lambda path, u: -rate(path, state.count, default) * u, updates)
        return updates, LearningRateState(state.count + 1, default, train_error, warming_up)

    return optax.GradientTransformationExtraArgs(init, update)


def _layers(config: ConfigDict) -> Mapping[str, Mapping[str, Any]]:
    return config.get("layers", {})


def _own(config: ConfigDict, path: Path) -> Mapping[str, Any]:
    """Returns the recipe's own settings for a parameter: by layer for weights, shared by all layers for biases."""
    if path[-1].key == "kernel":
        return _layers(config).get(path[0].key, {})
    is_bias = path[-1].key == "bias" and "bn" not in path[-2].key  # BatchNorm's shift is named bias, too
    return config.get("bias", {}) if is_bias else {}


def _has(node: Mapping[str, Any], duration: str) -> bool:
    return f"{duration}_steps" in node or f"{duration}_epochs" in node


def learning_rate(opt_state: Any) -> jax.Array:
    """Returns the rate of the last update."""
    return optax.tree_utils.tree_get(opt_state, "learning_rate")
