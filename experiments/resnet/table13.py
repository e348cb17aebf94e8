"""Table 13: localisation on ImageNet, step by step."""

from collections.abc import Sequence
from dataclasses import replace

from experiments.entry import EVERY_IMAGE, QUOTED, Command, Row, Run, Table
from experiments.resnet import FIVE_SCALES, SHORTCUT_B

TRUE_CLASS, TOP5 = "true_class_localization_error", "top5_localization_error"
SCALES = (224, 256, 384, 480, 640)
ALL_BUT_HEAD = ("all_but_head",)
DEPTHS = {101: {}, 152: {"model.depth": 152}}  # changes of the recipes
RPN = {
    depth: Run("resnet101_localization", changes, init_from=SHORTCUT_B[depth], init_layers=ALL_BUT_HEAD)
    for depth, changes in DEPTHS.items()
}
RCNN = {
    depth: replace(run, config="resnet101_rcnn", proposals_from=run)  # both start from the same classification net
    for depth, run in RPN.items()
}


def command(depths: Sequence[int], refined: bool) -> Command:
    """Returns the command that tests the proposals of nets together, with classes predicted by nets of equal depths."""
    runs = {
        "run": [(RPN[depth], "") for depth in depths],
        "classes_from": [(SHORTCUT_B[depth], FIVE_SCALES) for depth in depths],
    }
    if refined:
        runs["refined_by"] = [(RCNN[depth], "") for depth in depths]
    measured = {TRUE_CLASS: TRUE_CLASS, TOP5: TOP5}
    return Command("deepconv.localization", {"scales": [SCALES] * len(depths)}, runs, measured, {"validation": 50_000})


DENSE, REFINED, ENSEMBLE = command([101], False), command([101], True), command([101, 152], True)
MEMBERS = "the paper does not name the members; here they are nets of 101 and 152 layers"
TABLE = Table(
    "Table 13. ImageNet validation, localisation",
    {
        "localisation error with the true class, %": TRUE_CLASS,
        "top-5 localisation error with predicted classes, %": TOP5,
    },
    [
        Row("VGG's method, VGG-16, 1-crop", (33.1, None), quoted=QUOTED),
        Row("RPN, ResNet-101, 1-crop", (13.3, None), [RPN[101]]),
        Row("RPN, ResNet-101, dense", (11.7, None), commands=[DENSE]),
        Row("RPN, ResNet-101, dense, classified by ResNet-101", (None, 14.4), commands=[DENSE]),
        Row("RPN + RCNN, ResNet-101, dense, classified by ResNet-101", (None, 10.6), commands=[REFINED]),
        Row("RPN + RCNN, ensemble, dense, classified by ensemble", (None, 8.9), commands=[ENSEMBLE], note=MEMBERS),
    ],
    note="1-crop is the central crop of 224x224 pixels; dense is fully convolutional at several scales. The paper does "
    f"not name the scales; here they are those of Table 4. {EVERY_IMAGE}",
)
