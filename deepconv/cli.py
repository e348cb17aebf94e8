"""Shared parts of the commands: the flags of a run, help, one-line error messages and exit codes."""

import contextlib
import difflib
import io
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from deepconv import malloc, processes
from deepconv.config import recipes
from deepconv.config.execute import siblings
from deepconv.config.fields import check_fields, unknown_field
from deepconv.config.mistakes import raise_all, reworded
from deepconv.config.shorten import check_drops
from deepconv.ops import forms
from deepconv.processes import group
from deepconv.run import preemption
from deepconv.run.files import expanded, printable

PICTURES = (".png", ".pdf", ".svg")  # endings of files with plots
_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "The recipe: a file, or a name in configs/, such as resnet50. --config.batch_size=64 changes a field of it.",
)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Directory of data sets [TFDS_DATA_DIR, or ~/tensorflow_datasets].")
WORKERS = flags.DEFINE_integer(
    "workers", 0, "Number of loader processes; with 0, threads of this process load data.", lower_bound=0
)
MODEL_PARALLEL = flags.DEFINE_integer(
    "model_parallel",
    1,
    "Devices that share a net in training: 2 gives each of AlexNet's towers its own; see docs/towers.md.",
    lower_bound=1,
    upper_bound=2,
)
ACCUMULATE = flags.DEFINE_integer(
    "accumulate",
    1,
    "Parts of a batch that a training step computes in sequence, to use less memory; gradients are averaged.",
    lower_bound=1,
)
HEARTBEAT_SECONDS = flags.DEFINE_integer(
    "heartbeat_seconds",
    60,
    "In a run of several processes, the time after which a process that does not answer counts as lost.",
    lower_bound=5,
)
_SMOKE = flags.DEFINE_bool(
    "smoke", False, "Shrink the recipe to seconds on the built-in data; --config.x=y takes precedence."
)
_SHORTEN = flags.DEFINE_float(
    "shorten",
    1.0,
    "Train for a fraction of the recipe's time, such as 0.01, with drops of the rate in proportion; --config.x=y takes "
    "precedence.",
)
_FORMS = flags.DEFINE_list(
    "forms", [], "Forms of operations, such as blocks:plain, to compare speeds; see deepconv/ops/forms.py."
)
EXIT_CODES = """Exit codes of all commands:
  0   done
  1   failed during work
  2   refused before work: flags, the config, data, or a directory that is in use or holds a run of another config
  75  stopped by SIGTERM, SIGUSR1 or Ctrl-C, or (in a Slurm job) the directory is in use; repeat the command
  134 another process of the same run was lost, for example killed; repeat the command to continue
"""


def run(main: Callable[[list[str]], int], in_several: bool = False) -> NoReturn:
    """Parses the flags, runs a command and ends the process with its exit code.

    Under Slurm's `srun` with several tasks, a command that cannot run in several processes is refused.
    """
    malloc.keep_freed_memory()
    sys.unraisablehook = _print_unraisable
    arguments = parse(sys.argv, main)
    try:
        allowed = in_several or not processes.slurm_address()
        code = main(arguments) if allowed else refuse("this command runs in one process; use srun --ntasks=1", code=2)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        sys.stdout = open(os.devnull, "w")
        code = 1
    except Exception as error:
        if processes.lost_another(error):
            reason = printable(" ".join(str(error).split())[:300])
            code = refuse(f"another process {group.LOST_MESSAGE} (JAX says: {reason})", group.LOST)
        else:  # a bug, or a failure of JAX
            traceback.print_exc()
            code = refuse(f"{type(error).__name__}: {error}") if processes.several() else 1
    sys.stdout.flush()
    sys.stderr.flush()
    preemption.leave(code, collective=code == 0)


