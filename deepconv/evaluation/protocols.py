"""Test protocols, parsed from their names."""

import difflib
import itertools
import re
from dataclasses import dataclass

import flax.linen as nn
from ml_collections import ConfigDict

from deepconv.models.resnet import ResNet
from deepconv.models.vgg import VGG

# Top-left corners of crops, (down, right) in quarters of the free space; all but "center" add mirror images. VGG's
# paper does not say how far its grid goes; from edge to edge of the full image is our reading.
PLACES = {
    "center": ((2, 2),),
    "ten_crop": ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)),  # Krizhevsky et al. 2012, 4.1
    "multi_crop": tuple(itertools.product(range(5), repeat=2)),  # Simonyan & Zisserman 2015, 3.2
}
NAME = re.compile(
    r"(center|ten_crop|dense|multi_crop|multi_crop_dense)(?:_q([1-9]\d*(?:_[1-9]\d*)*))?(_posteriors)?(_precise_batch_stats)?"
)
CHOICES = (
    "center, ten_crop, dense, multi_crop or multi_crop_dense; then, if wanted, scales as in dense_q256_384_512, "
    "_posteriors (dense tests only) and _precise_batch_stats, in this order"
)
MAX_SCALE = 8192  # pixels
MULTI_CROP_SCALES = (256, 384, 512)  # Table 5, the only scales in the paper


@dataclass(frozen=True)
class Protocol:
    """A test at one scale. The papers' tests at several scales are means of the probabilities of such tests.

    VGG's paper states this (3.2). ResNet's says "average the scores at multiple scales" (3.4) and does not mention
    mirror images; we read it as the same test.
    """

    name: str
    kind: str  # a key of PLACES, or "dense"
    scale: int | None  # pixels of the shorter side; None for images as they are
    posteriors: bool  # dense tests average probabilities over the image instead of scores
    precise: bool  # BatchNorm uses averages over the training set
    boxes: bool = False  # the net predicts boxes, of which the test keeps that of the true class

    @property
    def views(self) -> int:
        """Returns the number of views of an image; a dense test has two, the image and its mirror image."""
        return {"center": 1, "dense": 2}.get(self.kind) or 2 * len(PLACES[self.kind])


def parts(
    name: str, data: ConfigDict, size: tuple[int, int] | None, model: nn.Module, batch_norm: bool, boxes: bool = False
) -> tuple[Protocol, ...]:
    """Returns the tests a protocol averages, such as those at 256, 384 and 512 pixels for "dense_q256_384_512".

    data is config.data; size is that of all test images, None if their sizes differ; boxes: the net predicts boxes.
    Raises ValueError.
    """
    if not (found := NAME.fullmatch(name)):
        near = difflib.get_close_matches(name, [*PLACES, "dense", "multi_crop_dense"], n=1, cutoff=0.75)
        hint = f"did you mean {near[0]}? docs/testing.md explains all" if near else f"choose from {CHOICES}"
        raise ValueError(f"{name} is not a protocol; {hint}")
    kind, numbers, posteriors, precise = found.groups()
    kinds = ("multi_crop", "dense") if kind == "multi_crop_dense" else (kind,)
    if boxes and (kind != "center" or "_" in (numbers or "")):
        raise ValueError(f"{name}: a net that predicts boxes is tested by center, at one scale, as in center_q384")
    if posteriors and "dense" not in kinds:
        raise ValueError(f"{name}: _posteriors is for dense tests, and {kind} has none")
    if "dense" in kinds and not isinstance(model, VGG | ResNet):
        raise ValueError(f"{name}: {type(model).__name__} has no dense test; VGG and ResNet have one")
    if precise and not batch_norm:
        raise ValueError(f"{name}: _precise_batch_stats needs a net with BatchNorm")
    if precise and getattr(model, "bn_fixed", False):
        raise ValueError(f"{name}: _precise_batch_stats is not for nets with config.model.bn_fixed=True; leave it out")
    scales = tuple(map(int, numbers.split("_"))) if numbers else ()
    if size:
        if wrong := set(scales) - {min(size)}:
            raise ValueError(
                f"{name}: the images of {data.name} have {size[0]} x {size[1]} pixels and are tested at that "
                f"size, not at {min(wrong)}"
            )
        scales = (None,)
    elif not scales:
        own = data.get("test_scale", data.image_size)  # pipeline.geometry reports a missing one
        scales = MULTI_CROP_SCALES if kind.startswith("multi_crop") else (own,)
    if twice := [scale for scale in scales if scales.count(scale) > 1]:
        raise ValueError(f"{name} has the scale {twice[0]} twice; leave one out")
    if too_large := [scale for scale in scales if scale and scale > MAX_SCALE]:
        raise ValueError(f"{name}: a shorter side of {too_large[0]} pixels is more than the {MAX_SCALE} allowed")
    if too_small := [scale for scale in scales if scale and scale < data.image_size]:
        raise ValueError(
            f"{name}: {too_small[0]} is less than config.data.image_size={data.image_size}; take a larger scale"
        )
    if len(kinds) * len(scales) == 1:
        return (Protocol(name, kind, scales[0], bool(posteriors), bool(precise), boxes),)
    tests = []
    for part, scale in itertools.product(kinds, scales):
        averaged = posteriors if part == "dense" else None
        part_name = part + (f"_q{scale}" if scale else "") + (averaged or "") + (precise or "")
        tests.append(Protocol(part_name, part, scale, bool(averaged), bool(precise)))
    return tuple(tests)
