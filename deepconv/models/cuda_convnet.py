"""cuda-convnet's networks for CIFAR-10 (Krizhevsky et al. 2012, 3.3 and Fig. 1)."""

import functools
from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepconv.models.alexnet import ACTIVATIONS, Layer, Steps, convolutional_layers
from deepconv.models.layers import FullyConnected, LocallyConnected, scores
from deepconv.ops.pooling import average_pool, max_pool
from deepconv.ops.response_norm import channel_norm, response_norm

CONV5x5 = Layer(64, 5, 1, 2, 1, 0.01, 0.0, ("act", "lrn", "pool"))
TWO_CONVOLUTIONS = {"conv1": replace(CONV5x5, std=1e-4, then=("act", "pool", "lrn")), "conv2": CONV5x5}
THREE_CONVOLUTIONS = {
    "conv1": replace(CONV5x5, filters=32, std=1e-4, then=("pool", "act", "lrn")),
    "conv2": replace(CONV5x5, filters=32, then=("act", "average", "lrn")),
    "conv3": replace(CONV5x5, then=("act", "average")),
}
# cuda-convnet's nets for CIFAR-10 by the test error they reach: convolutions, then filters of locally connected layers
CIFAR = {
    "13pct": (TWO_CONVOLUTIONS, {"local3": 32, "local4": 32}),
    "11pct": (TWO_CONVOLUTIONS, {"local3": 64, "local4": 32}),
    "18pct": (THREE_CONVOLUTIONS, {}),
}


class CudaConvnet(nn.Module):
    """cuda-convnet's nets. Section 3.3 quotes the errors of "13pct" and "11pct"; Fig. 1 shows "13pct" or "18pct".

    lrn: in the released files, "13pct" has none, "11pct" normalises over channels and "18pct" over pixels.
    """

    classes: int
    variant: str = "13pct"
    activation: str = "relu"
    lrn: bool = False
    dtype: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, choices in (("variant", CIFAR), ("activation", ACTIVATIONS)):
            if (value := getattr(self, field)) not in choices:
                raise ValueError(f"config.model.{field}={value!r} is unknown; choose one of {sorted(choices)}")

    def convolutions(self) -> dict[str, Layer]:
        """Returns the variant's table of convolutions."""
        return CIFAR[self.variant][0]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        dtype, normal = jnp.dtype(self.dtype), nn.initializers.normal
        over_pixels = functools.partial(response_norm, axes=(1, 2), size=3, k=1.0, alpha=5e-5 / 9)
        over_channels = functools.partial(channel_norm, size=9, k=1.0, alpha=0.001 / 9)
        norm = over_pixels if self.variant == "18pct" else over_channels
        then: Steps = {
            "act": ACTIVATIONS[self.activation],
            "pool": lambda x: max_pool(x, 3, 2),
            "average": lambda x: average_pool(x, 3, 2),
            "lrn": norm if self.lrn else lambda x: x,
        }
        x = convolutional_layers(x, self.convolutions(), then, dtype)
        for name, filters in CIFAR[self.variant][1].items():
            x = then["act"](LocallyConnected(filters, normal(0.04), dtype=dtype, name=name)(x))
        return scores(FullyConnected(self.classes, normal(0.01), name="fc10")(x))
