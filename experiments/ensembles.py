"""Records of ensembles: the mean of the probabilities that several runs have saved."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import cells
from experiments.departures import Expected, departures, is_current
from experiments.entry import Row
from experiments.measurements import Config, Measurement
from experiments.records import key, warn

ENSEMBLE = "ensemble"  # the `test` of an ensemble's record


def ensemble(row: Row, records: Sequence[Measurement], probs: Mapping[tuple[Any, ...], Path]) -> list[Measurement]:
    """Returns a record of the mean probabilities, or no record if a member is missing or departs from the paper."""
    exact = cells.by_run([record for record in records if not record["departs"] and key(record) in probs])
    if not all((run.name, test) in exact for run, test in row.pairs()):
        return []
    from deepconv.evaluation import probabilities  # with JAX

    members = [exact[run.name, test] for run, test in row.pairs()]
    files = [probs[key(member)] for member in members]
    try:
        labels, mean = probabilities.common_labels(files), probabilities.mean(files)
    except (OSError, ValueError) as error:
        warn(Path(row.label), error)
        return []
    values = {f"top{k}_error": probabilities.top_k_error(mean, labels, k) for k in (1, 5)}
    member_records = [member.copy() for member in members]
    for member in member_records:
        del member["values"]
    return [
        {
            "run": row.label,
            "directory": "",
            "test": ENSEMBLE,
            "departs": [],
            "values": values,
            "config": None,
            "seed": members[0]["seed"],
            "steps": members[0]["steps"],
            "trained": members[0]["trained"],
            "tested": members[0]["tested"],
            "hours": round(sum(member["hours"] for member in members), 3),
            "of": member_records,
        }
    ]


def is_ensemble_of(
    row: Row,
    record: Measurement,
    expected: Expected,
    on_disk: Mapping[tuple[str, str], Config | None],
    newer: Sequence[Measurement],
) -> bool:
    """Returns whether a record averages exactly the current tests of this row, and no newer record has its place."""
    members, pairs = record.get("of", []), row.pairs()
    return (
        len(members) == len(pairs)
        and not any(key(record) == key(other) for other in newer)
        and all(
            member["test"] == test and is_current(member, on_disk) and departures(run, member, expected) == []
            for member, (run, test) in zip(members, pairs, strict=True)
        )
    )
