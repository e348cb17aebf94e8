"""Prints, as JSON, losses of a few steps on one device and on several, and a step's exchanges; for test_mesh.py."""

import dataclasses
import json
import os

import jax
import pytest
from conftest import ROOT, narrow

os.environ["XLA_FLAGS"] = os.environ["XLA_FLAGS"].replace("device_count=2", "device_count=8")  # read by jax.devices()

from deepconv import distributed, resume, task, train
from deepconv.benchmark import collectives
from deepconv.config import recipes
from deepconv.models import alexnet, vgg

STEPS = 4
# At the recipe's rate of 0.1, the smoke test of a ResNet diverges, and rounding grows with it.
RATE = {"optimizer.learning_rate": 0.001, "batch_size": 16}
FAMILIES = {
    "vgg11": {"data.image_size": 32},
    "alexnet_code": {},
    "resnet_cifar": {"model.depth": 8, "data.image_size": 16},
}


def losses(task):
    """The losses of the first steps."""
    data = task.train_source.open()
    step, state = train.jit_step(task, resume.statistics_for(task, data)), resume.initial_state(task)()
    loader, found = train.batches(task, data, 0), []
    for _ in range(STEPS):
        state, metrics = step(state, next(loader))
        found.append(float(metrics["train_loss"]))
    return found


def main():
    assert jax.device_count() == 8
    devices, found = jax.devices(), {}
    for recipe, changes in FAMILIES.items():
        config = recipes.load(ROOT / "configs" / f"{recipe}.py", RATE | changes, smoke=True)
        whole = task.prepare(config, None)
        meshes = {"1x1": distributed.make_mesh(1, devices[:1]), "8x1": whole.mesh}
        meshes |= {"4x2": distributed.make_mesh(2)} if recipe == "alexnet_code" else {}
        found[recipe] = {name: losses(dataclasses.replace(whole, mesh=mesh)) for name, mesh in meshes.items()}
        if recipe == "alexnet_code":
            four = dataclasses.replace(whole, mesh=distributed.make_mesh(2, devices[:4]))
            text = collectives.compiled_step(four).as_text()
            found["exchanges"] = [dataclasses.asdict(each) for each in collectives.find(text, four.mesh)]
            found["parameters"] = sum(x.size for x in jax.tree.leaves(resume.initial_state(four)().params))
    print(json.dumps(found))


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        for module in (alexnet, vgg):
            narrow(patch, module)
        main()
