"""Table 2: plain and residual nets of 18 and 34 layers on ImageNet."""

from experiments.entry import Row, Table
from experiments.resnet import PLAIN, SHORTCUT_A, TEN_CROP

TABLE = Table(
    "Table 2. ImageNet validation, ten crops: plain nets are worse when deeper, residual nets better",
    {"top-1 error, %": "top1_error"},
    [
        Row("plain-18", (27.94,), [PLAIN[18]], [TEN_CROP]),
        Row("plain-34", (28.54,), [PLAIN[34]], [TEN_CROP]),
        Row("ResNet-18", (27.88,), [SHORTCUT_A[18]], [TEN_CROP]),
        Row("ResNet-34", (25.03,), [SHORTCUT_A[34]], [TEN_CROP]),
    ],
)
