"""Curves of training and test error over steps.

    python -m deepconv.curves RUN_DIR
    python -m deepconv.curves RUN_DIR RUN_DIR ... --to=FILE.png

The first command draws curves.png in the run's directory. The second draws all runs into one plot: a colour for each,
named by the fields in which their configs differ; without --to, into curves.png beside the first run's directory.
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports, which take seconds

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from deepconv import cli
from deepconv.config import recipes
from deepconv.run import log as runlog
from deepconv.run.files import expanded, printable, read_json, replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_FIELDS = 4  # in the name of a run; with more, its directory is the better name


def draw(workdir: Path) -> Path:
    """Draws curves.png of a run, from metrics.jsonl, as in the papers' figures; returns the file."""
    from matplotlib.figure import Figure  # takes a second, which other commands need not wait for

    records = runlog.read_metrics(workdir)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for part, style, label in (("train", "--", "training"), ("test", "-", "test")):
        if points := _errors(records, part):
            final = f"{label} (last {points[-1][1]:.2f} %)"
            axes.plot(*zip(*points, strict=True), style, label=final, linewidth=1 if style == "--" else 2)
    _describe(axes, records)
    axes.set_title(printable(workdir.resolve().name), parse_math=False)
    if axes.lines:
        axes.legend()
    path = workdir / "curves.png"
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    return path


def draw_together(workdirs: Sequence[Path], path: Path) -> None:
    """Draws the curves of several runs into one plot, a colour for each run."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(7, 4.5 + 0.2 * len(workdirs)), layout="constrained")
    axes, handles = figure.subplots(), []
    count = len(workdirs)
    for number, (workdir, name) in enumerate(zip(workdirs, names(workdirs), strict=True)):
        color = f"C{number}" if count <= 10 else colormaps["turbo"](number / (count - 1))
        records = runlog.read_metrics(workdir)
        train, test = (_errors(records, part) for part in ("train", "test"))
        for points, style, width, alpha in ((train, "--", 0.8, 0.6), (test, "-", 2, 1)):
            if points:
                axes.plot(*zip(*points, strict=True), style, color=color, linewidth=width, alpha=alpha)
        last = f"last {test[-1][1]:.2f} %" if test else "not tested yet"
        handles.append(Line2D([], [], color=color, linewidth=2, label=f"{name} ({last})"))
    _describe(axes, records)
    axes.set_title("test error (solid) and training error (dashed)", fontsize="medium")
    legend = figure.legend(handles=handles, loc="outside lower left", fontsize="small")
    for text in legend.get_texts():
        text.set_parse_math(False)
    figure.savefig(path, dpi=120)


def names(workdirs: Sequence[Path]) -> list[str]:
    """Returns a name for each run: the fields in which the runs' configs differ, or else the directory."""
    files = [run / "config.json" for run in workdirs]
    configs = [recipes.flatten(read_json(file, dict)) if file.exists() else {} for file in files]
    fields = sorted({field for config in configs for field in config} - {"schema", *recipes.DIGESTS.values()})
    differ = [field for field in fields if len({str(config.get(field)) for config in configs}) > 1]
    found = [", ".join(f"{field}={config[field]}" for field in differ if field in config) for config in configs]
    clear = all(configs) and len({*found}) == len(found) and len(differ) <= MOST_FIELDS
    return [printable(name) for name in (found if clear else (str(run) for run in workdirs))]


def _errors(records: Sequence[runlog.Record], part: str) -> list[tuple[float, float]]:
    """Returns steps and errors; part is "train" or "test"."""
    errors = [(record["step"], runlog.error_of(record, part)) for record in records]
    return [(step, error) for step, error in errors if error is not None]


def _describe(axes: "Axes", records: Sequence[runlog.Record]) -> None:
    name = "top-1 error, %" if _classifies(records) else "localisation error of the true class, %"
    axes.set(xlabel="step", ylabel=name)
    axes.set_ylim(0, None)
    axes.grid(alpha=0.3)


def _classifies(records: Sequence[runlog.Record]) -> bool:
    return any({"train_top1_error", "test_top1_error"} & record.keys() for record in records)


def main(arguments: list[str]) -> int:
    """Draws the curves of one run, or of several in one plot."""
    try:
        workdirs = [expanded(name) for name in arguments[1:]]
        if not workdirs:
            raise ValueError("no run directory is given: python -m deepconv.curves RUN_DIR ...")
        if missing := [workdir for workdir in workdirs if not (workdir / "metrics.jsonl").is_file()]:
            raise ValueError(f"{missing[0]} is not the directory of a run: it has no metrics.jsonl")
        metrics = {workdir: runlog.read_metrics(workdir) for workdir in workdirs}
        if empty := [workdir for workdir in workdirs if not metrics[workdir]]:
            raise ValueError(f"{empty[0] / 'metrics.jsonl'} holds no records")
        cli.check_file("to", picture=True)
        target = None
        if flags.FLAGS.to:
            target = expanded(flags.FLAGS.to)
        elif len(workdirs) > 1:
            target = Path(os.path.abspath(workdirs[0])).parent / "curves.png"
        if target and len({_classifies(records) for records in metrics.values()}) > 1:
            raise ValueError("some of these runs predict classes and some boxes; draw them into two files")
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=2)
    try:
        if target:
            draw_together(workdirs, target)
        print(target or draw(workdirs[0]))
    except OSError as error:
        return cli.refuse(str(error))
    return 0


def define_flags() -> None:
    """Defines the flags of this command only."""
    flags.DEFINE_string(
        "to",
        None,
        "Draw all runs into this one file, .png, .pdf or .svg. [curves.png beside the first of several runs]",
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main)
