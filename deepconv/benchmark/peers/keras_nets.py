"""The nets in Keras 3 on JAX, trained by train_on_batch; bfloat16 is Keras's mixed precision."""

import os

os.environ["KERAS_BACKEND"] = "jax"  # Keras reads it when it is imported

import jax.numpy as jnp
import keras
import numpy as np
from keras import layers, ops

from deepconv.benchmark.peers import BOTTLENECKS, CLASSES, Job, Steps
from deepconv.benchmark.peers.jax_queue import device_bytes


class ResponseNorm(layers.Layer):
    """AlexNet's response normalisation across five channels, which Keras lacks."""

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Normalises maps."""
        squares = ops.pad(x * x, ((0, 0), (0, 0), (0, 0), (2, 2)))
        total = sum(squares[..., i : i + x.shape[-1]] for i in range(5))
        return x * ops.power(2 + 1e-4 * total, -0.75)


class ZeroPaddedShortcut(layers.Layer):
    """A shortcut that takes every stride-th pixel and appends channels of zeros."""

    def __init__(self, stride: int, zero_channels: int) -> None:
        super().__init__()
        self.stride, self.zero_channels = stride, zero_channels

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Pads maps."""
        return ops.pad(x[:, :: self.stride, :: self.stride], ((0, 0), (0, 0), (0, 0), (0, self.zero_channels)))


def head(x: keras.KerasTensor) -> keras.KerasTensor:
    """Applies the fully connected layers of AlexNet and VGG."""
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.Dropout(0.5)(layers.Dense(4096, activation="relu")(x))
    return layers.Dense(CLASSES)(x)


def alexnet(x: keras.KerasTensor) -> keras.KerasTensor:
    """Applies the two-tower net of the paper's text."""
    x = layers.ZeroPadding2D(((0, 3), (0, 3)))(x)
    x = ResponseNorm()(layers.Conv2D(96, 11, 4, activation="relu")(x))
    x = layers.MaxPooling2D(3, 2)(x)
    x = ResponseNorm()(layers.Conv2D(256, 5, padding="same", groups=2, activation="relu")(x))
    x = layers.MaxPooling2D(3, 2)(x)
    for filters, groups in ((384, 1), (384, 2), (256, 2)):
        x = layers.Conv2D(filters, 3, padding="same", groups=groups, activation="relu")(x)
    return head(layers.MaxPooling2D(3, 2)(x))


def vgg16(x: keras.KerasTensor) -> keras.KerasTensor:
    """Applies configuration D."""
    for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2, 2)(x)
    return head(x)


def convolution(x: keras.KerasTensor, filters: int, size: int, stride: int) -> keras.KerasTensor:
    """Applies a convolution and batch normalisation."""
    return layers.BatchNormalization()(layers.Conv2D(filters, size, stride, padding="same", use_bias=False)(x))


def block(
    x: keras.KerasTensor, filters: int, stride: int, sizes: tuple[int, ...], projection: bool
) -> keras.KerasTensor:
    """Applies a residual block; its stride is on the first convolution."""
    y, outputs = x, filters
    for i, size in enumerate(sizes):
        outputs = filters * (4 if len(sizes) == 3 and i == 2 else 1)
        y = convolution(y, outputs, size, stride if i == 0 else 1)
        y = y if i == len(sizes) - 1 else layers.ReLU()(y)
    if projection and (stride > 1 or x.shape[-1] != outputs):
        x = convolution(x, outputs, 1, stride)
    elif x.shape[-1] != outputs:
        x = ZeroPaddedShortcut(stride, outputs - x.shape[-1])(x)
    return layers.ReLU()(layers.Add()([x, y]))


def resnet(
    x: keras.KerasTensor, stages: tuple[tuple[int, int], ...], sizes: tuple[int, ...], imagenet: bool
) -> keras.KerasTensor:
    """Applies a net of stages (filters, blocks): for ImageNet of bottleneck blocks, or for CIFAR-10 of basic ones."""
    x = layers.ReLU()(convolution(x, 64, 7, 2) if imagenet else convolution(x, 16, 3, 1))
    x = layers.MaxPooling2D(3, 2, padding="same")(x) if imagenet else x
    for stage, (filters, blocks) in enumerate(stages):
        for number in range(blocks):
            x = block(x, filters, 2 if stage and not number else 1, sizes, imagenet)
    return layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x))


def net(name: str, pixels: int) -> keras.Model:
    """Returns a net by its recipe's name."""
    images = keras.Input((pixels, pixels, 3))
    if name == "alexnet":
        logits = alexnet(images)
    elif name == "vgg16":
        logits = vgg16(images)
    elif name in BOTTLENECKS:
        logits = resnet(images, BOTTLENECKS[name], (1, 3, 1), True)
    else:
        logits = resnet(images, ((16, 3), (32, 3), (64, 3)), (3, 3), False)
    return keras.Model(images, layers.Softmax(dtype="float32")(logits))


class Trained:
    """A net, compiled in Keras's sense, and a batch."""

    def __init__(self, job: Job) -> None:
        keras.config.set_dtype_policy("mixed_bfloat16" if job.dtype == "bfloat16" else "float32")
        self.model = net(job.net, job.pixels)
        self.model.compile(keras.optimizers.SGD(0.001, momentum=0.9), "sparse_categorical_crossentropy")
        x = np.random.default_rng(0).uniform(-1, 1, (job.batch, job.pixels, job.pixels, 3))
        # on the device, as in the other libraries; Keras waits for each step, and fetches its result
        self.images, self.labels = jnp.asarray(x, jnp.float32), jnp.arange(job.batch) % CLASSES

    def train(self) -> None:
        """Takes a step."""
        self.model.train_on_batch(self.images, self.labels)

    def test(self) -> None:
        """Computes probabilities."""
        self.model.predict_on_batch(self.images)


def make(job: Job) -> Steps:
    """Returns the steps of a net; Keras waits for each."""
    trained = Trained(job)
    step = trained.train if job.mode == "train" else trained.test
    parameters = sum(int(np.prod(v.shape)) for v in trained.model.trainable_weights)
    return Steps(step, lambda: None, parameters, device_bytes)
