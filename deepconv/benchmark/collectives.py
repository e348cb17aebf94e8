"""Communication between devices in a compiled training step."""

import dataclasses
import math
import re
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh
from rich.console import Console
from rich.table import Table

from deepconv import resume
from deepconv import task as task_lib
from deepconv.benchmark import compiled
from deepconv.benchmark.record import Figures

INSTRUCTION = re.compile(
    r" = (?P<result>.*?) (?P<kind>all-gather|all-reduce|reduce-scatter|collective-permute|all-to-all)"
    r"(?P<start>-start)?\("
    r".*?(?:replica_groups|source_target_pairs)=(?P<groups>.*?), (?!device_ids)(?=[a-z_]+=)"
    r'.*op_name="(?P<path>.*?)"'
)
ARRAY = re.compile(r"(?:pred|[a-z]+(?P<bits>\d+))\[(?P<sides>[\d,]*)\]")


@dataclass(frozen=True)
class Collective:
    """One exchange between the devices of a group."""

    kind: str  # XLA's name, such as all-gather
    axis: str  # of the mesh: "data", "model" or "both"
    arrays: int  # exchanged together
    received: float  # bytes, mean over devices; an all-reduce counts as a reduce-scatter and an all-gather
    phase: str  # "forward", "backward" or "update"
    layer: str  # a layer of the net, or else the operation's name in JAX


def find(text: str, mesh: Mesh) -> list[Collective]:
    """Returns the collectives of a compiled program's text, in the order of the text. Raises ValueError."""
    return [_collective(line, mesh) for line in text.splitlines() if _communicates(line)]


def _communicates(line: str) -> bool:
    return bool(re.search(r" = .* (?:all|reduce-scatter|collective|ragged)[a-z-]*\(", line)) and "-done(" not in line


def _collective(line: str, mesh: Mesh) -> Collective:
    if not (found := INSTRUCTION.search(line)):
        raise ValueError(f"this version of XLA describes a collective in an unknown way: {line.strip()}")
    groups = _groups(found["groups"])
    listed = [*ARRAY.finditer(found["result"])]
    if found["start"] and found["kind"] != "all-reduce":  # operands, results and, for permutations, two counters
        listed = [array for array in listed if array[0] != "u32[]"]
        listed = listed[len(listed) // 2 :]
    arrays = [
        int(array["bits"] or 8) // 8 * math.prod(map(int, filter(None, array["sides"].split(",")))) for array in listed
    ]
    size, kind, path = len(groups[0]), found["kind"], found["path"]
    pairs = len(groups) / mesh.size  # a permutation lists pairs of devices
    share = {"all-reduce": 2 * (size - 1) / size, "reduce-scatter": size - 1, "collective-permute": pairs}
    layer = re.search(r"/(lrn|(?:conv|fc|bn)\w*\d\w*)/", path)
    return Collective(
        kind=kind,
        axis=_axis(groups, mesh),
        arrays=len(arrays),
        received=sum(arrays) * share.get(kind, (size - 1) / size),
        phase="backward" if "transpose(" in path else "forward" if "jvp(" in path else "update",
        layer=layer[1] if layer else re.split(r"\W", path.rstrip(")"))[-1],
    )


def _groups(text: str) -> np.ndarray:
    """Parses groups of devices, [groups, devices]: listed, as an iota, or as axes of XLA's own mesh."""
    if text.startswith("{{"):
        return np.array([group.split(",") for group in re.findall(r"\{([\d,]+)\}", text)], int)
    if iota := re.fullmatch(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
        return _iota(iota[2], iota[3]).reshape(_numbers(iota[1]))
    sides = {name: int(side) for name, side in re.findall(r"'(\w+)'=(\d+)", text)}
    order = re.search(r"device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\)", text)
    ids = _iota(order[1], order[2]) if order else np.arange(math.prod(sides.values()))
    axes = re.findall(r"'(\w+)'", text[text.index("{") :])
    places = [[*sides].index(axis) for axis in axes]
    moved = np.moveaxis(ids.reshape(*sides.values()), places, range(-len(places), 0))
    return moved.reshape(-1, math.prod(sides[axis] for axis in axes))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _iota(shape: str, order: str | None) -> np.ndarray:
    sides = _numbers(shape)
    return np.arange(math.prod(sides)).reshape(sides).transpose(_numbers(order) if order else None)


def _axis(groups: np.ndarray, mesh: Mesh) -> str:
    """Returns the axis of a mesh along which all groups lie. Places in the mesh are numbered row by row."""
    rows, columns = np.divmod(groups, mesh.shape["model"])
    if (rows == rows[:, :1]).all():
        return "model"
    return "data" if (columns == columns[:, :1]).all() else "both"


def compiled_step(task: task_lib.Task) -> jax.stages.Compiled:
    """Compiles a task's training step."""
    return compiled.lower_step(task, resume.statistics_for(task, task.train_source.open())).compile()


def show_collectives(task: task_lib.Task) -> Figures:
    """Prints the collectives of a training step, and the memory it takes on each device."""
    step = compiled_step(task)
    table = Table("", "layer", "collective", "axis", "arrays", "MB received")
    text, memory = step.as_text(), step.memory_analysis()
    if text is None or memory is None:
        raise OSError("JAX gives neither text nor memory of compiled programs on this platform; run it on a CPU or GPU")
    found = find(text, task.mesh)
    for each in found:
        table.add_row(each.phase, each.layer, each.kind, each.axis, str(each.arrays), f"{each.received / 1e6:.3f}")
    data, model = task.mesh.devices.shape
    print(f"batch of {task.config.batch_size}, {task.config.model.dtype}, {data} x {model} devices (data x model)")
    Console().print(table)
    received = sum(each.received for each in found)
    print(f"received by each device in a step: {received / 1e6:.1f} MB")
    arguments, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    print(
        f"memory of each device: {arguments / 1e6:.1f} MB of state and batch, {temporary / 1e6:.1f} MB of temporaries"
    )
    return {
        "collectives": [dataclasses.asdict(each) for each in found],
        "received_bytes": received,
        "state_and_batch_bytes": arguments,
        "temporary_bytes": temporary,
    }
