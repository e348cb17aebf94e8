"""AlexNet, VGG and ResNet as in the papers; docs/python.md shows the names below in use.

A name is imported when it is first used: `import deepconv` alone loads neither JAX nor Flax.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepconv.data.synsets import label
    from deepconv.evaluation.net import load_run, scores
    from deepconv.evaluation.photographs import classify, extract_features, find_boxes
    from deepconv.models import create as create_model
    from deepconv.nets import load_net, load_recipe
    from deepconv.resume import initial_state, statistics_for
    from deepconv.task import prepare
    from deepconv.train import batches, jit_step

_PLACES = {
    "batches": "deepconv.train.batches",
    "classify": "deepconv.evaluation.photographs.classify",
    "create_model": "deepconv.models.create",
    "extract_features": "deepconv.evaluation.photographs.extract_features",
    "find_boxes": "deepconv.evaluation.photographs.find_boxes",
    "initial_state": "deepconv.resume.initial_state",
    "jit_step": "deepconv.train.jit_step",
    "label": "deepconv.data.synsets.label",
    "load_net": "deepconv.nets.load_net",
    "load_recipe": "deepconv.nets.load_recipe",
    "load_run": "deepconv.evaluation.net.load_run",
    "prepare": "deepconv.task.prepare",
    "scores": "deepconv.evaluation.net.scores",
    "statistics_for": "deepconv.resume.statistics_for",
}
__all__ = [
    "batches",
    "classify",
    "create_model",
    "extract_features",
    "find_boxes",
    "initial_state",
    "jit_step",
    "label",
    "load_net",
    "load_recipe",
    "load_run",
    "prepare",
    "scores",
    "statistics_for",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'deepconv' has no attribute {name!r}; it offers {', '.join(__all__)}")
    module, _, attribute = _PLACES[name].rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
