"""List the commands and the recipes: python -m deepconv"""

import ast
import sys
from pathlib import Path

COMMANDS = {
    "deepconv.main": "train a recipe, then test it",
    "deepconv.predict": "classify photographs; extract the features of a layer",
    "deepconv.weights": "import and export weights",
    "deepconv.data.prepare": "prepare data sets and their statistics",
    "deepconv.benchmark": "measure the speed of a recipe",
    "deepconv.evaluation.ensemble": "average saved probabilities",
    "deepconv.run.curves": "draw a run's curves again",
    "experiments": "show or run the papers' tables and figures",
    "experiments.scale": "estimate hours and cost of every table on many GPUs",
    "launch.local": "train the missing runs of tables, or the runs of a grid, on this machine",
    "launch.slurm": "submit such runs to a cluster with Slurm",
    "launch.k8s": "print such runs as jobs for Kubernetes",
    "launch.status": "show the state of each run",
}


def main() -> int:
    """Prints the commands with their purposes, then the recipes in ./configs with their docstrings' first lines."""
    print("Commands (each has --help):\n")
    for name, purpose in COMMANDS.items():
        print(f"  python -m {name:<30}{purpose}")
    recipes = sorted(Path("configs").glob("*.py"))
    print(f"\n{'Recipes in configs/:' if recipes else 'There is no folder configs/ here; the repository has one.'}\n")
    for file in recipes:
        docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
        print(f"  {file.stem:<22}{docstring.partition(chr(10))[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
