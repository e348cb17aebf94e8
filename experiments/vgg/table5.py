"""Table 5: dense and multi-crop tests, and their combination."""

from experiments.entry import ERRORS, Row, Table
from experiments.vgg import BOTH, D_JITTERED, DENSE, E_JITTERED, MULTI_CROP, READINGS

TABLE = Table(
    "Table 5. ImageNet validation, dense and multi-crop tests, S from 256 to 512, Q=256, 384, 512",
    ERRORS,
    [
        Row("D, dense", (24.8, 7.5), [D_JITTERED], [DENSE]),
        Row("D, multi-crop", (24.6, 7.5), [D_JITTERED], [MULTI_CROP]),
        Row("D, multi-crop and dense", (24.4, 7.2), [D_JITTERED], [BOTH]),
        Row("E, dense", (24.8, 7.5), [E_JITTERED], [DENSE]),
        Row("E, multi-crop", (24.6, 7.4), [E_JITTERED], [MULTI_CROP]),
        Row("E, multi-crop and dense", (24.4, 7.1), [E_JITTERED], [BOTH]),
    ],
    note=READINGS,
)
