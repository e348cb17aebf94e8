"""VGG networks of Simonyan & Zisserman 2015."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepconv.models.layers import Conv, Dropout, FullyConnected, scores
from deepconv.ops import rectifier
from deepconv.ops.pooling import max_pool
from deepconv.ops.response_norm import channel_norm

# Table 1: convolutions of k pixels and c filters as "k-c", one line per map size; max pooling after each line.
CONFIGURATIONS = {
    "A": ("3-64", "3-128", "3-256 3-256", "3-512 3-512", "3-512 3-512"),
    "A-LRN": ("3-64 LRN", "3-128", "3-256 3-256", "3-512 3-512", "3-512 3-512"),
    "B": ("3-64 3-64", "3-128 3-128", "3-256 3-256", "3-512 3-512", "3-512 3-512"),
    "C": ("3-64 3-64", "3-128 3-128", "3-256 3-256 1-256", "3-512 3-512 1-512", "3-512 3-512 1-512"),
    "D": ("3-64 3-64", "3-128 3-128", "3-256 3-256 3-256", "3-512 3-512 3-512", "3-512 3-512 3-512"),
    "E": (
        "3-64 3-64",
        "3-128 3-128",
        "3-256 3-256 3-256 3-256",
        "3-512 3-512 3-512 3-512",
        "3-512 3-512 3-512 3-512",
    ),
    "B-5x5": ("5-64", "5-128", "5-256", "5-512", "5-512"),  # the shallow net of 2.3, compared with B in section 4
}
INITIALIZERS = {
    # DIFFERS: 3.1 says a variance of 1e-2, with which net A's scores would begin at about 1e7; AlexNet has this std.
    "normal": nn.initializers.normal(0.01),
    "glorot": nn.initializers.glorot_uniform(),  # 3.1: "it is possible to initialise the weights without pre-training"
}


class VGG(nn.Module):
    """Blocks of convolutions, each followed by max pooling, and three fully connected layers."""

    classes: int
    configuration: str = "D"
    initialization: str = "glorot"
    dropout: float = 0.5
    narrow: int = 1  # divides the widths of all layers but the last; not in the paper, for demonstrations
    dtype: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, choices in (("configuration", CONFIGURATIONS), ("initialization", INITIALIZERS)):
            if (value := getattr(self, field)) not in choices:
                raise ValueError(f"config.model.{field}={value!r} is unknown; choose one of {', '.join(choices)}")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        init = dict(kernel_init=INITIALIZERS[self.initialization], bias_init=nn.initializers.zeros)
        shared = dict(**init, dtype=jnp.dtype(self.dtype))
        for block, line in enumerate(CONFIGURATIONS[self.configuration], 1):
            for layer, text in enumerate(line.split(), 1):
                if text == "LRN":
                    x = channel_norm(x, size=5, k=2.0, alpha=1e-4)  # as in the paper of Krizhevsky et al. 2012
                else:
                    size, filters = map(int, text.split("-"))
                    conv = Conv(filters // self.narrow, size, padding=size // 2, **shared, name=f"conv{block}_{layer}")
                    x = rectifier.relu(conv(x))
            x = max_pool(x, 2, 2)
        for name in ("fc6", "fc7"):
            x = rectifier.relu(FullyConnected(4096 // self.narrow, **shared, name=name)(x))
            x = Dropout(self.dropout)(x, train)
        return scores(FullyConnected(self.classes, **init, name="fc8")(x))  # in float32: in bfloat16, scores would tie
