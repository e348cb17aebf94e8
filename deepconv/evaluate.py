"""Test protocols: a trained state and a data set -> class probabilities -> errors."""

from collections.abc import Callable
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


def center(state: TrainState, images: jax.Array, *, model: nn.Module, mean: np.ndarray) -> jax.Array:
    """Class probabilities, float32 [B, classes], of a single view: the image as the source gives it."""
    images = augment.subtract_mean(images, mean)
    logits = model.apply({"params": state.params, "batch_stats": state.batch_stats}, images, train=False)
    return jax.nn.softmax(logits.astype(jnp.float32))


PROTOCOLS = {"center": center}


def probabilities(predict: Predict, state: TrainState, images: np.ndarray, batch_size: int, mesh: Mesh) -> np.ndarray:
    """Class probabilities, float32 [N, classes], of every image once, in order; predict is jitted."""
    batch_size = -(-batch_size // mesh.size) * mesh.size
    parts = []
    for batch, mask in pipeline.eval_batches(images, batch_size):
        preemption.check()
        probs = predict(state, sharding.put_batch({"image": batch}, mesh)["image"])
        parts.append(np.asarray(probs)[mask])
    result = np.concatenate(parts)
    if len(result) != len(images):
        raise RuntimeError(f"{len(result)} predictions for {len(images)} images")
    return result


def jit(protocol: str, model: nn.Module, mean: np.ndarray, mesh: Mesh) -> Predict:
    """A protocol, compiled for the mesh."""

    def predict(state: TrainState, images: jax.Array) -> jax.Array:
        return PROTOCOLS[protocol](state, images, model=model, mean=mean)

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
