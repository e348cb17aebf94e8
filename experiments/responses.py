"""Standard deviations of a net's layer responses, as in Fig. 7 of He et al. 2015.

    python -m experiments.responses --run=RUN_DIR --data_dir=DIR

writes responses.json to the run's directory: {"layers": [...], "std": [...]}, the convolutions of a net for CIFAR-10
in order. Responses are what a convolution puts out after BatchNorm, before the rectifier or the sum. On which images is
not said; here it is the recipe's test split, over images, places and channels, BatchNorm as in tests.
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports, which take seconds

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from deepconv import cli
from deepconv.data import augment, sources
from deepconv.data.sources.source import Source
from deepconv.evaluation import features, protocols
from deepconv.evaluation.net import Net, Trained, load_run
from deepconv.models.layers import BatchNorm
from deepconv.ops import repeat
from deepconv.run.directory import environment, expanded, write_json
from deepconv.state import TrainState


def main(arguments: list[str]) -> int:
    """A run -> responses.json in its directory."""
    try:
        if len(arguments) > 1 or not flags.FLAGS.run:
            raise ValueError("--run=RUN_DIR is what is needed, and nothing else but --data_dir=DIR")
        run = expanded(flags.FLAGS.run)
        trained = load_run(run)
        data = trained.data
        if not trained.state.batch_stats or "train_scale" in data:
            raise ValueError(f"{run}: responses are for nets with BatchNorm on images of one size, those of Fig. 7")
        source = sources.find(data.name, data.eval_split, cli.DATA_DIR.value, data.image_size)
        write(trained, source, run / "responses.json")
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=2)
    return 0


def write(trained: Trained, source: Source, file: Path) -> None:
    """Go over the images of a source."""
    (center,) = protocols.parts("center", trained.data, source.size, trained.net.model, batch_norm=True)
    see = functools.partial(moments, net=trained.net)
    table, _ = features.fill(trained.net, trained.state, source.open(), source.examples, center, see, "responses")
    mean, of_squares = np.moveaxis(table["output"].astype(np.float64).mean(0).reshape(-1, 2), 1, 0)
    names = [*in_order(trained.state.batch_stats, lambda of_layer: of_layer["mean"][..., None])]
    content = {"layers": names, "std": np.sqrt(of_squares - mean**2).tolist()}
    content |= {"examples": source.examples, "step": int(trained.state.step)}
    write_json(file, content | environment())
    print(f"{file} holds the standard deviations of {len(names)} layers' responses to {source.examples} images")


def moments(state: TrainState, batch: Mapping[str, jax.Array], net: Net) -> jax.Array:
    """Mean and mean square of each layer's responses to each image, float32 [B, layers, 2]."""
    images = augment.normalize(batch["image"][:, 0], net.input)
    _, found = net.model.apply(
        {"params": state.params, "batch_stats": state.batch_stats},
        images,
        train=False,
        capture_intermediates=lambda module, method: isinstance(module, BatchNorm) and method == "__call__",
        mutable=["intermediates"],
    )

    def of_images(of_layer: Mapping[str, Any]) -> jax.Array:
        x = of_layer["__call__"][0].astype(jnp.float32)
        return jnp.stack([x.mean((-3, -2, -1)), jnp.square(x).mean((-3, -2, -1))], -1)

    return jnp.stack([*in_order(found["intermediates"], of_images).values()], 1)


def in_order(tree: Mapping[str, Any], of: Callable[[Any], jax.Array]) -> dict[str, jax.Array]:
    """What belongs to each BatchNorm of a net for CIFAR-10, from the first to the last."""
    found, layers = {"conv1": of(tree["bn1"])}, repeat.by_block(dict(tree))
    for layer in repeat.names(set(layers) - {"bn1", "conv1", "fc"}):
        found |= {f"{layer}.conv{number}": of(layers[layer][f"bn{number}"]) for number in (1, 2)}
    return found


def define_flags() -> None:
    """The flags of this command alone."""
    flags.DEFINE_string("run", None, "The run's directory.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
