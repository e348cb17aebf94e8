"""The settings of a run, checked before its work begins: from a recipe, or from a run that exists."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from deepconv import cli, processes
from deepconv.config import durations, fields, recipes
from deepconv.config.mistakes import collecting, raise_all
from deepconv.run import checkpoint_files, trackers
from deepconv.run.files import expanded
from deepconv.start import Origin, Start, saved_statistics

if TYPE_CHECKING:
    from deepconv.data.sources.source import Source
    from deepconv.task import Task


@dataclass(frozen=True)
class Settings:
    """The checked settings of a run."""

    task: "Task"
    workdir: Path
    record: dict[str, Any]  # the content of config.json
    tests: Sequence[str]  # names of protocols
    weights: dict[str, Any]  # to start from, by layer; empty for a resumed run and for random weights
    trackers: Sequence[str] = ()  # besides TensorBoard; names of deepconv.run.trackers


def of_recipe(
    arguments: list[str],
    start: Start,
    workdir: str,
    tests: Sequence[str],
    train: bool | None,
    tests_given: bool = True,
    expect_devices: int | None = None,
    verify_data: bool = False,
    use_trackers: Sequence[str] = (),
    proposals_from: str = "",
) -> Settings:
    """Returns the settings that flags describe. Raises ValueError and OSError, with a line for each mistake.

    `workdir` is "" for runs/<name>; `train` is None if it depends on the weights and on whether tests are given.
    """
    mistakes: list[str] = []
    fields_of_source = functools.partial(start.fields, workdir=workdir)
    config, name = cli.load_config(arguments, start.init_from, fields_of_source, start.init_layers, proposals_from)
    processes.check_same(recipes.flatten(config.to_dict()))  # the number of later agreements depends on the objective
    from deepconv.data import sources

    sources.check_exists(config.data.name, cli.DATA_DIR.value)
    # Imported here, since `--help` and mistakes in the config need not wait for JAX.
    from deepconv import distributed
    from deepconv import task as task_lib
    from deepconv.data.sources import checksums
    from deepconv.localization import training_proposals

    folder = expanded(workdir or Path("runs", name))
    origin = start.record() if start.init_from else Origin()
    _check_flags(start, tests, use_trackers, mistakes)
    tests_only = start.is_for_tests_only(folder, train, tests_given)
    if tests_only:
        folder = folder if workdir else folder.with_name(f"{folder.name},train=False")
        origin["train"] = False
    given = saved_statistics(folder, start.init_from) if tests_only else None
    proposed = config.get("objective") == fields.REFINES and not tests_only
    with collecting(mistakes):
        _check_proposals(config, proposals_from, proposed)
    if expect_devices:
        with collecting(mistakes):
            distributed.check_devices(expect_devices)
    with collecting(mistakes):
        flag_values = cli.DATA_DIR.value, cli.WORKERS.value, tests, tests_only, given
        task = task_lib.prepare(config, *flag_values, cli.MODEL_PARALLEL.value, cli.ACCUMULATE.value)
    raise_all(mistakes)
    if verify_data:
        train_source, eval_source = (checksums.verified(source) for source in (task.train_source, task.eval_source))
        task = dataclasses.replace(task, train_source=train_source, eval_source=eval_source)
    record = json.loads(config.to_json()) | origin | _data(task)
    if proposed:
        source = training_proposals.with_proposals(config, task.train_source, proposals_from, folder)
        task, record = dataclasses.replace(task, train_source=source), record | {"proposals_from": proposals_from}
        if digest := checkpoint_files.newest(expanded(proposals_from) / "checkpoints")[1]:
            record[recipes.DIGESTS["proposals_from"]] = digest
    weights = start.weights(task, folder) if origin else {}
    return Settings(task, folder, record, tests, weights, use_trackers)


def _check_flags(start: Start, tests: Sequence[str], use_trackers: Sequence[str], mistakes: list[str]) -> None:
    """Adds a line to mistakes for each of these flags that is wrong."""
    from deepconv.evaluation import protocols

    if start.init_layers and not start.init_from:
        mistakes.append("--init_layers needs --init_from=RUN_DIR, the run to take layers from")
    if not tests:
        mistakes.append(f"--evals is empty; choose from {protocols.CHOICES}")
    for tracker in use_trackers:
        with collecting(mistakes):
            trackers.check(tracker)


def _check_proposals(config: ConfigDict, given: str, needed: bool) -> None:
    """Raises ValueError if --proposals_from is needed and not given, or the other way round."""
    if needed and not given:
        raise ValueError(
            f"--proposals_from=RUN is missing: config.objective={config.objective} is trained on proposals of a run of "
            f"config.objective={fields.PROPOSES}"
        )
    if given and not needed:
        raise ValueError(
            f"--proposals_from={given} is for training with config.objective={fields.REFINES}; leave it out"
        )


def of_run(workdir: Path, tests: Sequence[str]) -> Settings:
    """Returns the settings to test a run that is trained. Raises ValueError and OSError."""
    record = recipes.read_run(workdir)
    if "train_data" not in record:
        raise ValueError(
            f"{workdir} holds imported weights, and no data set; name a recipe with its data, as in "
            f"--weights={workdir} --config=resnet50"
        )
    total, saved = durations.total_steps(record), checkpoint_files.steps(workdir / "checkpoints")
    if not saved or saved[-1] < total:
        raise ValueError(
            f"{workdir} is an unfinished run (step {saved[-1] if saved else 0} of {total}); repeat the command that "
            "trains it, which is in its environment.json"
        )
    from deepconv.data import sources

    config = recipes.config_of(record)
    sources.check_exists(config.data.name, cli.DATA_DIR.value)
    from deepconv import task as task_lib  # imports JAX, which mistakes so far need not wait for

    tests_only = record.get("train") is False
    given = saved_statistics(workdir, record["init_from"]) if tests_only else None
    flag_values = cli.DATA_DIR.value, cli.WORKERS.value, tests, tests_only, given
    task = task_lib.prepare(config, *flag_values, trained=True)
    wanted, found = (recipes.identity(record | data) for data in ({}, _data(task)))
    if changes := recipes.differences(wanted, found):
        raise ValueError(f"this is not the data of {workdir}; give its --data_dir. {'; '.join(changes)}")
    missing = [test for test in tests if not (workdir / f"eval.{test}.json").exists()]
    newest = workdir / "checkpoints" / str(saved[-1])
    if missing and (reason := checkpoint_files.damage(newest)):
        command = f"the command that trains it, which is in {workdir / 'environment.json'}"
        remedy = f"add --evals={','.join(missing)} to {command}"
        raise ValueError(f"{newest} is damaged ({reason}); {'restore it' if tests_only else remedy}")
    return Settings(task, workdir, record, tests, {})


def _data(task: "Task") -> dict[str, str]:
    """Returns the part of config.json that identifies the data."""
    return {"train_data": _identity(task.train_source), "eval_data": _identity(task.eval_source)}


def _identity(source: "Source") -> str:
    return f"{source.examples} examples, {source.fingerprint[:16] or 'built in'}"
