"""Executes recipes, which are Python files."""

import contextlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from deepconv.run.files import expanded


def execute(path: Path) -> ConfigDict:
    """Returns what get_config() of a Python file returns. Raises ValueError for a file that is not a recipe."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ValueError(f"--config={path} is not a Python file; python -m deepconv lists the recipes")
    module = importlib.util.module_from_spec(spec)
    try:
        with siblings(path):
            spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise ValueError("it has no function get_config(); the repository's configs/resnet_cifar.py is an example")
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
