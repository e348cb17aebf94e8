"""Recipes: load one by its file, change fields, name the run, shrink it, find what cannot work."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

EVERY_RECIPE = ("batch_size", "seed", "log_every_steps", "checkpoint_every_steps", "model", "data", "optimizer")


def load(path: str | Path, overrides: Mapping[str, Any] | None = None, smoke: bool = False) -> ConfigDict:
    """The recipe in a Python file, shrunk if smoke, then with {"model.depth": 56} and the like applied.

    Raises ValueError for a file, field or type that is not to be had. The file is executed: it is code.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"--config={path} is not a file; recipes lie in configs/")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or not hasattr(module := importlib.util.module_from_spec(spec), "__name__"):
        raise ValueError(f"--config={path} is not a Python file")
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ValueError(f"--config={path} has no function get_config(); recipes lie in configs/")
    config = module.get_config()
    if smoke:
        shrink(config)
    for field, value in (overrides or {}).items():
        _override(config, field, value)
    return config.lock()


def run_name(path: str | Path, overrides: Mapping[str, Any], smoke: bool = False) -> str:
    """ "resnet_cifar,model.depth=56,seed=3": the recipe and what was changed in it, in the order of the alphabet."""
    changes = [f"{field}={_plain(value)}" for field, value in sorted(overrides.items())]
    return ",".join([Path(path).stem, *["smoke"] * smoke, *changes])


def steps(config: ConfigDict, what: str, examples: int, batch_size: int) -> int | tuple[int, ...]:
    """A duration in steps, from config.<what>_steps or config.<what>_epochs; examples are those of one epoch."""
    if f"{what}_steps" in config:
        return config[f"{what}_steps"]
    epochs = config[f"{what}_epochs"]
    in_steps = [round(epoch * examples / batch_size) for epoch in (epochs if isinstance(epochs, tuple) else [epochs])]
    return tuple(in_steps) if isinstance(epochs, tuple) else in_steps[0]


def validate(config: ConfigDict, examples: int, devices: int) -> None:
    """Raises ValueError for values that cannot work, alone or together."""
    for field in EVERY_RECIPE:
        if field not in config:
            raise ValueError(f"config.{field} is missing; every recipe has {', '.join(EVERY_RECIPE)}")
    for name in ("total", "eval_every"):
        if (f"{name}_steps" in config) == (f"{name}_epochs" in config):
            raise ValueError(f"config has to have one of {name}_steps and {name}_epochs")
    for name in ("total", "eval_every", "log_every", "checkpoint_every"):
        if (value := steps(config, name, examples, config.batch_size)) < 1:
            raise ValueError(f"config.{name}_steps={value}, has to be at least 1")
    if config.batch_size < 1 or config.batch_size % devices:
        raise ValueError(
            f"config.batch_size={config.batch_size} cannot be divided among {devices} devices; "
            f"take a multiple of {devices}"
        )
    group = config.model.get("bn_group", 0)
    if group < 0 or (group and config.batch_size % group):
        raise ValueError(f"config.model.bn_group={group} does not divide config.batch_size={config.batch_size}")
    if config.model.get("dtype", "float32") not in ("float32", "bfloat16"):
        raise ValueError(f"config.model.dtype={config.model.dtype!r}; choose float32 or bfloat16")
    _validate_optimizer(config.optimizer, steps(config, "total", examples, config.batch_size), examples, config)


def shrink(config: ConfigDict) -> None:
    """Turn a recipe into one of a few seconds on the built-in data, in place: the same model and code paths."""
    config.unlock()
    with_total = {name: config[name] for name in ("total_steps", "total_epochs") if name in config}
    total, few = next(iter(with_total.values())), 6
    drops = next(name for name in ("drop_at_steps", "drop_at_epochs") if name in config.optimizer)
    config.optimizer.drop_at_steps = tuple(round(few * drop / total) for drop in config.optimizer[drops])
    if drops != "drop_at_steps":
        del config.optimizer[drops]
    for name in ("total_epochs", "eval_every_epochs"):
        if name in config:
            del config[name]
    config.update(total_steps=few, eval_every_steps=3, log_every_steps=2, checkpoint_every_steps=3, batch_size=16)
    config.data.update(name="shapes", train_split="train[:160]", eval_split="test[:50]")
    if config.model.get("bn_group", 0):
        config.model.bn_group = 8
    config.lock()


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Fields that differ between two configs as plain dicts, a line each."""
    lines = []
    for key in sorted({*old, *new}):
        a, b = old.get(key, "(absent)"), new.get(key, "(absent)")
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {a} in the run, {b} now")
    return lines


def _validate_optimizer(optimizer: ConfigDict, total: int, examples: int, config: ConfigDict) -> None:
    for field in ("learning_rate", "momentum", "weight_decay", "drop_factor", "warm_up_learning_rate"):
        if field in optimizer and not optimizer[field] >= 0:
            raise ValueError(f"config.optimizer.{field}={optimizer[field]}, has to be 0 or more")
    drops = steps(optimizer, "drop_at", examples, config.batch_size)
    if not all(isinstance(drop, int) for drop in drops):
        raise ValueError(f"config.optimizer.drop_at_steps={drops}, has to be numbers such as 32000,48000")
    if sorted(set(drops)) != list(drops) or any(drop < 1 for drop in drops):
        raise ValueError(f"config.optimizer.drop_at_steps={drops}, has to rise, from 1 or more")
    if drops and drops[-1] >= total:
        left = ",".join(str(drop) for drop in drops if drop < total) or "()"
        raise ValueError(
            f"config.optimizer.drop_at_steps={drops}: the drop at {drops[-1]} lies after the end, total_steps={total}; "
            f"change both, as in --config.optimizer.drop_at_steps={left}"
        )


def _override(config: ConfigDict, field: str, value: Any) -> None:
    *path, name = field.split(".")
    node = config
    for key in [*path, name]:
        if not isinstance(node, ConfigDict) or key not in node:
            fields = ", ".join(sorted(node)) if isinstance(node, ConfigDict) else "no fields"
            raise ValueError(f"config.{field} is not a field; here are {fields}")
        parent, node = node, node[key]
    try:
        parent[name] = value
    except TypeError:
        kind = type(parent[name]).__name__
        raise ValueError(f"config.{field}={value!r} has the wrong type; it is now {parent[name]!r}, {kind}") from None


def _plain(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple | list) else str(value).replace("/", "_")
