"""The runs of He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015."""

from experiments.entry import Run

PLAIN = {depth: Run(f"resnet{depth}", {"model.residual": False}) for depth in (18, 34)}
SHORTCUT_A = {18: Run("resnet18"), 34: Run("resnet34")}
SHORTCUT_B = {34: Run("resnet34", {"model.shortcut": "B"})}
SHORTCUT_B |= {depth: Run(f"resnet{depth}") for depth in (50, 101, 152)}
SHORTCUT_C = {34: Run("resnet34", {"model.shortcut": "C"})}

# 4.2, the nets for CIFAR-10: 6n+2 layers
CIFAR = {depth: Run("resnet_cifar", {"model.depth": depth}) for depth in (20, 32, 44, 56, 110, 1202)}
CIFAR_PLAIN = {
    depth: Run("resnet_cifar", {"model.depth": depth, "model.residual": False}) for depth in (20, 32, 44, 56, 110)
}
FIVE_110 = [CIFAR[110], *(Run("resnet_cifar", {"model.depth": 110, "seed": seed}) for seed in (1, 2, 3, 4))]

# The authors tested with BatchNorm's averages over the training set.
TEN_CROP = "ten_crop_precise_batch_stats"  # Tables 2 and 3
FIVE_SCALES = "dense_q224_256_384_480_640_precise_batch_stats"  # Table 4
LAST_ERRORS = {"training error at the end, %": "train_error", "test error at the end, %": "test_error"}