def _print_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Prints an exception that Python cannot raise, except two kinds that are reported elsewhere in one line.

    They are errors of tensorstore's threads after a failed save, and a signal that comes while Grain frees memory,
    which `preemption.check` finds before the next step.
    """
    closed_loop = str(unraisable.exc_value) == "Event loop is closed"
    if not closed_loop and not isinstance(unraisable.exc_value, preemption.Preempted):
        sys.__unraisablehook__(unraisable)


def load_config(
    arguments: list[str],
    init_from: str | None = None,
    change: Callable[[ConfigDict, str], dict[str, Any]] = lambda config, name: {},
    init_layers: Sequence[str] = (),
    proposals_from: str | None = None,
) -> tuple[ConfigDict, str]:
    """Returns the config that the flags describe, and its run's name. Raises ValueError.

    change(config, name) returns new values of fields; flags take precedence over them. Earlier versions also put
    changes of the fields in recipes.WATCHING into the name; if runs/ holds only a run of that name, it is returned.
    """
    if len(arguments) > 1:
        raise ValueError(f"unknown argument {arguments[1]!r}; flags are written --name=value")
    flag, smoke, factor = flags.FLAGS["config"], _SMOKE.value, _SHORTEN.value
    if not 0 < factor <= 1:
        raise ValueError(f"--shorten={factor:g}; choose a number above 0 and up to 1, such as 0.01")
    if smoke and factor != 1:
        raise ValueError("give either --smoke or --shorten; --smoke shrinks the recipe to seconds")
    if not flag.present:
        raise ValueError("--config is missing; try --config=quickstart")
    path, overrides = config_flags.get_config_filename(flag), dict(config_flags.get_override_values(flag))
    name, earlier = (
        recipes.run_name(path, overrides, smoke, init_from, init_layers, factor, watching, proposals_from)
        for watching in (False, True)
    )
    if not _has_run(name) and _has_run(earlier):
        name = earlier
    overrides = change(recipes.load(path, overrides, smoke, factor), name) | overrides
    config = recipes.load(path, overrides, smoke, factor)
    if factor != 1:
        check_drops(config, factor, overrides)
    check_fields(config)
    return config, name


def _has_run(name: str) -> bool:
    """Returns whether runs/ holds the directory of a run with this name, which may be one that only tests."""
    return any(Path("runs", f"{name}{ending}", "config.json").exists() for ending in ("", ",train=False"))


def recipe() -> str:
    """Returns the recipe's name and the flags that shrink it, as in "resnet50 --shorten=0.01"."""
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    shortened = [f"--shorten={_SHORTEN.value:g}"] * (_SHORTEN.value != 1)
    return " ".join([name, *["--smoke"] * _SMOKE.value, *shortened])


def changes(config: ConfigDict, shrunk: bool = False) -> dict[str, tuple[Any, Any]]:
    """Returns {field: (its value in the recipe, its value)} for the fields of a config that differ from the recipe's.

    With `shrunk`, they are compared with the recipe as --smoke and --shorten change it.
    """
    path = config_flags.get_config_filename(flags.FLAGS["config"])
    base = recipes.load(path, {}, _SMOKE.value, _SHORTEN.value) if shrunk else recipes.load(path)
    recipe, now = recipes.flatten(base.to_dict()), recipes.flatten(config.to_dict())
    return {field: (recipe.get(field), now.get(field)) for field in now | recipe if now.get(field) != recipe.get(field)}


def parse(argv: list[str], main: Callable[[list[str]], int]) -> list[str]:
    """Parses flags with absl and reports mistakes in one line; prints --help and --version."""
    if {"-h", "--help"} & {*argv[1:]}:
        print(_help(main, argv[0]), end="", flush=True)
        sys.exit(0)
    if "--version" in argv[1:]:
        print(f"deepconv {metadata.version('deepconv')}", flush=True)
        sys.exit(0)
    escape_unknown_letters()
    config = None
    try:
        argv, recipe = _find_recipe(argv)
        if recipe:  # absl's errors are unclear or missing
            config = recipes.load(recipe)
            mistakes = [unknown_field(config, name) or recipes.newer_field(recipe, name) for name in _overridden(argv)]
            raise_all([mistake for mistake in mistakes if mistake])
        with siblings(recipe) if recipe else contextlib.nullcontext():
            arguments = flags.FLAGS(argv)
        forms.choose(_FORMS.value)
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.FATAL)  # orbax and TFDS log much; errors are printed here
        return arguments
    except flags.UnrecognizedFlagError as error:
        mistake = _unknown_flag(error.flagname, config)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        mistake = "\n".join(reworded(" ".join(line.split())) for line in str(error).splitlines())
    sys.exit(refuse(mistake, code=2))


