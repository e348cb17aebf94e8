"""The papers' tables and figures as data: rows -> runs -> tests, and the state of their results. Without JAX."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from deepconv.config import recipes, smoke
from experiments.measurements import Cell, Config, Measurement, Results, Values

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # slow to import

CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True)
class DataSet:
    """A data set of the papers, with its numbers of images."""

    train: int
    test: int | None  # None: the paper did not test on it
    classes: int
    exact: bool = True  # False: the numbers of images are rounded


DATA = {
    "cifar10": DataSet(50_000, 10_000, 10),
    "imagenet2012": DataSet(1_281_167, 50_000, 1000),
    "ilsvrc2010": DataSet(1_200_000, 150_000, 1000, exact=False),
    "imagenet_fall2009": DataSet(4_450_000, 4_450_000, 10_184, exact=False),  # half for training, half for testing
    "imagenet_fall2011": DataSet(15_000_000, None, 22_000, exact=False),
}
ERRORS = {"top-1 error, %": "top1_error", "top-5 error, %": "top5_error"}
OTHER_DATA = re.compile(r"name=|\d+ instead of \d+ images")  # matches departures in the data
QUOTED = "quoted by the paper from other work"
WITHHELD = "needs ILSVRC's test server: the test labels are not public"


@dataclass(frozen=True)
class Run:
    """A recipe with changes, and the run whose weights it starts from."""

    config: str  # the recipe's name: "vgg16" for configs/vgg16.py
    overrides: Mapping[str, Any] = field(default_factory=dict)
    init_from: "Run | None" = None
    init_layers: Sequence[str] = ()
    smoke: bool = False

    @property
    def name(self) -> str:
        """The name of the run's directory."""
        source = self.init_from.name if self.init_from else None
        return recipes.run_name(self.config, self.overrides, self.smoke, source, self.init_layers)

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
        changes = [f"--config.{name}={value}" for name, value in fields.items()]
        start = [f"--config=configs/{self.config}.py", *["--smoke"] * self.smoke]
        evals = [f"--evals={','.join(tests)}"] if tests else []
        return [*start, *changes, *source, *layers, *evals]

    def format_command(self, command: str, runs: str = "runs") -> str:
        """Returns one of a table's extra commands with this run's directory and splits filled in."""
        data = self.load().data
        return command.format(run=f"{runs}/{self.name}", train=data.train_split, eval=data.eval_split)

    def shrunk(self, changes: Mapping[str, Any]) -> "Run":
        """Returns this run shrunk to seconds on the built-in data, with further changes.

        It keeps the run's own changes of the net and the images, but not of seeds, durations and rates.
        """
        config = self.load().copy_and_resolve_references().unlock()
        smoke.shrink(config, changes)
        shrunk = flatten(config.to_dict())
        base = flatten(recipes.load(self.path, changes, smoke=True).to_dict())
        kept = {name: shrunk[name] for name in self.overrides if shrunk.get(name) != base.get(name)}
        kept = {name: value for name, value in kept.items() if name.startswith(("model.", "data."))}
        kept.pop("data.lighting_until_epochs", None)
        source = self.init_from.shrunk(changes) if self.init_from else None
        return replace(self, overrides={**kept, **changes}, init_from=source, smoke=True)


@dataclass(frozen=True)
class Row:
    """A line of a table or a curve of a figure: the paper's numbers, and the runs and tests that measure them here."""

    label: str
    paper: Sequence[Cell]  # one for each column
    runs: Sequence[Run] = ()
    tests: Sequence[str] = ("center",)  # one for all runs, or one for each
    combine: str = "mean"  # "mean" or "best" of the runs' numbers, "ratio" of two, or "ensemble": mean probabilities
    baseline: Run | None = None  # its numbers are subtracted
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

    def trained(self) -> list[str]:
        """Returns the names of the columns that need trained runs."""
        return [name for name in self.columns.values() if name not in self.counts and name != WITHHELD]


def jobs(pairs: Iterable[tuple[Run, str]]) -> dict[str, tuple[Run, list[str]]]:
    """Returns {name: (run, its tests)}; a run comes after the run whose weights it starts from."""
    found: dict[str, tuple[Run, list[str]]] = {}

    def add(run: Run, tests: list[str]) -> None:
        if run.init_from:
            add(run.init_from, [])
        first, first_tests = found.setdefault(run.name, (run, []))
        if first != run:
            raise ValueError(f"two runs are called {run.name}: {first} and {run}")
        first_tests += [test for test in tests if test not in first_tests]

    for run, test in pairs:
        add(run, [test])
    return found


