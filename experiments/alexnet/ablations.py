"""The ablations of the text: errors without single parts of the net, in sections 3.2, 3.3, 3.4, 4.1, 4.2, 6 and 7."""

from experiments.alexnet import ON_2010, TEXT, TEXT_2010
from experiments.entry import Row, Run, Table


def changed(**changes: object) -> Run:
    """Returns the net of the text on ILSVRC-2012 with these changes; `__` stands for a dot."""
    return Run("alexnet", {name.replace("__", "."): value for name, value in changes.items()})


TEN_CROP = ["ten_crop"]
ONE_GPU = Run("alexnet", ON_2010 | {"model.half": True, "total_epochs": 96, "optimizer.drop_at_epochs": (20, 48)})
NO_LRN = changed(model__lrn=False, total_epochs=97, optimizer__drop_at_epochs=(22, 44, 86))
NOT_OVERLAPPING = changed(model__overlapping_pooling=False, total_epochs=90, optimizer__drop_at_epochs=(23, 51, 79))
NO_COMMUNICATION = changed(
    model__communication=False,
    model__lrn_in_towers=True,
    total_epochs=92,
    optimizer__drop_at_epochs=(25, 49, 79),
)
FALL_2009 = changed(
    model__conv6=True,
    data__name="imagenet_fall2009_half",
    total_epochs=28,
    optimizer__drop_at_epochs=(6.26, 13.34, 25.37),
)
TABLE = Table(
    "Text. Increase in error without a part of the net, in points",
    {"top-1 error, points": "top1_error", "top-5 error, points": "top5_error"},
    [
        Row("one GPU with half the kernels (3.2; ILSVRC-2010)", (1.7, 1.2), [ONE_GPU], TEN_CROP, baseline=TEXT_2010),
        Row("no response normalisation (3.3)", (1.4, 1.2), [NO_LRN], TEN_CROP, baseline=TEXT),
        Row("pooling without overlap (3.4)", (0.4, 0.3), [NOT_OVERLAPPING], TEN_CROP, baseline=TEXT),
        Row("no shift of colours (4.1)", ("over 1", None), [changed(data__lighting="none")], TEN_CROP, baseline=TEXT),
        Row(
            "no crops and reflections (4.1)",
            ("substantial overfitting", None),
            [changed(data__augment="none")],
            TEN_CROP,
            baseline=TEXT,
        ),
        Row(
            "no dropout (4.2)",
            ("substantial overfitting", None),
            [changed(model__dropout=0.0)],
            TEN_CROP,
            baseline=TEXT,
        ),
        *(
            Row(f"without {name} (7)", ("about 2", None), [changed(model__without=name)], TEN_CROP, baseline=TEXT)
            for name in ("conv2", "conv3", "conv4", "conv5")
        ),
        Row(
            "towers without communication",
            (1.2, 1.1),
            [NO_COMMUNICATION],
            TEN_CROP,
            baseline=TEXT,
            note="not in the paper; run 150 of the authors' code",
        ),
        Row("errors of the net with conv6 on half of Fall 2009 (6)", (67.4, 40.9), [FALL_2009], TEN_CROP),
    ],
    note="Schedules follow the authors' logs where these exist. Only for the first three rows and the towers do they "
    "say which test was used. The last row has errors, not differences, on the test half of Fall 2009: "
    "imagenet_fall2009_half/val; the authors' log of this schedule has no error, so the paper's may be of another run.",
)
