"""Recipes: load one by its file, change fields, name the run, shrink it, find what cannot work."""

import contextlib
import difflib
import importlib.util
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from deepconv import runlog

SCHEMA = 2  # of recipes and of config.json; it grows when a field is added
# (schema, model or "" for all, field, value): the value that a field has in recipes and runs older than the field
ADDED = (
    (2, "", "data.std", "none"),
    (2, "resnet_cifar", "model.shortcut", "A"),
)
EVERY_RECIPE = ("batch_size", "seed", "log_every_steps", "checkpoint_every_steps", "model", "data", "optimizer")
DROPS = {"drop_at_steps", "drop_at_epochs"}
FREEZES = {"freeze_at_steps", "freeze_at_epochs"}


def find(name: str) -> Path:
    """The file of a recipe: a path as it is, or a name in ./configs. Raises ValueError for one that is not there."""
    path = Path(name).expanduser()
    named = Path("configs", f"{path.name.removesuffix('.py')}.py")
    found = named if len(path.parts) == 1 and not path.is_file() else path
    if found.is_file() and found.suffix == ".py":
        return found
    problem = "is not a Python file" if found.exists() else "does not exist"
    recipes = {file.stem: file for file in sorted(found.parent.glob("*.py"))} if found.parent.is_dir() else {}
    if near := difflib.get_close_matches(found.stem, recipes, n=1):
        raise ValueError(f"--config={name} {problem}; the nearest recipe is {recipes[near[0]]}")
    known = f"recipes here: {', '.join(recipes)}" if recipes else "give the path of a recipe, which lie in configs/"
    raise ValueError(f"--config={name} {problem}; {known}")


def load(path: str | Path, overrides: Mapping[str, Any] | None = None, smoke: bool = False) -> ConfigDict:
    """The recipe in a Python file, shrunk if smoke, with {"model.depth": 56} and the like applied; these always win.

    Raises ValueError for a file, field or type that is not to be had. The file is executed: it is code.
    """
    path, overrides = Path(path).expanduser(), overrides or {}
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or not path.is_file():
        raise ValueError(f"--config={path} is not a Python file; recipes lie in configs/")
    module = importlib.util.module_from_spec(spec)
    with siblings(path):
        spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ValueError(f"--config={path} has no function get_config(); recipes lie in configs/")
    config = module.get_config()
    complete(config)
    if smoke:
        shrink(config, overrides)
    for field, value in overrides.items():
        _override(config, field, value)
    return config.lock()


def complete(config: ConfigDict | dict[str, Any]) -> None:
    """Adds the fields that did not exist yet when a recipe or a config.json was written, in place.

    Raises ValueError for a config of a newer deepconv.
    """
    schema = config.get("schema", 1)
    if not isinstance(schema, int) or schema > SCHEMA:
        raise ValueError(f"the config has schema {schema!r}; this version of deepconv reads schemas up to {SCHEMA}")
    for _, model, field, value in ADDED:
        part, name = field.split(".")
        if part in config and name not in config[part] and model in ("", config["model"]["name"]):
            config[part][name] = value
    config["schema"] = SCHEMA


def read_run(workdir: Path) -> dict[str, Any]:
    """The config.json of a run's directory, completed. Raises FileNotFoundError, or OSError for a damaged one."""
    file = workdir / "config.json"
    if not file.exists():
        raise FileNotFoundError(f"{workdir} is not the directory of a run: it has no config.json")
    config = runlog.read_json(file, dict)
    try:
        complete(config)
    except (KeyError, TypeError, ValueError) as error:
        raise OSError(f"{file} cannot be used: {error}") from None
    return config


@contextlib.contextmanager
def siblings(path: str | Path) -> Iterator[None]:
    """While a recipe is executed it may import those beside it (`from resnet50 import get_config`), and no others."""
    folder, before = Path(path).expanduser().absolute().parent, set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:  # another folder may hold a recipe of the same name
            if Path(getattr(sys.modules[name], "__file__", None) or "").parent == folder:
                del sys.modules[name]


def run_name(
    path: str | Path, overrides: Mapping[str, Any], smoke: bool = False, init_from: str | Path | None = None
) -> str:
    """ "resnet_cifar,model.depth=56,seed=3": the recipe and what was changed in it, in the order of the alphabet.

    Of the run whose weights it begins with there is the recipe only, or a chain of runs would become too long a name.
    """
    changes = [f"{field}={_plain(value)}" for field, value in sorted(overrides.items())]
    source = [f"init_from={Path(init_from).name.split(',')[0]}"] if init_from else []
    return ",".join([Path(path).stem, *["smoke"] * smoke, *changes, *source])


def steps(config: ConfigDict, what: str, examples: int, batch_size: int) -> int | tuple[int, ...]:
    """A duration in steps, from config.<what>_steps or config.<what>_epochs; examples are those of one epoch."""
    value = config[_unit(config, what)]
    if _unit(config, what).endswith("_steps"):
        return value
    if isinstance(value, tuple):
        return tuple(round(epochs * examples / batch_size) for epochs in value)
    return round(value * examples / batch_size)


