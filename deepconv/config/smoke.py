"""The --smoke flag, which shrinks a recipe to seconds."""

from collections.abc import Mapping
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
            in_steps = field.endswith("_steps")
            per_unit = 1 if in_steps else examples / batch_size
            times = node[field] if field in DROPS else (node[field],)
            scaled = [few * time / config[total] for time in times]
            distinct = {round(time * per_unit): round(time) if in_steps else time for time in scaled}
            first = 0 if field in FREEZES else 1
            kept = tuple(time for step, time in distinct.items() if first <= step < round(few * per_unit))
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
    if "lighting_until_epochs" in data:
        data.lighting_until_epochs *= few / config[total]
    data.image_size = size
    config[total], config[every] = few, 3 if every == "eval_every_steps" else 1
    config.update(log_every_steps=2, checkpoint_every_steps=3)
    if "bn_group" in config.model:
        config.model.bn_group = group
