"""Compares trained runs with the runs of rows: the same, with departures, or another experiment."""

from collections.abc import Mapping
from typing import Any

from deepconv.config import fields, recipes
from deepconv.data.known import DATA
from experiments.entry import BENCHMARKS, Command, Run, flag_value
from experiments.measurements import SOURCES, Config, Measurement, Trained
from experiments.records import started

# Fields in which a run may depart from the paper's and still appear in its row: length, seed, batch, data, starting
# weights, precision. A run that differs in any other field is another experiment.
MAY_DEPART = ("total_steps", "total_epochs", "seed", "batch_size", "init_from", "init_layers", "init_bgr", "train")
MAY_DEPART += (
    "data.name",
    "data.train_split",
    "data.eval_split",
    "data.mean",
    "data.std",
    "data.lighting_until_epochs",
)
MAY_DEPART += ("model.dtype", "model.bn_group", "model.initialization")
SCHEDULE_FIELDS = ("drop_at_steps", "drop_at_epochs", "freeze_at_steps", "freeze_at_epochs")  # at any depth
NOT_COMPARED = ("log_every_", "checkpoint_every_", "eval_every_", "data.on_corrupt", *recipes.DIGESTS.values())
Expected = Mapping[str, Config]  # flat configs of a table's runs, by run name


def departures(run: Run, trained: Trained, expected: Expected) -> list[str] | None:
    """Returns a trained run's departures from this run; None if it is another experiment."""
    if trained["config"] is None:  # a record of an earlier version, without a config
        return trained["departs"] if trained["run"] == run.name else None
    actual, wanted = flat(trained["config"]), expected[run.name] | {"init_layers": list(run.init_layers)}
    images = {split: int(actual.pop(f"{split}_data", "0").split(" ")[0]) for split in ("train", "eval")}
    for field in SOURCES:
        actual.pop(field, None)
    if wanted.get("data.central_square"):  # packed images are the same central squares
        actual["data.name"] = actual["data.name"].removesuffix("-256-uint8")
    differ = [name for name in sorted({*wanted, *actual}) if wanted.get(name) != actual.get(name)]
    differ = [name for name in differ if not name.startswith(NOT_COMPARED)]
    if any(name not in MAY_DEPART and name.split(".")[-1] not in SCHEDULE_FIELDS for name in differ):
        return None
    if any(".freeze_at_" in name and (name in wanted) != (name in actual) for name in differ):
        return None  # such as only the fully connected layers of a net, in VGG's Table 6
    lines = [
        f"{name.removeprefix('data.').removeprefix('optimizer.')}={flag_value(actual.get(name))}" for name in differ
    ]
    for field, key in SOURCES.items():
        source = trained[key] if key in trained else None
        lines += _source_departures(field, getattr(run, field), source, expected)
    if data := DATA.get(actual["data.name"]):
        boxes = fields.predicts_boxes(wanted)
        counts = (("train", data.train_with_boxes if boxes else data.train, boxes), ("eval", data.test, False))
        for split, size, rounded in counts:
            split_name, tolerance = actual[f"data.{split}_split"], 0 if data.exact and not rounded else 0.1
            counted = "[" not in split_name and not (split == "train" and actual.get("train") is False)
            if counted and size and abs(images[split] - size) > tolerance * size:
                lines.append(f"{images[split]} instead of {size} images in {split_name}")
    if trained["replaced"]:
        lines.append(f"{trained['replaced']} damaged images replaced")
    return lines


def _source_departures(field: str, wanted: Run | None, source: Trained | None, expected: Expected) -> list[str]:
    """Returns the departures of a run's source from the wanted run; field is one of SOURCES."""
    if not (source and wanted):
        return [f"{field}={source['directory'] if source else None}"] if source or wanted else []
    name = source["directory"]
    if "config" not in source:
        return [f"{field}={name}, whose directory is missing or has other weights"]
    lines = departures(wanted, source, expected)
    if lines is None:
        return [f"{field}={name}"]
    unfinished = [] if source["finished"] else [f"training was not finished (step {source['steps']})"]
    return [f"{line} in {name}" for line in lines + unfinished]


def of_command(command: Command, record: Measurement, expected: Expected) -> list[str] | None:
    """Returns the departures of a command's result and of the runs it read; None if it is another measurement."""
    arguments, members, pairs = record["arguments"], record["of"], command.pairs()
    differ = [name for name, value in command.arguments.items() if flag_value(arguments.get(name)) != flag_value(value)]
    if record["test"] != command.test or {*differ} - {"data"} or not {*command.values.values()} <= {*record["values"]}:
        return None
    if (differ and arguments["data"] in BENCHMARKS) or [member["test"] for member in members] != [t for _, t in pairs]:
        return None
    lines = [f"{name}={flag_value(arguments[name])}" for name in differ]
    images = arguments.get("images") or {}
    if not differ:
        wrong = [split for split, count in command.examples.items() if images.get(split) != count]
        lines += [f"{images.get(split)} instead of {command.examples[split]} images in {split}" for split in wrong]
    for (run, _), member in zip(pairs, members, strict=True):
        departs = departures(run, member, expected)
        if departs is None:
            return None
        lines += [f"{line} in {member['directory']}" for line in departs + member["unfinished"]]
    return lines


def is_complete(source: Trained) -> bool:
    """Returns whether the config of a run's source, and of the source's own sources, is known."""
    return "config" in source and all(is_complete(source[key]) for key in SOURCES.values() if key in source)


def with_known_sources(record: Measurement, before: Mapping[str, Any]) -> Measurement:
    """Returns a record with its sources as in an earlier record of the same run, where their directories are gone."""
    known = record.copy()
    for key in SOURCES.values():
        if key in record and key in before and not is_complete(record[key]):
            known[key] = before[key]
    return known


def flat(config: Config) -> Config:
    """Flattens the config of a run, with the layers that it takes from another run."""
    return {"init_layers": []} | recipes.flatten(config)


def compared(config: Config) -> Config:
    """Returns the fields that identify a run, and the numbers of images."""
    fields = {name: value for name, value in flat(config).items() if not name.startswith(NOT_COMPARED)}
    return fields | {name: fields[name].split(",")[0] for name in ("train_data", "eval_data") if name in fields}


def is_current(record: Measurement, on_disk: Mapping[tuple[str, str], Config | None]) -> bool:
    """Returns whether the directories of the record's runs, as far as they exist, still have the record's configs."""
    same = has_config(record, on_disk.get((record["directory"], started(record)), record["config"]))
    return same and all(is_current(member, on_disk) for member in record.get("of", ()))


def has_config(record: Measurement, config: Config | None) -> bool:
    """Returns whether a record's run has this config; True for records of an earlier version, without configs."""
    return record["config"] is None or config is None or compared(record["config"]) == compared(config)
