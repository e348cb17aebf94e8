"""Who may import whom, by package."""

import ast
import re

from conftest import ROOT

MAY_IMPORT = {
    "ops": set(),
    "boxes": set(),
    "objective": {"boxes", "ops"},
    "state": {"ops"},
    "optim": set(),
    "processes": set(),
    "imports": set(),
    "compilation": set(),
    "repository": set(),
    "malloc": set(),
    "distributed": {"compilation", "ops", "processes"},
    "run": {"imports", "ops", "processes", "repository", "state"},
    "config": {"repository", "run"},
    "models": {"ops"},
    "data": {"boxes", "imports", "run"},  # boxes: the convention of its annotations
    "evaluation": {"boxes", "config", "data", "distributed", "models", "objective", "ops", "processes", "run", "state"},
    "localization": {"boxes", "config", "data", "distributed", "evaluation", "objective", "ops", "processes", "run"}
    | {"state"},
    "transfer": {"boxes", "config", "data", "evaluation", "models", "ops", "run", "state"},
    "weights": {"config", "data", "distributed", "models", "ops", "optim", "run", "state"},
    "nets": {"config", "data", "distributed", "evaluation", "run", "weights"},
    "checks": {"config", "data", "models", "state"},
    "task": {"checks", "config", "data", "distributed", "evaluation", "models", "objective", "optim", "state"},
    "progress": {"config", "run"},
    "curves": {"config", "run"},
    "resume": {"data", "distributed", "ops", "processes", "run", "state", "task", "weights"},
    "start": {"config", "data", "processes", "run", "task", "weights"},
    "description": {"config", "ops", "optim", "state"},
    "report": {"data", "description", "ops", "run", "task"},
    "dry_run": {"processes", "resume", "task", "train", "weights"},
    "tester": {"config", "data", "evaluation", "processes", "run", "state", "task"},
    "step_log": {"malloc", "run", "task"},
    "train": {"config", "data", "distributed", "objective", "ops", "optim", "processes", "resume", "run", "state"}
    | {"step_log", "task", "tester", "weights"},
    "cli": {"config", "malloc", "ops", "processes", "run"},
    "settings": {"cli", "config", "data", "distributed", "evaluation", "localization", "processes", "run", "start"}
    | {"task"},
    "train_and_test": {"cli", "config", "curves", "distributed", "dry_run", "evaluation", "report"}
    | {"processes", "resume", "run", "settings", "state", "task", "train"},
}
COMMAND_MAY_IMPORT = {"deepconv.config.__main__": {"cli", "data", "description", "task"}}  # and what its package may
COMMANDS = {"deepconv.main", "deepconv.evaluate", "deepconv.predict", "deepconv.runs", "deepconv.evaluation.ensemble"}
ALSO_COMMANDS = {"deepconv.curves"}  # libraries that can be started, too
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
            allowed = MAY_IMPORT[part] | {part} | COMMAND_MAY_IMPORT.get(name, set())
            allowed |= {"cli", "config"} if is_command(name) or name in ALSO_COMMANDS else set()
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
