"""Descriptors of images: the output of a net's last hidden layer, averaged over places and mirror images."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from deepconv.data import augment
from deepconv.data.images import DataError
from deepconv.evaluation import dense, features, protocols
from deepconv.evaluation import run as evaluate
from deepconv.evaluation.net import Net, Trained
from deepconv.evaluation.protocols import Protocol
from deepconv.evaluation.table import new_table
from deepconv.models.alexnet import AlexNet
from deepconv.models.resnet import CifarResNet, ResNet
from deepconv.models.vgg import VGG
from deepconv.ops import repeat
from deepconv.run import log as runlog
from deepconv.state import TrainState
from deepconv.transfer.benchmarks import Part


@dataclass(frozen=True)
class Describer:
    """A net, the layer whose output describes images, and the tests that compute it, one for each scale."""

    name: str  # of the run's directory
    trained: Trained
    layer: str
    tests: tuple[Protocol, ...]
    digest: str  # of everything about the net that its descriptors depend on

    @property
    def step(self) -> int:
        """Returns the training step of the net."""
        return int(self.trained.state.step)


def describer(name: str, trained: Trained, scales: Sequence[int]) -> Describer:
    """Checks that a net can describe images at these scales. Raises ValueError.

    The layer is fc7 after its rectifier or, in a ResNet, the last block. A net without a dense test is applied to
    ten crops instead; the paper has none of these.
    """
    net = trained.net
    if isinstance(net.model, VGG | AlexNet):
        layer = "fc7"
    elif isinstance(net.model, ResNet | CifarResNet):
        layer = [block for block in repeat.names(trained.state.params) if "_" in block][-1]
    else:
        raise ValueError(
            f"{name}: {type(net.model).__name__} has no layer for descriptors; take an AlexNet, VGG or ResNet"
        )
    if getattr(net.model, "activation", "relu") != "relu":
        raise ValueError(f"{name}: its {layer} has no rectifier, but {net.model.activation}; take a net with relu")
    kind = "dense" if isinstance(net.model, VGG | ResNet) else "ten_crop"
    test = f"{kind}_q{'_'.join(map(str, scales))}"
    try:
        tests = protocols.parts(test, trained.data, None, net.model, batch_norm=False)
    except ValueError as error:
        raise ValueError(f"{name} with --scales={','.join(map(str, scales))}: {error}") from None
    if kind == "dense":  # on full images, even of a net that was trained on central squares
        trained = replace(trained, net=replace(net, square=False))
    return Describer(name, trained, layer, tests, _digest(trained, layer))


def _digest(trained: Trained, layer: str) -> str:
    net, state = trained.net, trained.state
    variables = {"params": repeat.by_block(state.params), "batch_stats": repeat.by_block(state.batch_stats)}
    digest = hashlib.sha256(repr((net.model, net.size, net.square, layer)).encode())
    leaves, _ = jax.tree_util.tree_flatten_with_path((variables, tuple(net.input)))
    for path, leaf in leaves:
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()


def describe(describer: Describer, part: Part, folder: Path, title: str) -> list[np.ndarray]:
    """Returns a descriptor of each image of a part at each scale, float32 [images, d] each, before normalisation.

    The folder keeps a table for each scale, with the images that an earlier start has described. All scales share
    a pass over the images. Raises OSError, and FloatingPointError if the net's output is not finite.
    """
    net, state = describer.trained.net, describer.trained.state
    folder.mkdir(parents=True, exist_ok=True)
    net = replace(net, batch_size=min(net.batch_size, max(part.count, net.mesh.size)))
    one = jax.ShapeDtypeStruct((1, net.size, net.size, 3), np.float32)
    output = functools.partial(features.layer_output, net=net, layer=describer.layer, rectify=True)
    width = jax.eval_shape(output, state, one).shape[-1]
    tests = []
    for test in describer.tests:
        means = mean_over_image if test.kind == "dense" else mean_over_crops
        predict = evaluate.compiled(net, functools.partial(means, net=net, layer=describer.layer))
        table = new_table(part.count, width, folder / f"q{test.scale}.npy")
        table["done"] &= table["output"].any(1)  # after a crash, rows marked done may be incomplete
        tests.append(evaluate.Test(test, predict, state, table))
    total, done = len(tests) * part.count, sum(int(test.table["done"].sum()) for test in tests)
    if done < total:
        with runlog.progress(title, total, done) as show:
            evaluate.fill_tables(net, tests, part.images, show)
    for test in tests:
        if not np.isfinite(test.table["output"]).all():
            raise FloatingPointError(f"the output of {describer.layer} of {describer.name} is not finite")
    return [test.table["output"] for test in tests]


def mean_over_image(state: TrainState, batch: dict[str, jax.Array], *, net: Net, layer: str) -> jax.Array:
    """Returns means of a layer's output over full images and their mirror images, float32 [B, d]."""
    output = functools.partial(features.layer_output, net=net, layer=layer, rectify=True)
    image, mirrored = dense.dense_means(state, batch, net=net, output=output)
    return (image + mirrored) / 2


def mean_over_crops(state: TrainState, batch: dict[str, jax.Array], *, net: Net, layer: str) -> jax.Array:
    """Returns means of a layer's output over crops uint8 [B, crops, S, S, 3] and their mirror images, [B, d]."""
    crops = batch["image"].reshape(-1, *batch["image"].shape[2:])
    views = jnp.concatenate([crops, crops[:, :, ::-1]])
    maps = features.layer_output(state, augment.normalize(views, net.input), net=net, layer=layer, rectify=True)
    return maps.mean((1, 2)).reshape(2, *batch["image"].shape[:2], -1).mean((0, 2))


def combine(scales: Sequence[np.ndarray], stacked: bool) -> np.ndarray:
    """Averages or stacks descriptors [N, d] over scales, then divides each by its Euclidean norm; float32.

    The paper normalises "the resulting image descriptor". Our reading: once, at the end.
    """
    both = np.concatenate(scales, 1) if stacked else np.mean(scales, 0, dtype=np.float32)
    norms = np.linalg.norm(both, axis=1, keepdims=True)
    if not norms.all():
        raise DataError(f"{int((norms == 0).sum())} images have a descriptor of zeros; the net's last layers are dead")
    return both / norms
