"""Table 1: the nets for ImageNet."""

import functools

from experiments.counts import multiply_adds, net
from experiments.entry import Row, Run, Table
from experiments.resnet import SHORTCUT_A, SHORTCUT_B

STAGES = {f"conv{number}_x": f"conv{number}" for number in (2, 3, 4, 5)}


def conv1(run: Run) -> str:
    """Returns the first convolution as "k-c", for k x k pixels and c filters."""
    size, *_, filters = net(run)[1]["params"]["conv1"]["kernel"].shape
    return f"{size}-{filters}"


def stage(run: Run, name: str) -> str:
    """Returns the convolutions of a block and the number of blocks, "[3-64, 3-64] x2"."""
    parameters = net(run)[1]["params"]
    blocks = [layers for block, layers in parameters.items() if block.startswith(f"{name}_")]
    kernels = [layers["kernel"].shape for name, layers in sorted(blocks[0].items()) if name.startswith("conv")]
    return f"[{', '.join(f'{size}-{filters}' for size, *_, filters in kernels)}] x{len(blocks)}"


TABLE = Table(
    "Table 1. The nets for ImageNet: convolutions of k pixels and c filters as k-c",
    {"conv1": "conv1"} | {name: name for name in STAGES} | {"multiply-adds, 1e9": "multiply_adds"},
    [
        Row(
            "18 layers",
            ("7-64", "[3-64, 3-64] x2", "[3-128, 3-128] x2", "[3-256, 3-256] x2", "[3-512, 3-512] x2", 1.8),
            [SHORTCUT_A[18]],
        ),
        Row(
            "34 layers",
            ("7-64", "[3-64, 3-64] x3", "[3-128, 3-128] x4", "[3-256, 3-256] x6", "[3-512, 3-512] x3", 3.6),
            [SHORTCUT_A[34]],
        ),
        *(
            Row(
                f"{depth} layers",
                (
                    "7-64",
                    "[1-64, 3-64, 1-256] x3",
                    f"[1-128, 3-128, 1-512] x{conv3}",
                    f"[1-256, 3-256, 1-1024] x{conv4}",
                    "[1-512, 3-512, 1-2048] x3",
                    multiply_adds_1e9,
                ),
                [SHORTCUT_B[depth]],
            )
            for depth, conv3, conv4, multiply_adds_1e9 in ((50, 4, 6, 3.8), (101, 4, 23, 7.6), (152, 8, 36, 11.3))
        ),
    ],
    counts={"conv1": conv1, "multiply_adds": multiply_adds}
    | {name: functools.partial(stage, name=short) for name, short in STAGES.items()},
    note="Numbers are counted from the models. Counted like its other values, the paper's 3.8 would be 3.86.",
)
