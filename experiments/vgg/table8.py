"""Table 8: localisation with the true class given."""

from experiments.entry import Row, Table

LOCALISATION = "localisation"
TABLE = Table(
    "Table 8. ILSVRC validation, localisation, central crop: fine-tuned layers and predicted boxes",
    {"localisation error, %": "localisation_error"},
    [
        Row("first and second fully-connected layers, one box for all classes (SCR)", (36.4,), needs=LOCALISATION),
        Row("first and second fully-connected layers, a box for each class (PCR)", (34.3,), needs=LOCALISATION),
        Row("all layers, a box for each class (PCR)", (33.1,), needs=LOCALISATION),
    ],
    note="Net D with S=384; one box per image, for its true class.",
)
