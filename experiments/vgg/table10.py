"""Table 10: comparison with the state of the art in ILSVRC localisation."""

from experiments.entry import EVERY_IMAGE, QUOTED, WITHHELD, Row, Table
from experiments.vgg.table9 import FUSION, TOP5

TABLE = Table(
    "Table 10. ILSVRC localisation, comparison with other systems",
    {"top-5 localisation error, %": TOP5, "top-5 localisation error on the test set, %": WITHHELD},
    [
        Row("VGG", (26.9, 25.3), commands=[FUSION], note="the fusion of Table 9"),
        Row("GoogLeNet", (None, 26.7), quoted=QUOTED),
        Row("OverFeat", (30.0, 29.9), quoted=QUOTED),
        Row("Krizhevsky et al.", (None, 34.2), quoted=QUOTED),
    ],
    note=EVERY_IMAGE,
)
