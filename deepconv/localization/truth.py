"""The images of a localisation test with their true boxes."""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from deepconv.data import sources
from deepconv.data.sources.annotated import AnnotatedImages

VALIDATION = "ILSVRC2012_val_"  # then a number, in the names of ILSVRC's validation images


def open_images(data: ConfigDict, data_dir: str | None, scales: Sequence[int]) -> AnnotatedImages:
    """Opens the test images of config.data with their boxes. Raises ValueError if they cannot be tested at a scale."""
    source = sources.find_annotated(data.name, data.eval_split, data_dir, data.image_size, data.get("train_scale"))
    if source.size and (wrong := {*scales} - {min(source.size)}):
        raise ValueError(
            f"--scales: the images of {data.name} have {source.size[0]} x {source.size[1]} pixels and are tested at "
            f"that size, not at {min(wrong)}"
        )
    images = source.open()
    assert isinstance(images, AnnotatedImages)
    return images


def labels_of(images: AnnotatedImages) -> np.ndarray:
    """Returns the class of each image, int32 [N], that all its objects have. Raises ValueError."""
    labels = images.classes[:, 0]
    mixed = ((images.classes != labels[:, None]) & (images.classes >= 0)).any(1) | (labels < 0)
    if mixed.any():
        raise ValueError(
            f"image {images.ids[mixed.argmax()]} has no object, or objects of several classes; localisation needs "
            "images with objects of one class"
        )
    return labels


def lacks_blacklist(images: AnnotatedImages) -> bool:
    """Returns whether these are ILSVRC's validation images, but without the list of those that do not count."""
    return images.blacklisted is None and all(str(name).startswith(VALIDATION) for name in images.ids)
