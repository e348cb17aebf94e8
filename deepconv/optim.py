"""Momentum SGD in the papers' form, with their schedules."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict


class LearningRateState(NamedTuple):
    """State of `scale_by_learning_rate`."""

    count: jax.Array  # steps taken
    learning_rate: jax.Array  # of the last step
    train_error: jax.Array  # percent, running mean; only a warm-up looks at it
    warming_up: jax.Array  # bool


def create(config: ConfigDict, drop_steps: tuple[int, ...], warm_up: bool) -> optax.GradientTransformationExtraArgs:
    """SGD from config.optimizer; its update takes top1_error, the batch's training error in percent.

    The learning rate lies inside the momentum buffer, v <- m v + lr (g + wd w); w <- w - v, as in Caffe and
    cuda-convnet. This differs from optax.sgd after every drop: the old steps keep their old, larger rate.
    """
    schedule = optax.piecewise_constant_schedule(config.learning_rate, dict.fromkeys(drop_steps, config.drop_factor))
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask=kernels),
        scale_by_learning_rate(schedule, config, warm_up),
        optax.trace(config.momentum),
    )


def kernels(params: Any) -> Any:
    """True for the weights of convolutions and fully connected layers.

    Biases and BatchNorm's scale and shift are not decayed: He et al. decay "just the weights of the convolution
    layers", by the account of fb.resnet.torch's README; that the last layer's weights are, too, is our reading.
    """
    return jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)


def scale_by_learning_rate(
    schedule: optax.Schedule, config: ConfigDict, warm_up: bool
) -> optax.GradientTransformationExtraArgs:
    """Multiply by minus the learning rate; with warm_up, a small one until the training error has come down.

    He et al. 2015, 4.2: "we use 0.01 to warm up the training until the training error is below 80% (about 400
    iterations), and then go back to 0.1". The error here is a running mean over about 50 batches, since that of a
    single batch of 128 scatters by 3 points. Warm-up steps count as steps of the schedule.
    """

    def init(params: Any) -> LearningRateState:
        return LearningRateState(
            count=jnp.zeros((), jnp.int32),
            learning_rate=jnp.zeros(()),
            train_error=jnp.full((), 100.0),
            warming_up=jnp.array(warm_up),
        )

    def update(
        updates: Any, state: LearningRateState, params: Any = None, *, top1_error: jax.Array, **unused: Any
    ) -> tuple[Any, LearningRateState]:
        rate = jnp.asarray(schedule(state.count), jnp.float32)
        if warm_up:
            rate = jnp.where(state.warming_up, config.warm_up_learning_rate, rate)
        train_error = 0.98 * state.train_error + 0.02 * top1_error
        still = state.warming_up & (train_error >= config.get("warm_up_until_error", 100.0))
        updates = jax.tree.map(lambda u: -rate * u, updates)
        return updates, LearningRateState(state.count + 1, rate, train_error, still)

    return optax.GradientTransformationExtraArgs(init, update)


def learning_rate(opt_state: Any) -> jax.Array:
    """The rate that the last update used."""
    return optax.tree_utils.tree_get(opt_state, "learning_rate")
