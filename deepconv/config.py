"""Recipes: load one by its file, change fields, name the run, shrink it, find what cannot work."""

import contextlib
import difflib
import hashlib
import importlib.util
import math
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
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
LONGEST_NAME = 230  # bytes of a run's name; file systems take 255, and a digest and ",train=False" may follow
# The fields that every recipe has, by part; "" is the recipe itself
EVERY_RECIPE = {
    "": ("batch_size", "seed", "log_every_steps", "checkpoint_every_steps", "model", "data", "optimizer"),
    "model": ("name",),
    "data": ("name", "train_split", "eval_split", "image_size", "mean", "augment"),
    "optimizer": ("learning_rate", "drop_factor", "momentum", "weight_decay"),
}
STEPS = (int, 1, 2**31 - 1)  # a step is an int32
EPOCHS = (float, 1, 1e6)
SIDE = (int, 1, 8192)  # pixels; larger images are not decoded
RATE = (float, 0, 1e6)  # far above what trains, far below the largest float32
# What the optimiser has, and its biases and each of its layers may have of their own
SCHEDULE = {
    "learning_rate": RATE,
    "weight_decay": RATE,
    "drop_at_steps": STEPS,
    "drop_at_epochs": (float, 0, 1e6),
}
FREEZE = {"freeze_at_steps": (int, 0, 2**31 - 1), "freeze_at_epochs": (float, 0, 1e6)}
# The type of each field or, of those in TUPLES, of each of its values, and the lowest and highest value of a number.
# Limits without a reason beside them are far from what the papers have and from what a machine can do.
FIELDS = {
    "": {
        "schema": (int, 1, 10_000),  # `complete` refuses those that are not known
        "seed": (int, 0, 2**63 - 1),
        "batch_size": (int, 1, 2**20),
        "total_steps": STEPS,
        "total_epochs": EPOCHS,
        "eval_every_steps": STEPS,
        "eval_every_epochs": EPOCHS,
        "log_every_steps": STEPS,
        "checkpoint_every_steps": STEPS,
        "model": (ConfigDict,),
        "data": (ConfigDict,),
        "optimizer": (ConfigDict,),
    },
    "model": dict.fromkeys(
        ("name", "variant", "activation", "without", "configuration", "initialization", "shortcut", "stride_on")
        + ("pool1", "dtype"),
        (str,),
    )
    | dict.fromkeys(
        ("half", "grouped", "communication", "overlapping_pooling", "lrn", "lrn_in_towers", "conv6", "residual"),
        (bool,),
    )
    | {
        "depth": (int, 1, 10_000),  # the paper's deepest has 1202
        "bn_group": (int, 0, 2**20),
        "dropout": (float, 0, 0.99),  # of 1, nothing would be left
        "lrn_k": (float, 1e-6, 1e6),  # of 0, black pixels would be divided by 0
        "lrn_alpha": RATE,
    },
    "data": dict.fromkeys(
        ("name", "train_split", "eval_split", "mean", "augment", "lighting", "on_corrupt"),
        (str,),
    )
    | {
        "std": (str,),
        "image_size": SIDE,
        "train_scale": SIDE,
        "test_scale": SIDE,
        "central_square": (bool,),
        "lighting_until_steps": STEPS,
        "lighting_until_epochs": (float, 0, 1e6),
    },
    "optimizer": SCHEDULE
    | {
        "drop_factor": (float, 1e-6, 1),
        "momentum": (float, 0, 0.99999),  # of 1, no step would ever be forgotten
        "warm_up_at_depth": (int, 0, 10_000),
        "warm_up_learning_rate": RATE,
        "warm_up_until_error": (float, 0, 100),
        "bias": (ConfigDict,),
        "layers": (ConfigDict,),
    },
}
DROPS = {"drop_at_steps", "drop_at_epochs"}
FREEZES = {*FREEZE}
TUPLES = {"train_scale", *DROPS}
KINDS = {bool: "True or False", str: "text", ConfigDict: "a ConfigDict"}


