"""What is kept of runs and their tests: the records of experiments/results/*.json."""

from typing import Any, Required, TypedDict

Cell = float | str | None  # None: the paper has nothing there
Values = dict[str, Any]  # what a run gives: a number for each column, and what a figure draws
Config = dict[str, Any]  # a run's config.json, which may be of an earlier version, or flat


class Environment(TypedDict):
    """With what something was computed."""

    device: str
    commit: str | None
    dirty: bool | None
    versions: dict[str, str] | None


class Start(Environment):
    """A start of training."""

    time: str


class Trained(TypedDict, total=False):
    """A run: its config, how it was trained, and the run whose weights it began with, of which all may be unknown."""

    directory: Required[str]
    seed: int
    steps: int
    finished: bool
    hours: float
    trained: list[Start]
    replaced: int  # images
    config: Config | None  # None: of a record from before records had configs
    init: "Trained"
    run: str  # of a table's row, which the record belongs to
    departs: list[str]  # what was done otherwise than in that run


class Measurement(Trained, total=False):
    """What a test of a run gave."""

    test: str
    values: Values
    tested: Environment | None  # None: where it was trained
    unfinished: list[str]
    of: list["Measurement"]  # the members of an ensemble


class Results(TypedDict, total=False):
    """What was measured of an entry."""

    title: str
    counted: dict[str, dict[str, Cell]]
    rows: dict[str, list[Measurement]]
    unassigned: list[Measurement]
