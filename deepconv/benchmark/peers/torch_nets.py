"""The nets in PyTorch, channels_last, with and without torch.compile; bfloat16 is autocast."""

import torch
from torch import nn
from torch.nn import functional as F

from deepconv.benchmark.peers import BOTTLENECKS, CLASSES, Job, Steps


def response_norm() -> nn.Module:
    """Returns AlexNet's normalisation across five channels. PyTorch divides alpha by the window: 5e-4 is 1e-4."""
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)


def head(features: int) -> list[nn.Module]:
    """Returns the fully connected layers of AlexNet and VGG."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (features, 4096):
        layers += [nn.Linear(inputs, 4096), nn.ReLU(), nn.Dropout(0.5)]
    return [*layers, nn.Linear(4096, CLASSES)]


def alexnet() -> nn.Module:
    """Returns the two-tower net of the paper's text."""
    layers: list[nn.Module] = [nn.ZeroPad2d((0, 3, 0, 3)), nn.Conv2d(3, 96, 11, 4), nn.ReLU(), response_norm()]
    layers += [nn.MaxPool2d(3, 2), nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), response_norm()]
    layers += [nn.MaxPool2d(3, 2), nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()]
    layers += [nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU()]
    layers += [nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    return nn.Sequential(*layers, *head(256 * 6 * 6))


def vgg16() -> nn.Module:
    """Returns configuration D."""
    layers: list[nn.Module] = []
    channels = 3
    for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
            channels = filters
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers, *head(512 * 7 * 7))


class Block(nn.Module):
    """A residual block; its stride is on the first convolution."""

    def __init__(self, channels: int, filters: int, stride: int, sizes: tuple[int, ...], projection: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = channels
        for i, size in enumerate(sizes):
            outputs = filters * (4 if len(sizes) == 3 and i == 2 else 1)
            layers += [nn.Conv2d(inputs, outputs, size, stride if i == 0 else 1, size // 2, bias=False)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        self.branch, self.stride, self.more = nn.Sequential(*layers[:-1]), stride, inputs - channels
        self.projection = None
        if projection and (stride > 1 or self.more):
            self.projection = nn.Sequential(nn.Conv2d(channels, inputs, 1, stride, bias=False), nn.BatchNorm2d(inputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Adds the branch to the shortcut."""
        if self.projection:
            short = self.projection(x)
        elif self.more:
            short = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        else:
            short = x
        return F.relu(short + self.branch(x))


def resnet(stages: tuple[tuple[int, int], ...], sizes: tuple[int, ...], imagenet: bool) -> nn.Module:
    """Returns a net of stages (filters, blocks): for ImageNet of bottleneck blocks, or for CIFAR-10 of basic ones."""
    channels = 64 if imagenet else 16
    stem = nn.Conv2d(3, channels, 7, 2, 3, bias=False) if imagenet else nn.Conv2d(3, channels, 3, padding=1, bias=False)
    layers: list[nn.Module] = [stem, nn.BatchNorm2d(channels), nn.ReLU()]
    if imagenet:
        layers.append(nn.MaxPool2d(3, 2, padding=1))
    for stage, (filters, blocks) in enumerate(stages):
        for block in range(blocks):
            layers.append(Block(channels, filters, 2 if stage and not block else 1, sizes, imagenet))
            channels = filters * (4 if len(sizes) == 3 else 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def net(name: str) -> nn.Module:
    """Returns a net by its recipe's name."""
    if name == "alexnet":
        return alexnet()
    if name == "vgg16":
        return vgg16()
    if name in BOTTLENECKS:
        return resnet(BOTTLENECKS[name], (1, 3, 1), True)
    return resnet(((16, 3), (32, 3), (64, 3)), (3, 3), False)


class Trained:
    """A net, its optimiser and a batch."""

    def __init__(self, job: Job) -> None:
        self.dtype = torch.bfloat16 if job.dtype == "bfloat16" else torch.float32
        self.device = "cuda" if job.platform == "gpu" else "cpu"
        if job.platform == "gpu":  # as XLA does:
            torch.backends.cudnn.benchmark = True  # tries cuDNN's kernels and takes the fastest
            torch.set_float32_matmul_precision("high")  # TF32 in matrix products, as in convolutions
        self.net = net(job.net).to(self.device, memory_format=torch.channels_last).train(job.mode == "train")
        self.model = torch.compile(self.net) if job.peer == "compile" else self.net
        images = torch.rand(job.batch, 3, job.pixels, job.pixels) * 2 - 1
        self.images = images.to(self.device, memory_format=torch.channels_last)
        self.labels = (torch.arange(job.batch) % CLASSES).to(self.device)
        self.sgd = torch.optim.SGD(self.net.parameters(), 0.001, 0.9, weight_decay=1e-4)

    def forward(self) -> torch.Tensor:
        """Returns logits in float32."""
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            return self.model(self.images).float()

    def train(self) -> None:
        """Takes a step."""
        self.sgd.zero_grad()
        loss = F.cross_entropy(self.forward(), self.labels)
        loss.backward()
        self.sgd.step()

    def test(self) -> None:
        """Computes probabilities."""
        with torch.inference_mode():
            F.softmax(self.forward(), 1)


def make(job: Job) -> Steps:
    """Returns the steps of a net; a CPU computes them at once, and a GPU queues them."""
    trained = Trained(job)
    step = trained.train if job.mode == "train" else trained.test
    parameters = sum(p.numel() for p in trained.net.parameters())
    if job.platform == "gpu":
        return Steps(step, torch.cuda.synchronize, parameters, torch.cuda.max_memory_allocated)
    return Steps(step, lambda: None, parameters, lambda: 0)
