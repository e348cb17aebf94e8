"""The --smoke flag, which shrinks a recipe to seconds."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from deepconv.config.durations import unit_of
from deepconv.config.fields import DROPS, FREEZES, schedules


def shrink(config: ConfigDict, overrides: Mapping[str, Any]) -> None:
    """Shrinks a recipe to seconds on the built-in data, in place; model, units and code paths stay the same.

    Images have at most 64 pixels, which makes the first fully connected layer of AlexNet and VGG smaller. Durations and
    scales that are not overridden are adapted to the overridden ones.
    """
    total, every = unit_of(config, "total"), unit_of(config, "eval_every")
    few = overrides.get(total, 6 if total == "total_steps" else 1)
    group = overrides.get("model.bn_group", 8 if config.model.get("bn_group", 0) else 0)
    config.batch_size = max(16, 2 * group)
    examples, batch_size = 160, overrides.get("batch_size", config.batch_size)
    for _, node in schedules(config.optimizer):
        for field in (DROPS | FREEZES) & {*node}:
            times = node[field] if field in DROPS else (node[field],)
            scaled, steps_each = [few * time / config[total] for time in times], examples / batch_size
            if field.endswith("_steps"):
                scaled, steps_each = [round(time) for time in scaled], 1
            kept = _at_distinct_steps(scaled, steps_each, first=1 if field in DROPS else 0, end=few)
            if field in DROPS:
                node[field] = kept
            elif kept:
                node[field] = kept[0]
            else:
                del node[field]
    data, size = config.data, overrides.get("data.image_size", min(config.data.image_size, 64))
    data.update(name="shapes", train_split=f"train[:{examples}]", eval_split="test[:50]")
    if "train_scale" in data:
        data.train_scale = tuple(side * size // data.image_size for side in data.train_scale)
        data.test_scale = data.get("test_scale", data.image_size) * size // data.image_size
    for field, step in (("lighting_until_epochs", batch_size / examples), ("lighting_until_steps", 1)):
        if field in data:  # in the unit of the total, it is scaled; in the other one, it becomes the first step
            scaled = data[field] * few / config[total] if field.endswith(total.removeprefix("total")) else step
            data[field] = max(step, round(scaled) if step == 1 else scaled)
    data.image_size = size
    config[total], config[every] = few, 3 if every == "eval_every_steps" else 1
    config.update(log_every_steps=2, checkpoint_every_steps=3)
    if "bn_group" in config.model:
        config.model.bn_group = group


def _at_distinct_steps(times: Sequence[float], steps_each: float, first: int, end: float) -> tuple[float, ...]:
    """Returns the times whose steps differ and lie from step `first` to before the end, the last of equal ones.

    A unit of time has `steps_each` steps.
    """
    by_step = {round(time * steps_each): time for time in times}
    return tuple(time for step, time in by_step.items() if first <= step < round(end * steps_each))
