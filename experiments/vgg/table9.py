"""Table 9: localisation with predicted classes."""

from experiments.entry import WITHHELD, Row, Table

LOCALISATION = "localisation"
TABLE = Table(
    "Table 9. ILSVRC localisation, boxes from the full image",
    {
        "top-5 localisation error, %": "top5_localisation_error",
        "top-5 localisation error on the test set, %": WITHHELD,
    },
    [
        Row("S=256, Q=256", (29.5, None), needs=LOCALISATION),
        Row("S=384, Q=384", (28.2, 26.7), needs=LOCALISATION),
        Row("S=384, Q=352, 384", (27.5, None), needs=LOCALISATION),
        Row(
            "fusion of S=256, Q=256 and S=384, Q=352, 384",
            (26.9, 25.3),
            needs=LOCALISATION,
            note="the boxes of both nets are merged",
        ),
    ],
    note="Net D with all layers fine-tuned and one box per class; the ensemble of Table 6's last row predicts the "
    "classes.",
)
