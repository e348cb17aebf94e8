"""Recipes by name, and trained nets from files of weights; `evaluation.net.load_run` loads the nets of runs."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from deepconv import distributed
from deepconv.config import fields, recipes
from deepconv.data import statistics
from deepconv.evaluation.net import Trained, assemble
from deepconv.run.files import expanded
from deepconv.weights import files, inputs
from deepconv.weights.convert import WeightsError


def load_recipe(recipe: str | Path, overrides: Mapping[str, Any] | None = None, smoke: bool = False) -> ConfigDict:
    """Loads a recipe, given by its file or its name: load_recipe("resnet50", {"batch_size": 64}).

    With smoke, it is shrunk to a few steps on small built-in pictures. Raises ValueError.
    """
    return recipes.load(recipes.find(str(recipe)), overrides, smoke)


def load_net(
    recipe: str | Path,
    weights: str | Path,
    library: str = "",
    images: str = "",
    overrides: Mapping[str, Any] | None = None,
) -> Trained:
    """Loads a net from a safetensors file: load_net("resnet50", "resnet50.safetensors", library="torchvision").

    The recipe, with overrides such as {"model.shortcut": "A"}, says how the net is built. library ("torchvision" or
    "timm") or images (as --input of deepconv.weights) says which images it takes, which only files that deepconv
    exported record. Raises ValueError, OSError.
    """
    images = inputs.recorded(expanded(weights), library, images)
    changes = inputs.file_fields(load_recipe(recipe, overrides), library, images) | dict(overrides or {})
    return from_file(load_recipe(recipe, changes), expanded(weights), library, images)


def from_file(config: ConfigDict, source: Path, library: str, images: str) -> Trained:
    """Loads a net from a safetensors file; the config has the fields of the library and the images. Raises as load_net.

    Without either, a warning states the images that are assumed.
    """
    distributed.check_devices()
    if fields.predicts_boxes(config):
        raise ValueError(f"{source}: a net that predicts boxes is loaded from a run")
    try:
        weights, classes = files.read_net(config, source, inputs.in_bgr(library, images))
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from None
    averages = files.published(config, classes) or statistics.NOT_NEEDED
    if statistics.needed(config.data, training=False) and averages is statistics.NOT_NEEDED:
        raise ValueError(
            f"config.data.mean={config.data.mean} and config.data.std={config.data.std} are those of training images, "
            f"which {source} does not hold; give --library or --input, which describe the images its net takes"
        )
    if inputs.is_assumed(config, source, library, images):
        print(inputs.warning(config, source), file=sys.stderr)
    return assemble(config, weights, averages, classes)
