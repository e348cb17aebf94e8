"""The commands and the recipes: python -m deepconv"""

import ast
import sys
from pathlib import Path

COMMANDS = {
    "deepconv.main": "train a recipe, then test it",
    "deepconv.predict": "name what is on photographs; features of a layer",
    "deepconv.weights": "import and export weights",
    "deepconv.data.prepare": "put data sets on disk; their statistics",
    "deepconv.benchmark": "how fast a recipe runs here",
    "deepconv.evaluation.ensemble": "mean of saved probabilities",
    "deepconv.run.curves": "draw a run's curves again",
    "experiments": "every table and figure of the papers",
    "launch.local": "the missing runs of tables, one after the other",
}


def main() -> int:
    """Print each command with what it does, then the recipes in ./configs with the first line of their docstrings."""
    print("Commands; each answers --help:\n")
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
