"""Recipes: finding, loading and changing them, and naming runs."""

import contextlib
import difflib
import hashlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from deepconv.config.fields import check_fields, check_parts
from deepconv.config.smoke import shrink
from deepconv.run.directory import expanded, read_json

SCHEMA = 2  # of recipes and of config.json; it grows when a field is added
# (schema, model or "" for all, field, value): the value of a field in recipes and runs older than the field
ADDED = (
    (2, "", "data.std", "none"),
    (2, "resnet_cifar", "model.shortcut", "A"),
)
LONGEST_NAME = 230  # bytes of a run's name; file systems take 255, and a digest and ",train=False" may follow


def find(name: str) -> Path:
    """Finds the file of a recipe, given as a path or as a name in ./configs. Raises ValueError if it does not exist."""
    path = expanded(name)
    named = Path("configs", f"{path.name.removesuffix('.py')}.py")
    found = named if len(path.parts) == 1 and not path.is_file() else path
    if found.is_file() and found.suffix == ".py":
        return found
    problem = "is not a Python file" if found.exists() else "does not exist"
    recipes = {file.stem: file for file in sorted(found.parent.glob("*.py"))} if found.parent.is_dir() else {}
    if near := difflib.get_close_matches(found.stem, recipes, n=1):
        raise ValueError(f"--config={name} {problem}; the nearest recipe is {recipes[near[0]]}")
    known = f"recipes here: {', '.join(recipes)}" if recipes else "give the path of a recipe, such as those in configs/"
    raise ValueError(f"--config={name} {problem}; {known}")


def load(path: str | Path, overrides: Mapping[str, Any] | None = None, smoke: bool = False) -> ConfigDict:
    """Loads the recipe in a Python file, shrunk if smoke, and applies overrides such as {"model.depth": 56} last.

    Raises ValueError for a file that is not a recipe, an unknown field or a wrong type. The file is code and is
    executed.
    """
    path, overrides = expanded(path), overrides or {}
    config = _execute(path)
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
    _override(config, overrides)
    return config.lock()


def _execute(path: Path) -> ConfigDict:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ValueError(f"--config={path} is not a Python file; recipes are in configs/")
    module = importlib.util.module_from_spec(spec)
    try:
        with siblings(path):
            spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise ValueError("it has no function get_config(); configs/resnet_cifar.py is an example")
        config = module.get_config()
    except (Exception, SystemExit) as error:  # a recipe is arbitrary code
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).name == path.name
        ]
        location = f" in line {lines[-1]}" if lines else ""
        raise ValueError(f"--config={path} is not a recipe: {type(error).__name__}{location}: {error}") from None
    if not isinstance(config, ConfigDict):
        raise ValueError(
            f"--config={path} is not a recipe: get_config() returns a {type(config).__name__}, not a ConfigDict"
        )
    return config


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
        raise FileNotFoundError(f"{workdir} is not the directory of a run: it has no config.json")
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


@contextlib.contextmanager
def siblings(path: str | Path) -> Iterator[None]:
    """Lets a recipe import recipes of its own folder in this block, as in `from resnet50 import get_config`."""
    folder, before = expanded(path).absolute().parent, set(sys.modules)
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
    """Names a run by its recipe and its changes in alphabetical order, as in "resnet_cifar,model.depth=56,seed=3".

    The run whose weights it starts from appears as its recipe, with a digest of its changes, if any; this keeps the
    names of chains of runs short. A name that is too long for a file system ends with a digest.
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


def _override(config: ConfigDict, overrides: Mapping[str, Any]) -> None:
    for field, value in overrides.items():
        *path, name = field.split(".")
        node = config
        for key in [*path, name]:
            if not isinstance(node, ConfigDict) or key not in node:
                fields = ", ".join(sorted(node)) if isinstance(node, ConfigDict) else "no fields"
                raise ValueError(f"config.{field} is not a field; there are {fields}")
            parent, node = node, node[key]
        try:
            parent[name] = value
        except TypeError:
            hint = f"it is now {parent[name]!r}, {type(parent[name]).__name__}"
            if isinstance(parent[name], ConfigDict):
                hint = f"set one of its fields, {', '.join(sorted(parent[name]))}"
            raise ValueError(f"config.{field}={value!r} has the wrong type; {hint}") from None


def _plain(value: Any) -> str:
    text = "+".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return text.translate({ord("/"): "_", ord("["): "_", ord("]"): None})  # orbax does not find folders with brackets
