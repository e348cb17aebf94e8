"""Table 8: the baseline Faster R-CNN on COCO."""

from experiments.entry import Row, Table

TABLE = Table(
    "Table 8. COCO validation, baseline Faster R-CNN: ResNet-101 detects better than VGG-16",
    {"mAP@.5, %": "mean_average_precision_50", "mAP@[.5,.95], %": "mean_average_precision_50_95"},
    [
        Row("VGG-16", (41.5, 21.2), needs="detection"),
        Row("ResNet-101", (48.4, 27.2), needs="detection"),
    ],
    note="The nets are trained on the 80,000 images of COCO train.",
)
