"""Table 4: one net at three test scales."""

from experiments.entry import ERRORS, Row, Table
from experiments.vgg import (
    AROUND_256,
    AROUND_384,
    C_384,
    C_JITTERED,
    D_384,
    D_JITTERED,
    DENSE,
    E_384,
    E_JITTERED,
    READINGS,
    B,
    C,
    D,
    E,
)

TABLE = Table(
    "Table 4. ImageNet validation, one net, three test scales",
    ERRORS,
    [
        Row("B, S=256, Q=224, 256, 288", (28.2, 9.6), [B], [AROUND_256]),
        Row("C, S=256, Q=224, 256, 288", (27.7, 9.2), [C], [AROUND_256]),
        Row("C, S=384, Q=352, 384, 416", (27.8, 9.2), [C_384], [AROUND_384]),
        Row("C, S from 256 to 512, Q=256, 384, 512", (26.3, 8.2), [C_JITTERED], [DENSE]),
        Row("D, S=256, Q=224, 256, 288", (26.6, 8.6), [D], [AROUND_256]),
        Row("D, S=384, Q=352, 384, 416", (26.5, 8.6), [D_384], [AROUND_384]),
        Row("D, S from 256 to 512, Q=256, 384, 512", (24.8, 7.5), [D_JITTERED], [DENSE]),
        Row("E, S=256, Q=224, 256, 288", (26.9, 8.7), [E], [AROUND_256]),
        Row("E, S=384, Q=352, 384, 416", (26.7, 8.6), [E_384], [AROUND_384]),
        Row("E, S from 256 to 512, Q=256, 384, 512", (24.8, 7.5), [E_JITTERED], [DENSE]),
    ],
    note=READINGS,
)
