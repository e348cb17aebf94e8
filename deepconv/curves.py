"""curves.png of a run: `python -m deepconv.curves RUN_DIR ...`."""

if __name__ == "__main__":
    from deepconv import preemption

    preemption.install()  # before the imports, which take seconds

import sys
from pathlib import Path

from matplotlib.figure import Figure

from deepconv import runlog


def draw(workdir: Path) -> Path:
    """Training and test error over steps, from metrics.jsonl, as in the papers' figures; gives the picture's path."""
    records = runlog.read_metrics(workdir)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, style, label in (("train_top1_error", "--", "training"), ("test_top1_error", "-", "test")):
        points = [(record["step"], record[name]) for record in records if name in record]
        if points:
            final = f"{label} (last {points[-1][1]:.2f} %)"
            axes.plot(*zip(*points, strict=True), style, label=final, linewidth=1 if style == "--" else 2)
    axes.set(xlabel="step", ylabel="top-1 error, %", title=workdir.resolve().name, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    path = workdir / "curves.png"
    figure.savefig(path, dpi=120)
    return path


def main(arguments: list[str]) -> int:
    """Draw the curves of each run directory named."""
    if not arguments:
        print("usage: python -m deepconv.curves RUN_DIR ...", file=sys.stderr)
        return 2
    for name in arguments:
        if not (Path(name) / "metrics.jsonl").is_file():
            print(f"{name} is not the directory of a run: it has no metrics.jsonl", file=sys.stderr)
            return 2
        print(draw(Path(name)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
