"""Who may import whom; the picture of the project's parts."""

import ast

from conftest import ROOT

LAYERS = {
    "preemption": set(),
    "sharding": set(),
    "metrics": set(),
    "state": set(),
    "conventions": {"data.statistics"},
    "optim": set(),
    "config": {"runlog"},
    "runlog": set(),
    "curves": {"cli", "preemption", "runlog"},
    "checkpoint": {"runlog", "state"},
    "data.statistics": set(),
    "data.shapes": set(),
    "data.decode": set(),
    "data.augment": {"data.statistics"},
    "data.sources": {"runlog", "data.decode", "data.shapes"},
    "data.pipeline": {"preemption", "data.decode", "data.sources"},
    "data.writer": {"runlog"},
    "data.archives": {"data.decode", "data.sources", "data.writer"},
    "data.prepare": {
        "cli",
        "runlog",
        "data.archives",
        "data.decode",
        "data.pipeline",
        "data.sources",
        "data.statistics",
    }
    | {"preemption", "data.writer"},
    "models.layers": set(),
    "models.alexnet": {"models.layers"},
    "models.vgg": {"models.layers"},
    "models.resnet": {"models.layers"},
    "models": {"models.alexnet", "models.resnet", "models.vgg"},
    "protocols": set(),
    "evaluate": {"metrics", "models.layers", "preemption", "protocols", "runlog", "sharding", "state"}
    | {"data.statistics", "data.augment", "data.decode", "data.pipeline", "data.sources"},
    "ensemble": {"cli", "evaluate", "metrics", "preemption", "runlog"},
    "features": {"evaluate", "protocols", "runlog", "sharding", "state", "data.augment", "data.sources"},
    "predict": {"checkpoint", "cli", "evaluate", "features", "models", "preemption", "protocols", "sharding", "state"}
    | {"config", "runlog", "weights", "data.decode", "data.sources", "data.statistics"},
    "batch_stats": {"models.layers", "preemption", "runlog", "sharding", "state", "train"}
    | {"data.augment", "data.pipeline", "data.statistics"},
    "train": {"checkpoint", "config", "evaluate", "metrics", "models", "optim", "preemption", "protocols", "runlog"}
    | {
        "sharding",
        "state",
        "weights",
        "data.augment",
        "data.decode",
        "data.pipeline",
        "data.sources",
        "data.statistics",
    },
    "cli": {"config", "preemption", "runlog"},
    "weights": {
        "checkpoint",
        "cli",
        "config",
        "conventions",
        "models",
        "models.alexnet",
        "models.resnet",
        "models.vgg",
        "optim",
    }
    | {"preemption", "runlog", "sharding", "state", "data.sources", "data.statistics"},
    "main": {"batch_stats", "checkpoint", "cli", "config", "curves", "evaluate", "preemption", "protocols", "runlog"}
    | {"conventions", "data.sources", "data.statistics", "train", "weights"},
    "responses": {"cli", "evaluate", "features", "predict", "preemption", "protocols", "runlog", "state"}
    | {"data.augment", "data.sources", "models.layers"},
    "tables": {"config"},
    "jobs": {"preemption", "tables"},
    "counts": {"models", "state", "tables", "weights"},
    "results": {"config", "ensemble", "evaluate", "metrics", "runlog", "tables"},
    "benchmark": {"cli", "evaluate", "preemption", "protocols", "runlog", "sharding", "train"}
    | {"data.decode", "data.pipeline", "data.sources"},
}


def imports(path):
    """Modules of ours that a file imports, as deepconv-relative names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "deepconv":
            base = node.module.split(".")[1:]
            for alias in node.names:
                as_module = ROOT.joinpath("deepconv", *base, alias.name)
                is_module = as_module.with_suffix(".py").exists() or as_module.is_dir()
                found.add(".".join([*base, alias.name] if is_module else base))
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("deepconv.") for alias in node.names if alias.name.startswith("deepconv.")
            }
    return found


def test_imports_are_the_picture():
    actual = {}
    for path in (ROOT / "deepconv").rglob("*.py"):
        parts = path.relative_to(ROOT / "deepconv").with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name not in ("", "data"):
            actual[name] = imports(path)
    assert actual == LAYERS


def test_configs_import_configs_only():
    for path in (ROOT / "configs").glob("*.py"):
        assert not imports(path), f"{path.name} imports the package; a recipe is data"


def test_launchers_are_above_entries():
    for path in (ROOT / "experiments").rglob("*.py"):
        assert "launch" not in path.read_text(), f"{path} knows of launchers"
