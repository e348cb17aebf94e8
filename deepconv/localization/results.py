"""The localisation errors of a test, on disk and on the screen.

boxes.npy has a row per image, in the order of the split, with the fields "classes" int32 [K], "boxes" float32 [K, 4]
(x1, y1, x2, y2 in pixels of the image size that the annotation states, right and bottom exclusive) and "scores" float32
[K], those of the boxes. The last of the K is the true class; those before it are the guesses, likeliest first.
"""

from pathlib import Path
from typing import Any

import numpy as np

from deepconv.boxes.localization_error import error_of_true_class, localization_error
from deepconv.data.sources.annotated import AnnotatedImages
from deepconv.run.evaluations import BOX_ERROR
from deepconv.run.files import read_json, replacing

RECORD, BOXES = "localization.json", "boxes.npy"
ERRORS = ("top5_localization_error", BOX_ERROR)
WITHOUT_BLACKLISTED = "_without_blacklisted"  # the ending of errors of the images that ILSVRC counts


def write_boxes(file: Path, classes: np.ndarray, merged: np.ndarray) -> np.ndarray:
    """Writes boxes.npy for classes [N, K] and their boxes with scores [N, K, 5], atomically; returns its rows."""
    count = classes.shape[1]
    fields = [("classes", np.int32, count), ("boxes", np.float32, (count, 4)), ("scores", np.float32, count)]
    rows = np.zeros(len(classes), fields)
    rows["classes"], rows["boxes"], rows["scores"] = classes, merged[..., :4], merged[..., 4]
    with replacing(file) as temporary, temporary.open("wb") as out:
        np.save(out, rows)
    return rows


def read_boxes(file: Path, images: int) -> np.ndarray:
    """Reads boxes.npy of a test of so many images. Raises OSError with the file's name if it is damaged."""
    try:
        rows = np.load(file, allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise OSError(f"{file} is damaged: {error}; remove it and {RECORD}, and test again") from None
    if rows.dtype.names != ("classes", "boxes", "scores") or len(rows) != images:
        raise OSError(f"{file} is damaged: it does not hold the boxes of {images} images; remove it and {RECORD}")
    return rows


def errors(rows: np.ndarray, images: AnnotatedImages) -> dict[str, Any]:
    """Returns the ERRORS in percent: of all images and, with ILSVRC's blacklist, of those that it leaves."""
    found: dict[str, Any] = _errors(rows, images, np.ones(len(rows), bool))
    if images.blacklisted is None:
        return found
    left = {} if images.blacklisted.all() else _errors(rows, images, ~images.blacklisted)
    return (
        found
        | {f"{name}{WITHOUT_BLACKLISTED}": error for name, error in left.items()}
        | {"blacklisted": int(images.blacklisted.sum())}
    )


def with_errors(record: dict[str, Any], rows: np.ndarray, images: AnnotatedImages) -> dict[str, Any]:
    """Returns a record with the errors of its boxes on these images, in place of its own."""
    kept = {name: value for name, value in record.items() if not name.endswith("blacklisted")}
    return kept | errors(rows, images)


def _errors(rows: np.ndarray, images: AnnotatedImages, counted: np.ndarray) -> dict[str, float]:
    """Returns the ERRORS of the images that count: with the guessed classes, and with the true class."""
    truth = images.classes, images.boxes, counted
    guessed = localization_error(rows["classes"][:, :-1], rows["boxes"][:, :-1], *truth)
    of_true_class = error_of_true_class(rows["classes"][:, -1], rows["boxes"][:, -1], *truth)
    return dict(zip(ERRORS, (guessed, of_true_class), strict=True))


def read_record(file: Path) -> dict[str, Any] | None:
    """Reads localization.json; returns None if there is none. Raises OSError if it is damaged."""
    if not file.exists():
        return None
    remedy = "remove it, and test again"
    record = read_json(file, dict, "runs", "scores_from", "images", *ERRORS, remedy=remedy)
    if not all(type(record[name]) in (int, float) for name in ERRORS):
        raise OSError(f"{file} is damaged: its errors are not numbers; {remedy}")
    return record


def describe(record: dict[str, Any]) -> list[str]:
    """Returns a line for each count of images, with both errors, and one if no net scored merged boxes."""
    (count,) = record["images"].values()
    lines = [_line(record, "", f"all {count} images")]
    if any(name.endswith(WITHOUT_BLACKLISTED) for name in record):
        lines.append(
            _line(record, WITHOUT_BLACKLISTED, f"without the {record['blacklisted']} that ILSVRC does not count")
        )
    if not record["scores_from"] and "threshold" in record:
        lines.append("note: without --scores_from, each window has the image's probability of a class as its score")
    return lines


def _line(record: dict[str, Any], ending: str, images: str) -> str:
    guessed, of_true_class = (record[f"{name}{ending}"] for name in ERRORS)
    return f"top-5 localisation error {guessed:.2f} %, with the true class {of_true_class:.2f} % ({images})"
