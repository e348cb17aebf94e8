"""Checkpoints: orbax in the background; damaged ones are not restored."""

import contextlib
import errno
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers

from deepconv import processes
from deepconv.ops import repeat
from deepconv.run import checkpoint_files, preemption
from deepconv.run.checkpoint_files import CheckpointError
from deepconv.state import TrainState, not_finite

# Items of a checkpoint, each a folder in it
STATE = "default"
UNLOGGED = "unlogged"  # older checkpoints do not have it

StepMetrics = dict[str, float]  # the metrics of one step


@dataclass(frozen=True)
class NewestTwoAndFinal(checkpoint_managers.PreservationPolicy):
    """A policy that keeps the newest two checkpoints and the final one."""

    total_steps: int

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Returns whether to keep each checkpoint, oldest first."""
        steps = [info.step for info in checkpoints]
        newest = [step for step in steps if step != self.total_steps][-2:]
        return [step in newest or step == self.total_steps for step in steps]


@contextlib.contextmanager
def opened(directory: Path, total_steps: int) -> Iterator[ocp.CheckpointManager]:
    """Opens a directory for saving and restoring; on exit, closes it, after which there is no unsaved state.

    Raises CheckpointError if something was not written.
    """
    manager = open_manager(directory, total_steps)
    try:
        yield manager
    except Exception as error:
        # Closing waits for saves, in which all processes take part: an error of one process leaves them unfinished.
        if not processes.several() or isinstance(error, (preemption.Preempted, FloatingPointError)):
            close(manager)
        raise
    else:
        close(manager)
    finally:
        preemption.unsaved(False)


def open_manager(directory: Path, total_steps: int) -> ocp.CheckpointManager:
    """Opens a directory for saving and restoring, for this run only.

    Removes half-written checkpoints. Moves a damaged one that is newer than all others to checkpoints.damaged/, with a
    warning. Raises CheckpointError if all are damaged.
    """
    # before orbax lists the directory, once in each process
    checkpoint_files.await_listing(directory, processes.agree(lambda: checkpoint_files.clean(directory)))
    options = ocp.CheckpointManagerOptions(
        preservation_policy=NewestTwoAndFinal(total_steps),
        async_options=ocp.AsyncOptions(
            barrier_sync_fn=_barrier, post_finalization_callback=lambda: checkpoint_files.write_sums(directory)
        ),
    )
    return ocp.CheckpointManager(directory.absolute(), item_names=(STATE, UNLOGGED), options=options)


def _barrier(*, key: str, timeout_ms: int) -> None:
    """Waits for the other processes, except in a thread of orbax that has failed.

    A failed thread still reaches a barrier, in a `finally`, while the other processes wait at a different one. Both
    would wait for `timeout_ms`, 20 minutes, before `check` could raise the failure.
    """
    if threading.current_thread() is threading.main_thread() or not sys.exception():
        ocp.multihost.get_barrier_sync_fn()(key=key, timeout_ms=timeout_ms)


def save(manager: ocp.CheckpointManager, state: TrainState, unlogged: Sequence[StepMetrics] = ()) -> None:
    """Starts to write the state and the metrics of steps not yet logged; returns at once.

    Raises CheckpointError if the save before this one failed.
    """
    step = int(state.step)
    if not Path(manager.directory).is_dir():  # orbax would create it again, without the rest of the run
        raise CheckpointError(f"{manager.directory} was removed; the state of step {step} was not saved")
    if step in manager.all_steps():
        return
    tree = _items(repeat.by_block(state))
    # The next step may overwrite ("donate") these arrays at once: orbax has copied them when save returns.
    try:
        # pyrefly: ignore[bad-argument-type]: JSON may be a list, too
        items = {STATE: ocp.args.StandardSave(tree), UNLOGGED: ocp.args.JsonSave([*unlogged])}
        manager.save(step, args=ocp.args.Composite(**items))
    except Exception as error:
        _raise_save_failed(manager, error)


def check(manager: ocp.CheckpointManager) -> None:
    """Raises CheckpointError if the last save has failed; does not wait for a save in progress."""
    if not manager.is_saving_in_progress():
        wait(manager)


def wait(manager: ocp.CheckpointManager) -> None:
    """Waits until everything is on disk. Raises CheckpointError if something could not be written."""
    try:
        manager.wait_until_finished()
    except Exception as error:
        _raise_save_failed(manager, error)


def close(manager: ocp.CheckpointManager) -> None:
    """Waits until everything is on disk and closes the manager. Raises CheckpointError if something was not written."""
    try:
        manager.wait_until_finished()
        manager.close()
    except Exception as error:
        _raise_save_failed(manager, error)


def restore(manager: ocp.CheckpointManager, like: TrainState) -> tuple[TrainState, list[StepMetrics]] | None:
    """Restores the newest checkpoint, placed like `like` (arrays or shapes with shardings), or returns None.

    Raises CheckpointError if it does not fit.
    """
    step = manager.latest_step()
    if step is None:
        return None
    saved = Path(manager.directory) / str(step)
    try:
        items: dict[str, ocp.args.CheckpointArgs] = {STATE: ocp.args.StandardRestore(_items(repeat.by_block(like)))}
        if (saved / UNLOGGED).exists():
            items[UNLOGGED] = ocp.args.JsonRestore()
        found = manager.restore(step, args=ocp.args.Composite(**items))
    except Exception as error:
        if processes.lost_another(error):
            raise
        _check_names(saved, _metadata(saved))
        raise CheckpointError(
            f"{saved} is undamaged but does not fit this model and optimiser; if the code has "
            f"changed since, give another --workdir. {_cause(error)}"
        ) from error
    state = jax.tree.map(lambda x: _put(x, like.step.sharding), repeat.stacked(TrainState(**found[STATE]), like))
    if bad := not_finite({"params": state.params, "batch_stats": state.batch_stats}):
        raise CheckpointError(f"{saved} is undamaged, but {bad}; such a net cannot be used")
    return state, found.get(UNLOGGED) or []


def _items(state: TrainState) -> dict[str, Any]:
    """Returns the trees of a state by name, without moving averages if there are none, as in older checkpoints."""
    return {name: tree for name, tree in vars(state).items() if name != "ema" or tree}


def _put(x: jax.Array | np.ndarray, place: jax.sharding.Sharding) -> jax.Array:
    """Puts a stack on the devices; copied, since the first step gives up ("donates") the memory of its state."""
    return x if isinstance(x, jax.Array) else jax.device_put(x, place, may_alias=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides orbax's warning that a folder of a checkpoint has no metadata, which only the checkpoint has."""
    before = logging.get_verbosity()
    logging.set_verbosity(min(before, logging.ERROR))
    try:
        yield
    finally:
        logging.set_verbosity(before)


