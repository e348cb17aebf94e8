"""Table 2: results on ILSVRC-2012."""

from experiments.alexnet import CODE, FINETUNED, FIVE, TEXT
from experiments.entry import ERRORS, QUOTED, WITHHELD, Row, Table

TEN_CROP = ["ten_crop"]
TABLE = Table(
    "Table 2. ILSVRC-2012, validation set, ten crops",
    ERRORS | {"top-5 error on the test set, %": WITHHELD},
    [
        Row("SIFT and Fisher vectors", (None, None, 26.2), quoted=QUOTED),
        Row("1 CNN", (40.7, 18.2, None), [TEXT], TEN_CROP),
        Row("1 CNN of the authors' code", (40.7, 18.2, None), [CODE], TEN_CROP),
        Row(
            "5 CNNs",
            (38.1, 16.4, 16.4),
            FIVE,
            TEN_CROP,
            "ensemble",
            note="the paper does not name them; here they are five seeds of one net",
        ),
        Row("1 CNN*", (39.0, 16.6, None), FINETUNED[:1], TEN_CROP),
        Row(
            "7 CNNs*",
            (36.7, 15.4, 15.3),
            [*FINETUNED, *FIVE],
            TEN_CROP,
            "ensemble",
            note="two were first trained on Fall 2011; here these two share this training, and differ in the seed of "
            "the last step",
        ),
    ],
    note="* first trained on ImageNet's release of Fall 2011, with a sixth convolution.",
)