def find(name: str) -> Path:
    """The file of a recipe: a path as it is, or a name in ./configs. Raises ValueError for one that is not there."""
    path = runlog.expanded(name)
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

    Raises ValueError for a file that is not a recipe, and for an unknown field or a wrong type. The file is executed:
    it is code.
    """
    path, overrides = runlog.expanded(path), overrides or {}
    config = _execute(path)
    try:
        _check_parts(config)
        complete(config)
        check_fields(config)
    except ValueError as error:
        raise ValueError(f"--config={path}: {error}") from None
    if smoke:
        changed = config.copy_and_resolve_references()
        _override(changed, overrides)
        check_fields(changed)  # before durations are divided by each other
        shrink(config, overrides)
    _override(config, overrides)
    return config.lock()


def _execute(path: Path) -> ConfigDict:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or not path.is_file():
        raise ValueError(f"--config={path} is not a Python file; recipes lie in configs/")
    module = importlib.util.module_from_spec(spec)
    try:
        with siblings(path):
            spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise ValueError("it has no function get_config(); configs/resnet_cifar.py is an example")
        config = module.get_config()
    except (Exception, SystemExit) as error:  # a recipe is any code
        lines = [at.lineno for at in traceback.extract_tb(error.__traceback__) if Path(at.filename).name == path.name]
        where = f" in line {lines[-1]}" if lines else ""
        raise ValueError(f"--config={path} is not a recipe: {type(error).__name__}{where}: {error}") from None
    if not isinstance(config, ConfigDict):
        raise ValueError(
            f"--config={path} is not a recipe: get_config() gives a {type(config).__name__}, no ConfigDict"
        )
    return config


def complete(config: ConfigDict | dict[str, Any]) -> None:
    """Adds the fields that did not exist yet when a recipe or a config.json was written, in place.

    Raises ValueError for a config of a newer deepconv.
    """
    schema = config.get("schema", 1)
    if type(schema) is not int or schema > SCHEMA:
        raise ValueError(f"the config has schema {schema!r}; this version of deepconv reads schemas up to {SCHEMA}")
    for _, model, field, value in ADDED:
        part, name = field.split(".")
        if name not in config[part] and model in ("", config["model"]["name"]):
            config[part][name] = value
    config["schema"] = SCHEMA


def read_run(workdir: Path) -> dict[str, Any]:
    """The config.json of a run's directory, completed. Raises FileNotFoundError, or OSError for a damaged one."""
    file = workdir / "config.json"
    if not file.exists():
        raise FileNotFoundError(f"{workdir} is not the directory of a run: it has no config.json")
    config = runlog.read_json(file, dict, remedy="restore it, or begin in another directory")
    try:
        _check_parts(config)
        complete(config)
        for data in ("train_data", "eval_data"):
            if data in config and not re.match(r"\d+ examples", str(config[data])):
                raise ValueError(f"{data} is {config[data]!r}, not a number of examples")
    except ValueError as error:
        raise OSError(f"{file} cannot be used: {error}") from None
    return config


@contextlib.contextmanager
def siblings(path: str | Path) -> Iterator[None]:
    """While a recipe is executed it may import those beside it (`from resnet50 import get_config`), and no others."""
    folder, before = runlog.expanded(path).absolute().parent, set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:  # another folder may hold a recipe of the same name
            if Path(getattr(sys.modules[name], "__file__", None) or "").parent == folder:
                del sys.modules[name]


def run_name(
    path: str | Path,
    overrides: Mapping[str, Any],
    smoke: bool = False,
    init_from: str | Path | None = None,
    init_layers: Sequence[str] = (),
) -> str:
    """ "resnet_cifar,model.depth=56,seed=3": the recipe and what was changed in it, in the order of the alphabet.

    A chain of runs would become too long a name, so of the run whose weights it begins with there is the recipe and,
    where more was changed, a digest of that run's name. A name that is too long for a file system ends with a digest.
    """
    names = [Path(path).stem, *["smoke"] * smoke]
    names += [f"{field}={_plain(value)}" for field, value in sorted(overrides.items())]
    names += [f"init_layers={_plain([*init_layers])}"] if init_layers else []
    if init_from:
        source = Path(init_from).name
        recipe, *changes = source.split(",")
        names.append(f"init_from={_plain(recipe)}{_digest(source) if changes else ''}")
    name = ",".join(names)
    if len(name.encode()) > LONGEST_NAME:
        return name.encode()[:LONGEST_NAME].decode(errors="ignore") + _digest(name)
    return name


def _digest(name: str) -> str:
    return f"-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def steps(config: ConfigDict, what: str, examples: int, batch_size: int) -> int | tuple[int, ...]:
    """A duration in steps, from config.<what>_steps or config.<what>_epochs; examples are those of one epoch."""
    value = config[_unit(config, what)]
    if _unit(config, what).endswith("_steps"):
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
    value = config[_unit(config, what)]
    if _unit(config, what).endswith("_steps"):
        return step % value == 0
    return round(round(step * batch_size / (value * examples)) * value * examples / batch_size) == step