def check_fields(config: ConfigDict) -> None:
    """Raises ValueError for a field that is missing, or a value that cannot work by itself."""
    for field in EVERY_RECIPE:
        if field not in config:
            raise ValueError(f"config.{field} is missing; every recipe has {', '.join(EVERY_RECIPE)}")
    for part in ("model", "data", "optimizer"):
        if not isinstance(config[part], ConfigDict) or not config[part]:
            raise ValueError(f"config.{part} is empty; see configs/resnet_cifar.py for its fields")
    durations = [_unit(config, "total"), _unit(config, "eval_every"), "log_every_steps", "checkpoint_every_steps"]
    for field in ["batch_size", *durations]:
        if not config[field] >= 1:
            raise ValueError(f"config.{field}={config[field]}, has to be at least 1")
    if not 0 <= config.seed < 2**63:
        raise ValueError(f"config.seed={config.seed}, has to be from 0 to 2**63 - 1")
    if config.model.get("dtype", "float32") not in ("float32", "bfloat16"):
        raise ValueError(f"config.model.dtype={config.model.dtype!r}; choose float32 or bfloat16")
    if not 0 <= config.model.get("dropout", 0.0) < 1:
        raise ValueError(f"config.model.dropout={config.model.dropout}, has to be from 0 to below 1")
    _check_optimizer(config.optimizer)


def check_together(config: ConfigDict, examples: int, devices: int) -> None:
    """Raises ValueError for values that cannot work together, or not with this data set or these devices."""
    batch_size = config.batch_size
    if batch_size % devices:
        raise ValueError(
            f"config.batch_size={batch_size} cannot be divided among {devices} devices; take a multiple of {devices}"
        )
    group = config.model.get("bn_group", 0)
    if group < 0 or (group and batch_size % group):
        raise ValueError(
            f"config.model.bn_group={group} does not divide config.batch_size={batch_size}; 0 is the batch"
        )
    total, last = _unit(config, "total"), steps(config, "total", examples, batch_size)
    for field in {"lighting_until_steps", "lighting_until_epochs"} & {*config.data}:
        if not 0 < steps(config.data, "lighting_until", examples, batch_size) <= last:
            raise ValueError(
                f"config.data.{field}={config.data[field]} is not between the start and the end "
                f"(config.{total}={config[total]})"
            )
    for name, node in _schedules(config.optimizer):
        for field in DROPS & {*node}:
            drops = steps(node, "drop_at", examples, batch_size)
            if sorted({*drops} - {0}) != list(drops):
                raise ValueError(f"{name}.{field}={node[field]} is at steps {drops}, has to rise from 1 or more")
            if late := [drop for drop in drops if drop >= last]:
                raise ValueError(
                    f"{name}.{field}={node[field]}: a drop comes at step {late[0]}, not before the end at step {last} "
                    f"(config.{total}={config[total]}); change both, as in '--{name}.{field}=()'"
                )
        for field in FREEZES & {*node}:
            if steps(node, "freeze_at", examples, batch_size) >= last:
                raise ValueError(f"{name}.{field}={node[field]} is not before the end (config.{total}={config[total]})")


def shrink(config: ConfigDict, overrides: Mapping[str, Any]) -> None:
    """Turn a recipe into one of seconds on the built-in data, in place: the same model, units and code paths.

    Images have at most 64 pixels, which makes the first fully connected layer of AlexNet and VGG smaller.
    Durations and scales that overrides leave alone are made to fit those that they change.
    """
    total, every = _unit(config, "total"), _unit(config, "eval_every")
    few = overrides.get(total, 6 if total == "total_steps" else 1)
    group = overrides.get("model.bn_group", 8 if config.model.get("bn_group", 0) else 0)
    config.batch_size = max(16, 2 * group)
    examples, batch_size = 160, overrides.get("batch_size", config.batch_size)
    for _, node in _schedules(config.optimizer):
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


@contextlib.contextmanager
def noting(mistakes: list[str]) -> Iterator[None]:
    """Adds the message of a ValueError or OSError within this block to the mistakes, so that the next can be found."""
    try:
        yield
    except (ValueError, OSError) as error:
        mistakes.append(str(error))


def raise_all(mistakes: list[str]) -> None:
    """Raises ValueError with a line for each mistake, if there are any."""
    if mistakes:
        raise ValueError("\n".join(dict.fromkeys(mistakes)))


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


def _unit(config: ConfigDict, what: str) -> str:
    fields = [name for name in (f"{what}_steps", f"{what}_epochs") if name in config]
    if len(fields) != 1:
        raise ValueError(f"the config has to have one of {what}_steps and {what}_epochs; it has {fields or 'neither'}")
    return fields[0]


def _schedules(optimizer: ConfigDict) -> Iterator[tuple[str, ConfigDict]]:
    """The nodes that may have learning rates, drops and decay of their own, with their names for messages."""
    yield "config.optimizer", optimizer
    if "bias" in optimizer:
        yield "config.optimizer.bias", optimizer.bias
    for layer, node in optimizer.get("layers", {}).items():
        yield f"config.optimizer.layers.{layer}", node


def _check_optimizer(optimizer: ConfigDict) -> None:
    _unit(optimizer, "drop_at")
    if optimizer.momentum >= 1:
        raise ValueError(f"config.optimizer.momentum={optimizer.momentum}, has to be below 1")
    for name, node in _schedules(optimizer):
        for field, value in node.items():
            if isinstance(value, float | int) and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}.{field}={value}, has to be 0 or more, and finite")
        for field in DROPS & {*node}:
            drops, kinds = node[field], int if field == "drop_at_steps" else (int, float)
            if not isinstance(drops, tuple) or not all(
                isinstance(drop, kinds) and math.isfinite(drop) for drop in drops
            ):
                raise ValueError(f"{name}.{field}={drops}, has to be numbers such as 32000,48000")
            if sorted(set(drops)) != list(drops) or any(drop <= 0 for drop in drops):
                raise ValueError(f"{name}.{field}={drops}, has to rise, from above 0")


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
    text = "+".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return text.translate({ord("/"): "_", ord("["): "_", ord("]"): None})  # orbax does not find folders with brackets
