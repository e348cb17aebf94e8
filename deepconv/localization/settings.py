"""What a localisation test is asked to do, checked as far as possible without JAX."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from deepconv.config import fields, recipes
from deepconv.run.files import expanded

MAX_SCALE = 8192  # pixels, as in tests of classes


@dataclass(frozen=True)
class Member:
    """A localisation net of a test."""

    run: Path
    data: ConfigDict  # config.data
    objective: str  # config.objective
    scales: tuple[int, ...]
    scorer: Path | None  # the run of the classification net that scores its windows

    @property
    def proposes(self) -> bool:
        """Returns whether the net gives its boxes a score, so that no other net does."""
        return self.objective == fields.PROPOSES


@dataclass(frozen=True)
class Settings:
    """A test of one or more localisation nets together."""

    members: tuple[Member, ...]
    refiners: tuple[Path, ...]  # runs whose nets give the proposals of the members new scores and boxes
    probabilities: tuple[Path, ...]  # files whose mean decides the classes

    @property
    def data(self) -> ConfigDict:
        """Returns config.data of the first net, whose images are tested."""
        return self.members[0].data

    @property
    def proposes(self) -> bool:
        """Returns whether the nets give their boxes scores."""
        return self.members[0].proposes


def parse(
    runs: Sequence[str],
    scales: str | None,
    classes_from: Sequence[str],
    scores_from: Sequence[str],
    refined_by: Sequence[str],
) -> Settings:
    """Returns the settings that the flags of these names describe. Raises ValueError, OSError."""
    if not runs:
        raise ValueError("--run=LOC is missing: the directory of a localisation net; repeat the flag for several")
    lists = _scales(scales)
    if len(lists) != len(runs):
        raise ValueError(
            f"--scales={scales} holds {len(lists)} lists for {len(runs)} runs; give one per run, separated by slashes, "
            "as in --scales=256/352,384"
        )
    if scores_from and len(scores_from) != len(runs):
        raise ValueError(
            f"--scores_from names {len(scores_from)} runs for {len(runs)} of --run; give one for each, or none"
        )
    scorers = [expanded(run) for run in scores_from] or [None] * len(runs)
    members = []
    for run, sizes, scorer in zip(map(expanded, runs), lists, scorers, strict=True):
        config = _config(run, boxes=True)
        if config.objective == fields.REFINES:
            raise ValueError(f"the net of {run} refines proposals; give it as --refined_by, and a net that makes them")
        members.append(Member(run, config.data, config.objective, sizes, scorer))
    for member in members:
        if member.proposes != members[0].proposes:
            raise ValueError(
                f"{member.run} and {members[0].run} have different kinds of boxes, config.objective="
                f"{member.objective} and {members[0].objective}; only boxes of one kind are put together"
            )
        if member.scorer and member.proposes:
            raise ValueError(f"the net of {member.run} scores its boxes itself; leave out --scores_from")
        if member.scorer:
            _config(member.scorer, boxes=False)
        if too_small := [scale for scale in member.scales if scale < member.data.image_size]:
            raise ValueError(
                f"--scales={scales}: {too_small[0]} is less than the {member.data.image_size} pixels that the net of "
                f"{member.run} takes"
            )
        images, first = ((part.data.name, part.data.eval_split) for part in (member, members[0]))
        if images != first:
            raise ValueError(f"{member.run} is tested on other images than {members[0].run}: {images}, not {first}")
    return Settings(tuple(members), _refiners(refined_by, members), _files(classes_from))


def _refiners(runs: Sequence[str], members: Sequence[Member]) -> tuple[Path, ...]:
    """Returns the runs of --refined_by. Raises ValueError, OSError for those that cannot refine the members' boxes."""
    for run in runs:
        goal = _config(expanded(run), boxes=True).objective
        if goal != fields.REFINES:
            raise ValueError(f"--refined_by={run}: its config.objective is {goal}, not {fields.REFINES}")
        if not members[0].proposes:
            raise ValueError(f"--refined_by={run} needs region proposals, which {members[0].run} does not make")
    return tuple(map(expanded, runs))


def _config(run: Path, boxes: bool) -> ConfigDict:
    """Returns the config of a run, whose net must predict boxes, or scores of classes."""
    config = ConfigDict(recipes.read_run(run))
    if fields.predicts_boxes(config) != boxes:
        predicted, wanted = ("scores of classes", "boxes") if boxes else ("boxes", "scores of classes")
        raise ValueError(f"the net of {run} predicts {predicted}; give one that predicts {wanted}")
    return config


def _scales(text: str | None) -> list[tuple[int, ...]]:
    if not text:
        raise ValueError(
            "--scales is missing: pixels of the shorter side, as in --scales=256 or, of two runs, 256/352,384"
        )
    lists = [part.split(",") for part in text.split("/")]
    for number in sum(lists, []):
        if not number.isdecimal() or not 1 <= int(number) <= MAX_SCALE:
            raise ValueError(
                f"--scales={text}: {number!r} is not a number of pixels, 1 to {MAX_SCALE}; write lists of numbers as "
                "in --scales=256/352,384, one per run"
            )
    scales = [tuple(map(int, numbers)) for numbers in lists]
    if twice := [found for found in scales if len({*found}) < len(found)]:
        raise ValueError(f"--scales={text} has a scale twice in {','.join(map(str, twice[0]))}; leave one out")
    return scales


def _files(entries: Sequence[str]) -> tuple[Path, ...]:
    if not entries:
        raise ValueError("--classes_from=RUN:TEST is missing: the saved probabilities that decide the classes")
    files = []
    for entry in entries:
        run, colon, test = entry.rpartition(":")
        if not (run and colon and test):
            raise ValueError(f"--classes_from={entry} is not RUN:TEST, as in runs/vgg16:multi_crop_dense")
        for name in (f"probs.{test}.npy", f"eval.{test}.json", "labels.npy"):
            if not (needed := expanded(run) / name).is_file():
                raise FileNotFoundError(
                    f"{needed} is missing; test the net first: python -m deepconv.evaluate --run={run} --tests={test}"
                )
        files.append(expanded(run) / f"probs.{test}.npy")
    return tuple(files)
