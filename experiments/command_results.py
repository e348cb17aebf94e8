"""Records of commands that read runs, such as python -m deepconv.transfer: their results with the runs."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepconv.run.files import read_json
from experiments.departures import Expected, of_command, with_known_sources
from experiments.entry import Command, Row
from experiments.measurements import Measurement, Trained
from experiments.records import assigned_to, environment, identity, key, warn


def read(
    rows: Iterable[Row], found: Mapping[Path, Trained], earlier: Mapping[tuple[Any, ...], Measurement]
) -> list[Measurement]:
    """Returns a record for each result of the rows' commands in the folders of the runs. earlier: records by key."""
    commands = [command for row in rows for command in row.commands]
    results = []
    for name in dict.fromkeys(command.file for command in commands):
        alike = [command for command in commands if command.file == name]
        for file in sorted(file for runs in {workdir.parent for workdir in found} for file in runs.glob(f"*/{name}")):
            try:
                record = _result(file, alike, found)
            except OSError as error:
                warn(file.parent, error)
                continue
            if known := earlier.get(key(record)):
                pairs = zip(record["of"], known["of"], strict=True)
                record["of"] = [
                    with_known_sources(member, before) if identity(member) == identity(before) else member
                    for member, before in pairs
                ]
            results.append(record)
    return results


def _result(file: Path, commands: Sequence[Command], found: Mapping[Path, Trained]) -> Measurement:
    """Reads the result of one of these commands. Raises OSError."""
    remedy = "remove it, and repeat the command"
    content = read_json(file, dict, "runs", "time", "devices", "device_kind", remedy=remedy)
    members = []
    for flag in dict.fromkeys(flag for command in commands for flag in command.runs):
        listed = content.get("runs" if flag == "run" else flag, [])
        for read in listed if isinstance(listed, list) else [listed]:
            if not isinstance(read, dict) or not {"directory", "step"} <= {*read}:
                raise OSError(f"{file} is damaged: {read!r} is not a run with its step; {remedy}")
            members.append(_member(file, read, found, str(content["time"])))
    if not members:
        raise OSError(f"{file} is damaged: it names no run; {remedy}")
    fields = [name for command in commands for field in command.values.values() for name in (field, f"{field}_std")]
    values = {name: content[name] for name in dict.fromkeys(fields) if isinstance(content.get(name), float | int)}
    names = dict.fromkeys(name for command in commands for name in command.arguments)
    arguments = {name: content.get(name) for name in names}
    # regions have digests of their files, which are not compared
    arguments = {name: [*value] if isinstance(value, dict) else value for name, value in arguments.items()}
    images = content.get("images")
    return {
        "directory": file.parent.name,
        "test": file.stem,
        "values": values,
        "arguments": arguments | ({"images": images} if isinstance(images, dict) else {}),
        "config": None,
        "seed": members[0]["seed"],
        "steps": members[0]["steps"],
        "trained": members[0]["trained"],
        "tested": environment(content),
        "hours": round(sum(member["hours"] for member in members), 3),
        "of": members,
    }


def _member(file: Path, read: dict[str, Any], found: Mapping[Path, Trained], time: str) -> Measurement:
    """Returns a run that a command read, with its training. Raises OSError if it is missing or newer than the file."""
    runs, name = file.parent.parent, Path(str(read["directory"])).name
    trained = found.get(runs / name)
    if trained is None:
        raise OSError(f"{file.name} is of the run {name}, which is not in {runs}")
    if trained["trained"][0]["time"] > time:
        raise OSError(f"{file.name} is older than the training of {name}; remove it, and repeat the command")
    step, unfinished = read["step"], []
    if not trained["finished"]:
        unfinished = [f"training was not finished (step {step})"]
    elif step != trained["steps"]:
        unfinished = [f"measured at step {step} of {trained['steps']}"]
    return {**trained, "test": read.get("test", ""), "unfinished": unfinished}


def assign(row: Row, records: Iterable[Measurement], expected: Expected) -> list[Measurement]:
    """Returns the results of commands that belong to a row, each assigned to the command it departs from least."""
    found = []
    for record in records:
        if "arguments" in record:
            all_departs = {command.name: of_command(command, record, expected) for command in row.commands}
            departs = {name: lines for name, lines in all_departs.items() if lines is not None}
            nearest = min(departs, key=lambda name: len(departs[name]), default="")
            found += [assigned_to(record, nearest, departs[nearest])] if departs else []
    return found
