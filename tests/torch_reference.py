"""The networks in plain PyTorch, written from the papers and the authors' released files, without a look at ours.

Every net takes x [N, C, H, W] float32 and gives scores. Names are torchvision's where it has the net.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def ceil_padding(size, window, stride):
    """Pixels that 1 + ceil((size - window) / stride) windows need beyond the right/bottom edge."""
    return math.ceil((size - window) / stride) * stride + window - size


def pad_right_bottom(x, window, stride, value):
    """Pads a map on the right and at the bottom only."""
    height, width = x.shape[2:]
    return F.pad(x, (0, ceil_padding(width, window, stride), 0, ceil_padding(height, window, stride)), value=value)


def max_pool_ceil(x, window, stride):
    """Max pooling whose last window may run off the right/bottom edge; pixels outside do not count."""
    return F.max_pool2d(pad_right_bottom(x, window, stride, -math.inf), window, stride)


def average_pool_ceil(x, window, stride):
    """Average pooling over the pixels inside the image."""
    total = F.avg_pool2d(pad_right_bottom(x, window, stride, 0.0), window, stride)
    inside = F.avg_pool2d(pad_right_bottom(torch.ones_like(x), window, stride, 0.0), window, stride)
    return total / inside


def cross_map_norm(x, size, alpha, beta, k):
    """x_i / (k + alpha * sum of x_j^2 over the size maps around i)^beta; alpha is used as it is."""
    channels = x.shape[1]
    squares = F.pad(x * x, (0, 0, 0, 0, size // 2, size // 2))
    total = sum(squares[:, j : j + channels] for j in range(size))
    return x / (k + alpha * total) ** beta


def spatial_norm(x, size, alpha, beta, k):
    """x / (k + alpha * sum of x^2 over the size x size pixels around it in the same map)^beta."""
    height, width = x.shape[2:]
    squares = F.pad(x * x, (size // 2, size // 2, size // 2, size // 2))
    total = sum(squares[:, :, i : i + height, j : j + width] for i in range(size) for j in range(size))
    return x / (k + alpha * total) ** beta


class CrossMapNorm(nn.Module):
    """The response normalisation as printed in the AlexNet paper."""

    def forward(self, x):
        return cross_map_norm(x, 5, 1e-4, 0.75, 2.0)


class PaperDropout(nn.Module):
    """Dropout that is not inverted: the mask alone in training, x * (1 - rate) at test."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if self.training:
            return x * (torch.rand_like(x) >= self.rate)
        return x * (1.0 - self.rate)


class AlexNet(nn.Module):
    """The two-tower net; towers are the two halves of the channels. variant: "paper" (text) or "code" (run 145)."""

    def __init__(self, variant="paper", classes=1000, image_size=224, dropout=0.0):
        super().__init__()
        assert variant in ("paper", "code")
        self.variant = variant
        self.conv1 = nn.Conv2d(3, 96, 11, stride=4)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        side = 1 + math.ceil((image_size - 11) / 4)
        for _ in range(3):
            side = 1 + math.ceil((side - 3) / 2)
        self.fc6 = nn.Linear(256 * side * side, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, classes)
        self.dropout = PaperDropout(dropout)

    def tower_norm(self, x):
        """Run 145: scale 0.0001 divided by size 5, minDiv 2, each tower by itself."""
        return torch.cat([cross_map_norm(tower, 5, 1e-4 / 5, 0.75, 2.0) for tower in x.chunk(2, dim=1)], dim=1)

    def paper_maps(self, x):
        """conv, ReLU, norm, pool; all maps together in the norm."""
        x = cross_map_norm(F.relu(self.conv1(pad_right_bottom(x, 11, 4, 0.0))), 5, 1e-4, 0.75, 2.0)
        x = max_pool_ceil(x, 3, 2)
        x = cross_map_norm(F.relu(self.conv2(x)), 5, 1e-4, 0.75, 2.0)
        x = max_pool_ceil(x, 3, 2)
        x = F.relu(self.conv3(x))
        x = F.relu(self.conv4(x))
        x = F.relu(self.conv5(x))
        return max_pool_ceil(x, 3, 2)

    def code_maps(self, x):
        """conv1, norm, pool, ReLU; conv2, ReLU, norm, spatial norm, pool; conv5, pool, ReLU."""
        x = self.tower_norm(self.conv1(pad_right_bottom(x, 11, 4, 0.0)))
        x = F.relu(max_pool_ceil(x, 3, 2))
        x = self.tower_norm(F.relu(self.conv2(x)))
        x = spatial_norm(x, 5, 0.001 / 25, 0.75, 1.0)
        x = max_pool_ceil(x, 3, 2)
        x = F.relu(self.conv3(x))
        x = F.relu(self.conv4(x))
        return F.relu(max_pool_ceil(self.conv5(x), 3, 2))

    def forward(self, x):
        x = self.paper_maps(x) if self.variant == "paper" else self.code_maps(x)
        x = torch.flatten(x, 1)
        x = self.dropout(F.relu(self.fc6(x)))
        x = self.dropout(F.relu(self.fc7(x)))
        return self.fc8(x)


