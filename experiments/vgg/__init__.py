"""The runs of Simonyan & Zisserman, "Very Deep Convolutional Networks", 2015 (arXiv v6).

Net A starts from random weights. B, C, D and E take four convolutions and the last three layers from it and train at
S=256, then at S=384, then at S from 256 to 512.
"""

from experiments.entry import Run

FROM_A = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8")
A = Run("vgg11")
A_LRN = Run("vgg11_lrn")
B, C, D, E = (
    Run(recipe, {"model.initialization": "normal"}, init_from=A, init_layers=FROM_A)
    for recipe in ("vgg13", "vgg16_1x1", "vgg16", "vgg19")
)
SHALLOW = Run("vgg13_5x5")  # B with one 5x5 convolution for each pair of 3x3 convolutions (4)


def at_384(net: Run) -> Run:
    """Returns the run that trains a net of S=256 further at S=384, from a smaller rate (3.1)."""
    scales = {"data.train_scale": (384, 384), "data.test_scale": 384, "optimizer.learning_rate": 1e-3}
    return Run(net.config, {**net.overrides, **scales}, init_from=net)


def jittered(net: Run, config: str | None = None) -> Run:
    """Returns the run that trains a net of S=384 further at S from 256 to 512; rate and length are those of S=384."""
    return Run(config or net.config, {**net.overrides, "data.train_scale": (256, 512)}, init_from=net)


C_384, D_384, E_384 = map(at_384, (C, D, E))
C_JITTERED, D_JITTERED, E_JITTERED = map(jittered, (C_384, D_384, E_384))
D_SUBMISSION = jittered(D_384, "vgg16_fc")  # Table 6: only the fully connected layers are trained further

# D with a box for each class in place of scores (Tables 8 and 9)
ALL_BUT_HEAD = ("all_but_head",)
LOCALISER_256 = Run(
    "vgg16_localization",
    {"data.train_scale": (256, 256), "data.test_scale": 256},
    init_from=D,
    init_layers=ALL_BUT_HEAD,
)
LOCALISER_384 = Run("vgg16_localization", init_from=D_384, init_layers=ALL_BUT_HEAD)

# Three test scales (Table 4): around S, or those of the jittered nets
AROUND_256, AROUND_384 = "dense_q224_256_288", "dense_q352_384_416"
DENSE, MULTI_CROP, BOTH = (f"{test}_q256_384_512" for test in ("dense", "multi_crop", "multi_crop_dense"))

READINGS = (
    "The paper gives neither the length of training at S=384 nor the length and rate at S from 256 to 512; here both "
    "take 370,000 steps from a rate of 0.001. Initial weights have a standard deviation of 0.01; the paper has a "
    "variance of 0.01."
)
