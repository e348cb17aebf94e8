"""Recipes: finding, loading and changing them, and naming runs."""

import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from deepconv import repository
from deepconv.config.execute import execute
from deepconv.config.fields import FIELDS, check_fields, check_parts, unknown_field
from deepconv.config.shorten import shorten
from deepconv.config.smoke import shrink
from deepconv.run.files import expanded, read_json

SCHEMA = 3  # of recipes and of config.json; it grows when a field is added
# (schema, model or "" for all, field, value): the value of a field in recipes and runs older than the field
ADDED = (
    (2, "", "data.std", "none"),
    (2, "resnet_cifar", "model.shortcut", "A"),
    (3, "", "optimizer.ema_decay", 0.0),
)
# Fields that say how a run is watched: its name and identity do not have them
WATCHING = ("log_every_steps", "checkpoint_every_steps")
# {field of config.json with the path of what a run starts from: field with its digest}
DIGESTS = {"init_from": "init_sha256", "proposals_from": "proposals_sha256"}
LONGEST_NAME = 230  # bytes of a run's name; file systems take 255, and a digest and ",train=False" may follow


def available() -> dict[str, Path]:
    """Returns the recipes by name: those that come with deepconv and those in ./configs, which take precedence."""
    folders = repository.root() / "configs", Path("configs")
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.py"))}


def find(name: str) -> Path:
    """Finds the file of a recipe, given as a path or as a name in `available`. Raises ValueError if it does not exist.

    If there is no file configs/NAME.py, this path is read as the name NAME.
    """
    path = expanded(name)
    if path.is_file() and path.suffix == ".py":
        return path
    named = not path.is_file() and path.parent in (Path(), Path("configs"))
    stem = path.name.removesuffix(".py")
    known = available() if named else {file.stem: file for file in sorted(path.parent.glob("*.py"))}
    if named and stem in known:
        return known[stem]
    problem = "is not a Python file" if path.exists() else "does not exist"
    if near := difflib.get_close_matches(stem, known, n=1):
        raise ValueError(f"--config={name} {problem}; the nearest recipe is {near[0] if named else known[near[0]]}")
    choice = f"the recipes are {', '.join(known)}" if known else "python -m deepconv lists the recipes"
    raise ValueError(f"--config={name} {problem}; {choice}")


def load(
    path: str | Path, overrides: Mapping[str, Any] | None = None, smoke: bool = False, factor: float = 1
) -> ConfigDict:
    """Loads the recipe in a Python file, shrunk if smoke, and applies overrides such as {"model.depth": 56} last.

    The factor is that of --shorten.
    Raises ValueError for a file that is not a recipe, an unknown field or a wrong type. The file is code and is
    executed.
    """
    path, overrides = expanded(path), overrides or {}
    config = execute(path)
    try:
        check_parts(config)
        complete(config)
        check_fields(config)
    except ValueError as error:
        raise ValueError(f"--config={path}: {error}") from None
    if smoke:
        changed = config.copy_and_resolve_references()
        _override(changed, overrides)
        check_fields(changed)  # before shrink divides durations by each other
        shrink(config, overrides)
    if factor != 1:
        shorten(config, factor)
    _override(config, overrides)
    return config.lock()


def newer_field(path: str | Path, field: str) -> str:
    """Says how to add a field to a recipe that is older than the field, since flags only change what a recipe has."""
    if not any(added == field for _, _, added, _ in ADDED) or not unknown_field(execute(expanded(path)), field):
        return ""
    value = flatten(load(path).to_dict())[field]
    return f"config.{field} is newer than this recipe; add a line to {path}: config.{field} = {value!r}"


def complete(config: ConfigDict | dict[str, Any]) -> None:
    """Adds fields that are newer than a recipe or a config.json, in place.

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
    """Reads and completes the config.json of a run. Raises FileNotFoundError, or OSError if it is damaged."""
    file = workdir / "config.json"
    if not file.exists():
        siblings = [path.parent for path in workdir.parent.glob("*/config.json")] if not workdir.exists() else []
        near = difflib.get_close_matches(workdir.name, [path.name for path in siblings], n=1)
        hint = f"; did you mean {workdir.with_name(near[0])}?" if near else ""
        raise FileNotFoundError(f"{workdir} is not the directory of a run: it has no config.json{hint}")
    config = read_json(file, dict, remedy="restore it, or begin in another directory")
    try:
        check_parts(config)
        complete(config)
        for data in ("train_data", "eval_data"):
            if data in config and not re.match(r"\d+ examples", str(config[data])):
                raise ValueError(f"{data} is {config[data]!r}, not a number of examples")
    except ValueError as error:
        raise OSError(f"{file} cannot be used: {error}") from None
    return config


def config_of(run: Mapping[str, Any]) -> ConfigDict:
    """Returns the config in the content of a run's config.json."""
    return ConfigDict(_with_tuples({name: run[name] for name in FIELDS[""] if name in run})).lock()


