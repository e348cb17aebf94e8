"""Table 7: the baseline Faster R-CNN on PASCAL VOC."""

from experiments.entry import Row, Table

SERVER = "the labels of VOC12 test are on a test server"
TABLE = Table(
    "Table 7. PASCAL VOC, baseline Faster R-CNN: ResNet-101 detects better than VGG-16",
    {
        "mAP on VOC07 test, trained on 07+12, %": "voc07_mean_average_precision",
        "mAP on VOC12 test, trained on 07++12, %": "voc12_mean_average_precision",
    },
    [
        Row("VGG-16", (73.2, 70.4), needs="detection", note=SERVER),
        Row("ResNet-101", (76.4, 73.8), needs="detection", note=SERVER),
    ],
    note="07+12 is the trainval splits of VOC07 and VOC12; 07++12 adds the test split of VOC07.",
)
