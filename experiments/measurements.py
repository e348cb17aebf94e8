"""The records of runs and tests in experiments/results/*.json."""

from collections.abc import Mapping
from typing import Any, Literal, Required, TypedDict

Cell = float | str | None  # None: an empty cell
Values = dict[str, Any]  # a number for each column, and the data of a figure
Config = dict[str, Any]  # a run's config.json, perhaps of an earlier version, nested or flat

# {field of a run's config.json: field of Trained}
SOURCES: Mapping[str, Literal["init", "proposals"]] = {"init_from": "init", "proposals_from": "proposals"}


class Environment(TypedDict):
    """The device, commit and versions of a training or a test."""

    device: str
    commit: str | None
    dirty: bool | None
    versions: dict[str, str] | None


class Start(Environment):
    """A start of training."""

    time: str


class Trained(TypedDict, total=False):
    """A run: its config, its training, and its sources. Fields may be missing."""

    directory: Required[str]
    seed: int
    steps: int
    finished: bool
    hours: float
    trained: list[Start]
    replaced: int  # images
    config: Config | None  # None: a record of an earlier version
    init: "Trained"  # the run whose weights it started from
    proposals: "Trained"  # the run whose net made its proposals
    run: str  # the name of the row's run it is assigned to
    departs: list[str]  # its departures from that run


class Measurement(Trained, total=False):
    """A record: the values a test of a run measured."""

    test: str
    values: Values
    tested: Environment | None  # None: no test, or a test of an earlier version
    unfinished: list[str]  # departures of a training that stopped early
    of: list["Measurement"]  # the members of an ensemble, or the runs that a command read
    arguments: Config  # of a command that read runs


class Results(TypedDict, total=False):
    """The results of an entry."""

    title: str
    counted: dict[str, dict[str, Cell]]
    rows: dict[str, list[Measurement]]
    unassigned: list[Measurement]
