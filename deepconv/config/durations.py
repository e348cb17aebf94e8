"""Durations in steps or epochs."""

from collections.abc import Mapping
from typing import Any, Literal, overload

from ml_collections import ConfigDict


@overload
def steps(config: ConfigDict, name: Literal["drop_at"], examples: int, batch_size: int) -> tuple[int, ...]: ...
@overload
def steps(config: ConfigDict, name: str, examples: int, batch_size: int) -> int: ...
def steps(config: ConfigDict, name: str, examples: int, batch_size: int) -> int | tuple[int, ...]:
    """Returns the duration config.<name>_steps or config.<name>_epochs in steps; examples are those of one epoch."""
    value = config[unit_of(config, name)]
    if unit_of(config, name).endswith("_steps"):
        return value
    if isinstance(value, tuple):
        return tuple(round(epochs * examples / batch_size) for epochs in value)
    return round(value * examples / batch_size)


def total_steps(run: Mapping[str, Any]) -> int:
    """Returns the steps of a run from its config.json; 0 for imported weights and runs that only test."""
    if "train_data" not in run or run.get("train") is False:
        return 0
    return steps(run, "total", int(run["train_data"].split(" ")[0]), run["batch_size"])


def is_due(config: ConfigDict, name: str, examples: int, batch_size: int, step: int) -> bool:
    """Returns whether a period of config.<name>_steps or _epochs ends at this step; periods start at step 0.

    The k-th period of e epochs ends at step round(k * e * examples / batch_size), which avoids drift if an epoch is not
    a whole number of steps.
    """
    value = config[unit_of(config, name)]
    if unit_of(config, name).endswith("_steps"):
        return step % value == 0
    return round(round(step * batch_size / (value * examples)) * value * examples / batch_size) == step


def is_given(config: ConfigDict, name: str) -> bool:
    """Returns whether the config has a duration, in steps or in epochs."""
    return f"{name}_steps" in config or f"{name}_epochs" in config


def unit_of(config: ConfigDict, name: str) -> str:
    """Returns the field of a duration, which ends in _steps or _epochs. Raises ValueError for both or neither."""
    fields = [field for field in (f"{name}_steps", f"{name}_epochs") if field in config]
    if len(fields) != 1:
        raise ValueError(f"the config needs one of {name}_steps and {name}_epochs; it has {fields or 'neither'}")
    return fields[0]
