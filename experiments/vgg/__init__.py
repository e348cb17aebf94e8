"""Simonyan & Zisserman, "Very Deep Convolutional Networks", 2015 (arXiv v6): the runs behind its tables.

Net A at random -> four convolutions and the last three layers of B, C, D, E at S=256 -> S=384 -> S from 256 to 512.
"""

from experiments.entry import Run

FROM_A = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8")
A = Run("vgg11")
A_LRN = Run("vgg11_lrn")
B, C, D, E = (
    Run(recipe, {"model.initialization": "normal"}, init_from=A, init_layers=FROM_A)
    for recipe in ("vgg13", "vgg16_1x1", "vgg16", "vgg19")
)
SHALLOW = Run("vgg13_5x5")  # each pair of 3x3 convolutions of B made one of 5x5 (4)


def at_384(net: Run) -> Run:
    """The net of S=256 trained further, from a smaller rate (3.1)."""
    scales = {"data.train_scale": (384, 384), "data.test_scale": 384, "optimizer.learning_rate": 1e-3}
    return Run(net.config, {**net.overrides, **scales}, init_from=net)


def jittered(net: Run, config: str | None = None) -> Run:
    """The net of S=384 trained further, S from 256 to 512. Rate and length are not said; here as at S=384."""
    return Run(config or net.config, {**net.overrides, "data.train_scale": (256, 512)}, init_from=net)


C_384, D_384, E_384 = map(at_384, (C, D, E))
C_JITTERED, D_JITTERED, E_JITTERED = map(jittered, (C_384, D_384, E_384))
D_SUBMISSION = jittered(D_384, "vgg16_fc")  # Table 6: only its fully connected layers were trained further

# Three scales at test (Table 4): around S, or those of the jittered nets
AROUND_256, AROUND_384 = "dense_q224_256_288", "dense_q352_384_416"
DENSE, MULTI_CROP, BOTH = (f"{test}_q256_384_512" for test in ("dense", "multi_crop", "multi_crop_dense"))

READINGS = (
    "Length and rate of the training with S from 256 to 512 are not given, nor the length of that at S=384; here they "
    "are 370,000 steps from a rate of 0.001. Weights begin with a standard deviation of 0.01; the paper has that as "
    "their variance."
)
