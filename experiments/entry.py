"""The papers' tables and figures as data: rows -> runs -> tests, and what is done of them. No JAX."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from deepconv.config import recipes, smoke
from experiments.measurements import Cell, Config, Measurement, Results, Values

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # the status of tables need not wait for it

CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True)
class DataSet:
    """What the papers trained and tested on."""

    train: int  # examples
    test: int | None  # None: the paper did not test on it
    classes: int
    exact: bool = True  # whether the numbers of images are known to the last


DATA = {
    "cifar10": DataSet(50_000, 10_000, 10),
    "imagenet2012": DataSet(1_281_167, 50_000, 1000),
    "ilsvrc2010": DataSet(1_200_000, 150_000, 1000, exact=False),
    "imagenet_fall2009": DataSet(4_450_000, 4_450_000, 10_184, exact=False),  # half for training, half for testing
    "imagenet_fall2011": DataSet(15_000_000, None, 22_000, exact=False),
}
ERRORS = {"top-1 error, %": "top1_error", "top-5 error, %": "top5_error"}
OTHER_DATA = re.compile(r"name=|\d+ instead of \d+ images")  # how a departure begins that is one of the data
QUOTED = "as cited by the paper"
WITHHELD = "needs ILSVRC's test server: the test set's labels are not public"


@dataclass(frozen=True)
class Run:
    """A recipe and what is changed in it, and the run whose weights it begins with."""

    config: str  # "vgg16" of configs/vgg16.py
    overrides: Mapping[str, Any] = field(default_factory=dict)
    init_from: "Run | None" = None
    init_layers: Sequence[str] = ()
    smoke: bool = False

    @property
    def name(self) -> str:
        """Of its directory."""
        source = self.init_from.name if self.init_from else None
        return recipes.run_name(self.config, self.overrides, self.smoke, source, self.init_layers)

    @property
    def path(self) -> Path:
        """Of the recipe."""
        return CONFIGS / f"{self.config}.py"

    def load(self) -> ConfigDict:
        """The recipe with the changes. Raises ValueError."""
        return recipes.load(self.path, self.overrides, self.smoke)

    def arguments(self, tests: Sequence[str], runs: str = "runs") -> list[str]:
        """Of python -m deepconv.main."""
        fields = {name: written(value) for name, value in self.overrides.items()}
        source = [f"--init_from={runs}/{self.init_from.name}"] if self.init_from else []
        layers = [f"--init_layers={','.join(self.init_layers)}"] if self.init_layers else []
        changes = [f"--config.{name}={value}" for name, value in fields.items()]
        start = [f"--config=configs/{self.config}.py", *["--smoke"] * self.smoke]
        evals = [f"--evals={','.join(tests)}"] if tests else []
        return [*start, *changes, *source, *layers, *evals]

    def after(self, command: str, runs: str = "runs") -> str:
        """A command that a table's measure needs, for this run."""
        data = self.load().data
        return command.format(run=f"{runs}/{self.name}", train=data.train_split, eval=data.eval_split)

    def shrunk(self, changes: Mapping[str, Any]) -> "Run":
        """The same as a run of seconds on the built-in data, with further changes.

        Of its own changes are left those of the net and the images; the others are seeds, durations and rates.
        """
        config = self.load().copy_and_resolve_references().unlock()
        smoke.shrink(config, changes)
        mine = flatten(config.to_dict())
        base = flatten(recipes.load(self.path, changes, smoke=True).to_dict())
        kept = {name: mine[name] for name in self.overrides if mine.get(name) != base.get(name)}
        kept = {name: value for name, value in kept.items() if name.startswith(("model.", "data."))}
        kept.pop("data.lighting_until_epochs", None)
        before = self.init_from.shrunk(changes) if self.init_from else None
        return replace(self, overrides={**kept, **changes}, init_from=before, smoke=True)


@dataclass(frozen=True)
class Row:
    """A line of a table, or a curve of a figure: what the paper has, and how it is measured here."""

    label: str
    paper: Sequence[Cell]  # one for each column
    runs: Sequence[Run] = ()
    tests: Sequence[str] = ("center",)  # for all runs, or one for each
    combine: str = "mean"  # "mean" or "best" of the runs' numbers; "ratio" of two; "ensemble": of mean probabilities
    less: Run | None = None  # numbers are differences from those of this run
    quoted: str = ""  # whose number it is, where it is not the paper's own
    needs: str = ""  # what is not built yet, or not to be had
    note: str = ""

    def pairs(self) -> list[tuple[Run, str]]:
        """The runs with their tests."""
        tests = self.tests if len(self.tests) > 1 else [*self.tests] * len(self.runs)
        return list(zip(self.runs, tests, strict=True))

    def everything(self) -> list[tuple[Run, str]]:
        """Those, and the run that the others are compared with."""
        return [*self.pairs(), *([(self.less, self.tests[0])] if self.less else [])]


