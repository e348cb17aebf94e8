"""A training step on CPU: ours, the same net written plainly in Flax, and PyTorch's; interleaved, in one process.

    pip install -e '.[parity]' && python tests/compare_speed.py [resnet_cifar] [alexnet] [vgg16] [resnet50]

Each round takes one step of each in turn; what counts is the ratio of the medians. Not a test: nothing is asserted.
"""

import dataclasses
import functools
import statistics
import sys
import time
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch_reference
from jax import lax
from torch.nn import functional as F

from deepconv import resume, train
from deepconv import task as task_lib
from deepconv.config import recipes
from deepconv.data.statistics import PUBLISHED

# batch, pixels, rounds, PyTorch's net
NETS = {
    "resnet_cifar": (128, 32, 25, functools.partial(torch_reference.CifarResNet, 20, 10)),
    "alexnet": (16, 224, 15, functools.partial(torch_reference.AlexNet, "paper", 10, dropout=0.5)),
    "vgg16": (16, 224, 5, functools.partial(torch_reference.VGG, "D", 10, dropout=0.5)),
    "resnet50": (16, 224, 7, functools.partial(torch_reference.ResNet, 50, 10)),
}


def ours(recipe, images, labels):
    """The whole step of the recipe, with augmentation, decay and metrics."""
    path = Path(__file__).parents[1] / "configs" / f"{recipe}.py"
    overrides = {"data.name": "shapes", "data.train_split": "train[:256]", "data.eval_split": "test[:16]"}
    overrides |= {"batch_size": len(images)}
    if recipe == "resnet50":
        overrides["model.bn_group"] = 0
    task = task_lib.prepare(recipes.load(path, overrides | ({"total_epochs": 99} if recipe == "alexnet" else {})), None)
    mean = np.full((task.config.data.image_size, task.config.data.image_size, 3), 120, np.float32)
    step_fn = train.jit_step(task, dataclasses.replace(PUBLISHED, pixel_mean=mean))
    state, batch = resume.initial_state(task)(), {"image": images, "label": labels}

    def step():
        nonlocal state
        state, metrics = step_fn(state, batch)
        return jax.block_until_ready(metrics)["train_loss"]

    return step


class PlainAlexNet(nn.Module):
    """With XLA's grouped convolution, window reductions and power."""

    @nn.compact
    def __call__(self, x, key):
        def norm(x):
            total = lax.reduce_window(x * x, 0.0, lax.add, (1, 1, 1, 5), (1, 1, 1, 1), "SAME")
            return x * jnp.power(2 + 1e-4 * total, -0.75)

        x = norm(nn.relu(nn.Conv(96, (11, 11), 4, ((0, 3), (0, 3)))(x)))
        x = nn.max_pool(x, (3, 3), (2, 2))
        x = norm(nn.relu(nn.Conv(256, (5, 5), feature_group_count=2)(x)))
        x = nn.max_pool(x, (3, 3), (2, 2))
        for filters, groups in ((384, 1), (384, 2), (256, 2)):
            x = nn.relu(nn.Conv(filters, (3, 3), feature_group_count=groups)(x))
        return plain_head(nn.max_pool(x, (3, 3), (2, 2)), key)


