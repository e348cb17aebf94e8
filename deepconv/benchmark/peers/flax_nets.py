"""The nets in plain Flax, with optax.sgd: no augmentation, and XLA's own operations."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from deepconv.benchmark.peers import BOTTLENECKS, CLASSES, Job, Steps
from deepconv.benchmark.peers.jax_queue import Queue, device_bytes


class AlexNet(nn.Module):
    """The two-tower net of the paper's text, with grouped convolutions, window reductions and powers."""

    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = norm(nn.relu(nn.Conv(96, (11, 11), 4, ((0, 3), (0, 3)), dtype=self.dtype)(x)))
        x = nn.max_pool(x, (3, 3), (2, 2))
        x = norm(nn.relu(nn.Conv(256, (5, 5), feature_group_count=2, dtype=self.dtype)(x)))
        x = nn.max_pool(x, (3, 3), (2, 2))
        for filters, groups in ((384, 1), (384, 2), (256, 2)):
            x = nn.relu(nn.Conv(filters, (3, 3), feature_group_count=groups, dtype=self.dtype)(x))
        return Head(self.dtype)(nn.max_pool(x, (3, 3), (2, 2)), train)


def norm(x: jax.Array) -> jax.Array:
    """Normalises responses across five channels."""
    total = lax.reduce_window(x * x, np.zeros((), x.dtype), lax.add, (1, 1, 1, 5), (1, 1, 1, 1), "SAME")
    return x * jnp.power(2 + 1e-4 * total, -0.75)


class VGG16(nn.Module):
    """Configuration D."""

    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(count):
                x = nn.relu(nn.Conv(filters, (3, 3), dtype=self.dtype)(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        return Head(self.dtype)(x, train)


class Head(nn.Module):
    """The fully connected layers of AlexNet and VGG."""

    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = x.reshape(len(x), -1)
        for _ in range(2):
            x = nn.relu(nn.Dense(4096, dtype=self.dtype)(x))
            x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(CLASSES, dtype=self.dtype)(x)


class Block(nn.Module):
    """A residual block; its stride is on the first convolution."""

    filters: int
    stride: int
    sizes: tuple[int, ...]  # (3, 3): basic; (1, 3, 1): bottleneck
    projection: bool
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y, filters = x, self.filters
        for i, size in enumerate(self.sizes):
            filters = self.filters * (4 if len(self.sizes) == 3 and i == 2 else 1)
            strides = self.stride if i == 0 else 1
            y = nn.Conv(filters, (size, size), strides, use_bias=False, dtype=self.dtype)(y)
            y = nn.BatchNorm(use_running_average=not train, dtype=self.dtype)(y)
            y = y if i == len(self.sizes) - 1 else nn.relu(y)
        if self.projection and x.shape != y.shape:
            x = nn.Conv(filters, (1, 1), self.stride, use_bias=False, dtype=self.dtype)(x)
            x = nn.BatchNorm(use_running_average=not train, dtype=self.dtype)(x)
        else:
            x = jnp.pad(x[:, :: self.stride, :: self.stride], ((0, 0),) * 3 + ((0, filters - x.shape[-1]),))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """A net for ImageNet of bottleneck blocks, or for CIFAR-10 of basic blocks."""

    dtype: str
    stages: tuple[tuple[int, int], ...]  # filters, blocks
    sizes: tuple[int, ...]
    imagenet: bool

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        filters, size, strides = (64, 7, 2) if self.imagenet else (16, 3, 1)
        x = nn.Conv(filters, (size, size), strides, use_bias=False, dtype=self.dtype)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, dtype=self.dtype)(x))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME") if self.imagenet else x
        for stage, (filters, blocks) in enumerate(self.stages):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                x = Block(filters, stride, self.sizes, self.imagenet, self.dtype)(x, train)
        return nn.Dense(CLASSES, dtype=self.dtype)(x.mean((1, 2)))


def net(name: str, dtype: str) -> nn.Module:
    """Returns a net by its recipe's name."""
    if name == "alexnet":
        return AlexNet(dtype)
    if name == "vgg16":
        return VGG16(dtype)
    if name in BOTTLENECKS:
        return ResNet(dtype, BOTTLENECKS[name], (1, 3, 1), True)
    return ResNet(dtype, ((16, 3), (32, 3), (64, 3)), (3, 3), False)


class Trained:
    """A net, its optimiser and a batch."""

    def __init__(self, job: Job) -> None:
        self.model, self.tx = net(job.net, job.dtype), optax.sgd(0.001, momentum=0.9)
        x = np.random.default_rng(0).uniform(-1, 1, (job.batch, job.pixels, job.pixels, 3))
        self.images, self.labels = jnp.asarray(x, jnp.float32), jnp.arange(job.batch) % CLASSES
        self.key = jax.random.key(0)
        variables = self.model.init(self.key, self.images[:1], train=False)
        self.params, self.batch_stats = variables["params"], variables.get("batch_stats", {})
        self.opt_state = self.tx.init(self.params)
        self.jitted_step = jax.jit(self._step, donate_argnums=(0, 1, 2))
        self.jitted_test = jax.jit(self._test)

    def _step(self, params: Any, batch_stats: Any, opt_state: Any, key: jax.Array, x: jax.Array, y: jax.Array) -> Any:
        def loss_fn(params: Any) -> tuple[jax.Array, Any]:
            variables, rngs = {"params": params, "batch_stats": batch_stats}, {"dropout": key}
            logits, new = self.model.apply(variables, x, train=True, rngs=rngs, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), y).mean(), new

        (loss, new), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        updates, opt_state = self.tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        return params, new.get("batch_stats", {}), opt_state, jax.random.fold_in(key, 1), loss

    def _test(self, params: Any, batch_stats: Any, x: jax.Array) -> jax.Array:
        logits: Any = self.model.apply({"params": params, "batch_stats": batch_stats}, x, train=False)
        return nn.softmax(logits)

    def train(self) -> object:
        """Takes a step; returns its loss."""
        state = self.params, self.batch_stats, self.opt_state, self.key
        *state, loss = self.jitted_step(*state, self.images, self.labels)
        self.params, self.batch_stats, self.opt_state, self.key = state
        return loss

    def test(self) -> object:
        """Returns probabilities."""
        return self.jitted_test(self.params, self.batch_stats, self.images)


def make(job: Job) -> Steps:
    """Returns the steps of a plain net."""
    trained = Trained(job)
    queue = Queue(trained.train if job.mode == "train" else trained.test)
    return Steps(queue.step, queue.finish, sum(x.size for x in jax.tree.leaves(trained.params)), device_bytes)
