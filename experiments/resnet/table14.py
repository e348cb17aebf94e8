"""Table 14: comparison with the state of the art in localisation on ImageNet."""

from experiments.entry import QUOTED, Row, Table

TABLE = Table(
    "Table 14. ImageNet localisation, comparison with other systems",
    {
        "top-5 localisation error on the validation set, %": "top5_localisation_error",
        "top-5 localisation error on the test set, %": "test_top5_localisation_error",
    },
    [
        Row("OverFeat (ILSVRC'13)", (30.0, 29.9), quoted=QUOTED),
        Row("GoogLeNet (ILSVRC'14)", (None, 26.7), quoted=QUOTED),
        Row("VGG (ILSVRC'14)", (26.9, 25.3), quoted=QUOTED),
        Row("ResNet (ILSVRC'15)", (8.9, 9.0), needs="localisation", note="the test labels are on ILSVRC's test server"),
    ],
)
