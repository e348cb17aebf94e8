"""Training steps and tests of the same nets in deepconv and in other libraries, on a CPU."""

from collections.abc import Callable
from dataclasses import dataclass

NETS = {"alexnet": 16, "vgg16": 16, "resnet50": 16, "resnet_cifar": 128}  # recipe: images of a training step
INFERENCE_BATCH = 64
PIXELS = {"resnet_cifar": 32}  # of a side, if not 224
CLASSES = 10
MODES = ("train", "inference")
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Job:
    """The work of one process: steps of a net in one library."""

    peer: str
    net: str  # a recipe's name
    mode: str  # "train" or "inference"
    dtype: str  # of activations; parameters are float32

    @property
    def batch(self) -> int:
        """The images of a step."""
        return NETS[self.net] if self.mode == "train" else INFERENCE_BATCH

    @property
    def pixels(self) -> int:
        """The side of the images."""
        return PIXELS.get(self.net, 224)


@dataclass(frozen=True)
class Steps:
    """A net ready to run."""

    step: Callable[[], object]  # may only queue the step
    finish: Callable[[], object]  # waits for queued steps
    parameters: int  # equal in all libraries, or their work differs
