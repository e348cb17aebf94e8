"""Table 12: action classification in still images of VOC-2012."""

from experiments.entry import QUOTED, Command, Row, Table
from experiments.vgg import D_JITTERED, E_JITTERED
from experiments.vgg.table11 import PRECISION, VOC_SCALES


def command(*regions: str) -> Command:
    """Returns the command of a row. regions: those of an image whose features are stacked."""
    return Command(
        "deepconv.transfer",
        {"data": "voc2012_action", "regions": regions, "scales": VOC_SCALES},
        {"run": [(D_JITTERED, ""), (E_JITTERED, "")]},
        {PRECISION: PRECISION},
        images="val",
    )


TABLE = Table(
    "Table 12. VOC-2012, action classification in still images",
    {"mean average precision, %": PRECISION},
    [
        Row("Oquab et al.", ("70.2*",), quoted=QUOTED, note="* with training on an extended set of 1512 classes"),
        Row("Gkioxari et al.", (73.6,), quoted=QUOTED),
        Row("Hoai", (76.3,), quoted=QUOTED),
        Row("VGG, D and E, full image", (79.2,), commands=[command("image")]),
        Row("VGG, D and E, full image and person's box", (84.0,), commands=[command("image", "box")]),
    ],
    note="The features of D and E are stacked, and in the last row those of the image and the person's box too. Both "
    "nets are trained at S from 256 to 512. The labels of the test images are on a server: we train on train and "
    "measure on val. The scales are those of Table 11, since the paper names none.",
)
