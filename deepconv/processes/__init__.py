"""Coordination of the processes of a run: connection, agreement and end. JAX is imported only when it is needed.

Processes talk through the key-value store of JAX's coordinator, which is in process 0. That process writes the run's
files, except the other processes' parts of checkpoints. If a process fails, it sends a message to the other processes,
which end at once, even if they wait in a collective.
"""

import json
import os
import re
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from deepconv.processes.group import Address, Group, Value

PEER_ERRORS = ("Gloo", "NCCL", "UNAVAILABLE", "oordination", "onnection", "eartbeat")  # in JAX's messages

_group: Group | None = None


def join(address: Address, heartbeat_seconds: int) -> None:
    """Connects this process with the others; ends by SIGABRT if they do not come within five minutes.

    Raises ValueError if process 0 cannot use its port, on which JAX would crash.
    """
    global _group
    if address.process == 0:
        try:
            socket.create_server(("", int(address.coordinator.rpartition(":")[2]))).close()
        except (OSError, OverflowError) as error:
            raise ValueError(
                f"process 0 cannot listen at {address.coordinator}: {error}; give another port by --coordinator, "
                "--processes and --process"
            ) from None
    import jax
    from jax._src.distributed import global_state  # JAX has no public name for its client; orbax takes it from here

    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from run/preemption.py
    jax.distributed.initialize(
        address.coordinator,
        address.processes,
        address.process,
        cluster_detection_method="deactivate",  # under Slurm, JAX would give each process only one of its devices
        heartbeat_timeout_seconds=heartbeat_seconds,
    )
    _group = Group(global_state.client, address)
    if address.process:
        sys.stdout = open(os.devnull, "w")  # process 0 prints


def address(coordinator: str, processes: int, process: int | None) -> Address | None:
    """Returns the place that flags or `srun` give this process, None if it is the only one. Raises ValueError."""
    if coordinator or processes or process is not None:
        if not re.fullmatch(r".+:\d+", coordinator) or process is None or process not in range(processes):
            raise ValueError(
                f"--coordinator={coordinator} --processes={processes} --process={'' if process is None else process}: "
                "give all three, the host and port of process 0, the number of processes, and the number of this one, "
                "from 0"
            )
        return Address(coordinator, processes, process) if processes > 1 else None
    return slurm_address()


def slurm_address() -> Address | None:
    """Returns the place that Slurm's `srun` gives this process, None if it is the only one."""
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))  # of `srun`; a batch script has no step
    if tasks == 1:
        return None
    # as JAX does: the first of n1,n2 or n[1-2,5], and a port of the upper 4096
    first = re.fullmatch(r"([^\[,]+)(?:\[(\d+))?.*", os.environ["SLURM_STEP_NODELIST"])
    host = "".join(part or "" for part in first.groups()) if first else ""
    port = 61440 + int(os.environ["SLURM_JOB_ID"]) % 4096
    return Address(f"{host}:{port}", tasks, int(os.environ["SLURM_PROCID"]))


def several() -> bool:
    """Returns whether this run has several processes."""
    return _group is not None


def primary() -> bool:
    """Returns whether this is process 0, which writes the run's files."""
    return _group is None or _group.process == 0


def agree(value: Callable[[], Value]) -> Value:
    """Returns the value of a function that only process 0 calls. The value must survive JSON."""
    return _group.agree(value) if _group else value()


def collect(value: str) -> list[str]:
    """Returns the values that the processes give, in the order of the processes."""
    return _group.collect(value) if _group else [value]


def check_same(settings: Mapping[str, Any]) -> None:
    """Raises ValueError if a setting is not the same in all processes. The settings must survive JSON."""
    first, *others = (json.loads(text) for text in collect(json.dumps(settings)))
    for number, other in enumerate(others, 1):
        for name in first.keys() | other.keys():
            if first.get(name) != other.get(name):
                raise ValueError(
                    f"process 0 has {name}: {first.get(name)}, and process {number} {other.get(name)}; start all "
                    "processes with the same command, code and data"
                )


def send(subject: str, text: str) -> None:
    """Sends a text from this process to process 0."""
    if _group:
        _group.send(subject, text)


def receive(subject: str, take: Callable[[str], None]) -> None:
    """Passes the texts that other processes send on a subject to a function, in process 0."""
    if _group:
        _group.receive(subject, take)


def stops(pending: bool) -> bool:
    """Returns whether to stop: at once if a signal is pending or, with several processes, at the same call in all."""
    return _group.stops(pending) if _group else pending


def ends_first(code: int, message: str) -> bool:
    """Announces that this process ends; returns whether it is the first, whose message is shown."""
    return _group.ends_first(code, message) if _group else True


def leave(code: int, collective: bool) -> NoReturn:
    """Ends this process; unless `collective`, with the code of the process that ended first."""
    os._exit(_group.leave(code, collective) if _group else code)


def lost_another(error: Exception) -> bool:
    """Returns whether a call failed because another process has ended without a message, as after SIGKILL."""
    chain: list[BaseException] = []
    link: BaseException | None = error if _group else None
    while link and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    # JAX raises several types; an OSError comes from a disk, even if it says that a connection timed out
    return any(word in str(link) for link in chain if not isinstance(link, OSError) for word in PEER_ERRORS)
