"""Durations in steps or epochs."""

from collections.abc import Mapping
from typing import Any, Literal, overload

from ml_collections import ConfigDict


@overload
def steps(config: ConfigDict, what: Literal["drop_at"], examples: int, batch_size: int) -> tuple[int, ...]: ...
@overload
def steps(config: ConfigDict, what: str, examples: int, batch_size: int) -> int: ...
def steps(config: ConfigDict, what: str, examples: int, batch_size: int) -> int | tuple[int, ...]:
    """A duration in steps, from config.<what>_steps or config.<what>_epochs; examples are those of one epoch."""
    value = config[unit_of(config, what)]
    if unit_of(config, what).endswith("_steps"):
        return value
    if isinstance(value, tuple):
        return tuple(round(epochs * examples / batch_size) for epochs in value)
    return round(value * examples / batch_size)


def total_steps(run: Mapping[str, Any]) -> int:
    """The steps of a run by its config.json; 0 for weights that are imported or tested as they are."""
    if "train_data" not in run or run.get("train") is False:
        return 0
    return steps(ConfigDict(run), "total", int(run["train_data"].split(" ")[0]), run["batch_size"])


def is_due(config: ConfigDict, what: str, examples: int, batch_size: int, step: int) -> bool:
    """Whether config.<what>_steps or _epochs, counted again and again from step 0, ends at this step.

    The k-th e epochs end at step round(k * e * examples / batch_size), so that epochs that are no whole number of steps
    do not drift.
    """
    value = config[unit_of(config, what)]
    if unit_of(config, what).endswith("_steps"):
        return step % value == 0
    return round(round(step * batch_size / (value * examples)) * value * examples / batch_size) == step


def is_given(config: ConfigDict, what: str) -> bool:
    """Whether the config has a duration, in steps or in epochs."""
    return f"{what}_steps" in config or f"{what}_epochs" in config


def unit_of(config: ConfigDict, what: str) -> str:
    """The field that holds a duration: its name with _steps or _epochs. Raises ValueError for both or neither."""
    fields = [name for name in (f"{what}_steps", f"{what}_epochs") if name in config]
    if len(fields) != 1:
        raise ValueError(f"the config has to have one of {what}_steps and {what}_epochs; it has {fields or 'neither'}")
    return fields[0]
