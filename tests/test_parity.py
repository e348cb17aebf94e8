"""The networks against PyTorch definitions of their own, with the same weights, in float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from deepconv import distributed, models, objective, optim, train
from deepconv.config import durations
from deepconv.data.statistics import Input
from deepconv.evaluation import protocols, responses
from deepconv.evaluation import run as evaluate
from deepconv.evaluation.net import Net
from deepconv.models import alexnet as alexnet_module
from deepconv.ops import rectifier, repeat
from deepconv.state import TrainState, held_shapes
from deepconv.weights import convert

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[parity]'")
import torch_reference as reference  # noqa: E402

BATCH, CLASSES = 4, 10
PAPER_BY_CODE = dict(variant="code", lrn_alpha=1e-4 / 5, lrn_in_towers=True)


def resnet(depth, **options):
    return (
        dict(name="resnet", depth=depth, **options),
        functools.partial(reference.ResNet, depth, CLASSES, **options),
        64,
    )


def vgg(configuration, theirs=None):
    net = functools.partial(reference.VGG, theirs or configuration, CLASSES, 64)
    return dict(name="vgg", configuration=configuration, dropout=0.0), net, 64


def cifar(variant, lrn, activation):
    options = dict(variant=variant, lrn=lrn, activation=activation)
    return dict(name="alexnet_cifar", **options), functools.partial(reference.CudaConvnet, image_size=24, **options), 24


def alexnet(theirs, image_size=101, **options):  # a side at which every window reaches over the border; 3x3 before fc6
    return dict(name="alexnet", dropout=0.0, **options), functools.partial(theirs, CLASSES, image_size), image_size


NETS = {
    "alexnet": alexnet(lambda *args: reference.AlexNet("paper", *args)),
    "alexnet code": alexnet(lambda *args: reference.AlexNet("code", *args), **PAPER_BY_CODE),
    "alexnet owt": alexnet(reference.AlexNetOWT, 95, variant="owt", lrn=False),
    "cifar 13pct": cifar("13pct", False, "relu"),
    "cifar 11pct": cifar("11pct", True, "relu"),
    "cifar 18pct": cifar("18pct", True, "tanh"),
    "vgg A": vgg("A"),
    "vgg A-LRN": vgg("A-LRN"),
    "vgg C": vgg("C"),
    "vgg D": vgg("D"),
    "vgg 5x5": vgg("B-5x5", "5x5"),
    "resnet 18 A": resnet(18, shortcut="A"),
    "resnet 34 B": resnet(34, shortcut="B", pool1="symmetric"),
    "resnet 34 C": resnet(34, shortcut="C"),
    "resnet 50": resnet(50),
    "resnet 50 v1.5": resnet(50, stride_on="3x3", pool1="symmetric"),
    "resnet 20": (dict(name="resnet_cifar", depth=20), functools.partial(reference.CifarResNet, 20), 32),
    "plain 20": (
        dict(name="resnet_cifar", depth=20, residual=False),
        functools.partial(reference.CifarResNet, 20, residual=False),
        32,
    ),
}


def far(ours, theirs):
    """Distance of two arrays relative to the size of the second."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), 1e-12)


def randomise(net):
    """BatchNorm begins as the identity, which would hide it; PyTorch's other weights make the signal fade."""
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)


def arrays(net):
    return {name: tensor.detach().numpy().copy() for name, tensor in net.state_dict().items()}


def both(name):
    """Their net, our model, variables with the same weights."""
    fields, make, size = NETS[name]
    torch.manual_seed(0)
    net = make()
    randomise(net)
    model = models.create(ConfigDict(fields), CLASSES)
    variables = convert.from_torch(arrays(net), model, size)
    return net, model, repeat.stacked(variables, held_shapes(model, size))


def batch(name, scale=1.0):
    size = NETS[name][-1]
    images = scale * np.random.default_rng(0).normal(size=(BATCH, size, size, 3)).astype(np.float32)
    labels = np.arange(BATCH, dtype=np.int32)
    return images, labels, torch.tensor(images).permute(0, 3, 1, 2), torch.tensor(labels).long()


def gradients(model, variables, images, labels):
    """((loss, (scores, new statistics)), gradients) in training mode."""

    def loss_fn(params):
        scores, updated = model.apply(variables | {"params": params}, images, train=True, mutable=["batch_stats"])
        return objective.cross_entropy(scores, labels), (scores, updated)

    return jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(variables["params"])