def _overridden(argv: list[str]) -> list[str]:
    """Returns the names of the fields that arguments such as --config.model.depth=56 change."""
    names = [argument.lstrip("-").partition("=")[0] for argument in argv[1:] if argument.startswith("-")]
    return [name.removeprefix("config.") for name in names if name.startswith("config.")]


def _unknown_flag(name: str, config: ConfigDict | None) -> str:
    if name.startswith("config."):
        return f"--{name} changes a recipe; give one by --config=RECIPE"
    near = difflib.get_close_matches(name, flags.FLAGS, n=1)
    if config and not unknown_field(config, name):
        near = [f"config.{name}"]
    hint = f"did you mean --{near[0]}?" if near else "--help lists the flags"
    return f"--{name} is not a flag of this command; {hint}"


def escape_unknown_letters() -> None:
    """Makes standard output write characters that its encoding lacks as \\uNNNN."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _find_recipe(argv: list[str]) -> tuple[list[str], str]:
    """Replaces the name in --config=NAME or --config NAME with its file; returns the arguments and the file."""
    for place, argument in enumerate(argv):
        name, equals, value = argument.lstrip("-").partition("=")
        if name == "config" and argument.startswith("-") and (equals or place + 1 < len(argv)):
            recipe = str(recipes.find(value if equals else argv[place + 1]))
            rest = argv[place + (1 if equals else 2) :]
            if again := [other for other in rest if re.match("--?config(=|$)", other)]:
                raise ValueError(f"{again[0]} comes after {argument}; give one recipe")
            return [*argv[:place], f"--config={recipe}", *rest], recipe
    return argv, ""


def _help(main: Callable[[list[str]], int], program: str) -> str:
    """Returns the command's docstring, its own flags, the shared flags and the exit codes."""
    own = program if main.__module__ == "__main__" else main.__module__  # as absl names modules
    lines = [(sys.modules[main.__module__].__doc__ or "").strip(), ""]
    for title, module in (("Flags:", own), ("Flags of all commands:", __name__)):
        if found := flags.FLAGS.flags_by_module_dict().get(module):
            lines += [title, *(line for flag in found for line in _flag_help(flag)), ""]
    return "\n".join([*lines, EXIT_CODES])


def _flag_help(flag: flags.Flag) -> Iterator[str]:
    default = ",".join(flag.default) if isinstance(flag.default, list) else flag.default
    text = f"{flag.help} [{default}]" if default else flag.help
    yield f"  --{'[no]' * bool(flag.boolean)}{flag.name}"
    yield from textwrap.wrap(" ".join(text.split()), 110, initial_indent=" " * 6, subsequent_indent=" " * 6)


def check_file(name: str, picture: bool = False) -> None:
    """Raises ValueError if this flag names a file that cannot be written, or a picture of no known format."""
    value = flags.FLAGS[name].value
    if not value or (name == "json" and value == "-"):  # the output
        return
    file = expanded(value).absolute()
    if not file.parent.is_dir():
        raise ValueError(f"--{name}={value}: its folder does not exist; create it, or give another file")
    if file.is_dir():
        raise ValueError(f"--{name}={value} is a folder; give a file in it")
    if file.exists() and not file.is_file():
        raise ValueError(f"--{name}={value} is a device or a pipe; give a file")
    if not os.access(file.parent, os.W_OK):
        raise ValueError(f"--{name}={value}: its folder cannot be written; give another file")
    if picture and file.suffix.lower() not in PICTURES:
        raise ValueError(f"--{name}={value} must end in {', '.join(PICTURES)}")


def refuse(message: str, code: int = 1) -> int:
    """Prints an error, with "deepconv:" before each line that is not indented; returns the exit code.

    With several processes, only the first that fails prints its error.
    """
    lines = [printable(line) for line in message.splitlines()]
    for line in lines if processes.ends_first(code, "\n".join(lines)) else ():
        print(line if line.startswith(" ") else f"deepconv: {line}", file=sys.stderr)
    return code
