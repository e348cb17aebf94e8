"""Table 11: features of the nets, without fine-tuning, and a linear SVM on other data sets."""

from experiments.entry import QUOTED, Command, Row, Run, Table
from experiments.vgg import D_JITTERED, E_JITTERED

VOC_SCALES, CALTECH_SCALES = (256, 384, 512, 640, 768), (256, 384, 512)
PRECISION, RECALL = "mean_average_precision", "mean_class_recall"
# By data set: the value, the scales of its images, and the numbers of images. The paper rounds those of VOC, 10K and
# 22.5K; the splits here are from memory, and their sums agree with it.
MEASURED = {
    "voc2007": (PRECISION, VOC_SCALES, {"train": 5011, "test": 4952}),
    "voc2012": (PRECISION, VOC_SCALES, {"train": 5717, "test": 5823}),
    "caltech101": (RECALL, CALTECH_SCALES, {"train": 102 * 30}),
    "caltech256": (RECALL, CALTECH_SCALES, {"train": 257 * 60}),
}


def commands(*nets: Run) -> list[Command]:
    """Returns the commands of a row, one for each data set."""
    return [
        Command(
            "deepconv.transfer",
            {"data": data, "scales": scales},
            {"run": [(net, "") for net in nets]},
            {f"{data}_{value}": value},
            examples,
            images="val" if data == "voc2012" else "",
        )
        for data, (value, scales, examples) in MEASURED.items()
    ]


TABLE = Table(
    "Table 11. Image classification on other data sets: features and a linear support vector machine",
    {
        "VOC-2007, mean average precision, %": "voc2007_mean_average_precision",
        "VOC-2012, mean average precision, %": "voc2012_mean_average_precision",
        "Caltech-101, mean class recall, %": "caltech101_mean_class_recall",
        "Caltech-256, mean class recall, %": "caltech256_mean_class_recall",
    },
    [
        Row("Zeiler & Fergus", (None, 79.0, "86.5 ± 0.5", "74.2 ± 0.3"), quoted=QUOTED),
        Row("Chatfield et al.", (82.4, 83.2, "88.4 ± 0.6", "77.6 ± 0.1"), quoted=QUOTED),
        Row("He et al.", (82.4, None, "93.4 ± 0.5", None), quoted=QUOTED),
        Row(
            "Wei et al.",
            ("81.5 (85.2*)", "81.7 (90.3*)", None, None),
            quoted=QUOTED,
            note="* with training on an extended ILSVRC set of 2000 classes",
        ),
        Row("VGG, D", (89.3, 89.0, "91.8 ± 1.0", "85.0 ± 0.2"), commands=commands(D_JITTERED)),
        Row("VGG, E", (89.3, 89.0, "92.3 ± 0.5", "85.1 ± 0.3"), commands=commands(E_JITTERED)),
        Row(
            "VGG, D and E",
            (89.7, 89.3, "92.7 ± 0.5", "86.2 ± 0.3"),
            commands=commands(D_JITTERED, E_JITTERED),
            note="the features of both nets are stacked",
        ),
    ],
    note="D and E are trained at S from 256 to 512. The labels of VOC-2012's test images are on a server: we train on "
    "train and measure on val. ± is the standard deviation over three random splits.",
)
