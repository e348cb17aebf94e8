"""The papers' tables and figures as data: rows -> runs -> tests. Without JAX."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from deepconv.config import recipes, smoke
from experiments.measurements import Cell, Results, Values

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # slow to import

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ERRORS = {"top-1 error, %": "top1_error", "top-5 error, %": "top5_error"}
BENCHMARKS = ("voc2007", "voc2012", "caltech101", "caltech256", "voc2012_action")  # of VGG's Tables 11 and 12
# matches departures in the data
OTHER_DATA = re.compile(r"(name|data|train_split|eval_split)=|\d+ instead of \d+ images")
QUOTED = "quoted by the paper from other work"
EVERY_IMAGE = (
    "All images are counted; ILSVRC leaves out blacklisted ones, without which the errors are in the runs' directories."
)
WITHHELD = "needs ILSVRC's test server: the test labels are not public"


@dataclass(frozen=True)
class Run:
    """A recipe with changes, the run whose weights it starts from, and the run whose net makes its proposals."""

    config: str  # the recipe's name: "vgg16" for configs/vgg16.py
    overrides: Mapping[str, Any] = field(default_factory=dict)
    init_from: "Run | None" = None
    init_layers: Sequence[str] = ()
    smoke: bool = False
    proposals_from: "Run | None" = None

    @property
    def name(self) -> str:
        """The name of the run's directory."""
        source = self.init_from.name if self.init_from else None
        proposer = self.proposals_from.name if self.proposals_from else None
        named = self.config, self.overrides, self.smoke, source, self.init_layers
        return recipes.run_name(*named, proposals_from=proposer)

    @property
    def sources(self) -> "list[Run]":
        """The runs that must be trained before this one."""
        return [run for run in (self.init_from, self.proposals_from) if run]

    @property
    def path(self) -> Path:
        """The path of the recipe."""
        return CONFIGS / f"{self.config}.py"

    def load(self) -> ConfigDict:
        """Returns the recipe with the changes. Raises ValueError."""
        return recipes.load(self.path, self.overrides, self.smoke)

    def arguments(self, tests: Sequence[str], runs: str = "runs") -> list[str]:
        """Returns the arguments of python -m deepconv.main."""
        fields = {name: flag_value(value) for name, value in self.overrides.items()}
        source = [f"--init_from={runs}/{self.init_from.name}"] if self.init_from else []
        layers = [f"--init_layers={','.join(self.init_layers)}"] if self.init_layers else []
        proposer = [f"--proposals_from={runs}/{self.proposals_from.name}"] if self.proposals_from else []
        changes = [f"--config.{name}={value}" for name, value in fields.items()]
        start = [f"--config=configs/{self.config}.py", *["--smoke"] * self.smoke]
        evals = [f"--evals={','.join(tests)}"] if tests else []
        return [*start, *changes, *source, *layers, *proposer, *evals]

    def format_command(self, command: str, runs: str = "runs") -> str:
        """Returns one of a table's extra commands with this run's directory and splits filled in."""
        data = self.load().data
        return command.format(run=f"{runs}/{self.name}", train=data.train_split, eval=data.eval_split)

    def shrunk(self, changes: Mapping[str, Any]) -> "Run":
        """Returns this run shrunk to seconds on the built-in data, with further changes.

        It keeps the run's own changes of the net, its objective and the images, but not of seeds, durations and rates.
        The runs that must be trained before it are not shrunk.
        """
        config = self.load().copy_and_resolve_references().unlock()
        smoke.shrink(config, changes)
        shrunk = recipes.flatten(config.to_dict())
        base = recipes.flatten(recipes.load(self.path, changes, smoke=True).to_dict())
        kept = {name: shrunk[name] for name in self.overrides if shrunk.get(name) != base.get(name)}
        kept = {name: value for name, value in kept.items() if name.startswith(("model.", "data.", "objective"))}
        kept.pop("data.lighting_until_epochs", None)
        return replace(self, overrides={**kept, **changes}, smoke=True)


