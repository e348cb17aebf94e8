"""Table 12: actions in still images of VOC-2012."""

from experiments.entry import QUOTED, Row, Table

TABLE = Table(
    "Table 12. VOC-2012, actions in still images",
    {"mean average precision, %": "mean_average_precision"},
    [
        Row("Oquab et al.", ("70.2*",), quoted=QUOTED, note="* with training on an extended set of 1512 classes"),
        Row("Gkioxari et al.", (73.6,), quoted=QUOTED),
        Row("Hoai", (76.3,), quoted=QUOTED),
        Row("VGG, D and E, whole image only", (79.2,), needs="transfer"),
        Row("VGG, D and E, whole image and person's box", (84.0,), needs="transfer"),
    ],
    note="Features of D and E are stacked; in the last row, so are those of the image and of the person's box.",
)
