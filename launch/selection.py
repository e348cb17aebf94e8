"""The runs that a command line names: those of tables, or those of a grid, a Python file with a function sweep()."""

import contextlib
import importlib.util
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from deepconv import cli
from deepconv.config import fields, recipes
from deepconv.run.files import printable
from experiments import cells, entries, entry, jobs
from experiments.entry import Run

RUNS = "runs"  # the folder of all runs
PASSED_ON = ("data_dir", "workers", "model_parallel", "accumulate", "heartbeat_seconds")  # to every command of a run
TRANSFER = "deepconv.transfer"
EXAMPLE = "yield {'optimizer.learning_rate': 0.1}"


@dataclass(frozen=True)
class Selection:
    """Runs, the commands that read them, and the jobs of those without results, each after the jobs it needs."""

    runs: Mapping[str, Run]  # by name, as all fields
    files: Mapping[str, list[str]]  # the results of each run and command in its directory
    jobs: Mapping[str, jobs.Job]
    measured: Mapping[str, float | None]  # of those with committed results: the top-1 error in percent, if it has one


def select(arguments: list[str], starts: bool = True) -> Selection:
    """Returns the runs of the arguments, which are entries, papers, or one grid. Raises ValueError and OSError.

    With `starts`, runs are to be started: another recipe of the same name in ./configs is refused.
    """
    names = arguments[1:]
    if not names:
        raise ValueError("no entry is given; name one, such as resnet/table6; deepconv experiments lists them")
    if flags.FLAGS["forms"].present:
        raise ValueError("--forms belongs to one run; remove it")
    if flags.FLAGS["shorten"].present:
        raise ValueError("--shorten belongs to one run; remove it")
    if any(name.endswith(".py") for name in names):
        selection = _grid(names)
    else:
        if single := [name for name in ("config", "smoke") if flags.FLAGS[name].present]:
            raise ValueError(f"--{single[0]} belongs to one run; remove it: an entry fixes its runs")
        selection = _tables(names)
    for run in selection.runs.values() if starts else ():
        found = recipes.find(f"configs/{run.config}.py")
        if found.read_bytes() != run.path.read_bytes():
            raise ValueError(
                f"{found} would be trained in place of {run.path}; rename it, or start from another folder"
            )
    return selection


def command_line(arguments: list[str]) -> str:
    """Returns the arguments that select the same runs again, with the flags that change a grid's recipe."""
    flag, words = flags.FLAGS["config"], arguments[1:]
    if flag.present:
        changes = config_flags.get_override_values(flag)
        words.append(f"--config={Path(config_flags.get_config_filename(flag)).stem}")
        words += [f"--config.{name}={entry.flag_value(value)}" for name, value in changes.items()]
    words += ["--smoke"] * bool(flags.FLAGS["smoke"].value)
    return shlex.join(words)


def _tables(names: list[str]) -> Selection:
    chosen = entries.load(names)
    done = {name: entries.results(name) for name in chosen}
    trained = [(table, row) for table in chosen.values() if table.trained_columns() for row in table.rows]
    rows = [row for _, row in trained if not (row.quoted or row.needs)]
    todo = jobs.missing(chosen, done, RUNS, passed_on())
    selected = entry.jobs(pair for row in rows for pair in row.needed_pairs())
    files = _eval_files(selected) | {command.name: [command.file] for row in rows for command in row.commands}
    files |= _eval_files(entry.jobs(jobs.missing_runs(chosen, done)))  # other tests of these runs are in the results
    measured: dict[str, float | None] = dict.fromkeys(name for name in files if name not in todo)
    for row, results in [(row, done[name]) for name, table in chosen.items() for row in table.rows]:
        for record in cells.exact_records(row, results):
            error = record["values"].get("top1_error")
            if record["run"] in measured and isinstance(error, float | int):
                measured[record["run"]] = error
    return Selection({name: run for name, (run, _) in selected.items()}, files, todo, measured)


def _eval_files(selected: Mapping[str, tuple[Run, list[str]]]) -> dict[str, list[str]]:
    """Returns {run: the files of its tests}; without tests, a run writes those of the test `center`."""
    return {name: [f"eval.{test}.json" for test in tests or ["center"]] for name, (_, tests) in selected.items()}


