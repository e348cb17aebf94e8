"""Table 8: localisation with the true class given."""

from dataclasses import replace

from experiments.entry import EVERY_IMAGE, Row, Run, Table
from experiments.vgg import ALL_BUT_HEAD, D_384, LOCALISER_384

TRUE_CLASS = "true_class_localization_error"
PCR = Run("vgg16_localization_fc", init_from=D_384, init_layers=ALL_BUT_HEAD)
SCR = replace(PCR, overrides={"objective": "single_class_regression"})

TABLE = Table(
    "Table 8. ILSVRC validation, localisation, central crop: fine-tuned layers and predicted boxes",
    {"localisation error, %": TRUE_CLASS},
    [
        Row("first and second fully-connected layers, one box for all classes (SCR)", (36.4,), [SCR]),
        Row("first and second fully-connected layers, a box for each class (PCR)", (34.3,), [PCR]),
        Row("all layers, a box for each class (PCR)", (33.1,), [LOCALISER_384]),
    ],
    note="Net D with S=384; one box per image, for its true class. The paper gives the first rate, 0.001; the length, "
    "60,000 steps, and the drops after 40,000 and 50,000 are our reading. "
    f"{EVERY_IMAGE}",
)