class AlexNetOWT(nn.Module):
    """torchvision's alexnet ("one weird trick"), without its adaptive pooling; inverted dropout before fc6 and fc7."""

    def __init__(self, classes=1000, image_size=224, dropout=0.0):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
        side = (image_size + 2 * 2 - 11) // 4 + 1
        for _ in range(3):
            side = (side - 3) // 2 + 1
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * side * side, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, classes),
        )

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


# Per block: the kernel sizes of its convolutions. The blocks' widths are 64, 128, 256, 512, 512 in every net.
VGG_BLOCKS = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "A-LRN": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
    "5x5": ((5,), (5,), (5,), (5,), (5,)),
}


class VGG(nn.Module):
    """The nets of VGG's Table 1 and the shallow net of five 5x5 convolutions; inverted dropout after fc6 and fc7."""

    def __init__(self, configuration="D", classes=1000, image_size=224, dropout=0.0):
        super().__init__()
        modules, channels = [], 3
        for block, (width, kernels) in enumerate(zip((64, 128, 256, 512, 512), VGG_BLOCKS[configuration], strict=True)):
            for kernel in kernels:
                modules += [nn.Conv2d(channels, width, kernel, padding=kernel // 2), nn.ReLU()]
                channels = width
            if configuration == "A-LRN" and block == 0:
                modules.append(CrossMapNorm())
            modules.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*modules)
        side = image_size // 32
        self.classifier = nn.Sequential(
            nn.Linear(512 * side * side, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, classes),
        )

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


def convolution(channels, width, kernel, stride=1):
    """A convolution without bias, padded with kernel // 2."""
    return nn.Conv2d(channels, width, kernel, stride=stride, padding=kernel // 2, bias=False)


def norm(width):
    """Batch normalisation with momentum 0.1 (the share of the new batch) and eps 1e-5."""
    return nn.BatchNorm2d(width, eps=1e-5, momentum=0.1)


def projection(channels, width, stride):
    """The projection shortcut: 1x1 convolution and batch normalisation, no ReLU."""
    return nn.Sequential(convolution(channels, width, 1, stride), norm(width))


def zero_padded_identity(x, width, stride):
    """Option A: every stride-th pixel; the new channels, all zero, come last."""
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, width - x.shape[1]))


class Block(nn.Module):
    """What basic and bottleneck blocks share: the shortcut, the sum and the last ReLU."""

    def __init__(self, channels, width, stride, residual, shortcut):
        super().__init__()
        self.width, self.stride, self.residual = width, stride, residual
        changes = channels != width or stride != 1
        if residual and (shortcut == "C" or (shortcut == "B" and changes)):
            self.downsample = projection(channels, width, stride)
        else:
            self.downsample = None

    def shortcut(self, x):
        """The projection where there is one, else the identity (option A where the shape changes)."""
        if self.downsample is None:
            return zero_padded_identity(x, self.width, self.stride)
        return self.downsample(x)

    def close(self, x, y):
        """ReLU of the branch y, with the shortcut of x added if the net is residual."""
        if self.residual:
            y = y + self.shortcut(x)
        return F.relu(y)


class BasicBlock(Block):
    """3x3, 3x3; the stride is on the first."""

    def __init__(self, channels, width, stride, residual, shortcut):
        super().__init__(channels, width, stride, residual, shortcut)
        self.conv1, self.bn1 = convolution(channels, width, 3, stride), norm(width)
        self.conv2, self.bn2 = convolution(width, width, 3), norm(width)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return self.close(x, self.bn2(self.conv2(y)))


class Bottleneck(Block):
    """1x1, 3x3, 1x1, the last four times as wide; the stride is on the first 1x1 (paper) or the 3x3 (v1.5)."""

    def __init__(self, channels, width, stride, residual, shortcut, stride_on):
        super().__init__(channels, 4 * width, stride, residual, shortcut)
        first, second = (stride, 1) if stride_on == "1x1" else (1, stride)
        self.conv1, self.bn1 = convolution(channels, width, 1, first), norm(width)
        self.conv2, self.bn2 = convolution(width, width, 3, second), norm(width)
        self.conv3, self.bn3 = convolution(width, 4 * width, 1), norm(4 * width)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return self.close(x, self.bn3(self.conv3(y)))


