"""Table 13: localisation on ImageNet, step by step."""

from experiments.entry import QUOTED, Row, Table

TABLE = Table(
    "Table 13. ImageNet validation, localisation",
    {
        "localisation error with the true class, %": "true_class_localisation_error",
        "top-5 localisation error with predicted classes, %": "top5_localisation_error",
    },
    [
        Row("VGG's method, VGG-16, 1-crop", (33.1, None), quoted=QUOTED),
        Row("RPN, ResNet-101, 1-crop", (13.3, None), needs="localisation"),
        Row("RPN, ResNet-101, dense", (11.7, None), needs="localisation"),
        Row("RPN, ResNet-101, dense, classified by ResNet-101", (None, 14.4), needs="localisation"),
        Row("RPN + RCNN, ResNet-101, dense, classified by ResNet-101", (None, 10.6), needs="localisation"),
        Row("RPN + RCNN, ensemble, dense, classified by ensemble", (None, 8.9), needs="localisation"),
    ],
    note="1-crop is the central crop of 224x224 pixels; dense is fully convolutional at several scales.",
)
