"""Loss and error; every error in this project is in percent."""

import jax
import jax.numpy as jnp
import numpy as np
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean softmax cross entropy in nats; logits [B, classes], labels int [B]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels).mean()


def top1_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Percentage of images whose highest score is not their label's."""
    return 100.0 * (logits.argmax(-1) != labels).mean()


def top_k_error(probabilities: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Percentage of images whose label is not among the k highest; ties go to the lower class, as in argmax."""
    best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :k]
    misses = len(labels) - int((best == labels[:, None]).any(-1).sum())
    return 100 * misses / len(labels)
