"""Who may import whom, by package."""

import ast
import re

from conftest import ROOT

MAY_IMPORT = {
    "ops": set(),
    "boxes": set(),
    "objective": set(),
    "state": {"ops"},
    "optim": set(),
    "processes": set(),
    "imports": set(),
    "compilation": set(),
    "distributed": {"compilation", "ops", "processes"},
    "run": {"imports", "ops", "processes", "state"},
    "config": {"run"},
    "models": {"ops"},
    "data": {"boxes", "imports", "run"},  # boxes: the convention of its annotations
    "evaluation": {"config", "data", "distributed", "models", "ops", "processes", "run", "state"},
    "weights": {"config", "data", "distributed", "models", "ops", "optim", "run", "state"},
    "task": {"config", "data", "distributed", "evaluation", "models", "optim", "state"},
    "resume": {"data", "distributed", "ops", "processes", "run", "state", "task", "weights"},
    "start": {"config", "data", "processes", "run", "task", "weights"},
    "train": {"config", "data", "distributed", "evaluation", "objective"}
    | {"ops", "optim", "processes", "resume", "run", "state", "task", "weights"},
    "cli": {"config", "ops", "processes", "run"},
}
COMMANDS = {"deepconv.main", "deepconv.predict"}  # and every __main__
ALSO_COMMANDS = {"deepconv.evaluation.ensemble", "deepconv.run.curves"}  # libraries that can be started, too
PACKAGES = ("deepconv", "experiments", "launch")


def imports(path):
    """The modules of ours that a file imports, by their whole names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] in PACKAGES}


def modules(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


def is_command(name):
    return name in COMMANDS or name.endswith(".__main__")


def test_packages_import_those_below_them():
    for name, path in modules("deepconv"):
        parts = {module.split(".")[1] for module in imports(path) if module.startswith("deepconv.")}
        part = name.split(".")[1]
        if part in MAY_IMPORT:
            allowed = MAY_IMPORT[part] | {part} | ({"cli"} if is_command(name) or name in ALSO_COMMANDS else set())
            assert parts <= allowed, f"{name} imports {parts - allowed}"


def test_commands_are_imported_by_tests_only():
    for package in PACKAGES:
        for name, path in modules(package):
            for module in imports(path):
                inside = ROOT.joinpath(*module.split("."))
                known = module if inside.exists() or inside.with_suffix(".py").exists() else module.rpartition(".")[0]
                assert not is_command(known), f"{name} imports the command {known}"


def test_the_library_knows_nothing_of_experiments_and_launchers():
    for name, path in modules("deepconv"):
        assert all(module.startswith("deepconv.") for module in imports(path)), name
    for name, path in modules("experiments"):
        assert not re.search(r"\blaunch\b", path.read_text()), f"{name} knows of launchers"


def test_configs_import_configs_only():
    for path in (ROOT / "configs").glob("*.py"):
        assert not imports(path), f"{path.name} imports the package; a recipe is data"
