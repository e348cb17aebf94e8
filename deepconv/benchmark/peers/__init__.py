"""Training steps and tests of the same nets in deepconv and in other libraries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

# recipe: images of a training step on a CPU; a GPU takes the recipe's batch in training and in tests
NETS = {"alexnet": 16, "vgg16": 16, "resnet50": 16, "resnet152": 16, "resnet_cifar": 128}
INFERENCE_BATCH = 64  # on a CPU
BOTTLENECKS = {
    "resnet50": ((64, 3), (128, 4), (256, 6), (512, 3)),
    "resnet152": ((64, 3), (128, 8), (256, 36), (512, 3)),
}
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
    batch: int  # images of a step
    platform: str = "cpu"  # or "gpu"
    forms: Sequence[str] = ()  # of deepconv's operations, as --forms has them

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
    device_bytes: Callable[[], int]  # the GPU memory used so far, at most; 0 on a CPU
