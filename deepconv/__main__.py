"""Lists the commands and the recipes, or runs a command: python -m deepconv [NAME ...], or deepconv [NAME ...]

`deepconv predict` is `python -m deepconv.predict`. `deepconv experiments` is `python -m experiments` in a checkout, and
works from an installed wheel, too.
"""

import ast
import difflib
import runpy
import signal
import sys
from collections.abc import Sequence
from importlib import metadata

from deepconv import repository

COMMANDS = {
    "deepconv.main": "train a recipe, then test it",
    "deepconv.evaluate": "test a run that is trained, or the weights in a file",
    "deepconv.config": "print a recipe with its changes, its layers and its schedule",
    "deepconv.predict": "classify photographs; extract the features of a layer",
    "deepconv.weights": "import and export weights",
    "deepconv.data.prepare": "prepare data sets and their statistics",
    "deepconv.benchmark": "measure the speed of a recipe",
    "deepconv.evaluation.ensemble": "average saved probabilities",
    "deepconv.localization": "test localisation nets with predicted classes",
    "deepconv.transfer": "measure a net's features on other data sets",
    "deepconv.runs": "list runs with state, step and test error",
    "deepconv.curves": "draw the curves of a run, or of several in one plot",
    "experiments": "show or run the papers' tables and figures",
    "experiments.scale": "estimate hours and cost of every table on many GPUs",
    "launch.local": "train the missing runs of tables, or the runs of a grid, on this machine",
    "launch.slurm": "submit such runs to a cluster with Slurm",
    "launch.k8s": "print such runs as jobs for Kubernetes",
    "launch.status": "show the state of each run",
}
UNLISTED = ("experiments.responses",)  # for one figure only


def main() -> int:
    """Lists the commands and recipes, or runs the command that the arguments name; returns the exit code."""
    name, *arguments = sys.argv[1:] or [""]
    if name in ("", "-h", "--help"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `... | head` ends the list silently
        print_list()
        return 0
    if name == "--version":
        print(f"deepconv {metadata.version('deepconv')}")
        return 0
    known = {module.removeprefix("deepconv."): module for module in (*COMMANDS, *UNLISTED)} | {"train": "deepconv.main"}
    module = known.get(name.removeprefix("deepconv."))
    if module is None:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "python -m deepconv lists the commands"
        print(f"deepconv: {name!r} is not a command; {hint}", file=sys.stderr)
        return 2
    run(module, arguments)
    return 0


def run(module: str, arguments: Sequence[str]) -> None:
    """Runs a module as `python -m` does; experiments and launch are found in the repository's folders."""
    if not module.startswith("deepconv."):
        sys.path.insert(0, str(repository.root()))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def print_list() -> None:
    """Prints the commands with their purposes, then the recipes with their docstrings' first lines."""
    from deepconv.config import recipes  # slower to import than the rest, and a command has to handle signals soon

    print("Commands: deepconv NAME, or python -m deepconv NAME (each has --help)\n")
    for module, purpose in COMMANDS.items():
        print(f"  {module.removeprefix('deepconv.'):<22}{purpose}")
    print("\nRecipes: --config=NAME\n")
    for name, file in sorted(recipes.available().items()):
        docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
        print(f"  {name:<24}{docstring.partition(chr(10))[0]}")


if __name__ == "__main__":
    sys.exit(main())
