"""Numbers that are not finite"""

import json

import numpy as np
import orbax.checkpoint as ocp
import safetensors.numpy

from deepconv import checkpoint
from faults.harness import QUICK, RUN, assert_same, at_step, copy, state_of

POISON = """
import jax
broken = jax.tree.map(lambda x: x * jax.numpy.nan if x.dtype == "float32" else x, state.{part})
state = state.replace({part}=broken)
"""


def test_training(shell, wanted, tally, tmp_path):
    """NaN in parameters, the optimiser's state and BatchNorm's averages, right before and long before a save"""
    for part in ("params", "opt_state", "batch_stats"):
        for step in (9, 14, 39):
            with tally.attempt(f"{part} after step {step}"):
                arguments = [*RUN, f"--workdir={part}{step}"]
                poison = at_step(step, POISON.format(part=part))
                answer = shell.run(arguments, tmp_path, inject=poison).ends(1)
                answer.says("not finite")
                for saved in (tmp_path / f"{part}{step}" / "checkpoints").glob("[0-9]*"):
                    _, arrays = state_of(saved.parent.parent)
                    values = [np.frombuffer(raw, kind) for kind, _, raw in arrays.values() if kind == "float32"]
                    assert all(np.isfinite(x).all() for x in values), f"a broken state was saved as {saved.name}"
                shell.run(arguments, tmp_path).ends(0)
                assert_same(tmp_path / f"{part}{step}", wanted)


def test_learning_rate(shell, tally, tmp_path):
    """A learning rate that makes gradients infinite"""
    for rate in ("1e30", "1e38"):
        with tally.attempt(f"learning rate {rate}"):
            answer = shell.run([*RUN, "--workdir=run", f"--config.optimizer.learning_rate={rate}"], tmp_path).ends(1)
            answer.says("not finite", "learning_rate")


def test_data(shell, photos, tally):
    """NaN and infinity in the mean and in the standard deviation of images"""
    data, arguments = photos
    file = data / "photos" / "statistics.train.16.npz"
    with np.load(file) as stored:
        arrays = dict(stored)
    for name, array in arrays.items():
        if array.dtype.kind == "f":
            for value in (np.nan, np.inf):
                with tally.attempt(f"{name}={value} in the file"):
                    np.savez(file, **arrays | {name: np.full_like(array, value)})
                    answer = shell.run([*arguments, "--workdir=run"], data)
                    if answer.ends(0, 1, 2).code:
                        answer.says()
                    else:  # a quantity that the recipe does not use
                        _, found = state_of(data / "run")
                        values = [np.frombuffer(raw, kind) for kind, _, raw in found.values() if kind == "float32"]
                        assert all(np.isfinite(x).all() for x in values)
    np.savez(file, **arrays)
    for option in ("mean=nan,1,2", "mean=inf,1,2", "std=nan,1,2", "std=0,1,1", "std=inf,1,1"):
        with tally.attempt(option):
            shell.run([*arguments, f"--config.data.{option}", "--workdir=other"], data).ends(2).says("data.")


def test_weights(shell, tested, tally, tmp_path):
    """NaN in a checkpoint with right sums, and in a safetensors file"""
    with tally.attempt("safetensors"):
        export = ["export", f"--run={tested}", "--to=net.safetensors"]
        shell.run(export, tmp_path, module="deepconv.weights").ends(0)
        tensors = safetensors.numpy.load_file(tmp_path / "net.safetensors")
        name = next(name for name, tensor in tensors.items() if tensor.ndim == 4)
        tensors[name] = tensors[name].copy()
        tensors[name].flat[0] = np.nan
        safetensors.numpy.save_file(tensors, tmp_path / "net.safetensors")
        shell.run([QUICK, "--smoke", "--init_from=net.safetensors"], tmp_path).ends(2).says("finite")
    with tally.attempt("checkpoint"):
        run = copy(tested, tmp_path / "run")
        newest = max(run.glob("checkpoints/*"), key=lambda path: int(path.name))
        with ocp.PyTreeCheckpointer() as checkpointer:
            tree = checkpointer.restore(newest / "default")
            kernel = tree["params"]["conv1"]["kernel"]
            tree["params"]["conv1"]["kernel"] = np.full_like(np.asarray(kernel), np.nan)
            checkpointer.save(newest / "default", tree, force=True)
        (newest / checkpoint.SUMS).write_text(json.dumps(checkpoint._sums(newest)))
        (run / "eval.center.json").unlink()
        answer = shell.run([QUICK, "--smoke", "--workdir=run"], tmp_path).ends(1, 2)
        assert "finite" in answer.err, answer.err
