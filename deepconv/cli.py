"""What the commands share: the flags that describe a run, and answers of one line."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from deepconv import config as config_lib
from deepconv import runlog

_CONFIG = config_flags.DEFINE_config_file("config", None, "The recipe, such as configs/resnet_cifar.py.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where data sets lie [TFDS_DATA_DIR, or ~/tensorflow_datasets].")
WORKERS = flags.DEFINE_integer("workers", 0, "Loader processes beside this one; none: threads in it.", lower_bound=0)
_SMOKE = flags.DEFINE_bool(
    "smoke", False, "Shrink the recipe to seconds on the built-in data; --config.x=y still wins."
)


def load_config(
    arguments: list[str],
    init_from: str | None = None,
    change: Callable[[ConfigDict], dict[str, Any]] = lambda config: {},
    init_layers: Sequence[str] = (),
) -> tuple[ConfigDict, str]:
    """The config that the flags describe, and its run's name. Raises ValueError.

    change(config) gives fields that are to have other values, where no flag sets them.
    """
    if len(arguments) > 1:
        raise ValueError(f"unknown argument {arguments[1]!r}; flags are written --name=value")
    flag, smoke = flags.FLAGS["config"], _SMOKE.value
    if not flag.present:
        raise ValueError("--config is missing; try --config=configs/quickstart.py")
    path, overrides = config_flags.get_config_filename(flag), dict(config_flags.get_override_values(flag))
    overrides = change(config_lib.load(path, overrides, smoke)) | overrides
    name = config_lib.run_name(path, overrides, smoke, init_from, init_layers)
    return config_lib.load(path, overrides, smoke), name


def parse(argv: list[str]) -> list[str]:
    """absl's parser, with every mistake answered in one line."""
    sys.stdout.reconfigure(errors="backslashreplace")  # names may have letters that a terminal's encoding lacks
    try:
        if recipe := _recipe(argv):
            config_lib.load(recipe)  # raises with words of ours, where absl would with its own or not at all
        with config_lib.siblings(recipe or "."):
            arguments = flags.FLAGS(argv)
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.FATAL)  # orbax and TFDS tell a lot, and errors are told here
        return arguments
    except AttributeError as error:
        mistake = str(error)
        if error.args and isinstance(error.args[0], KeyError):  # ml_collections wraps what it has to say
            mistake = f"the config has no field {error.args[0].args[0]}"
    except KeyError as error:
        mistake = f"the config has no field {error.args[0].split()[-1]}"  # such as optimizer.momentum.x
    except (flags.Error, TypeError, ValueError) as error:
        mistake = str(error)
    sys.exit(refuse(" ".join(mistake.split()), code=2))


def _recipe(argv: list[str]) -> str:
    """The value of --config=FILE or --config FILE, which may stand behind fields of it such as --config.seed=1."""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        name, _, value = argument.lstrip("-").partition("=")
        if name == "config":
            return value or following
    return ""


def refuse(message: str, code: int = 1) -> int:
    """Say why on standard error; gives the exit code."""
    print("deepconv:", runlog.printable(" ".join(message.splitlines())), file=sys.stderr)
    return code
