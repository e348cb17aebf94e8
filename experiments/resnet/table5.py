"""Table 5: several nets together on ImageNet's test set."""

from experiments.entry import QUOTED, Row, Table

SIX = "six models of different depths, only two of 152 layers, the others not named"
TABLE = Table(
    "Table 5. ImageNet test set, several nets",
    {"top-5 error of the test set, %": "top5_error"},
    [
        Row("VGG (ILSVRC'14)", (7.32,), quoted=QUOTED),
        Row("GoogLeNet (ILSVRC'14)", (6.66,), quoted=QUOTED),
        Row("VGG (v5)", (6.8,), quoted=QUOTED),
        Row("PReLU-net", (4.94,), quoted=QUOTED),
        Row("BN-inception", (4.82,), quoted=QUOTED),
        Row("ResNet (ILSVRC'15)", (3.57,), needs="test server", note=SIX),
    ],
)
