"""The training objective for one label per image. All errors in deepconv are in percent."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the mean softmax cross entropy in nats; logits [B, classes], labels int [B]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels).mean()


def top1_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the percentage of images whose highest score is not their label's."""
    return 100.0 * (logits.argmax(-1) != labels).mean()
