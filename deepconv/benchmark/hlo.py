"""The kernels of a program that XLA has compiled for a GPU, read from its text."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

ARRAY = re.compile(r"(?:pred|[a-z]+(?P<bits>\d+)\w*)\[(?P<sides>[\d,]*)\]")
INSTRUCTION = re.compile(
    r" *(?:ROOT )?%(?P<name>\S+) = (?P<result>\(.*?\)|\S+) (?P<opcode>[a-z][a-z0-9-]*)\((?P<operands>.*?)\)(?P<rest>.*)"
)
# these move no data; the loops and branches among them run other computations
NO_KERNELS = (
    "after-all",
    "bitcast",
    "constant",
    "get-tuple-element",
    "opt-barrier",
    "parameter",
    "partition-id",
    "tuple",
)
LOOPS = ("call", "conditional", "while")


@dataclass(frozen=True)
class Kernel:
    """A kernel, library call or copy of a program."""

    name: str  # XLA's, such as loop_maximum_fusion.3
    times: int  # how often a step runs it
    bytes: int  # of its operands and results, each counted once; for all its runs
    operation: str  # in JAX, such as jvp(VGG)/conv1_1/conv_general_dilated; "" if XLA has added it


def kernels(text: str) -> list[Kernel]:
    """Returns the kernels of a compiled program, in order. Raises ValueError for a loop of unknown length.

    A kernel counts every operand as read in full and every result as written in full; the workspace of a library call
    does not count.
    """
    computations = _computations(text)
    return list(_run(computations, computations["ENTRY"], 1))


def launches(thunks: str) -> int:
    """Returns the number of launches in a step: CUDA graphs, and kernels outside of them.

    thunks is the text of XLA's dump *.thunk_sequence_after_thunk_passes.txt.
    """
    return len(re.findall(r"^\d+:", thunks, re.MULTILINE))


def _computations(text: str) -> dict[str, list[re.Match[str]]]:
    """Returns the instructions of each computation; that of the program is named ENTRY."""
    found, own = {}, []
    for line in text.splitlines():
        if header := re.match(r"(?:(ENTRY) )?%(\S+) \(.*\{$", line):
            own = found[header[1] or header[2]] = []
        elif instruction := INSTRUCTION.fullmatch(line):
            own.append(instruction)
    if "ENTRY" not in found:
        raise ValueError("this version of XLA writes compiled programs in an unknown form")
    return found


def _run(
    computations: Mapping[str, Sequence[re.Match[str]]], own: Sequence[re.Match[str]], times: int
) -> Iterator[Kernel]:
    sizes = {}
    for each in own:
        opcode, rest = each["opcode"], each["rest"]
        arrays = list(_bytes(each["result"]))
        sizes[each["name"]] = arrays[0] if opcode == "custom-call" else sum(arrays)  # its other results are workspaces
        if opcode in LOOPS:
            yield from _run_loop(computations, each, times)
        elif opcode not in NO_KERNELS and not opcode.endswith("-done"):
            read = {operand: sizes[operand] for operand in re.findall(r"%([^\s,)]+)", each["operands"])}
            path = re.search(r'op_name="(?:jit\(\w+\)/)?(.*?)"', rest)
            moved = times * (sizes[each["name"]] + sum(read.values()))
            yield Kernel(each["name"], times, moved, path[1] if path else "")


def _run_loop(computations: Mapping[str, Sequence[re.Match[str]]], each: re.Match[str], times: int) -> Iterator[Kernel]:
    count = re.search(r'"known_trip_count":\{"n":"(\d+)"', each["rest"])
    if each["opcode"] == "while" and not count:
        raise ValueError(f"XLA does not know how often the loop {each['name']} runs")
    for name in re.findall(r"(?:to_apply|condition|body|calls)=%([^\s,]+)", each["rest"]):
        yield from _run(computations, computations[name], times * (int(count[1]) if count else 1))


def _bytes(result: str) -> Iterator[int]:
    for array in ARRAY.finditer(result):
        bits = int(array["bits"] or 8)
        yield math.ceil(bits * math.prod(map(int, filter(None, array["sides"].split(",")))) / 8)
