import errno
import json
import shutil
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from deepconv import processes
from deepconv.run import checkpoint, checkpoint_files
from deepconv.state import TrainState


def make_state(step):
    values = jax.random.normal(jax.random.key(step), (64, 64))
    return TrainState(jnp.int32(step), {"kernel": values}, {"mean": values[0]}, (jnp.int32(step), {"kernel": -values}))


def same(a, b):
    return all(
        (np.asarray(x) == np.asarray(y)).all() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@pytest.fixture
def directory(tmp_path):
    """With checkpoints of steps 1 and 2."""
    manager = checkpoint.open_manager(tmp_path / "checkpoints", total_steps=9)
    for step in (1, 2):
        checkpoint.save(manager, make_state(step))
    checkpoint.wait(manager)
    manager.close()
    return tmp_path / "checkpoints"


def restore(directory):
    manager = checkpoint.open_manager(directory, total_steps=9)
    state, _ = checkpoint.restore(manager, make_state(0))
    return state


def data_file(directory, step):
    return max((path for path in (directory / str(step)).rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_bits_come_back(directory):
    assert same(restore(directory), make_state(2))


def test_metrics_that_are_not_logged_come_back(tmp_path):
    manager = checkpoint.open_manager(tmp_path / "checkpoints", total_steps=9)
    rows = [{"train_loss": float(np.float32(0.1))}, {"train_loss": 2.0}]
    checkpoint.save(manager, make_state(1), rows)
    checkpoint.wait(manager)
    manager = checkpoint.open_manager(tmp_path / "checkpoints", total_steps=9)
    state, unlogged = checkpoint.restore(manager, make_state(0))
    assert unlogged == rows and same(state, make_state(1))
    (tmp_path / "checkpoints" / "1" / checkpoint.UNLOGGED / "metadata").write_text("[]")
    assert "unlogged/metadata has changed" in checkpoint_files.damage(tmp_path / "checkpoints" / "1")


def test_a_checkpoint_of_the_state_alone_comes_back(tmp_path):
    """With the trees of a state before metrics were saved with them, and before it could have averages."""
    manager = ocp.CheckpointManager(tmp_path / "checkpoints")
    trees = {name: getattr(make_state(1), name) for name in ("step", "params", "batch_stats", "opt_state")}
    manager.save(1, args=ocp.args.StandardSave(trees))
    manager.wait_until_finished()
    sums = checkpoint_files.sums(tmp_path / "checkpoints" / "1")
    (tmp_path / "checkpoints" / "1" / checkpoint_files.SUMS).write_text(json.dumps(sums))
    manager = checkpoint.open_manager(tmp_path / "checkpoints", total_steps=9)
    state, unlogged = checkpoint.restore(manager, make_state(0))
    assert same(state, make_state(1)) and unlogged == []
    assert checkpoint.read(tmp_path / "checkpoints")["step"] == 1
    checkpoint.save(manager, make_state(2), [{"train_loss": 1.0}])
    checkpoint.wait(manager)
    assert checkpoint.restore(manager, make_state(0))[1] == [{"train_loss": 1.0}]


def test_orbax_own_notes_are_not_needed(directory):
    (directory / "2" / "_CHECKPOINT_METADATA").write_text("rubbish")
    assert same(restore(directory), make_state(2))


def test_nothing_there_is_none(tmp_path):
    manager = checkpoint.open_manager(tmp_path / "none", total_steps=9)
    assert checkpoint.restore(manager, make_state(0)) is None


def test_a_failed_save_is_known_before_the_next(tmp_path, monkeypatch):
    manager, may_fail = checkpoint.open_manager(tmp_path, total_steps=9), threading.Event()

    def fail(directory):
        may_fail.wait(timeout=30)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_files, "write_sums", fail)
    checkpoint.save(manager, make_state(1))
    checkpoint.check(manager)  # does not wait
    may_fail.set()
    with pytest.raises(checkpoint.CheckpointError, match="No space left on device"):
        for _ in range(1000):
            checkpoint.check(manager)
            time.sleep(0.01)


def test_newest_two_and_final_stay(tmp_path):
    manager = checkpoint.open_manager(tmp_path, total_steps=5)
    for step in range(1, 6):
        checkpoint.save(manager, make_state(step))
        checkpoint.wait(manager)
        assert sorted(manager.all_steps()) == {1: [1], 2: [1, 2], 3: [2, 3], 4: [3, 4], 5: [3, 4, 5]}[step]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.isdigit()) == ["3", "4", "5"]


def test_saving_while_the_state_is_given_up_to_the_next_step(tmp_path):
    manager = checkpoint.open_manager(tmp_path, total_steps=99)
    advance = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    state = TrainState(jnp.int32(0), {"kernel": jnp.zeros((1024, 1024))}, {}, ())
    for _ in range(4):
        state = advance(state)
        checkpoint.save(manager, state)
        step = int(state.step)
        for _ in range(10):
            state = advance(state)
        checkpoint.wait(manager)
        restored, _ = checkpoint.restore(manager, jax.tree.map(jnp.zeros_like, state))
        assert int(restored.step) == step and (restored.params["kernel"] == step).all()


@pytest.mark.parametrize("harm", ["bit", "truncate", "delete", "sums", "{", "{}", "[]", "3"])
def test_a_damaged_newest_is_named_and_the_one_before_is_used(directory, harm, capsys):
    path = data_file(directory, 2)
    if harm == "bit":
        flip_a_bit(path)
    elif harm == "truncate":
        path.write_bytes(path.read_bytes()[:-1])
    elif harm == "delete":
        path.unlink()
    elif harm == "sums":
        (directory / "2" / checkpoint_files.SUMS).unlink()
    else:
        (directory / "2" / checkpoint_files.SUMS).write_text(harm)
    assert same(restore(directory), make_state(1))
    assert "CHECKPOINT 2 IS DAMAGED" in capsys.readouterr().err
    assert (directory.with_name("checkpoints.damaged") / "2").is_dir()


def test_none_left_is_an_error(directory):
    for step in (1, 2):
        flip_a_bit(data_file(directory, step))
    for _ in range(2):  # the second start does not quietly begin anew
        with pytest.raises(checkpoint.CheckpointError, match="all checkpoints in .* are damaged"):
            restore(directory)


def test_a_process_waits_until_it_sees_the_checkpoints_of_process_0(directory, monkeypatch):
    listings, pauses = [[1, 2], [1, 2], [1]], []
    monkeypatch.setattr(
        checkpoint_files, "steps", lambda directory: listings.pop(0) if len(listings) > 1 else listings[0]
    )
    monkeypatch.setattr(processes, "agree", lambda value: [1])  # process 0 has moved step 2 away
    monkeypatch.setattr(time, "sleep", pauses.append)
    checkpoint.open_manager(directory, total_steps=9).close()
    assert pauses == [1, 1]
    listings[:] = [[1, 2]]
    with pytest.raises(checkpoint.CheckpointError, match=r"steps \[1, 2\] here, and of steps \[1\] on the machine"):
        checkpoint.open_manager(directory, total_steps=9)


def test_a_checkpoint_of_another_model_is_told_and_stays(directory):
    manager = checkpoint.open_manager(directory, total_steps=9)
    other = make_state(0).replace(params={"kernel": jnp.zeros((64, 64)), "bias": jnp.zeros(3)})
    with pytest.raises(checkpoint.CheckpointError, match="does not fit this model"):
        checkpoint.restore(manager, other)
    assert same(restore(directory), make_state(2))


def test_half_written_checkpoints_are_removed(directory):
    shutil.copytree(directory / "2", directory / "3.orbax-checkpoint-tmp")
    assert same(restore(directory), make_state(2))
    assert not (directory / "3.orbax-checkpoint-tmp").exists()


def test_a_disk_that_is_full_is_an_error_and_the_older_ones_still_restore(directory, monkeypatch):
    manager = checkpoint.open_manager(directory, total_steps=9)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("orbax.checkpoint.AsyncCheckpointer.save", full)
        with pytest.raises(checkpoint.CheckpointError, match="No space left on device.*earlier ones are untouched"):
            checkpoint.save(manager, make_state(3))
    assert same(restore(directory), make_state(2))