def check_fields(config: ConfigDict) -> None:
    """Raises ValueError with a line for each field that is missing or unknown, or has a value that cannot work."""
    _check_parts(config)
    wrong: list[str] = []
    for part, fields in FIELDS.items():
        wrong += _wrong_values(f"config.{part}".rstrip("."), config[part] if part else config, fields)
    raise_all(wrong)
    for what in ("total", "eval_every"):
        _unit(config, what)
    if config.model.get("dtype", "float32") not in ("float32", "bfloat16"):
        raise ValueError(f"config.model.dtype={config.model.dtype!r}; choose float32 or bfloat16")
    _check_optimizer(config.optimizer)


def check_together(config: ConfigDict, examples: int, devices: int) -> None:
    """Raises ValueError for values that cannot work together, or not with this data set or these devices."""
    batch_size = config.batch_size
    if batch_size > examples:
        raise ValueError(
            f"config.batch_size={batch_size} is more than the {examples} training examples; take {examples} at most"
        )
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
    if last > STEPS[2]:
        raise ValueError(f"config.{total}={config[total]} are {last} steps; at most {STEPS[2]} can be counted")
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


def _check_parts(config: ConfigDict | dict[str, Any]) -> None:
    for part, fields in EVERY_RECIPE.items():
        node = config[part] if part else config
        if not isinstance(node, ConfigDict | dict):
            raise ValueError(
                f"config.{part}={node!r}, has to be a ConfigDict; see configs/resnet_cifar.py for its fields"
            )
        for field in fields:
            if field not in node:
                name = f"{part}.{field}".lstrip(".")
                raise ValueError(f"config.{name} is missing; every recipe has {', '.join(fields)} there")


def _wrong_values(name: str, node: ConfigDict, fields: Mapping[str, tuple[Any, ...]]) -> Iterator[str]:
    """A line for each value of a part of a config that does not fit its row of FIELDS."""
    for field, value in node.items():
        if field not in fields:
            near = "".join(f"; did you mean {known}?" for known in difflib.get_close_matches(field, fields, 1))
            yield f"{name}.{field} is not a field of any recipe{near or f': {sorted(fields)}'}"
            continue
        kind, *limits = fields[field]
        values = value if field in TUPLES else (value,)
        if not isinstance(values, tuple) or not all(_fits(each, kind, *limits) for each in values):
            number = "whole number" if kind is int else "number"
            wanted = KINDS.get(kind) or f"a {number} from {limits[0]} to {limits[1]}"
            if field in TUPLES:
                wanted = f"numbers such as 32000,48000, each {wanted}"
            yield f"{name}.{field}={value!r}, has to be {wanted}"


def _fits(value: Any, kind: Any, low: float = -math.inf, high: float = math.inf) -> bool:
    if kind in (int, float):  # True and False are numbers for isinstance
        return type(value) in (int, kind) and low <= value <= high
    return isinstance(value, kind)


def _check_optimizer(optimizer: ConfigDict) -> None:
    _unit(optimizer, "drop_at")
    if "warm_up_at_depth" in optimizer and "warm_up_learning_rate" not in optimizer:
        raise ValueError("config.optimizer.warm_up_learning_rate is missing, and there is warm_up_at_depth")
    for layer, node in optimizer.get("layers", {}).items():
        if not isinstance(node, ConfigDict):
            raise ValueError(f"config.optimizer.layers.{layer}={node!r}, has to be a ConfigDict")
    for name, node in _schedules(optimizer):
        if node is not optimizer:
            raise_all([*_wrong_values(name, node, SCHEDULE | (FREEZE if ".layers." in name else {}))])
        for what in ("drop_at", "freeze_at"):
            if {f"{what}_steps", f"{what}_epochs"} & {*node}:
                _unit(node, what)
        for field in DROPS & {*node}:
            drops = node[field]
            if sorted(set(drops)) != list(drops) or any(drop <= 0 for drop in drops):
                raise ValueError(f"{name}.{field}={drops}, has to rise, from above 0")


def _override(config: ConfigDict, overrides: Mapping[str, Any]) -> None:
    for field, value in overrides.items():
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
            was = f"it is now {parent[name]!r}, {type(parent[name]).__name__}"
            if isinstance(parent[name], ConfigDict):
                was = f"set one of its fields, {', '.join(sorted(parent[name]))}"
            raise ValueError(f"config.{field}={value!r} has the wrong type; {was}") from None


def _plain(value: Any) -> str:
    text = "+".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return text.translate({ord("/"): "_", ord("["): "_", ord("]"): None})  # orbax does not find folders with brackets
