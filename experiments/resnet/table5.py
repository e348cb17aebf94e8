"""Table 5: ensembles on ImageNet's test set."""

from experiments.entry import QUOTED, Row, Table

SIX = "six models of different depths; the paper states only that two of them have 152 layers"
TABLE = Table(
    "Table 5. ImageNet test set, ensembles",
    {"top-5 error on the test set, %": "top5_error"},
    [
        Row("VGG (ILSVRC'14)", (7.32,), quoted=QUOTED),
        Row("GoogLeNet (ILSVRC'14)", (6.66,), quoted=QUOTED),
        Row("VGG (v5)", (6.8,), quoted=QUOTED),
        Row("PReLU-net", (4.94,), quoted=QUOTED),
        Row("BN-inception", (4.82,), quoted=QUOTED),
        Row("ResNet (ILSVRC'15)", (3.57,), needs="test server", note=SIX),
    ],
)
