"""The tables and the picture of docs/speed.md and README.md.

They come from tests/compiled.json and from the records of measurements in docs/speed/, which the flag --json of `python
-m deepconv.benchmark` writes. `python -m experiments render` renders them. If two records measure the same net in the
same mode and dtype, or the same point of growth, the newer one counts.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepconv.benchmark import peers
from deepconv.benchmark.peers.compare import TITLES as PEERS
from experiments.marks import filled, markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "docs" / "speed"
PICTURE = RECORDS / "growth.png"
SNAPSHOT = ROOT / "tests" / "compiled.json"
NETS = {
    "alexnet": "AlexNet",
    "vgg16": "VGG-16",
    "resnet50": "ResNet-50",
    "resnet152": "ResNet-152",
    "resnet_cifar": "ResNet-20",
}
GIGA = 1e9
# two figures for each axis: (heading, name in the benchmark's `training`, divisor)
GROWTH = {
    "records": [("input, images/s", "input_images_per_second", 1), ("first batch, s", "first_batch_seconds", 1)],
    "depth": [("compilation, s", "compile_seconds", 1), ("peak memory, GB", "peak_memory_bytes", GIGA)],
    "classes": [("step, images/s", "step_images_per_second", 1), ("peak memory, GB", "peak_memory_bytes", GIGA)],
    "devices": [("step, images/s", "step_images_per_second", 1), ("compilation, s", "compile_seconds", 1)],
    "side": [("step, images/s", "step_images_per_second", 1), ("peak memory, GB", "peak_memory_bytes", GIGA)],
}
AXES = {  # as the picture names them
    "records": "records of 32 pixels",
    "depth": "layers (CIFAR ResNets, batches of 4)",
    "classes": "classes (AlexNet, batches of 16)",
    "devices": "virtual devices on the same cores (ResNet-20)",
    "side": "image side, pixels (ResNet-18, batches of 2)",
}
Record = Mapping[str, Any]


def read(folder: Path = RECORDS) -> list[Record]:
    """Returns the records of a folder, oldest first."""
    records = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    return sorted(records, key=lambda record: record["time"])


def pages(records: Sequence[Record]) -> dict[Path, str]:
    """Returns the text of each page with its tables."""
    main, sources = peers_table(records, "train", ("float32",), ratios=False), sources_list(records)
    types = "float32", "bfloat16"
    tables = {
        "training": peers_table(records, "train", types),
        "tests": peers_table(records, "inference", types),
        "gpu": peers_table(records, "train", types, platform="gpu"),
        "compiled": compiled_table(json.loads(SNAPSHOT.read_text())),
        "growth": growth_table(records),
        "sources": sources,
    }
    readme, speed = ROOT / "README.md", ROOT / "docs" / "speed.md"
    return {readme: filled(readme, {"speed": main}), speed: filled(speed, tables)}


def speeds(records: Iterable[Record], platform: str) -> dict[tuple[str, str, str, str], Record]:
    """Returns a platform's figures of each (net, mode, dtype, library), with the ratios of their own run.

    All libraries of a (net, mode, dtype) come from the newest record that has it.
    """
    found: dict[tuple[str, str, str], dict[str, Record]] = {}
    for record in records:
        if record["measurement"] != "peers":
            continue
        rows: dict[tuple[str, str, str], dict[str, Record]] = {}
        for line in record["figures"]["speeds"]:
            wanted = platform != "cpu" or line["batch"] == _batch(line["net"], line["mode"])
            if wanted and line.get("platform", "cpu") == platform:  # the first records have no platform
                rows.setdefault((line["net"], line["mode"], line["dtype"]), {})[line["peer"]] = line
        found |= rows
    return {(*row, peer): line for row, lines in found.items() for peer, line in lines.items()}


def _batch(net: str, mode: str) -> int:
    """Returns the images of a step in the tables for a CPU, which lack measurements of other batches."""
    return peers.NETS[net] if mode == "train" else peers.INFERENCE_BATCH


def peers_table(
    records: Sequence[Record], mode: str, dtypes: Sequence[str], ratios: bool = True, platform: str = "cpu"
) -> str:
    """Returns images/s of each net in each measured library and, in brackets, deepconv's speed relative to it."""
    found, lines = speeds(records, platform), []
    measured = {peer for _, measured_mode, dtype, peer in found if measured_mode == mode and dtype in dtypes}
    if not measured:
        return "Not measured yet."
    shown_peers = [peer for peer in PEERS if peer in measured]
    for net, title in NETS.items():
        for dtype in dtypes:
            cells = [found.get((net, mode, dtype, peer)) for peer in shown_peers]
            if any(cells):
                kind = [dtype] if len(dtypes) > 1 else []
                shown = (_cell(cell, ratios and bool(number)) for number, cell in enumerate(cells))
                lines.append([title, *kind, *shown])
    return markdown(["", *([""] if len(dtypes) > 1 else []), *(PEERS[peer] for peer in shown_peers)], lines)


