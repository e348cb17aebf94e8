"""Fig. 4: the five likeliest classes of eight test images, and the nearest training images of five, by fc7.

The paper gives only the classes of its images, which are from ILSVRC-2010. Here the images are the first test image of
each of the first eight classes.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepconv.run.files import read_json
from experiments import records
from experiments.alexnet import TEXT, TEXT_2010
from experiments.entry import Row, Table
from experiments.measurements import Results, Values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BARS, QUERIES, NEAREST = 8, 5, 6
IMAGES = {
    "mite": "mite .16, black widow .06, cockroach .05, tick .04, starfish .03",
    "container ship": "container ship .86, lifeboat .12, amphibian, fireboat, drilling platform below .01",
    "motor scooter": "motor scooter .53, go-kart .13, moped .12, bumper car .10, golfcart .03",
    "leopard": "leopard .75, jaguar .20, cheetah .04, snow leopard .01, Egyptian cat below .01",
    "grille": "convertible .59, grille .22, pickup .16, beach wagon, fire engine below .01",
    "mushroom": "agaric .42, mushroom .41, jelly fungus .04, gill fungus .03, dead-man's-fingers .02",
    "cherry": "dalmatian .93, grape, elderberry, Staffordshire bullterrier, currant below .01",
    "Madagascar cat": "squirrel monkey .46, spider monkey .25, titi .12, indri .03, howler monkey .03",
}


def likeliest(workdir: Path, test: str) -> Values | None:
    """Returns the likeliest classes of the first test image of each of eight classes, and their nearest neighbours."""
    files = [workdir / f"probs.{test}.npy", workdir / "fc7.test.npy", workdir / "fc7.train.npy"]
    trained = max((file.stat().st_mtime for file in (workdir / "checkpoints").glob("*")), default=0)
    if not all(file.exists() for file in files):
        return None
    if older := [file for file in files if file.stat().st_mtime < trained]:
        problem = "is older than the checkpoints, maybe of an earlier net; repeat the command that wrote it"
        records.warn(workdir, ValueError(f"{older[0].name} {problem}"))
        return None
    probs, features, train_features = (np.load(file, mmap_mode="r") for file in files)
    labels, train_labels = np.load(workdir / "labels.npy"), np.load(workdir / "fc7.train.labels.npy")
    names = read_json(workdir / "classes.json", list)
    shown = np.unique(labels, return_index=True)[1][:BARS]
    bars, right = [], 0
    for image in shown:
        best = np.argsort(-probs[image], kind="stable")[:5]
        likely = [[names[label], round(float(probs[image, label]), 4)] for label in best]
        bars.append({"image": int(image), "class": names[labels[image]], "likeliest": likely})
        right += names[labels[image]] == likely[0][0]
    neighbours, same = [], 0
    for image in shown[:QUERIES]:
        near = nearest(features[image], train_features)
        classes = [names[train_labels[neighbour]] for neighbour in near]
        neighbours.append({"image": int(image), "class": names[labels[image]], "nearest": near, "classes": classes})
        same += classes.count(names[labels[image]])
    return {"right": right, "same": same, "bars": bars, "neighbours": neighbours}


def nearest(query: np.ndarray, features: np.ndarray) -> list[int]:
    """Returns the indices of the rows with the smallest Euclidean distance, nearest first."""
    block = 10_000  # rows at a time: ImageNet's features take 21 GB
    starts = range(0, len(features), block)
    distances = np.concatenate([np.square(features[start : start + block] - query).sum(1) for start in starts])
    return [int(row) for row in np.argsort(distances, kind="stable")[:NEAREST]]


def draw(results: Results) -> "Figure":
    """Draws the bars, the true class in pink as in the paper, and lists the classes of the nearest images."""
    from matplotlib.figure import Figure

    shown = [(row.label, record) for row in TABLE.rows for record in results.get("rows", {}).get(row.label, [])]
    figure = Figure(figsize=(14, 0.8 + 4.2 * len(shown)), layout="constrained")
    for part, (label, record) in zip(figure.subfigures(len(shown), squeeze=False).flat, shown, strict=True):
        part.suptitle(", ".join([label, *record["departs"]]), fontsize=9)
        plots = part.subplots(2, BARS // 2 + 1)
        for plot, bar in zip(plots[:, :-1].flat, record["values"]["bars"], strict=False):
            names, values = zip(*bar["likeliest"], strict=True)
            colors = ["hotpink" if name == bar["class"] else "tab:blue" for name in names]
            plot.barh(range(len(names)), values, color=colors)
            plot.set_yticks(range(len(names)), names, fontsize=7, parse_math=False)
            plot.invert_yaxis()
            plot.set_xlim(0, 1)
            plot.set_title(f"{bar['class']} (image {bar['image']})", fontsize=8, parse_math=False)
        lines = [f"{found['class']}: {', '.join(found['classes'])}" for found in record["values"]["neighbours"]]
        plots[0, -1].text(
            0, 1, "\n\n".join(["nearest by fc7", *lines]), va="top", fontsize=7, wrap=True, parse_math=False
        )
        for plot in [*plots[:, -1], *plots[:, :-1].flat[len(record["values"]["bars"]) :]]:
            plot.set_axis_off()
    return figure


PREDICT = "deepconv.predict --run={run} --features=fc7 --rectify"
TABLE = Table(
    "Fig. 4. The five likeliest classes of eight test images, and the nearest training images of five, by fc7",
    {"images classified correctly, of 8": "right", "neighbours of the image's class, of 30": "same"},
    [
        *(
            Row(f"{name}: {text}", (None, None), quoted="the paper does not identify the images")
            for name, text in IMAGES.items()
        ),
        Row("CNN, first images of the first classes", (None, None), [TEXT_2010], ["ten_crop"]),
        Row("CNN on ILSVRC-2012, first images of the first classes", (None, None), [TEXT], ["ten_crop"]),
    ],
    measure=likeliest,
    draw=draw,
    extra_commands=(
        f"{PREDICT} --split={{train}} --out={{run}}/fc7.train.npy",
        f"{PREDICT} --split={{eval}} --out={{run}}/fc7.test.npy",
    ),
    note="Four of the paper's own eight images are classified correctly. Distances are Euclidean, as in the authors' "
    "findsimilar.py, and taken after fc7's rectifier, which is our reading.",
)
