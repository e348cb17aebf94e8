"""The --shorten flag, which trains for a fraction of a recipe's time."""

import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from deepconv.config.durations import is_given, unit_of
from deepconv.config.fields import schedules

TESTS = 10  # at most, in a shortened run; in proportion, tests would take longer than training


def shorten(config: ConfigDict, factor: float) -> None:
    """Multiplies the length of training, drops, freezing and colour shifts by a factor below 1, in place.

    Tests come closer, too, but at most ten times in a run. Durations in steps stay at least one step, so drops may
    coincide; check_drops finds these.
    """
    with config.ignore_type():
        total, every = unit_of(config, "total"), unit_of(config, "eval_every")
        nodes = [(node, "drop_at") for _, node in schedules(config.optimizer)]
        nodes += [(node, "freeze_at") for _, node in schedules(config.optimizer)]
        for node, name in [(config, "total"), (config.data, "lighting_until"), *nodes]:
            if is_given(node, name):
                field = unit_of(node, name)
                node[field] = _scaled(field, node[field], factor)
        config[every] = _scaled(every, config[every], factor)
        if total.rpartition("_")[2] == every.rpartition("_")[2]:
            apart = config[total] / TESTS
            config[every] = max(config[every], math.ceil(apart) if total == "total_steps" else round(apart, 6))


def check_drops(config: ConfigDict, factor: float, overrides: Mapping[str, Any]) -> None:
    """Raises ValueError if a shortened config has drops that coincide, or do not come before the end.

    Only drops in steps are checked, and only those that shortening has changed; `fields` checks all others.
    """
    end = config.get("total_steps") if "total_steps" not in overrides else None
    for name, node in schedules(config.optimizer):
        field = f"{name}.drop_at_steps"
        if "drop_at_steps" not in node or field.removeprefix("config.") in overrides:
            continue
        drops, problem = node.drop_at_steps, ""
        if len({*drops}) < len(drops):
            problem = "two drops coincide"
        elif end and drops and drops[-1] >= end:
            problem = f"the last drop is not before the end, step {end}"
        if problem:
            raise ValueError(
                f"--shorten={factor:g} makes {field}={drops}: {problem}; take a larger number, or set the drops, as in "
                f"--{field}=100,150, or '--{field}=()' for none"
            )


def _scaled(field: str, value: Any, factor: float) -> Any:
    if isinstance(value, tuple):
        return tuple(_scaled(field, each, factor) for each in value)
    if field.endswith("_steps"):
        return max(1, round(value * factor)) if value else 0
    return round(float(value * factor), 6)
