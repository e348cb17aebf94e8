"""Shared parts of the commands: the flags of a run, help, one-line error messages and exit codes."""

import contextlib
import ctypes
import io
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any, NoReturn

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from deepconv import processes
from deepconv.config import recipes
from deepconv.config.fields import check_fields
from deepconv.ops import forms
from deepconv.run import preemption
from deepconv.run.directory import printable

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
_FORMS = flags.DEFINE_list(
    "forms", [], "Forms of operations, such as blocks:plain, to compare speeds; see deepconv/ops/forms.py."
)
MALLOC = (  # options of malloc.h, and their values
    (-8, 1),  # M_ARENA_MAX: one arena
    (-4, 0),  # M_MMAP_MAX: large blocks lie in it, too
    (-1, -1),  # M_TRIM_THRESHOLD: it never shrinks
)
ABOUT_GRAPHS = "deepconv: if this GPU cannot record convolutions in a CUDA graph, --forms=graphs:plain leaves them out"
EXIT_CODES = """Exit codes of all commands:
  0   done
  1   failed during work
  2   refused before work: flags, the config, data, or a directory that is in use or holds a run of another config
  75  stopped by SIGTERM, SIGUSR1 or Ctrl-C; repeat the command to continue
  134 another process of the same run was lost, for example killed; repeat the command to continue
"""


def run(main: Callable[[list[str]], int], in_several: bool = False) -> NoReturn:
    """Parses the flags, runs a command and ends the process with its exit code.

    Under Slurm's `srun` with several tasks, a command that cannot run in several processes is refused.
    """
    _keep_freed_memory()
    sys.unraisablehook = _print_unraisable
    arguments = parse(sys.argv, main)
    try:
        allowed = in_several or not processes.slurm_address()
        code = main(arguments) if allowed else refuse("this command runs in one process; use srun --ntasks=1", code=2)
    except Exception as error:
        if processes.lost_another(error):
            code = refuse(f"another process {processes.LOST_MESSAGE}", processes.LOST)
        else:  # a bug, or a failure of JAX
            traceback.print_exc()
            if _is_graph_error(error):
                print(ABOUT_GRAPHS, file=sys.stderr)
            code = refuse(f"{type(error).__name__}: {error}") if processes.several() else 1
    sys.stdout.flush()
    sys.stderr.flush()
    preemption.leave(code, collective=code == 0)


def _is_graph_error(error: Exception) -> bool:
    """Returns whether an error's words suggest that the GPU cannot record a CUDA graph."""
    words = "cuda graph", "gpu graph", "command buffer", "stream capture"
    return any(word in str(error).lower() for word in words) and forms.platform() == "gpu"


def _print_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Prints an exception that Python cannot raise, except two kinds that are reported elsewhere in one line.

    They are errors of tensorstore's threads after a failed save, and a signal that comes while Grain frees memory,
    which `preemption.check` finds before the next step.
    """
    closed_loop = str(unraisable.exc_value) == "Event loop is closed"
    if not closed_loop and not isinstance(unraisable.exc_value, preemption.Preempted):
        sys.__unraisablehook__(unraisable)


def _keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next step.

    By default, it gives the memory of a step back, and the page faults of the next step cost a quarter of its time on a
    CPU. Arenas other than the first would still give memory back, hence the limit to one. By default, there are eight
    arenas per core, in which the threads that orbax starts for each checkpoint would keep 0.3 MB more each time.
    """
    with contextlib.suppress(AttributeError):  # not glibc
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in MALLOC:
            mallopt(option, value)


def load_config(
    arguments: list[str],
    init_from: str | None = None,
    change: Callable[[ConfigDict, str], dict[str, Any]] = lambda config, name: {},
    init_layers: Sequence[str] = (),
) -> tuple[ConfigDict, str]:
    """Returns the config that the flags describe, and its run's name. Raises ValueError.

    change(config, name) returns new values of fields; flags take precedence over them.
    """
    if len(arguments) > 1:
        raise ValueError(f"unknown argument {arguments[1]!r}; flags are written --name=value")
    flag, smoke = flags.FLAGS["config"], _SMOKE.value
    if not flag.present:
        raise ValueError("--config is missing; try --config=configs/quickstart.py")
    path, overrides = config_flags.get_config_filename(flag), dict(config_flags.get_override_values(flag))
    name = recipes.run_name(path, overrides, smoke, init_from, init_layers)
    overrides = change(recipes.load(path, overrides, smoke), name) | overrides
    config = recipes.load(path, overrides, smoke)
    check_fields(config)
    return config, name


def parse(argv: list[str], main: Callable[[list[str]], int]) -> list[str]:
    """Parses flags with absl and reports mistakes in one line; prints --help and --version."""
    if {"-h", "--help"} & {*argv[1:]}:
        print(_help(main, argv[0]), end="", flush=True)
        sys.exit(0)
    if "--version" in argv[1:]:
        print(f"deepconv {metadata.version('deepconv')}", flush=True)
        sys.exit(0)
    escape_unknown_letters()
    try:
        argv, recipe = _find_recipe(argv)
        if recipe:
            recipes.load(recipe)  # raises clear errors, where absl's are unclear or missing
        with recipes.siblings(recipe or "."):
            arguments = flags.FLAGS(argv)
        forms.choose(_FORMS.value)
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.FATAL)  # orbax and TFDS log much; errors are printed here
        return arguments
    except AttributeError as error:
        mistake = str(error)
        if error.args and isinstance(error.args[0], KeyError):  # ml_collections wraps its message
            mistake = f"the config has no field {error.args[0].args[0]}"
    except KeyError as error:
        mistake = f"the config has no field {error.args[0].split()[-1]}"  # such as optimizer.momentum.x
    except (flags.Error, TypeError, ValueError) as error:
        mistake = str(error)
    sys.exit(refuse(" ".join(mistake.split()), code=2))


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
            return [*argv[:place], f"--config={recipe}", *argv[place + (1 if equals else 2) :]], recipe
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


def refuse(message: str, code: int = 1) -> int:
    """Prints an error, with "deepconv:" before each line that is not indented; returns the exit code.

    With several processes, only the first that fails prints its error.
    """
    lines = [printable(line) for line in message.splitlines()]
    for line in lines if processes.ends_first(code, "\n".join(lines)) else ():
        print(line if line.startswith(" ") else f"deepconv: {line}", file=sys.stderr)
    return code
