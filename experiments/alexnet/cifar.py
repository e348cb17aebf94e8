"""Section 3.3: the test errors of nets with four layers on CIFAR-10, without and with response normalisation."""

from experiments.entry import Row, Run, Table

FIRST = {"data.train_split": "train[:40000]", "total_epochs": 350, "optimizer.drop_at_epochs": ()}
LAST = {"total_epochs": 170, "optimizer.drop_at_epochs": (150, 160)}


def net(recipe: str, **changes: bool) -> Run:
    """Returns a run trained on 40,000 images, then on all, then at smaller rates (cuda-convnet's methodology)."""
    changes = {f"model.{name}": value for name, value in changes.items()}
    return Run(recipe, changes | LAST, init_from=Run(recipe, changes | FIRST))


TABLE = Table(
    "Text (3.3). CIFAR-10 with and without response normalisation",
    {"test error, %": "top1_error"},
    [
        Row("without: cuda-convnet's 13pct", (13,), [net("alexnet_cifar_13pct")], ["ten_crop"]),
        Row("with: cuda-convnet's 11pct", (11,), [net("alexnet_cifar_11pct")], ["ten_crop"]),
        Row(
            "11pct, only normalisation removed",
            (None,),
            [net("alexnet_cifar_11pct", lrn=False)],
            ["ten_crop"],
            note="not in the paper, whose two nets also differ in local3's width and fc10's weight decay",
        ),
    ],
)
