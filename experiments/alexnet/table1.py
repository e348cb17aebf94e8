"""Table 1: results on the test set of ILSVRC-2010."""

from experiments.alexnet import CODE_2010, TEXT_2010
from experiments.entry import ERRORS, QUOTED, Row, Table

TABLE = Table(
    "Table 1. ILSVRC-2010, test set",
    ERRORS,
    [
        Row("sparse coding, mean of six", (47.1, 28.2), quoted=QUOTED),
        Row("SIFT and Fisher vectors, mean of two", (45.7, 25.7), quoted=QUOTED),
        Row("CNN, ten crops", (37.5, 17.0), [TEXT_2010], ["ten_crop"]),
        Row("CNN of the authors' code, ten crops", (37.5, 17.0), [CODE_2010], ["ten_crop"]),
        Row("CNN, central crop (footnote 5)", (39.0, 18.3), [TEXT_2010]),
        Row("CNN of the authors' code, central crop", (39.0, 18.3), [CODE_2010]),
    ],
    note="The net of the paper's text (configs/alexnet.py) differs from that of the authors' code, which gave the "
    "paper's numbers (configs/alexnet_code.py).",
)