@_quiet()
def read(directory: Path) -> dict[str, Any]:
    """Reads step, params and batch_stats of a run's newest checkpoint to the host; the directory is not changed.

    Moving averages, if the run has them, are read in place of the variables.
    Raises CheckpointError if there is none, or it is damaged.
    """
    if not (found := checkpoint_files.steps(directory)):
        raise CheckpointError(f"there is no checkpoint in {directory}; train the run first: repeat its command")
    newest = directory.absolute() / str(found[-1])
    if reason := checkpoint_files.damage(newest):
        again = "; or remove the run's eval.*.json and repeat its command, which trains on from the checkpoint before"
        raise CheckpointError(f"{newest} is damaged ({reason}); restore it{again if len(found) > 1 else ''}")
    shapes = _metadata(newest)
    _check_names(newest, shapes)
    del shapes["opt_state"]
    if "ema" in shapes:
        del shapes["params"], shapes["batch_stats"]
    with ocp.PyTreeCheckpointer() as checkpointer:
        to_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
        args = ocp.args.PyTreeRestore(shapes, restore_args=to_host, partial_restore=True)
        found = checkpointer.restore(newest / STATE, args)
    if bad := not_finite(found):
        raise CheckpointError(f"{newest} is undamaged, but {bad}; such a net cannot be used")
    averages = found.pop("ema", {})
    return found | averages


def _metadata(checkpoint: Path) -> dict[str, Any]:
    """Returns the tree of a checkpoint's state, with metadata in place of arrays."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        metadata = checkpointer.metadata(checkpoint / STATE).item_metadata
    if metadata is None:
        raise CheckpointError(
            f"{checkpoint} cannot be read because of its name; rename the directory without any of [ ] * ?"
        )
    return dict(metadata.tree)


def _check_names(checkpoint: Path, tree: dict[str, Any]) -> None:
    """Raises CheckpointError if ResNet's blocks have the names of version 0.1, conv2_first and conv2_rest."""
    if any(layer.endswith(("_first", "_rest")) for layer in tree["params"]):
        raise CheckpointError(
            f"{checkpoint} is of deepconv 0.1, which named the blocks of a ResNet differently, and cannot be used. "
            "To train again, give another --workdir; to keep its net, export its weights with version 0.1"
        )


def _cause(error: Exception) -> str:
    """Returns the system's message in a long error of orbax and tensorstore, or the end of that error."""
    known = map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO))
    return next((message for message in known if message in str(error)), "..." + " ".join(str(error).split())[-200:])


def _raise_save_failed(manager: ocp.CheckpointManager, error: Exception) -> NoReturn:
    if processes.lost_another(error):
        raise error
    free = shutil.disk_usage(manager.directory).free
    raise CheckpointError(
        f"a checkpoint could not be written to {manager.directory} ({free / 1e9:.2f} GB are free there): "
        f"{_cause(error)}; earlier ones are untouched: free some space, then repeat the command"
    ) from error