@pytest.mark.parametrize("name", NETS)
def test_scores_loss_and_statistics(name):
    net, model, variables = both(name)
    images, labels, their_images, their_labels = batch(name, scale=np.float32(50))  # as pixels; else LRN does nothing
    net.eval()
    scores = jax.jit(functools.partial(model.apply, train=False))(variables, images)
    assert far(scores, net(their_images).detach()) < 1e-4

    before, counts = arrays(net), {}
    net.train()
    for part, module in net.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda m, x, y, part=part: counts.update({part: y.numel() / y.shape[1]}))
    their_scores = net(their_images)
    loss = torch.nn.functional.cross_entropy(their_scores, their_labels)
    loss.backward()
    (our_loss, (scores, updated)), grads = gradients(model, variables, images, labels)
    assert far(scores, their_scores.detach()) < 1e-4 and far(our_loss, loss.detach()) < 1e-4
    for part, stat in convert.to_torch({"params": {}} | updated, model).items():
        expected, module = net.state_dict()[part].numpy(), part.rsplit(".", 1)[0]
        if part.endswith("running_var"):  # theirs is of the batch's n values divided by n - 1, ours by n
            kept, n = 0.9 * before[part], counts[module]
            expected = kept + (expected - kept) * (n - 1) / n
        assert far(stat, expected) < 1e-4, part
    # Where rounding puts one value of a million on the other side of zero, a rectifier's gradient differs by more than
    # rounding: up to 3 % in a layer of ResNet-50, and as much between PyTorch's float32 and float64.
    theirs = {part: parameter.grad.numpy() for part, parameter in net.named_parameters()}
    for part, grad in convert.to_torch({"params": grads}, model).items():
        assert far(grad, theirs[part]) < 0.1, part


@pytest.fixture
def smooth(monkeypatch):
    """A nonlinearity whose gradient does not jump where rounding decides."""
    monkeypatch.setattr(rectifier, "relu", jax.nn.silu)
    monkeypatch.setitem(alexnet_module.ACTIVATIONS, "relu", jax.nn.silu)
    monkeypatch.setattr(torch.nn.functional, "relu", torch.nn.functional.silu)
    monkeypatch.setattr(torch.nn.ReLU, "forward", lambda self, x: torch.nn.functional.silu(x))


@pytest.mark.parametrize("name", [name for name in NETS if name not in ("vgg A-LRN", "vgg 5x5")])  # as A, but slow
def test_gradients_with_a_smooth_nonlinearity(smooth, name):
    net, model, variables = both(name)
    images, labels, their_images, their_labels = batch(name)
    net.train()
    torch.nn.functional.cross_entropy(net(their_images), their_labels).backward()
    theirs = {part: parameter.grad.numpy() for part, parameter in net.named_parameters()}
    _, grads = gradients(model, variables, images, labels)
    for part, grad in convert.to_torch({"params": grads}, model).items():
        assert far(grad, theirs[part]) < 1e-4, part


FIVE_STEPS = ["alexnet", "cifar 11pct", "cifar 18pct", "vgg A", "resnet 18 A", "resnet 34 C", "resnet 50", "plain 20"]


@pytest.mark.parametrize("name", FIVE_STEPS)
def test_five_steps_with_a_smooth_nonlinearity(smooth, name):
    net, model, variables = both(name)
    images, labels, their_images, their_labels = batch(name)
    before = arrays(net)
    net.train()
    theirs = five_steps_of_theirs(net, their_images, their_labels)
    # where two pixels of a pooling window are nearly equal, rounding decides; after five steps that is more than 1e-4
    for part, array in five_steps_of_ours(model, variables, images, labels).items():
        assert far(array - before[part], theirs[part] - before[part]) < 1e-2, part


OPTIMIZER = ConfigDict(
    dict(learning_rate=3e-4, drop_at_steps=(3,), drop_factor=0.1, momentum=0.9, weight_decay=5e-3),
)


def five_steps_of_ours(model, variables, images, labels):
    in_steps = functools.partial(durations.steps, examples=1, batch_size=1)
    tx = optim.create(OPTIMIZER, in_steps, warm_up=False)
    step = functools.partial(
        train.train_step,
        model=model,
        tx=tx,
        objective=objective.Classification(outputs=0),
        prepare=lambda key, step, batch: batch,
        key=jax.random.key(0),
        mesh=distributed.make_mesh(),
        accumulate=1,
    )
    params = variables["params"]
    state = TrainState(jnp.zeros((), jnp.int32), params, variables.get("batch_stats", {}), tx.init(params))
    step = jax.jit(step)
    for _ in range(5):
        state, _ = step(state, {"image": images, "label": labels})
    return convert.to_torch({"params": state.params}, model)


