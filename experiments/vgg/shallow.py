"""Section 4: net B against the shallow net, each pair of whose 3x3 convolutions is one of 5x5."""

from experiments.entry import Row, Table
from experiments.vgg import SHALLOW, B

TABLE = Table(
    "Section 4. ImageNet validation, centre crop: five 5x5 convolutions are worse than five pairs of 3x3",
    {"top-1 error above B's, points": "top1_error"},
    [Row("B with 5x5 convolutions", (7.0,), [SHALLOW], ["center"], baseline=B)],
    note="The paper's text has 7 points; it does not say how the weights of the shallow net began.",
)
