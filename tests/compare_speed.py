"""ResNet-20 on CPU: ours, the same net written plainly in Flax, and PyTorch's; interleaved, in one process.

    pip install -e '.[compare]' && python tests/compare_speed.py

Each round takes one step of each in turn; what counts is the ratio of the medians. Not a test: nothing is asserted.
"""

import statistics
import time
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch.nn import functional as F

from deepconv import config as config_lib
from deepconv import train

BATCH, ROUNDS = 128, 25
IMAGES = np.random.default_rng(0).integers(0, 256, (BATCH, 32, 32, 3), np.uint8)
LABELS = np.arange(BATCH, dtype=np.int32) % 10


def ours():
    """The whole step of the recipe, with augmentation, decay and metrics."""
    path = Path(__file__).parents[1] / "configs" / "resnet_cifar.py"
    task = train.prepare(config_lib.load(path, {"data.name": "shapes"}), None)
    step_fn = train.jit_step(task, np.float32(120) * np.ones((1, 1, 1, 3), np.float32))
    state, batch = train.initial_state(task)(), {"image": IMAGES, "label": LABELS}

    def step():
        nonlocal state
        state, metrics = step_fn(state, batch)
        return jax.block_until_ready(metrics)["train_loss"]

    return step


class PlainBlock(nn.Module):
    filters: int
    stride: int

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(self.filters, (3, 3), self.stride, use_bias=False)(x)
        y = nn.relu(nn.BatchNorm(use_running_average=False)(y))
        y = nn.Conv(self.filters, (3, 3), use_bias=False)(y)
        y = nn.BatchNorm(use_running_average=False)(y)
        x = jnp.pad(x[:, :: self.stride, :: self.stride], ((0, 0),) * 3 + ((0, self.filters - x.shape[-1]),))
        return nn.relu(x + y)


class PlainResNet20(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(16, (3, 3), use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=False)(x))
        for stage, filters in enumerate((16, 32, 64)):
            for block in range(3):
                x = PlainBlock(filters, 2 if stage and not block else 1)(x)
        return nn.Dense(10)(x.mean((1, 2)))


def plain_flax():
    """No augmentation: a plain loop with optax.sgd."""
    model, x = PlainResNet20(), IMAGES.astype(np.float32) / 128 - 1
    variables, tx = model.init(jax.random.key(0), x), optax.sgd(0.1, momentum=0.9)
    state = variables["params"], variables["batch_stats"], tx.init(variables["params"])

    @jax.jit
    def step_fn(params, batch_stats, opt_state):
        def loss_fn(params):
            logits, new = model.apply({"params": params, "batch_stats": batch_stats}, x, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean(), new["batch_stats"]

        (loss, batch_stats_), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        updates, opt_state_ = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), batch_stats_, opt_state_), loss

    def step():
        nonlocal state
        state, loss = step_fn(*state)
        return jax.block_until_ready(loss)

    return step


class TorchBlock(torch.nn.Module):
    def __init__(self, before, filters, stride):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(before, filters, 3, stride, 1, bias=False)
        self.conv2 = torch.nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = torch.nn.BatchNorm2d(filters), torch.nn.BatchNorm2d(filters)
        self.stride, self.new = stride, filters - before

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new))
        return F.relu(x + y)


def pytorch():
    """No augmentation either; channels_last, which is its faster layout here."""
    blocks, before = [], 16
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(3):
            blocks.append(TorchBlock(before, filters, 2 if stage and not block else 1))
            before = filters
    stem = torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False), torch.nn.BatchNorm2d(16), torch.nn.ReLU()
    head = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(64, 10)
    model = torch.nn.Sequential(*stem, *blocks, *head).to(memory_format=torch.channels_last)
    x = torch.tensor(IMAGES).permute(0, 3, 1, 2).float().div(128).sub(1).to(memory_format=torch.channels_last)
    labels, sgd = torch.tensor(LABELS).long(), torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=1e-4)

    def step():
        sgd.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        sgd.step()
        return loss.item()

    return step


def main():
    steps = {"deepconv": ours(), "plain Flax": plain_flax(), "PyTorch": pytorch()}
    times = {name: [] for name in steps}
    for round_ in range(ROUNDS + 3):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if round_ >= 3:
                times[name].append(time.perf_counter() - start)
    print(f"jax {jax.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads, {ROUNDS} rounds")
    for name, seconds in times.items():
        median, low, high = statistics.median(seconds), min(seconds), max(seconds)
        rest = "  ".join(
            f"{statistics.median(other) / median:.2f} x {reference}"
            for reference, other in times.items()
            if reference != name
        )
        print(f"{name:10} {BATCH / median:6.0f} images/s  [{BATCH / high:.0f}-{BATCH / low:.0f}]  {rest}")


if __name__ == "__main__":
    main()