@dataclass(frozen=True)
class Command:
    """A command that reads finished runs and measures values, such as python -m deepconv.transfer.

    It writes one JSON file, named after its module, to --workdir: the values; its other arguments, under the names of
    their flags; its runs, as lists of {"directory", "step"} with "test" where it reads one, under `runs` for the flag
    --run and else under the name of the flag; `images`, {split: their number}; and the fields of an Environment
    (deepconv.run.starts).
    """

    module: str
    arguments: Mapping[str, Any]
    runs: Mapping[str, Sequence[tuple[Run, str]]]  # {flag: runs, each with the test that is read, or ""}
    values: Mapping[str, str]  # {column: field of the file}; <field>_std is its standard deviation
    examples: Mapping[str, int] = field(default_factory=dict)  # {split: the paper's number of images}, as far as known
    images: str = ""  # the images it measures on, where the labels of the paper's are not public

    @property
    def test(self) -> str:
        """The name of the module's last part, which is the `test` of its records."""
        return self.module.rpartition(".")[2]

    @property
    def file(self) -> str:
        """The name of the file it writes."""
        return f"{self.test}.json"

    @property
    def name(self) -> str:
        """The name of its directory."""
        runs = {flag: [(run.name, test) for run, test in pairs] for flag, pairs in self.runs.items()}
        arguments = {flag: flag_value(value).replace(",", "+") for flag, value in self.arguments.items()}
        return recipes.result_name(self.test, arguments, runs)

    def pairs(self) -> list[tuple[Run, str]]:
        """Returns the runs that it reads, with their tests."""
        return [pair for pairs in self.runs.values() for pair in pairs]

    def line(self, runs: str = "runs") -> list[str]:
        """Returns the module and its arguments, after `python -m`.

        A flag is repeated for each of its runs, since names of runs contain commas.
        """
        named = [
            f"--{flag}={runs}/{run.name}{f':{test}' if test else ''}"
            for flag, pairs in self.runs.items()
            for run, test in pairs
        ]
        others = [f"--{flag}={flag_value(value)}" for flag, value in self.arguments.items()]
        return [self.module, *named, *others, f"--workdir={runs}/{self.name}"]


@dataclass(frozen=True)
class Row:
    """A line of a table or a curve of a figure: the paper's numbers, and what measures them here.

    That is either runs with tests, or commands that read finished runs.
    """

    label: str
    paper: Sequence[Cell]  # one for each column
    runs: Sequence[Run] = ()
    tests: Sequence[str] = ("center",)  # one for all runs, or one for each
    combine: str = "mean"  # "mean" or "best" of the runs' numbers, "ratio" of two, or "ensemble": mean probabilities
    baseline: Run | None = None  # its numbers are subtracted
    commands: Sequence[Command] = ()  # each measures some of the columns
    quoted: str = ""  # the reason why the row is only quoted
    needs: str = ""  # the missing part: not built yet, or not public
    note: str = ""

    def pairs(self) -> list[tuple[Run, str]]:
        """Returns the runs with their tests."""
        tests = self.tests if len(self.tests) > 1 else [*self.tests] * len(self.runs)
        return list(zip(self.runs, tests, strict=True))

    def all_pairs(self) -> list[tuple[Run, str]]:
        """Returns the runs and the baseline with their tests."""
        return [*self.pairs(), *([(self.baseline, self.tests[0])] if self.baseline else [])]

    def needed_pairs(self) -> list[tuple[Run, str]]:
        """Returns all runs that must be trained for this row, with their tests: also those that its commands read."""
        return [*self.all_pairs(), *(pair for command in self.commands for pair in command.pairs())]

    def measurements(self) -> list[tuple[str, str]]:
        """Returns the name and the test of each record that fills the row, except for an ensemble."""
        commands = [(command.name, command.test) for command in self.commands]
        return [*((run.name, test) for run, test in self.all_pairs()), *commands]


@dataclass(frozen=True)
class Table:
    """A table or figure. columns: {heading: name of the value in records}.

    counts: the columns counted from a run's config, without training. measure(directory, test): returns a run's values
    for the other columns and for the figure, or None if they do not exist yet. extra_commands: commands that measure
    needs, without `python -m`, with {run} for the directory and {train}, {eval} for the splits.
    """

    title: str
    columns: Mapping[str, str]
    rows: Sequence[Row]
    counts: Mapping[str, Callable[[Run], Cell]] = field(default_factory=dict)
    measure: Callable[[Path, str], Values | None] | None = None
    draw: "Callable[[Results], Figure] | None" = None
    extra_commands: Sequence[str] = ()
    note: str = ""

    def trained_columns(self) -> list[str]:
        """Returns the names of the columns that need trained runs."""
        return [name for name in self.columns.values() if name not in self.counts and name != WITHHELD]


def jobs(pairs: Iterable[tuple[Run, str]]) -> dict[str, tuple[Run, list[str]]]:
    """Returns {name: (run, its tests)}; a run comes after its sources. The test "" is none."""
    found: dict[str, tuple[Run, list[str]]] = {}

    def add(run: Run, tests: list[str]) -> None:
        for source in run.sources:
            add(source, [])
        first, first_tests = found.setdefault(run.name, (run, []))
        if first != run:
            raise ValueError(f"two runs are called {run.name}: {first} and {run}")
        first_tests += [test for test in tests if test not in first_tests]

    for run, test in pairs:
        add(run, [test] if test else [])
    return found


def shrink_test(name: str, before: int, after: int) -> str:
    """Returns the name of a test with its scales changed for crops of `after` pixels instead of `before`."""
    return re.sub(r"(?<=[q_])[0-9]+", lambda scale: str(int(scale[0]) * after // before), name)


def flag_value(value: Any) -> str:
    """Formats a value as a flag takes it: 1,2 for a list, 1/2,3 for a list of lists."""
    if isinstance(value, tuple | list):
        separator = "/" if value and isinstance(value[0], tuple | list) else ","
        return separator.join(map(flag_value, value)) or "()"
    return str(value)
