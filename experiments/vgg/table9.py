"""Table 9: localisation, the whole procedure."""

from experiments.entry import WITHHELD, Row, Table

LOCALISATION = "localisation"
TABLE = Table(
    "Table 9. ILSVRC localisation, boxes from the whole image",
    {
        "top-5 localisation error, %": "top5_localisation_error",
        "top-5 localisation error of the test set, %": WITHHELD,
    },
    [
        Row("S=256, Q=256", (29.5, None), needs=LOCALISATION),
        Row("S=384, Q=384", (28.2, 26.7), needs=LOCALISATION),
        Row("S=384, Q=352, 384", (27.5, None), needs=LOCALISATION),
        Row(
            "fusion of S=256, Q=256 and S=384, Q=352, 384",
            (26.9, 25.3),
            needs=LOCALISATION,
            note="the boxes of both nets are put together, then merged",
        ),
    ],
    note="Net D, all layers fine-tuned, a box for each class; the classes are those of Table 6's last row.",
)
