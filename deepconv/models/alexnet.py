"""AlexNet: the network of Krizhevsky et al. 2012 for ImageNet, and its variants."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepconv.models.layers import Conv, Dropout, FullyConnected, scores
from deepconv.ops import rectifier
from deepconv.ops.padding import CEIL, Padding
from deepconv.ops.parts import draw
from deepconv.ops.pooling import max_pool
from deepconv.ops.response_norm import channel_norm, response_norm

Steps = dict[str, Callable[[jax.Array], jax.Array]]  # operations that may follow a convolution, by name


@dataclass(frozen=True)
class Layer:
    """A convolution and the names of the operations that follow it."""

    filters: int
    size: int
    stride: int
    padding: Padding
    groups: int
    std: float  # of the initial weights
    bias: float  # initial
    then: tuple[str, ...]


# "paper": section 3.5, Fig. 2. Windows of 11 at stride 4 do not fit 224; three columns of zeros make 55 windows.
PAPER = {
    # filters, size, stride, padding, groups, standard deviation of the initial weights, initial bias, operations
    "conv1": Layer(96, 11, 4, CEIL, 1, 0.01, 0.0, ("act", "lrn", "pool")),  # 55 pixels -> 27
    "conv2": Layer(256, 5, 1, 2, 2, 0.01, 1.0, ("act", "lrn", "pool")),  # 27 -> 13
    "conv3": Layer(384, 3, 1, 1, 1, 0.01, 0.0, ("act",)),  # 13; the only convolution that sees both towers
    "conv4": Layer(384, 3, 1, 1, 2, 0.01, 1.0, ("act",)),
    "conv5": Layer(256, 3, 1, 1, 2, 0.01, 1.0, ("act", "pool")),  # 13 -> 6
}
# "code": the net the authors ran, run 145 of the code they released
CODE = {
    "conv1": replace(PAPER["conv1"], then=("lrn", "pool", "act")),
    "conv2": replace(PAPER["conv2"], then=("act", "lrn", "spatial", "pool")),
    "conv3": replace(PAPER["conv3"], std=0.03),
    "conv4": replace(PAPER["conv4"], std=0.03),
    "conv5": replace(PAPER["conv5"], std=0.03, then=("pool", "act")),
}
# "owt": Krizhevsky 2014, "One weird trick"; torchvision's alexnet
OWT = {
    "conv1": Layer(64, 11, 4, 2, 1, 0.01, 0.0, ("act", "lrn", "pool")),
    "conv2": Layer(192, 5, 1, 2, 1, 0.01, 1.0, ("act", "lrn", "pool")),
    "conv3": Layer(384, 3, 1, 1, 1, 0.03, 0.0, ("act",)),
    "conv4": Layer(256, 3, 1, 1, 1, 0.03, 1.0, ("act",)),
    "conv5": Layer(256, 3, 1, 1, 1, 0.03, 1.0, ("act", "pool")),
}
VARIANTS = {"paper": PAPER, "code": CODE, "owt": OWT}
HALF_FILTERS = (48, 128, 192, 192, 256)  # 3.2, footnote 2: the last convolution is not halved
# section 6: "an extra sixth convolutional layer over the last pooling layer", which sees both towers
# DIFFERS: it starts as in the authors' code; the text's std is 0.01, and its biases of a sixth convolution are 0.
CONV6 = Layer(256, 3, 1, 1, 1, 0.03, 1.0, ("act",))
ACTIVATIONS = {"relu": rectifier.relu, "tanh": jnp.tanh}


class AlexNet(nn.Module):
    """Five convolutions in two towers and three fully connected layers; the options are the paper's ablations."""

    classes: int
    variant: str = "paper"
    activation: str = "relu"
    half: bool = False  # the one-GPU net of 3.2
    grouped: bool = True  # False: one tower of full width
    communication: bool = True  # False, with lrn_in_towers: the towers meet in the last layer only, as in run 150
    overlapping_pooling: bool = True  # False: as in the authors' run 147
    lrn: bool = True
    lrn_k: float = 2.0
    lrn_alpha: float = 1e-4  # times the sum, as in the paper; the authors' code divides by the 5 channels of a window
    lrn_in_towers: bool = False  # True: as in the authors' code, within each tower
    without: str = ""  # name of a convolution to leave out, "conv2" to "conv5"
    conv6: bool = False
    dropout: float = 0.5
    dtype: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, choices in (
            ("variant", VARIANTS),
            ("activation", ACTIVATIONS),
            ("without", ("", "conv2", "conv3", "conv4", "conv5")),
        ):
            if (value := getattr(self, field)) not in choices:
                raise ValueError(f"config.model.{field}={value!r} is unknown; choose one of {sorted(choices)}")
        if not self.communication and (self.towers() == 1 or self.conv6):
            raise ValueError(
                "config.model.communication=False is for two towers; variant='owt', half=True and grouped=False have "
                "one, and conv6=True joins them"
            )
        if self.variant == "owt" and (self.half or not self.overlapping_pooling):
            raise ValueError(
                "config.model.half and overlapping_pooling=False are for variants 'paper' and 'code', not 'owt'"
            )

    def towers(self) -> int:
        """Returns the number of towers: two in the paper's net, one with variant owt, half or grouped=False."""
        return 1 if self.variant == "owt" or self.half or not self.grouped else 2

    def convolutions(self) -> dict[str, Layer]:
        """Returns the variant's table of layers with the options applied."""
        table = dict(VARIANTS[self.variant])
        if self.half:
            table = {
                name: replace(layer, filters=filters)
                for (name, layer), filters in zip(table.items(), HALF_FILTERS, strict=True)
            }
        if self.towers() == 1:
            table = {name: replace(layer, groups=1) for name, layer in table.items()}
        if not self.communication:
            table["conv2"] = replace(table["conv2"], filters=320)
            table["conv3"] = replace(table["conv3"], groups=2)
        if not self.overlapping_pooling:  # 55-28-26-13-13-13-11-6 pixels
            table["conv2"] = replace(table["conv2"], padding=1)
            table["conv5"] = replace(table["conv5"], padding=0)
        if self.without:  # its other operations, without the nonlinearity, move to the previous layer
            names = list(table)
            before, gone = names[names.index(self.without) - 1], table.pop(self.without)
            rest = tuple(step for step in gone.then if step != "act")
            table[before] = replace(table[before], then=table[before].then + rest)
        if self.conv6:
            table["conv6"] = CONV6
        return table

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        dtype, owt = jnp.dtype(self.dtype), self.variant == "owt"
        towers = self.towers() if self.lrn_in_towers else 1
        then: Steps = {
            "act": ACTIVATIONS[self.activation],
            "pool": lambda x: max_pool(x, 3 if self.overlapping_pooling else 2, 2),
            "lrn": lambda x: channel_norm(x, 5, self.lrn_k, self.lrn_alpha, towers) if self.lrn else x,
            "spatial": lambda x: response_norm(x, (1, 2), 5, 1.0, 0.001 / 25) if self.lrn else x,
        }
        x = convolutional_layers(x, self.convolutions(), then, dtype)
        normal, ones = nn.initializers.normal(0.01), nn.initializers.ones
        widths, groups = ((4096, 4096), 1) if self.communication else ((2 * 4096, 2 * 2048), 2)
        for name, width in zip(("fc6", "fc7"), widths, strict=True):
            if owt:
                x = Dropout(self.dropout)(x, train)
            x = then["act"](FullyConnected(width, normal, ones, groups, dtype, name=name)(x))
            if not owt and self.dropout:
                x = dropout(x, self.dropout, self.make_rng("dropout") if train else None)
        return scores(FullyConnected(self.classes, normal, name="fc8")(x))  # in float32: in bfloat16, scores would tie


def convolutional_layers(x: jax.Array, table: dict[str, Layer], then: Steps, dtype: jnp.dtype) -> jax.Array:
    """Applies the convolutions of a table in order, each with the operations that follow it."""
    for name, layer in table.items():
        init = nn.initializers.normal(layer.std), nn.initializers.constant(layer.bias)
        shape = layer.filters, layer.size, layer.stride, layer.padding, layer.groups
        x = Conv(*shape, *init, dtype, name=name)(x)
        for step in layer.then:
            x = then[step](x)
    return x


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Sets outputs to zero with probability `rate` in training; in a test (no key), multiplies them by 1 - rate (4.2).

    layers.Dropout scales in training instead. That is the same net with smaller weights in the next layer, and
    therefore different initialisation and decay.
    """
    if key is None:
        return x * (1 - rate)
    return jnp.where(draw(lambda shape: jax.random.bernoulli(key, 1 - rate, shape), x.shape), x, 0)