def _grid(names: list[str]) -> Selection:
    """Returns the runs that sweep() of a file yields: changes of the recipe of --config, or `Run`s."""
    if len(names) > 1:
        raise ValueError(f"{' '.join(names)}: give either one grid or entries")
    flag = flags.FLAGS["config"]
    recipe = Path(config_flags.get_config_filename(flag)).resolve() if flag.present else None
    if recipe and recipe.parent != entry.CONFIGS:
        raise ValueError(f"--config={recipe} is not in {entry.CONFIGS}, where the recipe of a grid must be")
    common = dict(config_flags.get_override_values(flag)) if recipe else {}
    runs, points = [], _sweep(Path(names[0]))
    for point in points:
        if isinstance(point, Run):
            if flags.FLAGS["smoke"].value and not point.smoke:
                raise ValueError(
                    f"--smoke does not shrink Run objects, which {names[0]} yields; write Run(..., smoke=True)"
                )
            if wrong := [source for source in point.sources if not isinstance(source, Run)]:
                raise ValueError(
                    f"{names[0]}: a Run starts from a Run, not from {wrong[0]!r}; give Run(...) there, too"
                )
            runs.append(point)
        elif not isinstance(point, Mapping):
            raise ValueError(f"{names[0]}: sweep() yields {point!r}; it must yield dicts of changes, as in {EXAMPLE}")
        elif not recipe:
            raise ValueError(f"{names[0]} changes fields of a recipe; name it, as in --config=resnet_cifar")
        else:
            runs.append(Run(recipe.stem, common | _typed(recipe, point), smoke=bool(flags.FLAGS["smoke"].value)))
    if recipe and all(isinstance(point, Run) for point in points):
        raise ValueError(f"--config has no effect on Run objects, and {names[0]} yields no others; leave it out")
    run_names = [run.name for run in runs]
    if twice := [name for name in run_names if run_names.count(name) > 1]:
        raise ValueError(f"{names[0]}: sweep() yields the same run twice, {twice[0]}; remove one")
    for run in runs:
        try:
            fields.check_fields(run.load())
        except ValueError as error:
            raise ValueError(f"{names[0]}: {run.name}: {error}") from None
    pairs = [(run, "center") for run in runs]
    todo = jobs.for_runs(pairs, RUNS, passed_on())
    selected = entry.jobs(pairs)
    return Selection({name: run for name, (run, _) in selected.items()}, _eval_files(selected), todo, {})


def _typed(recipe: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns changes with the types of the recipe's fields, so that a rate of 1 names a run as 1.0 does."""
    with contextlib.suppress(ValueError):  # a wrong field or type is reported with the name of its run
        known = recipes.flatten(recipes.load(recipe, changes).to_dict())
        return {name: known.get(name, value) for name, value in changes.items()}
    return dict(changes)


def _sweep(file: Path) -> list[object]:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ValueError(f"{file} does not exist")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "sweep"):
            raise ValueError(f"it has no function sweep(); define one that yields dicts of changes, as in {EXAMPLE}")
        points = [*module.sweep()]
    except Exception as error:  # a grid is arbitrary code
        raise ValueError(f"{file} is not a grid: {type(error).__name__}: {error}") from None
    if not points:
        raise ValueError(f"{file}: sweep() yields nothing; it must yield dicts of changes, as in {EXAMPLE}")
    return points


def passed_on() -> list[str]:
    """Returns the given flags that say where and how a run works, which do not belong to its config."""
    given = flags.FLAGS
    return [f"--{name}={given[name].value}" for name in PASSED_ON if given[name].present]


def check_division(runs: Iterable[Run], nodes: int, gpus_per_node: int) -> None:
    """Raises ValueError if the GPUs of a run cannot share its net as --model_parallel says, or divide its batch."""
    shared = cli.MODEL_PARALLEL.value
    if gpus_per_node % shared:
        raise ValueError(
            f"--model_parallel={shared} cannot divide the {gpus_per_node} GPUs of a node; give a multiple of it"
        )
    devices = max(1, nodes * max(1, gpus_per_node) // shared)
    for run in runs:
        if (size := run.load().batch_size) % devices:
            raise ValueError(
                f"{run.name}: config.batch_size={size} cannot be divided among {devices} devices; give another --nodes "
                "or --gpus_per_node"
            )


def check_data(selected: Selection) -> None:
    """Raises ValueError with a line for each data set that the runs lack; warns of those that later commands lack."""
    from deepconv.data import sources
    from deepconv.transfer import benchmarks

    problems = {}
    commands = [command for job in selected.jobs.values() for command in job.commands if command[0] == TRANSFER]
    for name in dict.fromkeys(
        word.removeprefix("--data=") for words in commands for word in words if "--data=" in word
    ):
        try:
            benchmarks.find(name, cli.DATA_DIR.value)
        except (ValueError, OSError) as error:
            print(
                f"deepconv: commands that follow the runs are going to fail: {printable(str(error))}", file=sys.stderr
            )
    for run in (run for name, run in selected.runs.items() if name in selected.jobs):
        config = run.load()
        data, find = config.data, sources.find_annotated if fields.predicts_boxes(config) else sources.find
        for split in (data.train_split, data.eval_split):
            try:
                find(data.name, split, cli.DATA_DIR.value, data.image_size, data.get("train_scale"))
            except (ValueError, OSError) as error:
                problems.setdefault(data.name, str(error))
    if problems:
        raise ValueError("\n".join(problems.values()))
