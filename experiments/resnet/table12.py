"""Table 12: detection of ImageNet's 200 classes (DET)."""

from experiments.entry import QUOTED, Row, Table

SERVER = "the labels of DET test are on a test server"
TABLE = Table(
    "Table 12. ImageNet detection (DET)",
    {
        "mAP@.5 on val2, %": "val2_mean_average_precision_50",
        "mAP@.5 on test, %": "test_mean_average_precision_50",
    },
    [
        Row("GoogLeNet (ILSVRC'14)", (None, 43.9), quoted=QUOTED),
        Row("single model, ResNet-101", (60.5, 58.8), needs="detection", note=SERVER),
        Row("ensemble, 3 models", (63.6, 62.1), needs="detection", note=SERVER),
    ],
)
