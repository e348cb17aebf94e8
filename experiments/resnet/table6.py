"""Table 6: classification error on the CIFAR-10 test set, all with data augmentation."""

from experiments.counts import parameters
from experiments.entry import QUOTED, Row, Table
from experiments.resnet import CIFAR, FIVE_110

TABLE = Table(
    "Table 6. CIFAR-10: deeper residual nets are better, up to 110 layers",
    {"parameters, millions": "parameters", "test error, %": "top1_error"},
    [
        Row("Maxout", (None, 9.38), quoted=QUOTED),
        Row("NIN", (None, 8.81), quoted=QUOTED),
        Row("DSN", (None, 8.22), quoted=QUOTED),
        Row("FitNet, 19 layers", (2.5, 8.39), quoted=QUOTED),
        Row("Highway, 19 layers", (2.3, "7.54 (7.72 ± 0.16)"), quoted=QUOTED),
        Row("Highway, 32 layers", (1.25, 8.80), quoted=QUOTED),
        Row("ResNet-20", (0.27, 8.75), [CIFAR[20]]),
        Row("ResNet-32", (0.46, 7.51), [CIFAR[32]]),
        Row("ResNet-44", (0.66, 7.17), [CIFAR[44]]),
        Row("ResNet-56", (0.85, 6.97), [CIFAR[56]]),
        Row("ResNet-110, best of 5", (1.7, 6.43), FIVE_110, combine="best"),
        Row("ResNet-110, mean of 5", (1.7, "6.61 ± 0.16"), FIVE_110),
        Row("ResNet-1202", (19.4, 7.93), [CIFAR[1202]]),
    ],
    counts={"parameters": parameters},
    note="Errors are taken at the last step: the paper's are the last points of Fig. 6, not the lowest.",
)