@dataclass(frozen=True)
class Table:
    """A table or figure. Columns are {what the paper calls it: the name of ours}.

    counts: columns that are counted from a run's config, without training it. measure(directory, test) gives the other
    columns' numbers of a run, and what is to be drawn, or None where they are not there yet. after: commands that
    measure needs, less `python -m`, with {run} for the directory.
    """

    title: str
    columns: Mapping[str, str]
    rows: Sequence[Row]
    counts: Mapping[str, Callable[[Run], Cell]] = field(default_factory=dict)
    measure: Callable[[Path, str], Values | None] | None = None
    draw: "Callable[[Results], Figure] | None" = None
    after: Sequence[str] = ()
    note: str = ""

    def trained(self) -> list[str]:
        """The names of columns for which a run has to be trained."""
        return [name for name in self.columns.values() if name not in self.counts and name != WITHHELD]


def jobs(pairs: Iterable[tuple[Run, str]]) -> dict[str, tuple[Run, list[str]]]:
    """Of runs with a test each: runs by name with all their tests; those that others begin with are before these."""
    found: dict[str, tuple[Run, list[str]]] = {}

    def add(run: Run, tests: list[str]) -> None:
        if run.init_from:
            add(run.init_from, [])
        first, known = found.setdefault(run.name, (run, []))
        if first != run:
            raise ValueError(f"two runs are called {run.name}: {first} and {run}")
        known += [test for test in tests if test not in known]

    for run, test in pairs:
        add(run, [test])
    return found


def missing(table: Table, results: Results) -> list[tuple[Run, str]]:
    """Runs with tests that are still to be done; of an ensemble all, since their probabilities are needed together."""
    pairs = []
    for row in table.rows if table.trained() else ():
        if not (row.quoted or row.needs) and ours(row, results) is None:
            known = {(record["run"], record["test"]) for record in exact(row, results)}
            pairs += [(run, test) for run, test in row.everything() if (run.name, test) not in known]
    return pairs


def state(table: Table, row: Row, results: Results) -> str:
    """ "done", "missing", "out of reach" or "quoted"."""
    if row.quoted or row.needs:
        return "quoted" if row.quoted else "out of reach"
    counted = not table.counts or row.label in results.get("counted", {})
    trained = not table.trained() or ours(row, results) is not None
    return "done" if counted and trained else "missing"


def exact(row: Row, results: Results) -> list[Measurement]:
    """Records of exactly what the paper did."""
    return [record for record in results.get("rows", {}).get(row.label, []) if not record["departs"]]


def ours(row: Row, results: Results) -> list[Measurement] | None:
    """The exact records that fill a row, one per run in order, or one of an ensemble; None where one is missing."""
    records = by_run(exact(row, results))
    if row.combine == "ensemble":
        return [*records.values()] or None
    wanted = [(run.name, test) for run, test in row.everything()]
    return [records[pair] for pair in wanted] if wanted and records.keys() >= {*wanted} else None


def by_run(records: Iterable[Measurement]) -> dict[tuple[str, str], Measurement]:
    """A record for each run and test: of several, that of the directory with the run's name, then the newest."""
    ordered = sorted(records, key=lambda record: (record["directory"] == record["run"], record["trained"][0]["time"]))
    return {(record["run"], record["test"]): record for record in ordered}


def on_paper_data(results: Results) -> Results:
    """The rows with the records of runs that saw the paper's images: no others are drawn in the paper's figures."""
    rows = {
        label: [record for record in records if not any(map(OTHER_DATA.match, record["departs"]))]
        for label, records in results.get("rows", {}).items()
    }
    return {"rows": {label: records for label, records in rows.items() if records}} if any(rows.values()) else {}


def numbers(table: Table, row: Row, results: Results) -> dict[str, tuple[Cell, float | None]]:
    """For each column, ours and the spread over seeds (None of one); only where all that the paper did was done."""
    cells: dict[str, tuple[Cell, float | None]] = {}
    for name, counted in results.get("counted", {}).get(row.label, {}).items():
        cells[name] = (counted, None)
    records = ours(row, results) if row.runs and table.trained() else None
    for name in table.trained() if records else ():
        found: list[Cell] = [record["values"].get(name) for record in records or ()]
        if row.combine == "ratio":
            found = [_ratio(*found)]
        values = [value for value in found if isinstance(value, float | int)]
        if len(values) < len(found):
            cells[name] = (found[0] if len(found) == 1 else None, None)
            continue
        if row.less:
            *values, base = values
            values = [value - base for value in values]
        mean = sum(values) / len(values) if len(values) > 1 else values[0]
        many = len(values) > 1 and row.combine == "mean"
        spread = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5 if many else None
        cells[name] = (min(values) if row.combine == "best" else mean, spread)
    return cells


def _ratio(number: Cell, other: Cell) -> Cell:
    """Of "more than 40" and 5, "more than 8.0"; None where there is no telling."""
    if not isinstance(other, float | int) or number is None:
        return None
    if isinstance(number, str):
        words, limit = number.rsplit(" ", 1)
        return f"{words} {float(limit) / other:.1f}"
    return number / other


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Config:
    """{"model": {"depth": 20}} -> {"model.depth": 20}."""
    flat: Config = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def shrink_test(name: str, before: int, after: int) -> str:
    """The name of a test, its scales made to fit crops of `after` pixels instead of `before`."""
    return re.sub(r"(?<=[q_])[0-9]+", lambda scale: str(int(scale[0]) * after // before), name)


def written(value: Any) -> str:
    """As a flag has it."""
    if isinstance(value, tuple | list):
        return ",".join(map(str, value)) or "()"
    return str(value)
