"""Means of saved probabilities.

    python -m deepconv.evaluation.ensemble runs/vgg16/probs.dense.npy runs/vgg19/probs.dense.npy
    python -m deepconv.evaluation.ensemble runs/*/probs.ten_crop.npy --weights=2,1,1 --out=runs/three_nets

The files are those that `python -m deepconv.main --evals=...` writes to the directories of runs; no net is applied.
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports, which take seconds

import math
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from deepconv import cli
from deepconv.run.evaluations import Procedure
from deepconv.run.files import expanded, printable


def main(arguments: list[str]) -> int:
    """Averages saved probabilities and prints the errors."""
    from deepconv.evaluation import probabilities  # imports NumPy, which --help need not wait for

    try:
        files = [_probabilities(Path(argument)) for argument in arguments[1:]]
        labels = probabilities.common_labels(files)
        weights = _numbers(flags.FLAGS.weights, len(files))
        members = [probabilities.mean([file]) for file in files]
        for file, probs in zip(files, members, strict=True):
            if probs.shape != (len(labels), members[0].shape[-1]):
                raise ValueError(
                    f"{file} holds an array of shape {probs.shape}; {len(labels)} rows of {members[0].shape[-1]} "
                    f"probabilities are needed"
                )
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=2)
    ensemble = probabilities.mean(files, weights)
    table = Table(Column("probabilities", overflow="fold"), "weight", "top-1 error", "top-5 error")
    for name, weight, probs in zip(
        [*(escape(printable(str(file))) for file in files), "mean"],
        [*weights, sum(weights)],
        [*members, ensemble],
        strict=True,
    ):
        errors = (f"{probabilities.top_k_error(probs, labels, k):.2f} %" for k in (1, 5))
        table.add_row(name, f"{weight:g}", *errors)
    Console().print(table)
    if flags.FLAGS.out:
        out = expanded(flags.FLAGS.out)
        try:
            out.mkdir(parents=True, exist_ok=True)
            procedure = Procedure(mean_of=[str(file.resolve()) for file in files], weights=weights)
            probabilities.write(out, "ensemble", ensemble, labels, None, procedure)
        except OSError as error:
            return cli.refuse(str(error))
        print(f"written to {out}")
    return 0


def _probabilities(path: Path) -> Path:
    """Returns the file itself, or the only file of probabilities in a run's directory. Raises ValueError."""
    if not path.is_dir():
        return path
    found = sorted(file.name for file in path.glob("probs.*.npy") if not file.name.endswith(".partial.npy"))
    if len(found) != 1:
        problem = f"has {', '.join(found)}; choose one" if found else "has no probs.<protocol>.npy; test its net first"
        raise ValueError(f"{path} is a directory and {problem}, such as {path / (found or ['probs.center.npy'])[0]}")
    return path / found[0]


def _numbers(texts: Sequence[str], count: int) -> list[float]:
    try:
        weights = [float(text) for text in texts] or [1.0] * count
    except ValueError:
        weights = []
    if len(weights) != count or not math.isfinite(sum(weights)) or min(weights, default=1) < 0 or sum(weights) == 0:
        raise ValueError(
            f"--weights={','.join(texts)}: needs {count} numbers of 0 or more, one per file; not all may be 0"
        )
    return weights


def define_flags() -> None:
    """Defines the flags of this command only."""
    flags.DEFINE_list("weights", [], "One weight per file [equal weights].")
    flags.DEFINE_string("out", None, "Write probs.ensemble.npy and eval.ensemble.json to this directory.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
