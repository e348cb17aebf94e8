"""Table 7: comparison with the state of the art in ILSVRC classification."""

from experiments.entry import ERRORS, QUOTED, WITHHELD, Row, Table
from experiments.vgg import BOTH, D_JITTERED, E_JITTERED, READINGS
from experiments.vgg.table6 import SUBMISSION

TABLE = Table(
    "Table 7. ILSVRC classification without outside data",
    ERRORS | {"top-5 error on the test set, %": WITHHELD},
    [
        Row("VGG, 2 nets, multi-crop and dense", (23.7, 6.8, 6.8), [D_JITTERED, E_JITTERED], [BOTH], "ensemble"),
        Row("VGG, 1 net, multi-crop and dense", (24.4, 7.1, 7.0), [E_JITTERED], [BOTH]),
        Row("VGG, submission, 7 nets, dense", (24.7, 7.5, 7.3), *SUBMISSION, "ensemble"),
        Row("GoogLeNet, 1 net", (None, 7.9, 7.9), quoted=QUOTED, note="one number for validation and test set"),
        Row("GoogLeNet, 7 nets", (None, 6.7, 6.7), quoted=QUOTED, note="one number for validation and test set"),
        Row("MSRA, 11 nets", (None, None, 8.1), quoted=QUOTED),
        Row("MSRA, 1 net", (27.9, 9.1, 9.1), quoted=QUOTED),
        Row("Clarifai, several nets", (None, None, 11.7), quoted=QUOTED),
        Row("Clarifai, 1 net", (None, None, 12.5), quoted=QUOTED),
        Row("Zeiler & Fergus, 6 nets", (36.0, 14.7, 14.8), quoted=QUOTED),
        Row("Zeiler & Fergus, 1 net", (37.5, 16.0, 16.1), quoted=QUOTED),
        Row("OverFeat, 7 nets", (34.0, 13.2, 13.6), quoted=QUOTED),
        Row("OverFeat, 1 net", (35.7, 14.2, None), quoted=QUOTED),
        Row("Krizhevsky et al., 5 nets", (38.1, 16.4, 16.4), quoted=QUOTED),
        Row("Krizhevsky et al., 1 net", (40.7, 18.2, None), quoted=QUOTED),
    ],
    note=READINGS,
)