class PlainVGG16(nn.Module):
    @nn.compact
    def __call__(self, x, key):
        for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(count):
                x = nn.relu(nn.Conv(filters, (3, 3))(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        return plain_head(x, key)


def plain_head(x, key):
    x = x.reshape(len(x), -1)
    for part in jax.random.split(key):
        x = nn.relu(nn.Dense(4096)(x))
        x = nn.Dropout(0.5, deterministic=False)(x, rng=part)
    return nn.Dense(10)(x)


class PlainBlock(nn.Module):
    filters: int
    stride: int
    sizes: tuple  # (3, 3): basic; (1, 3, 1): bottleneck
    projection: bool

    @nn.compact
    def __call__(self, x):
        y = x
        for i, size in enumerate(self.sizes):
            filters = self.filters * (4 if len(self.sizes) == 3 and i == 2 else 1)
            y = nn.Conv(filters, (size, size), self.stride if i == 0 else 1, use_bias=False)(y)
            y = nn.BatchNorm(use_running_average=False)(y)
            y = y if i == len(self.sizes) - 1 else nn.relu(y)
        if self.projection and x.shape != y.shape:
            x = nn.BatchNorm(use_running_average=False)(nn.Conv(filters, (1, 1), self.stride, use_bias=False)(x))
        else:
            x = jnp.pad(x[:, :: self.stride, :: self.stride], ((0, 0),) * 3 + ((0, filters - x.shape[-1]),))
        return nn.relu(x + y)


class PlainResNet(nn.Module):
    stages: tuple  # (filters, blocks)
    sizes: tuple
    imagenet: bool

    @nn.compact
    def __call__(self, x, key):
        x = nn.Conv(64, (7, 7), 2, use_bias=False)(x) if self.imagenet else nn.Conv(16, (3, 3), use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=False)(x))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME") if self.imagenet else x
        for stage, (filters, blocks) in enumerate(self.stages):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                x = PlainBlock(filters, stride, self.sizes, self.imagenet)(x)
        return nn.Dense(10)(x.mean((1, 2)))


PLAIN = {
    "resnet_cifar": PlainResNet(((16, 3), (32, 3), (64, 3)), (3, 3), False),
    "alexnet": PlainAlexNet(),
    "vgg16": PlainVGG16(),
    "resnet50": PlainResNet(((64, 3), (128, 4), (256, 6), (512, 3)), (1, 3, 1), True),
}


def plain_flax(recipe, images, labels):
    """No augmentation: a plain loop with optax.sgd."""
    model, x = PLAIN[recipe], images.astype(np.float32) / 128 - 1
    key = jax.random.key(0)
    variables, tx = model.init(key, x, key), optax.sgd(0.001, momentum=0.9)
    state = variables["params"], variables.get("batch_stats", {}), tx.init(variables["params"]), key

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
    def step_fn(params, batch_stats, opt_state, key):
        def loss_fn(params):
            variables = {"params": params, "batch_stats": batch_stats}
            logits, new = model.apply(variables, x, key, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), new

        (loss, new), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        updates, opt_state_ = tx.update(grads, opt_state, params)
        key = jax.random.fold_in(key, 1)
        return (optax.apply_updates(params, updates), new.get("batch_stats", {}), opt_state_, key), loss

    def step():
        nonlocal state
        state, loss = step_fn(*state)
        return jax.block_until_ready(loss)

    return step


def pytorch(recipe, images, labels):
    """No augmentation either; channels_last, which is its faster layout here."""
    model = NETS[recipe][-1]().to(memory_format=torch.channels_last)
    x = torch.tensor(images).permute(0, 3, 1, 2).float().div(128).sub(1).to(memory_format=torch.channels_last)
    labels, sgd = torch.tensor(labels).long(), torch.optim.SGD(model.parameters(), 0.001, 0.9, weight_decay=1e-4)

    def step():
        sgd.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        sgd.step()
        return loss.item()

    return step


def compare(recipe):
    """Measure one net and print a line for each."""
    batch, pixels, rounds, _ = NETS[recipe]
    images = np.random.default_rng(0).integers(0, 256, (batch, pixels, pixels, 3), np.uint8)
    labels = np.arange(batch, dtype=np.int32) % 10
    steps = {"deepconv": ours, "plain Flax": plain_flax, "PyTorch": pytorch}
    steps = {name: make(recipe, images, labels) for name, make in steps.items()}
    times = {name: [] for name in steps}
    for round_ in range(rounds + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if round_ >= 2:
                times[name].append(time.perf_counter() - start)
    print(f"{recipe}: batch {batch}, {pixels} pixels, {rounds} rounds")
    for name, seconds in times.items():
        median, low, high = statistics.median(seconds), min(seconds), max(seconds)
        rest = "  ".join(
            f"{statistics.median(other) / median:.2f} x {reference}"
            for reference, other in times.items()
            if reference != name
        )
        print(f"  {name:10} {batch / median:6.1f} images/s  [{batch / high:.1f}-{batch / low:.1f}]  {rest}", flush=True)


if __name__ == "__main__":
    print(f"jax {jax.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    for recipe in sys.argv[1:] or NETS:
        compare(recipe)