def missing(table: Table, results: Results) -> list[tuple[Run, str]]:
    """Returns the runs and tests without results; for an ensemble all, since it needs all probabilities."""
    pairs = []
    for row in table.rows if table.trained() else ():
        if not (row.quoted or row.needs) and row_records(row, results) is None:
            done = {(record["run"], record["test"]) for record in exact_records(row, results)}
            pairs += [(run, test) for run, test in row.all_pairs() if (run.name, test) not in done]
    return pairs


def state(table: Table, row: Row, results: Results) -> str:
    """Returns "done", "missing", "out of reach" or "quoted"."""
    if row.quoted or row.needs:
        return "quoted" if row.quoted else "out of reach"
    counted = not table.counts or row.label in results.get("counted", {})
    trained = not table.trained() or row_records(row, results) is not None
    return "done" if counted and trained else "missing"


def exact_records(row: Row, results: Results) -> list[Measurement]:
    """Returns the records without departures from the paper."""
    return [record for record in results.get("rows", {}).get(row.label, []) if not record["departs"]]


def row_records(row: Row, results: Results) -> list[Measurement] | None:
    """Returns the exact records that fill a row, one per run, or one for an ensemble; None if one is missing."""
    records = by_run(exact_records(row, results))
    if row.combine == "ensemble":
        return [*records.values()] or None
    wanted = [(run.name, test) for run, test in row.all_pairs()]
    return [records[pair] for pair in wanted] if wanted and records.keys() >= {*wanted} else None


def by_run(records: Iterable[Measurement]) -> dict[tuple[str, str], Measurement]:
    """Returns one record per run and test, preferring the directory with the run's name, then the newest."""
    ordered = sorted(records, key=lambda record: (record["directory"] == record["run"], record["trained"][0]["time"]))
    return {(record["run"], record["test"]): record for record in ordered}


def on_paper_data(results: Results) -> Results:
    """Returns the rows with the records of runs on the paper's images; figures draw only these."""
    rows = {
        label: [record for record in records if not any(map(OTHER_DATA.match, record["departs"]))]
        for label, records in results.get("rows", {}).items()
    }
    return {"rows": {label: records for label, records in rows.items() if records}} if any(rows.values()) else {}


def numbers(table: Table, row: Row, results: Results) -> dict[str, tuple[Cell, float | None]]:
    """Returns {column: (our number, its standard deviation over seeds or None)}; trained columns need every run."""
    cells: dict[str, tuple[Cell, float | None]] = {}
    for name, counted in results.get("counted", {}).get(row.label, {}).items():
        cells[name] = (counted, None)
    records = row_records(row, results) if row.runs and table.trained() else None
    for name in table.trained() if records else ():
        found: list[Cell] = [record["values"].get(name) for record in records or ()]
        if row.combine == "ratio":
            found = [_ratio(*found)]
        values = [value for value in found if isinstance(value, float | int)]
        if len(values) < len(found):
            cells[name] = (found[0] if len(found) == 1 else None, None)
            continue
        if row.baseline:
            *values, base = values
            values = [value - base for value in values]
        mean = sum(values) / len(values) if len(values) > 1 else values[0]
        many = len(values) > 1 and row.combine == "mean"
        spread = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5 if many else None
        cells[name] = (min(values) if row.combine == "best" else mean, spread)
    return cells


def _ratio(numerator: Cell, denominator: Cell) -> Cell:
    """Returns the ratio, "more than 8.0" for "more than 40" and 5, or None if it is unknown."""
    if not isinstance(denominator, float | int) or numerator is None:
        return None
    if isinstance(numerator, str):
        words, limit = numerator.rsplit(" ", 1)
        return f"{words} {float(limit) / denominator:.1f}"
    return numerator / denominator


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Config:
    """Flattens {"model": {"depth": 20}} to {"model.depth": 20}."""
    flat: Config = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def shrink_test(name: str, before: int, after: int) -> str:
    """Returns the name of a test with its scales changed for crops of `after` pixels instead of `before`."""
    return re.sub(r"(?<=[q_])[0-9]+", lambda scale: str(int(scale[0]) * after // before), name)


def flag_value(value: Any) -> str:
    """Formats a value as a flag takes it."""
    if isinstance(value, tuple | list):
        return ",".join(map(str, value)) or "()"
    return str(value)
