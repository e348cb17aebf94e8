"""Table 11: detection on the PASCAL VOC 2012 test set, by class."""

from experiments.entry import Row, Table
from experiments.resnet.table10 import COLUMNS, SYSTEMS

SERVER = "the labels of VOC12 test are on a test server"
VGG_16 = (70.4, 84.9, 79.8, 74.3, 53.9, 49.8, 77.5, 75.9, 88.5, 45.6, 77.1)
VGG_16 += (55.3, 86.9, 81.7, 80.9, 79.6, 40.1, 72.6, 60.9, 81.2, 61.5)
RESNET_101 = (73.8, 86.5, 81.6, 77.2, 58.0, 51.0, 78.6, 76.6, 93.2, 48.6, 80.4)
RESNET_101 += (59.0, 92.1, 85.3, 84.8, 80.7, 48.1, 77.3, 66.5, 84.7, 65.6)
IMPROVED = (83.8, 92.1, 88.4, 84.8, 75.9, 71.4, 86.3, 87.8, 94.2, 66.8, 89.4)
IMPROVED += (69.2, 93.9, 91.9, 90.9, 89.6, 67.9, 88.2, 76.8, 90.3, 80.0)
TABLE = Table(
    "Table 11. PASCAL VOC 2012 test, average precision of each class",
    COLUMNS,
    [
        Row("baseline, VGG-16, 07++12", VGG_16, needs="detection", note=SERVER),
        Row("baseline, ResNet-101, 07++12", RESNET_101, needs="detection", note=SERVER),
        Row("baseline+++, ResNet-101, COCO+07++12", IMPROVED, needs="detection", note=SERVER),
    ],
    note=SYSTEMS,
)
