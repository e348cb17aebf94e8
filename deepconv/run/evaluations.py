"""eval.<test>.json: the errors of a test, and how it was done."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from deepconv.run.files import read_json

# names of errors
CLASS_ERRORS = ("top1_error", "top5_error")
BOX_ERROR = "true_class_localization_error"


class Procedure(TypedDict, total=False):
    """The part of a test's record that describes how its probabilities were computed."""

    scales: list[int | None]
    views: int
    compiled_shapes: int
    seconds: float
    images_per_second: float
    mean_of: list[str]
    weights: list[float]


class Evaluation(Procedure):
    """The record of a test, eval.<test>.json; it also has fields of an Environment."""

    protocol: str
    examples: int
    top1_error: NotRequired[float]  # percent
    top5_error: NotRequired[float]
    true_class_localization_error: NotRequired[float]  # of a net that predicts boxes, in place of the two above
    true_class_localization_error_without_blacklisted: NotRequired[float]
    step: int | None


def read_eval(file: Path, *keys: str) -> Evaluation:
    """Reads the record of a test. Raises OSError if it is damaged or a key is missing."""
    remedy = "remove it, and test again"
    record = read_json(file, dict, "examples", *keys, remedy=remedy)
    if BOX_ERROR not in record:
        read_json(file, dict, *CLASS_ERRORS, remedy=remedy)
    for name in ("examples", *errors_of(record)):
        if type(record[name]) not in (int, float):
            raise OSError(f"{file} is damaged: {name} is {record[name]!r}, not a number; {remedy}")
    return Evaluation(**record)


def errors_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Returns the errors in the record of a test, in percent; the first is the main one."""
    return {
        name: record[name] for name in (*CLASS_ERRORS, BOX_ERROR, f"{BOX_ERROR}_without_blacklisted") if name in record
    }
