"""Table 2: results on ILSVRC-2012."""

from experiments.alexnet import CODE, FINETUNED, FIVE, TEXT
from experiments.entry import ERRORS, QUOTED, WITHHELD, Row, Table

TEN_CROP = ["ten_crop"]
TABLE = Table(
    "Table 2. ILSVRC-2012, validation set, ten crops",
    ERRORS | {"top-5 error of the test set, %": WITHHELD},
    [
        Row("SIFT and Fisher vectors", (None, None, 26.2), quoted=QUOTED),
        Row("1 CNN", (40.7, 18.2, None), [TEXT], TEN_CROP),
        Row("1 CNN as the authors' code has it", (40.7, 18.2, None), [CODE], TEN_CROP),
        Row(
            "5 CNNs",
            (38.1, 16.4, 16.4),
            FIVE,
            TEN_CROP,
            "ensemble",
            note="the paper does not say which; five seeds here",
        ),
        Row("1 CNN*", (39.0, 16.6, None), FINETUNED[:1], TEN_CROP),
        Row(
            "7 CNNs*",
            (36.7, 15.4, 15.3),
            [*FINETUNED, *FIVE],
            TEN_CROP,
            "ensemble",
            note="two were trained on Fall 2011 first; here they share that and differ in the last step's seed",
        ),
    ],
    note="* trained on ImageNet's release of Fall 2011 first, with a sixth convolution.",
)
