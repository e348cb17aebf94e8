"""Table 9: improvements of Faster R-CNN on COCO."""

from experiments.entry import Row, Table

SERVER = "the labels of COCO test-dev are on a test server"
TABLE = Table(
    "Table 9. COCO, improvements of Faster R-CNN with ResNet-101",
    {
        "mAP@.5 on val, trained on train, %": "val_mean_average_precision_50",
        "mAP@[.5,.95] on val, trained on train, %": "val_mean_average_precision_50_95",
        "mAP@.5 on test-dev, trained on trainval, %": "test_dev_mean_average_precision_50",
        "mAP@[.5,.95] on test-dev, trained on trainval, %": "test_dev_mean_average_precision_50_95",
    },
    [
        Row("baseline, VGG-16", (41.5, 21.2, None, None), needs="detection"),
        Row("baseline, ResNet-101", (48.4, 27.2, None, None), needs="detection"),
        Row("+ box refinement", (49.9, 29.9, None, None), needs="detection"),
        Row("+ context", (51.1, 30.0, 53.3, 32.2), needs="detection", note=SERVER),
        Row("+ multi-scale testing", (53.8, 32.5, 55.7, 34.9), needs="detection", note=SERVER),
        Row("ensemble, 3 networks", (None, None, 59.0, 37.4), needs="detection", note=SERVER),
    ],
    note="Each row with + is ResNet-101 with one more improvement than the row above.",
)
