"""Section 4: net B and the shallow net, which has one 5x5 convolution for each pair of B's 3x3 convolutions."""

from experiments.entry import Row, Table
from experiments.vgg import SHALLOW, B

TABLE = Table(
    "Section 4. ImageNet validation, central crop: five 5x5 convolutions are worse than five pairs of 3x3",
    {"top-1 error above B's, points": "top1_error"},
    [Row("B with 5x5 convolutions", (7,), [SHALLOW], ["center"], baseline=B)],
    note="The paper's text gives 7 points, but not the initial weights of the shallow net.",
)
