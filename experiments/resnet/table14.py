"""Table 14: comparison with the state of the art in localisation on ImageNet."""

from dataclasses import replace

from experiments.entry import EVERY_IMAGE, QUOTED, WITHHELD, Row, Table
from experiments.resnet.table13 import ENSEMBLE, MEMBERS, TOP5

TABLE = Table(
    "Table 14. ImageNet localisation, comparison with other systems",
    {
        "top-5 localisation error on the validation set, %": TOP5,
        "top-5 localisation error on the test set, %": WITHHELD,
    },
    [
        Row("OverFeat (ILSVRC'13)", (30.0, 29.9), quoted=QUOTED),
        Row("GoogLeNet (ILSVRC'14)", (None, 26.7), quoted=QUOTED),
        Row("VGG (ILSVRC'14)", (26.9, 25.3), quoted=QUOTED),
        Row("ResNet (ILSVRC'15)", (8.9, 9.0), commands=[replace(ENSEMBLE, values={TOP5: TOP5})], note=MEMBERS),
    ],
    note=EVERY_IMAGE,
)
