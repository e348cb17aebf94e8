"""Table 1: the configurations of the nets."""

import functools

from experiments.counts import net
from experiments.entry import Row, Run, Table
from experiments.vgg import A_LRN, A, B, C, D, E

BLOCKS = [f"conv{number}" for number in (1, 2, 3, 4, 5)]


def layers(run: Run, block: str) -> str:
    """Returns the convolutions of a block as "k-c", for k x k pixels and c filters."""
    model, shapes = net(run)
    kernels = [layer["kernel"].shape for name, layer in shapes["params"].items() if name.startswith(block)]
    normalised = block == "conv1" and model.configuration == "A-LRN"  # LRN has no parameters
    return " ".join([*(f"{size}-{filters}" for size, *_, filters in kernels), *["LRN"] * normalised])


def fully_connected(run: Run) -> str:
    """Returns the widths of the fully connected layers."""
    return " ".join(str(layer["bias"].size) for name, layer in net(run)[1]["params"].items() if name.startswith("fc"))


def weight_layers(run: Run) -> int:
    """Returns the number of layers with weights."""
    return len(net(run)[1]["params"])


TWO_TO_A = ("3-128", "3-256 3-256", "3-512 3-512", "3-512 3-512")
HEAD = "4096 4096 1000"
TABLE = Table(
    "Table 1. The nets: convolutions of k pixels and c filters as k-c; pooling after each block",
    {"weight layers": "weight_layers"} | {f"block {block[-1]}": block for block in BLOCKS} | {"fully connected": "fc"},
    [
        Row("A", (11, "3-64", *TWO_TO_A, HEAD), [A]),
        Row("A-LRN", (11, "3-64 LRN", *TWO_TO_A, HEAD), [A_LRN]),
        Row("B", (13, "3-64 3-64", "3-128 3-128", *TWO_TO_A[1:], HEAD), [B]),
        Row(
            "C",
            (16, "3-64 3-64", "3-128 3-128", "3-256 3-256 1-256", "3-512 3-512 1-512", "3-512 3-512 1-512", HEAD),
            [C],
        ),
        Row(
            "D",
            (16, "3-64 3-64", "3-128 3-128", "3-256 3-256 3-256", "3-512 3-512 3-512", "3-512 3-512 3-512", HEAD),
            [D],
        ),
        Row(
            "E",
            (19, "3-64 3-64", "3-128 3-128", *("3-256 3-256 3-256 3-256", *["3-512 3-512 3-512 3-512"] * 2), HEAD),
            [E],
        ),
    ],
    counts={block: functools.partial(layers, block=block) for block in BLOCKS}
    | {"weight_layers": weight_layers, "fc": fully_connected},
    note="Numbers are counted from the models.",
)
