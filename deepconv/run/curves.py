"""curves.png of a run: `python -m deepconv.run.curves RUN_DIR ...`."""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports, which take seconds

from pathlib import Path

from deepconv import cli
from deepconv.run import log as runlog
from deepconv.run.directory import printable


def draw(workdir: Path) -> Path:
    """Draws training and test error over steps, from metrics.jsonl, as in the papers' figures; returns the file."""
    from matplotlib.figure import Figure  # takes a second, which other commands need not wait for

    records = runlog.read_metrics(workdir)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, style, label in (("train_top1_error", "--", "training"), ("test_top1_error", "-", "test")):
        points = [(record["step"], record[name]) for record in records if type(record.get(name)) in (int, float)]
        if points:
            final = f"{label} (last {points[-1][1]:.2f} %)"
            axes.plot(*zip(*points, strict=True), style, label=final, linewidth=1 if style == "--" else 2)
    axes.set(xlabel="step", ylabel="top-1 error, %", ylim=(0, None))
    axes.set_title(printable(workdir.resolve().name), parse_math=False)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    path = workdir / "curves.png"
    figure.savefig(path, dpi=120)
    return path


def main(arguments: list[str]) -> int:
    """Draws the curves of each run directory given."""
    workdirs = [Path(name) for name in arguments[1:]]
    if not workdirs:
        return cli.refuse("no run directory is given: python -m deepconv.run.curves RUN_DIR ...", code=2)
    if missing := [workdir for workdir in workdirs if not (workdir / "metrics.jsonl").is_file()]:
        return cli.refuse(f"{missing[0]} is not the directory of a run: it has no metrics.jsonl", code=2)
    if empty := [workdir for workdir in workdirs if not runlog.read_metrics(workdir)]:
        return cli.refuse(f"{empty[0] / 'metrics.jsonl'} holds no records", code=2)
    try:
        for workdir in workdirs:
            print(draw(workdir))
    except OSError as error:
        return cli.refuse(str(error))
    return 0


if __name__ == "__main__":
    cli.run(main)