def _cell(line: Record | None, ratio: bool) -> str:
    if line is None:
        return "–"
    relative = f" ({line['speed_of_deepconv_relative_to_it']:.2f})" if ratio else ""
    return f"{_short(line['images_per_second'])}{relative}"


def _short(value: float) -> str:
    """Formats a number with three digits or all of its integer part."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def compiled_table(runs: Mapping[str, Record]) -> str:
    """Returns a line for each run whose step was compiled for a GPU."""
    lines = []
    for run, record in runs.items():
        found = record["figures"]
        numbers = f"{found['kernels']:,}", str(found["launches"]), f"{found['mb_per_image']:.1f}"
        lines.append([f"`{run}`", *numbers, f"{found['times_least_bytes']:.2f}", f"{found['temporary_gb']:.2f}"])
    heading = ["run", "kernels", "launches", "MB/image", "relative to the minimum", "temporary GB"]
    return markdown(heading, lines)


def points(records: Iterable[Record]) -> dict[str, dict[int, Record]]:
    """Returns the newest figures of each point of each axis, {axis: {value: figures}}."""
    found: dict[str, dict[int, Record]] = {axis: {} for axis in GROWTH}
    for record in records:
        if record["measurement"] == "growth":
            for axis, figures in record["figures"].items():
                found[axis] |= {point[axis]: point for point in figures}
    return {axis: dict(sorted(values.items())) for axis, values in found.items()}


def growth_table(records: Sequence[Record]) -> str:
    """Returns the picture, and a line for each point of each axis."""
    lines = []
    for axis, values in points(records).items():
        for value, figures in values.items():
            cells = (f"{heading} {_short(figures[name] / divisor)}" for heading, name, divisor in GROWTH[axis])
            lines.append([AXES[axis], f"{value:,}", *cells])
    if not lines:
        return "Not measured yet."
    picture = f"![Speed, compilation and memory as work grows](speed/{PICTURE.name})"
    return f"{picture}\n\n{markdown(['varied quantity', 'value', '', ''], lines)}"


def sources_list(records: Sequence[Record]) -> str:
    """Returns a line for each record: its command, hardware, versions, commit and date."""
    lines = []
    for record in records:
        machine, versions = record["hardware"], dict(record["versions"])
        if record["measurement"] == "peers":
            for line in record["figures"]["speeds"]:
                versions |= line["versions"]
        names = ("python", "jax", "flax", "torch", "keras")
        used = ", ".join(f"{name} {versions[name]}" for name in names if name in versions)
        on = f"one {machine['device']}, " if machine.get("device", "cpu") != "cpu" else ""
        commit = f"{str(record['commit'])[:10]}{' (dirty)' if record['dirty'] else ''}"
        lines.append(
            f"- `{record['command']}`: {on}{machine['cpus']} cores of {machine['cpu']}, {used}; commit {commit}, "
            f"{record['time'][:10]}"
        )
    return "\n".join(lines)


def draw(records: Sequence[Record]) -> "Figure":
    """Draws small plots: a column for each axis that has points, a row for each of its figures."""
    from matplotlib.figure import Figure  # slow to import

    found = {axis: values for axis, values in points(records).items() if values}
    figure = Figure(figsize=(3.6 * len(found), 5.6), layout="constrained")
    for column, (axis, values) in enumerate(found.items()):
        for row, (heading, name, divisor) in enumerate(GROWTH[axis]):
            plot = figure.add_subplot(2, len(found), row * len(found) + column + 1)
            heights = [figures[name] / divisor for figures in values.values()]
            plot.plot([*values], heights, marker="o")
            scale = "linear" if axis in ("devices", "side") else "log"
            plot.set(title=heading, xscale=scale, ylim=(0, 1.15 * max(heights)))
            plot.title.set_fontsize(10)
            plot.grid(alpha=0.3)
            if row:
                plot.set_xlabel(AXES[axis], fontsize=8)
    return figure


def stamp(records: Sequence[Record]) -> str:
    """Returns a digest of the picture's sources: the records and this code."""
    content = json.dumps(points(records), sort_keys=True).encode()
    return hashlib.sha256(content + Path(__file__).read_bytes()).hexdigest()


def render() -> None:
    """Writes the pages, and the picture if it is missing or out of date."""
    from experiments.pages import read_stamp

    records = read()
    if any(points(records).values()) and read_stamp(PICTURE) != stamp(records):
        draw(records).savefig(PICTURE, dpi=90, metadata={"Source": stamp(records), "Software": None})
        print(f"drawn:   {PICTURE}")
    for page, text in pages(records).items():
        page.write_text(text)
        print(f"written: {page}")
