"""Table 3: single nets on ImageNet, tested with ten crops."""

from experiments.entry import ERRORS, QUOTED, Row, Table
from experiments.resnet import PLAIN, SHORTCUT_A, SHORTCUT_B, SHORTCUT_C, TEN_CROP
from experiments.vgg import D_JITTERED

VGG_16 = "tested by ResNet's authors, who do not say which 16-layer net of VGG; here it is taken to be the released one"
TABLE = Table(
    "Table 3. ImageNet validation, ten crops: residual nets are better when deeper",
    ERRORS,
    [
        Row("VGG-16", (28.07, 9.33), [D_JITTERED], ["ten_crop_q256"], note=VGG_16),
        Row("GoogLeNet", (None, 9.15), quoted=QUOTED),
        Row("PReLU-net", (24.27, 7.38), quoted=QUOTED),
        Row("plain-34", (28.54, 10.02), [PLAIN[34]], [TEN_CROP]),
        Row("ResNet-34 A", (25.03, 7.76), [SHORTCUT_A[34]], [TEN_CROP]),
        Row("ResNet-34 B", (24.52, 7.46), [SHORTCUT_B[34]], [TEN_CROP]),
        Row("ResNet-34 C", (24.19, 7.40), [SHORTCUT_C[34]], [TEN_CROP]),
        Row("ResNet-50", (22.85, 6.71), [SHORTCUT_B[50]], [TEN_CROP]),
        Row("ResNet-101", (21.75, 6.05), [SHORTCUT_B[101]], [TEN_CROP]),
        Row("ResNet-152", (21.43, 5.71), [SHORTCUT_B[152]], [TEN_CROP]),
    ],
    note="A, B and C are kinds of shortcuts; the nets of 50, 101 and 152 layers have B.",
)
