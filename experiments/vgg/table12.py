"""Table 12: action classification in still images of VOC-2012."""

from experiments.entry import QUOTED, Row, Table

TABLE = Table(
    "Table 12. VOC-2012, action classification in still images",
    {"mean average precision, %": "mean_average_precision"},
    [
        Row("Oquab et al.", ("70.2*",), quoted=QUOTED, note="* with training on an extended set of 1512 classes"),
        Row("Gkioxari et al.", (73.6,), quoted=QUOTED),
        Row("Hoai", (76.3,), quoted=QUOTED),
        Row("VGG, D and E, full image", (79.2,), needs="transfer"),
        Row("VGG, D and E, full image and person's box", (84.0,), needs="transfer"),
    ],
    note="The features of D and E are stacked, and in the last row those of the image and the person's box too.",
)
