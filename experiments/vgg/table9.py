"""Table 9: localisation with predicted classes."""

from collections.abc import Sequence

from experiments.entry import EVERY_IMAGE, WITHHELD, Command, Row, Run, Table
from experiments.vgg import BOTH, D_384, D_JITTERED, E_JITTERED, LOCALISER_256, LOCALISER_384, D

TOP5 = "top5_localization_error"
AT_256, AT_384 = (LOCALISER_256, D), (LOCALISER_384, D_384)  # each with the net that scores its windows


def command(nets: Sequence[tuple[Run, Run]], scales: Sequence[Sequence[int]]) -> Command:
    """Returns the command of a row; scales: those of each net."""
    runs = {
        "run": [(net, "") for net, _ in nets],
        "classes_from": [(net, BOTH) for net in (D_JITTERED, E_JITTERED)],
        "scores_from": [(scorer, "") for _, scorer in nets],
    }
    return Command("deepconv.localization", {"scales": scales}, runs, {TOP5: TOP5}, {"validation": 50_000})


FUSION = command([AT_256, AT_384], ((256,), (352, 384)))
TABLE = Table(
    "Table 9. ILSVRC localisation, boxes from the full image",
    {"top-5 localisation error, %": TOP5, "top-5 localisation error on the test set, %": WITHHELD},
    [
        Row("S=256, Q=256", (29.5, None), commands=[command([AT_256], ((256,),))]),
        Row("S=384, Q=384", (28.2, 26.7), commands=[command([AT_384], ((384,),))]),
        Row("S=384, Q=352, 384", (27.5, None), commands=[command([AT_384], ((352, 384),))]),
        Row(
            "fusion of S=256, Q=256 and S=384, Q=352, 384",
            (26.9, 25.3),
            commands=[FUSION],
            note="the boxes of both nets are merged",
        ),
    ],
    note="Net D with all layers fine-tuned and one box per class; the ensemble of Table 6's last row predicts the "
    "classes. The paper does not say which classification net scores the windows; here it is net D with the same S. "
    f"{EVERY_IMAGE}",
)