RESNET_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class ResNet(nn.Module):
    """The ImageNet nets of 18 to 152 layers; residual=False gives the plain net. width: filters of the first stage."""

    def __init__(
        self,
        depth=50,
        classes=1000,
        residual=True,
        shortcut="B",
        stride_on="1x1",
        pool1="ceil",
        width=64,
    ):
        super().__init__()
        assert shortcut in ("A", "B", "C") and stride_on in ("1x1", "3x3") and pool1 in ("ceil", "symmetric")
        self.pool1 = pool1
        self.conv1, self.bn1 = convolution(3, width, 7, 2), norm(width)
        channels = width
        for stage, count in enumerate(RESNET_BLOCKS[depth]):
            blocks = []
            for index in range(count):
                filters, stride = width * 2**stage, 2 if stage > 0 and index == 0 else 1
                if depth < 50:
                    blocks.append(BasicBlock(channels, filters, stride, residual, shortcut))
                    channels = filters
                else:
                    blocks.append(Bottleneck(channels, filters, stride, residual, shortcut, stride_on))
                    channels = 4 * filters
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = max_pool_ceil(x, 3, 2) if self.pool1 == "ceil" else F.max_pool2d(x, 3, 2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(dim=(2, 3)))


class CifarResNet(nn.Module):
    """The CIFAR-10 nets of 6n+2 layers: 16, 32, 64 filters, shortcuts of option A."""

    def __init__(self, depth=20, classes=10, residual=True):
        super().__init__()
        assert depth % 6 == 2
        self.conv1, self.bn1 = convolution(3, 16, 3), norm(16)
        channels = 16
        for stage, width in enumerate((16, 32, 64)):
            blocks = []
            for index in range((depth - 2) // 6):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(BasicBlock(channels, width, stride, residual, "A"))
                channels = width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(64, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean(dim=(2, 3)))


class LocallyConnected(nn.Module):
    """3x3 with pad 1 whose every output pixel has its own weights and its own biases."""

    def __init__(self, channels, width, side):
        super().__init__()
        self.weight = nn.Parameter(0.04 * torch.randn(side, side, width, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(side, side, width))

    def forward(self, x):
        patches = F.pad(x, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1)  # [N, channels, side, side, 3, 3]
        y = torch.einsum("nchwij,hwocij->nohw", patches, self.weight)
        return y + self.bias.permute(2, 0, 1)


class CudaConvnet(nn.Module):
    """cuda-convnet's CIFAR-10 nets. lrn: None as in the layer file; True gives 13pct the norms of 11pct, False removes.

    13pct: conv1 act pool1 conv2 act pool2 local3 act local4 act fc10
    11pct: conv1 act pool1 rnorm1 conv2 act rnorm2 pool2 local3 act local4 act fc10
    18pct: conv1 pool1 act rnorm1 conv2 act pool2 rnorm2 conv3 act pool3 fc10
    """

    def __init__(self, variant="13pct", classes=10, image_size=24, lrn=None, activation="relu"):
        super().__init__()
        assert variant in ("13pct", "11pct", "18pct") and activation in ("relu", "tanh")
        self.variant = variant
        self.lrn = variant != "13pct" if lrn is None else lrn
        self.activation = F.relu if activation == "relu" else torch.tanh
        width = 32 if variant == "18pct" else 64
        self.conv1 = nn.Conv2d(3, width, 5, padding=2)
        self.conv2 = nn.Conv2d(width, width, 5, padding=2)
        side = image_size
        for _ in range(3 if variant == "18pct" else 2):
            side = 1 + math.ceil((side - 3) / 2)
        if variant == "18pct":
            self.conv3 = nn.Conv2d(32, 64, 5, padding=2)
            self.fc10 = nn.Linear(64 * side * side, classes)
        else:
            middle = 32 if variant == "13pct" else 64
            self.local3 = LocallyConnected(64, middle, side)
            self.local4 = LocallyConnected(middle, 32, side)
            self.fc10 = nn.Linear(32 * side * side, classes)

    def norm(self, x):
        """11pct: across 9 maps, scale .001 / 9. 18pct: 3x3 pixels of one map, scale .00005 / 9. Both k 1, pow .75."""
        if not self.lrn:
            return x
        if self.variant == "18pct":
            return spatial_norm(x, 3, 5e-5 / 9, 0.75, 1.0)
        return cross_map_norm(x, 9, 0.001 / 9, 0.75, 1.0)

    def forward(self, x):
        act = self.activation
        if self.variant == "18pct":
            x = self.norm(act(max_pool_ceil(self.conv1(x), 3, 2)))
            x = self.norm(average_pool_ceil(act(self.conv2(x)), 3, 2))
            x = average_pool_ceil(act(self.conv3(x)), 3, 2)
        else:
            x = self.norm(max_pool_ceil(act(self.conv1(x)), 3, 2))
            x = max_pool_ceil(self.norm(act(self.conv2(x))), 3, 2)
            x = act(self.local4(act(self.local3(x))))
        return self.fc10(torch.flatten(x, 1))
