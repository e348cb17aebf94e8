"""Table 11: features of the nets, without fine-tuning, and a linear SVM on other data sets."""

from experiments.entry import QUOTED, Row, Table

TABLE = Table(
    "Table 11. Image classification on other data sets: features and a linear support vector machine",
    {
        "VOC-2007, mean average precision, %": "voc2007_mean_average_precision",
        "VOC-2012, mean average precision, %": "voc2012_mean_average_precision",
        "Caltech-101, mean class recall, %": "caltech101_mean_class_recall",
        "Caltech-256, mean class recall, %": "caltech256_mean_class_recall",
    },
    [
        Row("Zeiler & Fergus", (None, 79.0, "86.5 ± 0.5", "74.2 ± 0.3"), quoted=QUOTED),
        Row("Chatfield et al.", (82.4, 83.2, "88.4 ± 0.6", "77.6 ± 0.1"), quoted=QUOTED),
        Row("He et al.", (82.4, None, "93.4 ± 0.5", None), quoted=QUOTED),
        Row(
            "Wei et al.",
            ("81.5 (85.2*)", "81.7 (90.3*)", None, None),
            quoted=QUOTED,
            note="* with training on an extended ILSVRC set of 2000 classes",
        ),
        Row("VGG, D", (89.3, 89.0, "91.8 ± 1.0", "85.0 ± 0.2"), needs="transfer"),
        Row("VGG, E", (89.3, 89.0, "92.3 ± 0.5", "85.1 ± 0.3"), needs="transfer"),
        Row(
            "VGG, D and E",
            (89.7, 89.3, "92.7 ± 0.5", "86.2 ± 0.3"),
            needs="transfer",
            note="the features of both nets are stacked",
        ),
    ],
    note="VOC-2012 also needs its test server; ± is the standard deviation over three random splits.",
)
