"""Numbers that are not finite"""

import json

import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy

from deepconv.run import checkpoint_files
from faults.harness import QUICK, RUN, all_finite, assert_same, at_step, copy, newest, outcome, read_checkpoint

WEIGHTS = """
import jax
state = state.replace({part}=jax.tree.map(lambda x: x * jax.numpy.nan if x.dtype == "float32" else x, state.{part}))
"""
IMAGES = """
import jax
from deepconv.data import augment

def for_training(*arguments, make=augment.for_training):
    prepare = make(*arguments)

    def faulty(key, step, batch):
        batch = prepare(key, step, batch)
        return batch | {{"image": batch["image"] * jax.numpy.where(step == {step}, jax.numpy.nan, 1)}}

    return faulty

augment.for_training = for_training
"""
GRADIENT = """
import jax
from deepconv import objective

def cross_entropy(logits, labels, original=objective.cross_entropy):
    return original(logits, labels) + jax.numpy.sqrt(0 * logits).sum()  # 0, whose gradient is not finite

objective.cross_entropy = cross_entropy
"""
PLACES = {
    "images of step 14": IMAGES.format(step=13),
    "gradient": GRADIENT,
    "parameters": at_step(9, WEIGHTS.format(part="params")),
    "optimiser": at_step(14, WEIGHTS.format(part="opt_state")),
    "BatchNorm averages": at_step(9, WEIGHTS.format(part="batch_stats")),
    "parameters before the last step": at_step(39, WEIGHTS.format(part="params")),
}


# The same program without NaN: XLA may round the numbers of another one in another way
WITHOUT = {"images of step 14": IMAGES.format(step=-1)}


@pytest.mark.parametrize("place", PLACES)
def test_training(shell, wanted, tally, tmp_path, place):
    """NaN in training, and then the same command without it: {place}"""
    with tally.attempt(place):
        arguments = [*RUN, "--workdir=run"]
        shell.run(arguments, tmp_path, inject=PLACES[place]).ends(1).says("not finite")
        for saved in (tmp_path / "run" / "checkpoints").glob("[0-9]*"):
            assert all_finite(saved), f"a broken state was saved as {saved.name}"
        shell.run(arguments, tmp_path, inject=WITHOUT.get(place, "")).ends(0)
        if place in WITHOUT:
            shell.run([*RUN, "--workdir=undisturbed"], tmp_path, inject=WITHOUT[place]).ends(0)
            wanted = outcome(tmp_path / "undisturbed")
        assert_same(tmp_path / "run", wanted)


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
                        assert all_finite(data / "run" / "checkpoints" / "10")
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
        folder = run / "checkpoints" / str(newest(run))
        tree = read_checkpoint(folder)
        tree["params"]["conv1"]["kernel"] *= np.nan
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(folder.absolute() / "default", tree, force=True)
        (folder / checkpoint_files.SUMS).write_text(json.dumps(checkpoint_files.sums(folder)))
        (run / "eval.center.json").unlink()
        answer = shell.run([QUICK, "--smoke", "--workdir=run"], tmp_path).ends(1, 2)
        assert "finite" in answer.err, answer.err
