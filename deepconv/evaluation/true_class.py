"""The boxes that a net predicts for the true classes of images (VGG's Table 8, ResNet's Table 13)."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from deepconv.boxes.localization_error import error_of_true_class
from deepconv.data.sources.annotated import AnnotatedImages
from deepconv.evaluation.batches import TestBatch
from deepconv.evaluation.crops import in_file
from deepconv.evaluation.net import Net
from deepconv.evaluation.probabilities import write_record
from deepconv.evaluation.protocols import Protocol
from deepconv.run.evaluations import BOX_ERROR, Procedure


@dataclass(frozen=True)
class TrueClassBoxes:
    """Measures a net that predicts boxes: the box of each image's true class on the central crop, and the error."""

    protocol: Protocol
    net: Net
    objects: AnnotatedImages

    width: ClassVar = 4

    def rows(self, batch: TestBatch, output: np.ndarray) -> np.ndarray:
        """Converts boxes, float32 [B, 4], in the crops of a batch to pixels of the annotated images.

        Raises DataError as `boxes_in` does.
        """
        boxes = []
        for row, size, box in zip(batch.rows, batch.sizes, output, strict=True):
            box = in_file(box, size, self.net, self.protocol)
            boxes.append(self.objects.in_annotation(row, box, *size))
        return np.stack(boxes)

    def is_complete(self, rows: np.ndarray) -> np.ndarray:
        """Returns whether rows [N, 4] were written in full, bool [N]; a coordinate of exactly 0 counts as missing."""
        return (rows != 0).all(1)

    def error(self, table: np.ndarray) -> float:
        """Returns the percentage of images whose box has no IoU of 0.5 or more with a box of their class."""
        return self.errors(table)[BOX_ERROR]

    def errors(self, table: np.ndarray) -> dict[str, float]:
        """Returns the error over all images and, with ILSVRC's blacklist, over those that are not on it."""
        # DIFFERS: the first error, which tables show, counts ILSVRC's blacklisted images; their list may be missing
        objects, every = self.objects, np.ones(len(table), bool)
        arguments = table["label"], table["output"], objects.classes, objects.boxes
        errors = {BOX_ERROR: error_of_true_class(*arguments, every)}
        if objects.blacklisted is not None and not objects.blacklisted.all():
            errors[f"{BOX_ERROR}_without_blacklisted"] = error_of_true_class(*arguments, ~objects.blacklisted)
        return errors

    def write(self, workdir: Path, name: str, table: np.ndarray, step: int, procedure: Procedure) -> None:
        """Writes boxes.<name>.npy, labels.npy and, last, eval.<name>.json. Raises FloatingPointError."""
        if not np.isfinite(table["output"]).all():
            raise FloatingPointError(f"{name}: the net's boxes are not finite")
        np.save(workdir / f"boxes.{name}.npy", table["output"])
        np.save(workdir / "labels.npy", table["label"])
        write_record(workdir, name, len(table), self.errors(table), step, procedure)