def _with_tuples(value: Any) -> Any:
    """Replaces the lists in a tree of dicts with tuples, which JSON does not have."""
    if isinstance(value, Mapping):
        return {name: _with_tuples(part) for name, part in value.items()}
    return tuple(value) if isinstance(value, list) else value


def run_name(
    path: str | Path,
    overrides: Mapping[str, Any],
    smoke: bool = False,
    init_from: str | Path | None = None,
    init_layers: Sequence[str] = (),
    factor: float = 1,
    watching: bool = False,
    proposals_from: str | Path | None = None,
) -> str:
    """Names a run by its recipe and its changes in alphabetical order, as in "resnet_cifar,model.depth=56,seed=3".

    Changes of WATCHING belong to the name only with `watching`, as in earlier versions. The run whose weights it starts
    from, and the one whose net makes its proposals, appear as their recipes, with a digest of their changes, if any;
    this keeps the names of chains of runs short. A name that is too long for a file system ends with a digest.
    """
    names = [Path(path).stem, *["smoke"] * smoke, *[f"shorten={factor:g}"] * (factor != 1)]
    names += [
        f"{field}={_plain(value)}" for field, value in sorted(overrides.items()) if watching or field not in WATCHING
    ]
    names += [f"init_layers={_plain([*init_layers])}"] if init_layers else []
    if init_from:
        names.append(f"init_from={_short(init_from)}")
    if proposals_from:
        names.append(f"proposals_from={_short(proposals_from)}")
    return _bounded(",".join(names))


def result_name(command: str, arguments: Mapping[str, Any], runs: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """Names the directory of a command that reads runs, as in "transfer,data=voc2007,run=vgg16-0123abcd+vgg19".

    runs: {flag: (name, the test that is read or "")}. Names of runs are shortened as in `run_name`.
    """
    names = [command, *(f"{flag}={_plain(value)}" for flag, value in sorted(arguments.items()))]
    for flag, pairs in runs.items():
        names.append(f"{flag}={'+'.join(_short(name) + (f'.{test}' if test else '') for name, test in pairs)}")
    return _bounded(",".join(names))


def _short(run: str | Path) -> str:
    """Returns a run's recipe, with a digest of its name if it has changes."""
    name = Path(run).name
    recipe, *changes = name.split(",")
    return f"{_plain(recipe)}{_digest(name) if changes else ''}"


def _bounded(name: str) -> str:
    """Shortens a name that is too long for a file system to its first changes, in full if possible, and a digest."""
    if len(name.encode()) <= LONGEST_NAME:
        return name
    start = name.encode()[: LONGEST_NAME + 1].decode(errors="ignore")
    return (start.rpartition(",")[0] or start[:-1]) + _digest(name)


def _digest(name: str) -> str:
    return f"-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a config.json that a later start of the run must share.

    A run without training has no training data; only some of its tests look for it. Weights with a digest may be
    elsewhere.
    """
    apart = {*WATCHING, *(path for path, digest in DIGESTS.items() if digest in config)}
    if config.get("train") is False:
        apart.add("train_data")
    return {field: value for field, value in config.items() if field not in apart}


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Returns a line for each field that differs between two configs, given as plain dicts."""
    lines = []
    for key in sorted({*old, *new}):
        a, b = old.get(key, "(absent)"), new.get(key, "(absent)")
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {a} in the run, {b} now")
    return lines


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens {"model": {"depth": 20}} to {"model.depth": 20}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _override(config: ConfigDict, overrides: Mapping[str, Any]) -> None:
    for field, value in overrides.items():
        *path, name = field.split(".")
        if problem := unknown_field(config, field):
            raise ValueError(problem)
        if "[" in field:
            raise ValueError(f"config.{field}={value!r}: give all values of {field.partition('[')[0]}, not one of them")
        parent = node = config
        for key in [*path, name]:
            parent, node = node, node[key]
        if isinstance(parent[name], ConfigDict):
            example = f"{field}.{min(node, default='FIELD')}"
            raise ValueError(f"config.{field}={value!r} has the wrong type; set its fields, as in {example}")
        try:
            parent[name] = value
        except TypeError:
            hint = f"it is now {parent[name]!r}, {type(parent[name]).__name__}"
            raise ValueError(f"config.{field}={value!r} has the wrong type; {hint}") from None


def _plain(value: Any) -> str:
    text = "+".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return text.translate({ord("/"): "_", ord("["): "_", ord("]"): None})  # orbax does not find folders with brackets
