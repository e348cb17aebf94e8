"""Table 3: one net at one test scale."""

from experiments.entry import ERRORS, Row, Table
from experiments.vgg import A_LRN, C_384, C_JITTERED, D_384, D_JITTERED, E_384, E_JITTERED, READINGS, A, B, C, D, E

AT_256, AT_384 = "dense_q256", "dense_q384"
TABLE = Table(
    "Table 3. ImageNet validation, one net, one test scale",
    ERRORS,
    [
        Row("A, S=256, Q=256", (29.6, 10.4), [A], [AT_256]),
        Row("A-LRN, S=256, Q=256", (29.7, 10.5), [A_LRN], [AT_256]),
        Row("B, S=256, Q=256", (28.7, 9.9), [B], [AT_256]),
        Row("C, S=256, Q=256", (28.1, 9.4), [C], [AT_256]),
        Row("C, S=384, Q=384", (28.1, 9.3), [C_384], [AT_384]),
        Row("C, S from 256 to 512, Q=384", (27.3, 8.8), [C_JITTERED], [AT_384]),
        Row("D, S=256, Q=256", (27.0, 8.8), [D], [AT_256]),
        Row("D, S=384, Q=384", (26.8, 8.7), [D_384], [AT_384]),
        Row("D, S from 256 to 512, Q=384", (25.6, 8.1), [D_JITTERED], [AT_384]),
        Row("E, S=256, Q=256", (27.3, 9.0), [E], [AT_256]),
        Row("E, S=384, Q=384", (26.9, 8.7), [E_384], [AT_384]),
        Row("E, S from 256 to 512, Q=384", (25.5, 8.0), [E_JITTERED], [AT_384]),
    ],
    note=READINGS,
)
