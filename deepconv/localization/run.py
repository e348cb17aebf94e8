"""Runs a localisation test: nets and a split -> boxes -> errors."""

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepconv.config import fields, recipes
from deepconv.data.sources.annotated import AnnotatedImages
from deepconv.evaluation.net import Trained, load_run
from deepconv.localization import classes, results, truth
from deepconv.localization.dense import Guesses, fill
from deepconv.localization.merge import THRESHOLD, highest_boxes, merge_images
from deepconv.localization.refinement import open_refined, refine
from deepconv.localization.settings import Member, Settings
from deepconv.localization.training_proposals import PROPOSALS
from deepconv.localization.window_table import WindowTable, open_windows
from deepconv.localization.windows import Localizer, check_windows
from deepconv.run import checkpoint_files
from deepconv.run import log as runlog
from deepconv.run.files import read_json, write_json
from deepconv.run.starts import environment


@dataclass(frozen=True)
class Test:
    """A test that has been checked: its nets, images and classes."""

    members: tuple[Member, ...]
    localizers: tuple[Localizer, ...]
    refiners: tuple[Trained, ...]
    images: AnnotatedImages
    guesses: Guesses
    inputs: dict[str, Any]


def describe_inputs(settings: Settings, images: AnnotatedImages) -> dict[str, Any]:
    """Returns what decides a test's boxes: nets with their steps, scales, probabilities, images and threshold."""
    boxes = hashlib.sha256(json.dumps([str(name) for name in images.ids]).encode())
    for array in (images.sizes, images.boxes, images.classes):
        boxes.update(np.ascontiguousarray(array).tobytes())
    if settings.proposes:
        refiners = [_run(run) | {"test": ""} for run in settings.refiners]
        choice: dict[str, Any] = {"objective": fields.PROPOSES, "refined_by": refiners}
    else:
        choice = {"threshold": THRESHOLD}
    return {
        "data": settings.data.name,
        "split": settings.data.eval_split,
        "boxes_sha256": boxes.hexdigest(),  # of the images' names, sizes and true boxes
        "runs": [_run(member.run) for member in settings.members],
        "scales": [[*member.scales] for member in settings.members],
        "scores_from": [_run(member.scorer) | {"test": ""} for member in settings.members if member.scorer],
        "classes_from": [_probabilities(file) for file in settings.probabilities],
        **choice,
    }


def _run(run: Path) -> dict[str, Any]:
    step, digest = checkpoint_files.newest(run / "checkpoints")
    return {"directory": Path(os.path.abspath(run)).name, "step": step, "sha256": digest}


def _probabilities(file: Path) -> dict[str, Any]:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    test = file.name.removeprefix("probs.").removesuffix(".npy")
    record = read_json(file.with_name(f"eval.{test}.json"), dict, "step", remedy="test the net again")
    return {
        "directory": Path(os.path.abspath(file)).parent.name,
        "step": record["step"],
        "test": test,
        "sha256": digest,
    }


def check_same(record: dict[str, Any], inputs: dict[str, Any], workdir: Path) -> None:
    """Raises ValueError if a record in a directory is that of another test."""
    if lines := recipes.differences({name: record.get(name) for name in inputs}, inputs):
        raise ValueError(f"{workdir} holds the result of another test, {lines[0]}; give another --workdir")


def prepare(settings: Settings, images: AnnotatedImages, inputs: dict[str, Any]) -> Test:
    """Loads the nets and chooses the classes. Raises ValueError, OSError for what does not belong together."""
    names, labels = images.class_names, truth.labels_of(images)
    guesses = classes.choose(settings.probabilities, names, labels)
    localizers, refiners = [], [load_run(run) for run in settings.refiners]
    nets = [*zip(settings.refiners, refiners, strict=True)]
    for member in settings.members:
        net = load_run(member.run)
        scorer = load_run(member.scorer) if member.scorer else None
        nets += [(member.run, net), *([(member.scorer, scorer)] if scorer else [])]
        localizers.append(Localizer(net, scorer))
        check_windows(localizers[-1])
    for run, trained in nets:
        if tuple(trained.classes) != names:
            raise ValueError(
                f"the net of {run} has {len(trained.classes)} classes that are not the {len(names)} of the images; "
                "give nets that were trained on the same data set"
            )
    if wrong := [run for run, net in nets if refiners and net.net.size != refiners[0].net.size]:
        raise ValueError(f"the net of {wrong[0]} takes images of another size than the first net of --refined_by")
    return Test(settings.members, tuple(localizers), tuple(refiners), images, guesses, inputs)


def run(test: Test, workdir: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Returns the rows of boxes.npy and the seconds that each part took; continues what an earlier start began."""
    digest = hashlib.sha256(json.dumps(test.inputs).encode()).hexdigest()[:16]
    tables, parts, count = [], [], test.guesses.classes.shape
    for number, (member, localizer) in enumerate(zip(test.members, test.localizers, strict=True), 1):
        files = [workdir / f"windows.{digest}.run{number}_q{scale}" for scale in member.scales]
        own = [open_windows(file, *count) for file in files]
        total, done = count[0] * len(own), sum(int(table.rows["done"].sum()) for table in own)
        with runlog.progress(f"boxes of {member.run.name}", total, done) as show:
            fill(localizer, member.scales, own, test.images, test.guesses, show, PROPOSALS if test.refiners else 1)
        tables += own
        parts += [_part(number, scale, table) for scale, table in zip(member.scales, own, strict=True)]
    if test.refiners:
        refined = open_refined(workdir / f"windows.{digest}.refined.npy", *count)
        with runlog.progress("refinement", len(refined), int(refined["done"].sum())) as show:
            refine(test.refiners, tables, test.images, test.guesses, refined, show)
        best, last = refined["output"], {"refinement": float(refined["seconds"].sum(dtype=np.float64))}
    else:
        start = time.perf_counter()
        with runlog.progress("merging", count[0]) as show:
            mesh = test.localizers[0].boxes.net.mesh
            best = highest_boxes(tables) if test.members[0].proposes else merge_images(tables, mesh, show)
        last = {"merging": time.perf_counter() - start}
    rows = results.write_boxes(workdir / results.BOXES, test.guesses.classes, best)
    return rows, {"windows": parts} | last


def _part(number: int, scale: int, table: WindowTable) -> dict[str, Any]:
    seconds = float(table.rows["seconds"].sum(dtype=np.float64))  # over all starts
    return {"run": number, "scale": scale, "windows": int(table.rows["windows"].sum()), "seconds": seconds}


def write_record(
    workdir: Path, inputs: dict[str, Any], rows: np.ndarray, images: AnnotatedImages, seconds: dict[str, Any]
) -> dict[str, Any]:
    """Writes localization.json, and removes the windows, which are then no longer needed; returns the record."""
    counts = {"images": {inputs["split"]: len(rows)}} | results.errors(rows, images)
    record = {**inputs, **counts, "seconds": seconds, **environment()}
    write_json(workdir / results.RECORD, record)
    for file in workdir.glob("windows.*"):
        file.unlink()
    return record
