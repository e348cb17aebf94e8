"""Table 6: ensembles."""

from experiments.entry import ERRORS, WITHHELD, Row, Table
from experiments.vgg import (
    AROUND_256,
    AROUND_384,
    BOTH,
    C_384,
    D_384,
    D_JITTERED,
    D_SUBMISSION,
    DENSE,
    E_384,
    E_JITTERED,
    MULTI_CROP,
    READINGS,
    C,
    D,
    E,
)

SUBMISSION = (
    [D, D_384, D_SUBMISSION, C, C_384, E, E_384],
    [AROUND_256, AROUND_384, DENSE, AROUND_256, AROUND_384, AROUND_256, AROUND_384],
)
TWO_NETS = [D_JITTERED, E_JITTERED]
TABLE = Table(
    "Table 6. ImageNet validation, ensembles",
    ERRORS | {"top-5 error on the test set, %": WITHHELD},
    [
        Row("submission, 7 nets, dense", (24.7, 7.5, 7.3), *SUBMISSION, "ensemble"),
        Row("D and E, S from 256 to 512, dense", (24.0, 7.1, 7.0), TWO_NETS, [DENSE], "ensemble"),
        Row("the same, multi-crop", (23.9, 7.2, None), TWO_NETS, [MULTI_CROP], "ensemble"),
        Row("the same, multi-crop and dense", (23.7, 6.8, 6.8), TWO_NETS, [BOTH], "ensemble"),
    ],
    note=READINGS,
)