def five_steps_of_theirs(net, images, labels):
    """Caffe's rule: the learning rate inside the buffer; weights decay, biases and BatchNorm do not."""
    buffers = {part: torch.zeros_like(parameter) for part, parameter in net.named_parameters()}
    for step in range(5):
        net.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        with torch.no_grad():
            for part, w in net.named_parameters():
                decay = OPTIMIZER.weight_decay if w.ndim > 1 and not part.endswith("bias") else 0.0
                rate = OPTIMIZER.learning_rate * (1 if step < 3 else OPTIMIZER.drop_factor)
                buffers[part].mul_(0.9).add_(w.grad + decay * w, alpha=rate)
                w.sub_(buffers[part])
    return arrays(net)


def their_map(net, images):
    """The last map of a net of theirs."""
    if isinstance(net, reference.VGG):
        for module in net.features:
            if isinstance(module, torch.nn.MaxPool2d):
                module.ceil_mode = True
        return net.features(images)
    x = torch.relu(net.bn1(net.conv1(images)))
    x = reference.max_pool_ceil(x, 3, 2) if net.pool1 == "ceil" else torch.max_pool2d(x, 3, 2, 1)
    return net.layer4(net.layer3(net.layer2(net.layer1(x))))


def their_dense(net, image, mean, posteriors):
    """One image, a window of its last map after the other: Simonyan & Zisserman 2015, 3.2."""
    probs = []
    for seen in (image, image[:, ::-1]):
        last = their_map(net, torch.tensor(seen - mean).permute(2, 0, 1)[None])
        scores = []
        for i in range(last.shape[2] - 1):
            for j in range(last.shape[3] - 1):
                window = last[:, :, i : i + 2, j : j + 2]  # of 64 pixels, the last map has 2 x 2
                vgg = isinstance(net, reference.VGG)
                scores.append(net.classifier(window.flatten(1)) if vgg else net.fc(window.mean((2, 3))))
        scores = torch.stack(scores)
        probs.append(scores.softmax(-1).mean(0) if posteriors else scores.mean(0).softmax(-1))
    return ((probs[0] + probs[1]) / 2)[0].detach().numpy()


@pytest.mark.parametrize("name", ["vgg A", "resnet 18 A", "resnet 34 B", "resnet 50"])
def test_dense_evaluation(name):
    net, model, variables = both(name)
    net.eval()
    mean = np.array([120, 110, 100], np.float32)
    state = TrainState(0, variables["params"], variables.get("batch_stats", {}), ())
    ours = Net(
        model,
        objective.Classification(CLASSES),
        Input(mean.reshape(1, 1, 1, 3)),
        64,
        False,
        16,
        distributed.make_mesh(),
    )
    sizes = [(64, 64), (64, 77), (97, 64), (64, 127)]
    images = [np.random.default_rng(i).integers(0, 256, (*size, 3)).astype(np.uint8) for i, size in enumerate(sizes)]
    batch = {"image": np.zeros((4, 128, 128, 3), np.uint8), "extent": np.array(sizes, np.int32)}
    for place, image in zip(batch["image"], images, strict=True):
        place[: image.shape[0], : image.shape[1]] = image
    for posteriors in (False, True):
        predict = evaluate.jit(ours, protocols.Protocol("dense", "dense", 64, posteriors, precise=False))
        probs = predict(state, batch)
        for row, image in zip(probs, images, strict=True):
            expected = their_dense(net, image.astype(np.float32), mean, posteriors)
            assert far(row, expected) < 1e-4 and 0.02 < expected.std()


@pytest.mark.parametrize("name", ["resnet 20", "plain 20"])
def test_layer_responses(name):
    """Fig. 7 of He et al.: what each BatchNorm of theirs puts out, in the order in which it does."""
    net, model, variables = both(name)
    state = TrainState(0, variables["params"], variables["batch_stats"], ())
    pixels = np.random.default_rng(1).integers(0, 256, (BATCH, 1, 32, 32, 3), np.uint8)
    mean = np.full((1, 32, 32, 3), 120, np.float32)
    small = Net(model, objective.Classification(CLASSES), Input(mean), 32, False, BATCH, distributed.make_mesh())
    ours = np.asarray(jax.jit(functools.partial(responses.moments, net=small))(state, {"image": pixels}))
    theirs = []
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda module, x, y: theirs.append(y.detach().double()))
    net.eval()
    net(torch.tensor(pixels[:, 0] - mean).permute(0, 3, 1, 2))
    assert len(theirs) == ours.shape[1] == 19
    expected = [[(y.mean((1, 2, 3)), y.square().mean((1, 2, 3)))] for y in theirs]
    assert far(ours, np.array([torch.stack(pair, -1).numpy() for (pair,) in expected]).swapaxes(0, 1)) < 1e-4
