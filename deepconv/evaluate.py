"""Test protocols: a trained state and a data set -> class probabilities -> errors."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from deepconv import metrics, preemption, runlog, sharding
from deepconv.data import augment, pipeline
from deepconv.state import TrainState

Predict = Callable[[TrainState, jax.Array], jax.Array]


def center(state: TrainState, images: jax.Array, *, model: nn.Module, mean: np.ndarray, size: int) -> jax.Array:
    """Class probabilities, float32 [B, classes], of a single view: the middle of the image, size x size pixels."""
    images = augment.subtract_mean(augment.center_crop(images, size), mean)
    logits = model.apply({"params": state.params, "batch_stats": state.batch_stats}, images, train=False)
    return jax.nn.softmax(logits.astype(jnp.float32))


PROTOCOLS = {"center": center}


def probabilities(
    predict: Predict, state: TrainState, batches: Iterable[pipeline.Batch], batch_size: int, mesh: Mesh
) -> tuple[np.ndarray, np.ndarray]:
    """Class probabilities, float32 [N, classes], and labels, int32 [N], of all images in order; predict is jitted."""
    batch_size = -(-batch_size // mesh.size) * mesh.size
    parts, labels = [], []
    for batch in batches:
        preemption.check()
        images, mask = pipeline.padded(batch, batch_size)
        probs = predict(state, sharding.put_batch({"image": images}, mesh)["image"])
        parts.append(np.asarray(probs)[mask])
        labels.append(batch["label"])
    return np.concatenate(parts), np.concatenate(labels)


def jit(protocol: str, model: nn.Module, mean: np.ndarray, size: int, mesh: Mesh) -> Predict:
    """A protocol, compiled for the mesh; the net sees size x size pixels, less the mean."""

    def predict(state: TrainState, images: jax.Array) -> jax.Array:
        return PROTOCOLS[protocol](state, images, model=model, mean=mean, size=size)

    whole, split = sharding.replicated(mesh), sharding.split(mesh)
    options = sharding.compiler_options()
    return jax.jit(predict, in_shardings=(whole, split), out_shardings=whole, compiler_options=options)


def write(workdir: Path, protocol: str, probs: np.ndarray, labels: np.ndarray, step: int) -> dict[str, Any]:
    """probs.<protocol>.npy (float16) and, last, eval.<protocol>.json, whose content is returned."""
    record = {
        "protocol": protocol,
        "examples": len(labels),
        "top1_error": metrics.top_k_error(probs, labels, 1),
        "top5_error": metrics.top_k_error(probs, labels, 5),
        "step": step,
    }
    np.save(workdir / f"probs.{protocol}.npy", probs.astype(np.float16))
    runlog.write_json(workdir / f"eval.{protocol}.json", record)
    return record
