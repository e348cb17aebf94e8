"""Table 2: the number of parameters."""

from experiments.counts import parameters
from experiments.entry import Row, Table
from experiments.vgg import A_LRN, A, B, C, D, E

TABLE = Table(
    "Table 2. Parameters",
    {"parameters, millions": "parameters"},
    [
        Row("A", (133,), [A]),
        Row("A-LRN", (133,), [A_LRN]),
        Row("B", (133,), [B]),
        Row("C", (134,), [C]),
        Row("D", (138,), [D]),
        Row("E", (144,), [E]),
    ],
    counts={"parameters": parameters},
    note="Numbers are counted from the models.",
)
