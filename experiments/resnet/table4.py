"""Table 4: single nets on ImageNet, tested fully convolutionally at five scales."""

from experiments.entry import ERRORS, QUOTED, Row, Table
from experiments.resnet import FIVE_SCALES, SHORTCUT_B, SHORTCUT_C

TABLE = Table(
    "Table 4. ImageNet validation, one net, residual nets at five scales",
    ERRORS,
    [
        Row("VGG (ILSVRC'14)", (None, "8.43 (test)"), quoted=QUOTED, note="error on the test set"),
        Row("GoogLeNet (ILSVRC'14)", (None, 7.89), quoted=QUOTED),
        Row("VGG (v5)", (24.4, 7.1), quoted=QUOTED),
        Row("PReLU-net", (21.59, 5.71), quoted=QUOTED),
        Row("BN-inception", (21.99, 5.81), quoted=QUOTED),
        Row("ResNet-34 B", (21.84, 5.71), [SHORTCUT_B[34]], [FIVE_SCALES]),
        Row("ResNet-34 C", (21.53, 5.60), [SHORTCUT_C[34]], [FIVE_SCALES]),
        Row("ResNet-50", (20.74, 5.25), [SHORTCUT_B[50]], [FIVE_SCALES]),
        Row("ResNet-101", (19.87, 4.60), [SHORTCUT_B[101]], [FIVE_SCALES]),
        Row("ResNet-152", (19.38, 4.49), [SHORTCUT_B[152]], [FIVE_SCALES]),
    ],
)
