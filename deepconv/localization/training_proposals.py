"""The proposals on which R-CNN is trained: those of a region proposal network for the classes of training images."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from deepconv import processes
from deepconv.config import durations, fields, recipes
from deepconv.data.images import DataError, Images
from deepconv.data.sources.annotated import AnnotatedImages
from deepconv.data.sources.proposed import read_proposed
from deepconv.data.sources.source import Source
from deepconv.evaluation.net import load_run
from deepconv.localization import truth
from deepconv.localization.dense import Guesses, fill
from deepconv.localization.window_table import WindowTable, open_windows, read_windows
from deepconv.localization.windows import Localizer
from deepconv.run import checkpoint_files
from deepconv.run import log as runlog
from deepconv.run.files import expanded, read_json, replacing

PROPOSALS = 200  # of a class of an image (He et al. 2015, appendix C)


def with_proposals(config: ConfigDict, source: Source, proposals_from: str, workdir: Path) -> Source:
    """Returns the training set of a recipe with the proposals of the net of --proposals_from.

    The first open() computes them at the scale of tests and writes them to workdir/proposals.npy, [N, 200, 4]; if it is
    stopped, the next one continues. A run that is trained to its end needs none. Raises ValueError or OSError if there
    can be no proposals.
    """
    file, run, data = workdir / "proposals.npy", expanded(proposals_from), config.data
    exists = processes.agree(file.exists)
    saved = processes.agree(lambda: checkpoint_files.steps(workdir / "checkpoints"))
    if not exists and saved:
        total = durations.steps(config, "total", source.examples, config.batch_size)
        newest = workdir / "checkpoints" / str(saved[-1])
        if saved[-1] >= total and not processes.agree(lambda: checkpoint_files.damage(newest)):
            return source
        raise FileNotFoundError(
            f"{file} is missing, and {workdir} was trained on it to step {saved[-1]}; restore it, or start a new run "
            "with another --workdir"
        )
    if not exists:
        _check_net(source, run)
    if source.size or data.augment != "crop_flip" or data.central_square:
        raise ValueError(
            f"config.objective={config.objective} cuts proposals out of photographs; set config.data.train_scale, "
            "config.data.augment=crop_flip and config.data.central_square=False"
        )
    opened = functools.cache(functools.partial(_open, source, run, data.test_scale, file))
    return replace(source, open=opened, writes=file)


def _check_net(source: Source, run: Path) -> None:
    """Raises ValueError, OSError if the run of --proposals_from cannot make proposals for the training set."""
    record, steps, classes = recipes.read_run(run), checkpoint_files.steps(run / "checkpoints"), run / "classes.json"
    goal, total = record.get("objective", "classification"), durations.total_steps(record)
    if goal != fields.PROPOSES:
        raise ValueError(f"--proposals_from={run}: its config.objective is {goal}; give a run of {fields.PROPOSES}")
    if not steps or steps[-1] < total:
        step = steps[-1] if steps else 0
        raise ValueError(f"--proposals_from={run} is an unfinished run (step {step} of {total}); finish it first")
    if classes.exists() and read_json(classes, list) != [*source.classes]:
        raise ValueError(
            f"--proposals_from={run}: its net has other classes than the training set: {classes} differs; give a run "
            f"that was trained on {source.name}"
        )


def _open(source: Source, run: Path, scale: int, file: Path) -> Images:
    images = source.open()
    assert isinstance(images, AnnotatedImages)
    if not processes.agree(file.exists):
        _write(images, run, scale, file)
    return read_proposed(images, file)


def _write(images: AnnotatedImages, run: Path, scale: int, file: Path) -> None:
    """Computes the proposals; of several processes, each computes its part of a batch, and process 0 writes."""
    try:
        labels = truth.labels_of(images)
    except ValueError as error:
        raise DataError(str(error)) from None
    guesses, net = Guesses(labels[:, None], np.ones((len(labels), 1), np.float32)), load_run(run)
    # the checkpoint's digest is part of the name, so that proposals of two nets are not mixed
    digest = checkpoint_files.newest(run / "checkpoints")[1] or ""
    table = open_windows(file.with_name(f"proposals.{digest[:16]}.partial"), len(labels), 1)
    with runlog.progress(f"proposals of {run.name}", len(labels), int(table.rows["done"].sum())) as show:
        fill(Localizer(net, None), [scale], [table], images, guesses, show, PROPOSALS)
    processes.agree(lambda: _save(table, file))


def _save(table: WindowTable, file: Path) -> None:
    """Writes the boxes of the table to the file, atomically, and removes tables of proposals."""
    count = len(table.rows)
    header = {"descr": "<f4", "fortran_order": False, "shape": (count, PROPOSALS, 4)}
    with replacing(file) as temporary, temporary.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, header)
        for rows in np.array_split(np.arange(count), max(1, count // 1000)):
            out.write(np.stack(read_windows(table, rows))[:, :, 0, :4].tobytes())
    for left in (*file.parent.glob("proposals.*.partial.*"), *file.parent.glob(f"{file.name}.*.tmp")):
        left.unlink()
