import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import narrow
from jax import lax
from ml_collections import ConfigDict

from deepconv import description, models
from deepconv import state as state_lib
from deepconv.models import alexnet, layers, resnet, vgg
from deepconv.models.resnet import BasicBlock, CifarResNet
from deepconv.ops import convolution, counting, forms, pooling, repeat, response_norm
from deepconv.ops.extent import padded

# Parameters and multiply-adds for one image, computed by hand from the papers' tables; None: no figure to compare with.
COUNTS = {
    "alexnet": (60_965_224, 724_406_816),
    "alexnet variant=code": (60_965_224, 724_406_816),
    "alexnet grouped=False": (62_378_344, 1_135_256_096),
    "alexnet half=True": (59_798_312, 391_514_384),
    "alexnet variant=owt": (61_100_840, 714_188_480),
    "vgg configuration=A": (132_863_336, "7.61"),
    "vgg configuration=A-LRN": (132_863_336, "7.61"),
    "vgg configuration=B": (133_047_848, "11.31"),
    "vgg configuration=C": (133_638_952, "11.77"),
    "vgg configuration=D": (138_357_544, "15.47"),
    "vgg configuration=E": (143_667_240, "19.63"),
    "vgg configuration=B-5x5": (134_503_528, None),
    "resnet depth=18 residual=False": (11_515_688, "1.795"),
    "resnet depth=18 shortcut=A": (11_515_688, "1.795"),
    "resnet depth=18 shortcut=B": (11_689_512, "1.814"),
    "resnet depth=34 residual=False": (21_623_848, "3.644"),
    "resnet depth=34 shortcut=A": (21_623_848, "3.644"),
    "resnet depth=34 shortcut=B": (21_797_672, "3.664"),
    "resnet depth=34 shortcut=C": (22_716_840, "3.831"),
    "resnet depth=50": (25_557_032, "3.858"),
    "resnet depth=50 stride_on=3x3": (25_557_032, "4.089"),
    "resnet depth=101": (44_549_160, "7.570"),
    "resnet depth=101 stride_on=3x3": (44_549_160, "7.801"),
    "resnet depth=152": (60_192_808, "11.282"),
    "resnet depth=152 stride_on=3x3": (60_192_808, "11.514"),
} | {
    f"resnet_cifar depth={depth} residual={residual}": (parameters, None)
    for depth, parameters in {
        20: 269_722,
        32: 464_154,
        44: 658_586,
        56: 853_018,
        110: 1_727_962,
        1202: 19_421_274,
    }.items()
    for residual in (True, False)
}
# of these, BatchNorm's scales and shifts
NORMS = {
    "resnet depth=18 shortcut=A": 7_808,
    "resnet depth=18 shortcut=B": 9_600,
    "resnet depth=34 shortcut=A": 15_232,
    "resnet depth=34 shortcut=B": 17_024,
    "resnet depth=34 shortcut=C": 22_784,
    "resnet depth=50": 53_120,
    "resnet depth=101": 105_344,
    "resnet depth=152": 151_424,
    "resnet_cifar depth=20 residual=True": 269_722 - 268_346,
    "resnet_cifar depth=1202 residual=True": 19_421_274 - 19_331_642,
}


# Table 1 of VGG and ResNet, Fig. 2 of AlexNet: some of the maps in the table of layers
TABLED = {
    "alexnet": {"conv1": (55, 55, 96), "conv5": (13, 13, 256), "fc6": (4096,), "fc8": (1000,)},
    "vgg configuration=D": {"conv1_2": (224, 224, 64), "conv5_3": (14, 14, 512), "fc6": (4096,)},
    "resnet depth=50": {"conv1": (112, 112, 64), "bn1": (), "conv3_4": (28, 28, 512), "conv5_3": (7, 7, 2048)},
    "resnet_cifar depth=32 residual=False": {"conv2_5": (32, 32, 16), "conv4_1": (8, 8, 64)},
}


def create(text, classes=10):
    """A model from "resnet depth=50 shortcut=B"."""
    name, *options = text.split()
    words = {"True": True, "False": False}
    fields = dict(option.split("=") for option in options)
    fields = {field: int(value) if value.isdigit() else words.get(value, value) for field, value in fields.items()}
    return models.create(ConfigDict({"name": name, **fields}), classes)


@pytest.mark.parametrize("text", COUNTS)
def test_parameters_and_multiply_adds(text):
    cifar = text.startswith("resnet_cifar")
    model, side = create(text, 10 if cifar else 1000), 32 if cifar else 224
    params = state_lib.shapes_of(model, side)["params"]
    parameters, multiply_adds = COUNTS[text]
    assert counting.count_parameters(params) == parameters
    if text in NORMS:
        norms = [x for path, x in jax.tree.leaves_with_path(params) if "bn" in path[-2].key]
        assert counting.count_parameters(norms) == NORMS[text]
    if multiply_adds is not None:
        counted = counting.count_multiply_adds(model, (side, side, 3))
        digits = len(str(multiply_adds).partition(".")[2])
        assert multiply_adds in (counted, f"{counted / 1e9:.{digits}f}")
    if text in TABLED:
        table = description.layers(model, side)
        assert sum(layer.parameters for layer in table) == parameters
        assert sum(layer.multiply_adds for layer in table) == counting.count_multiply_adds(model, (side, side, 3))
        shapes = {layer.name: layer.output_shape for layer in table}
        assert TABLED[text].items() <= shapes.items() and "".join(shapes).startswith("conv1")


# Height = width and channels of what a layer or stage gives: AlexNet Fig. 2, VGG Table 1, ResNet Table 1 and 4.2
ALEXNET = dict(conv1=(55, 96), conv2=(27, 256), conv3=(13, 384), conv4=(13, 384), conv5=(13, 256))
HEAD = dict(fc6=(1, 4096), fc7=(1, 4096), fc8=(1, 1000))
VGG_A = dict(conv1_1=(224, 64), conv2_1=(112, 128), conv3_1=(56, 256), conv3_2=(56, 256), conv4_1=(28, 512))
VGG_A |= dict(conv4_2=(28, 512), conv5_1=(14, 512), conv5_2=(14, 512))
VGG_B = VGG_A | dict(conv1_2=(224, 64), conv2_2=(112, 128))
VGG_D = VGG_B | dict(conv3_3=(56, 256), conv4_3=(28, 512), conv5_3=(14, 512))
BASIC = dict(conv1=(112, 64), conv2=(56, 64), conv3=(28, 128), conv4=(14, 256), conv5=(7, 512))
BOTTLENECK = dict(conv1=(112, 64), conv2=(56, 256), conv3=(28, 512), conv4=(14, 1024), conv5=(7, 2048))
SHAPES = {
    "alexnet": ALEXNET | HEAD,
    "alexnet variant=code": ALEXNET | HEAD,
    "alexnet half=True": dict(conv1=(55, 48), conv2=(27, 128), conv3=(13, 192), conv4=(13, 192), conv5=(13, 256))
    | HEAD,
    "alexnet variant=owt": dict(conv1=(55, 64), conv2=(27, 192), conv3=(13, 384), conv4=(13, 256), conv5=(13, 256))
    | HEAD,
    "alexnet overlapping_pooling=False": ALEXNET | dict(conv2=(26, 256), conv5=(11, 256)) | HEAD,
    "alexnet conv6=True": ALEXNET | dict(conv6=(6, 256)) | HEAD,
    "alexnet communication=False": ALEXNET | dict(conv2=(27, 320)) | HEAD | dict(fc6=(1, 8192)),
    "alexnet without=conv3": {name: shape for name, shape in ALEXNET.items() if name != "conv3"} | HEAD,
    "alexnet without=conv2": {name: shape for name, shape in ALEXNET.items() if name != "conv2"} | HEAD,
    "vgg configuration=A": VGG_A | HEAD,
    "vgg configuration=B": VGG_B | HEAD,
    "vgg configuration=C": VGG_D | HEAD,
    "vgg configuration=D": VGG_D | HEAD,
    "vgg configuration=E": VGG_D | dict(conv3_4=(56, 256), conv4_4=(28, 512), conv5_4=(14, 512)) | HEAD,
    "vgg configuration=B-5x5": {name: shape for name, shape in VGG_A.items() if name.endswith("_1")} | HEAD,
    "resnet depth=18": BASIC,
    "resnet depth=34 residual=False": BASIC,
    "resnet depth=50": BOTTLENECK,
    "resnet depth=50 stride_on=3x3 pool1=symmetric": BOTTLENECK,
    "resnet depth=152": BOTTLENECK,
    "resnet_cifar depth=20": dict(conv1=(32, 16), conv2=(32, 16), conv3=(16, 32), conv4=(8, 64)),
    "alexnet_cifar variant=13pct": dict(conv1=(32, 64), conv2=(16, 64), local3=(8, 32), local4=(8, 32), fc10=(1, 10)),
    "alexnet_cifar variant=11pct": dict(conv1=(32, 64), conv2=(16, 64), local3=(8, 64), local4=(8, 32), fc10=(1, 10)),
    "alexnet_cifar variant=18pct": dict(conv1=(32, 32), conv2=(16, 32), conv3=(8, 64), fc10=(1, 10)),
}


@pytest.mark.parametrize("text", SHAPES)
def test_maps(text):
    cifar = "cifar" in text
    model, side = create(text, 10 if cifar else 1000), 32 if cifar else 224
    images = jnp.zeros((2, side, side, 3))

    def run():
        return model.init_with_output(jax.random.key(0), images, train=False, capture_intermediates=True)

    scores, variables = jax.eval_shape(run)
    assert scores.shape == (2, 10 if cifar else 1000)
    seen = {}
    for name, caught in variables["intermediates"].items():
        if name not in ("__call__", "fc", "bn1") and "Dropout" not in name:
            *_, batch, height, width, channels = jax.tree.leaves(caught["__call__"])[0].shape  # a scan's are stacked
            assert batch == 2 and height == width
            seen[name.split("_")[0] if "resnet" in text else name] = (height, channels)
    assert seen == SHAPES[text]


@pytest.mark.parametrize(
    "text", ["alexnet", "alexnet_cifar variant=11pct lrn=True", "vgg configuration=A-LRN", "resnet depth=50"]
)
def test_bfloat16_is_for_activations_only(text):
    model, side = create(f"{text} dtype=bfloat16"), 24 if "cifar" in text else 64
    scores, variables = jax.eval_shape(
        lambda: model.init_with_output(
            jax.random.key(0), jnp.zeros((1, side, side, 3)), train=False, capture_intermediates=True
        )
    )
    assert {x.dtype.name for x in (scores, *jax.tree.leaves(variables["params"]))} == {"float32"}
    seen = {
        name: jax.tree.leaves(caught["__call__"])[0]
        for name, caught in variables["intermediates"].items()
        if name != "__call__"
    }
    assert {name for name, x in seen.items() if x.dtype.name != "bfloat16"} <= {*layers.LAST_LAYERS}


def test_blocks_one_after_the_other_by_definition():
    """A net with scans, on a CPU, beside its blocks applied in a loop of Python with the weights by their names."""
    model = CifarResNet(10, 20)
    images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
    held = jax.jit(functools.partial(repeat.init, model))(jax.random.key(0), images)
    logits, updated = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))(held, images)
    assert {"conv2_1", "conv2_2_to_3"} < set(held["params"])
    variables, updated = repeat.by_block(held), repeat.by_block(updated)
    in_a_loop = jax.jit(functools.partial(model.apply, train=False))(variables, images)
    np.testing.assert_allclose(in_a_loop, model.apply(held, images, train=False), rtol=1e-4, atol=1e-4)

    def sub(name):
        return {kind: tree[name] for kind, tree in variables.items() if name in tree}

    x = conv_by_definition(np.asarray(images), np.asarray(sub("conv1")["params"]["kernel"]), 1)
    x, _ = layers.BatchNorm().apply(sub("bn1"), jnp.asarray(x), True, mutable=["batch_stats"])
    x = jnp.maximum(x, 0)
    for part, filters in ((2, 16), (3, 32), (4, 64)):
        for number in (1, 2, 3):
            name = f"conv{part}_{number}"
            module = BasicBlock(filters, 2 if name in ("conv3_1", "conv4_1") else 1, "A", 0, False, jnp.float32, True)
            x, new = jax.jit(functools.partial(module.apply, mutable=["batch_stats"]))(sub(name), x)
            mean, expected = (tree["bn2"]["mean"] for tree in (updated["batch_stats"][name], new["batch_stats"]))
            np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-5)
    fc = variables["params"]["fc"]
    np.testing.assert_allclose(x.mean((1, 2)) @ fc["kernel"], logits - fc["bias"][None], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("text", ["resnet_cifar depth=20", "alexnet"])
def test_all_forms_give_the_same_weights_scores_and_gradients(text, monkeypatch):
    """The plain form of every operation beside the forms that this platform has, and those of a GPU."""
    narrow(monkeypatch, alexnet)
    model, side = create(text, 10), 16 if "cifar" in text else 64
    images, labels = jax.random.normal(jax.random.key(1), (4, side, side, 3)), jnp.arange(4)

    def everything():
        variables = repeat.init(model, jax.random.key(0), images)

        def loss(params):
            rngs, others = {"dropout": jax.random.key(2)}, {k: v for k, v in variables.items() if k != "params"}
            tree = {"params": params, **others}
            logits, _ = model.apply(tree, images, train=True, rngs=rngs, mutable=["batch_stats"])
            return -jax.nn.log_softmax(logits)[labels, labels].mean(), logits

        gradients, logits = jax.grad(loss, has_aux=True)(variables["params"])
        return repeat.by_block(variables), logits, repeat.by_block(gradients)

    found = [jax.jit(lambda: everything())()]
    with forms.for_platform("gpu"):
        found.append(jax.jit(lambda: everything())())
    with forms.using(*(f"{operation}:plain" for operation in forms.FORMS)):
        plain = jax.jit(lambda: everything())()
    for fast in found:
        assert jax.tree.structure(fast) == jax.tree.structure(plain)
        for ours, expected in zip(jax.tree.leaves(fast[0]), jax.tree.leaves(plain[0]), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-6)
        np.testing.assert_allclose(fast[1], plain[1], rtol=1e-4, atol=1e-4)
        for ours, expected in zip(jax.tree.leaves(fast[2]), jax.tree.leaves(plain[2]), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-2, atol=2e-3 * float(jnp.abs(expected).max()))


def test_the_platform_and_a_choice_decide_the_forms(monkeypatch):
    default = {"blocks": "scan", "convolution_gradients": "convolutions", "small_maps": "padded"}
    assert forms.current_forms().items() >= default.items()
    for wrong in ("block:plain", "blocks:loop", "blocks"):
        with pytest.raises(ValueError, match=f"--forms={wrong}"):
            forms.choose(["max_pool:plain", wrong])
    assert forms.form("max_pool") == "slices"  # a wrong choice leaves all as it was
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert {operation: forms.form(operation) for operation in default} == dict.fromkeys(default, "plain")
    params = jax.eval_shape(
        lambda: repeat.init(create("resnet depth=34", 10), jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    )
    assert "conv4_6" in params["params"] and not any("_to_" in layer for layer in params["params"])
    with forms.using("blocks:scan"):
        assert forms.form("blocks") == "scan" and forms.form("small_maps") == "plain"


def test_a_net_is_held_as_its_form_needs_and_named_by_block():
    model, images = create("resnet depth=50", 10), jnp.zeros((1, 64, 64, 3))
    with forms.using("blocks:plain"):
        plain = jax.eval_shape(lambda: repeat.init(model, jax.random.key(0), images))["params"]
    held = jax.eval_shape(lambda: repeat.init(model, jax.random.key(0), images))["params"]
    counts = zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True)
    blocks = [f"conv{part}_{number}" for part, count in counts for number in range(1, count + 1)]
    assert repeat.names(plain) == repeat.names(held) == ["bn1", "conv1", *blocks, "fc"]
    assert {"conv4_1", "conv4_2_to_6"} < set(held) and "conv4_2" not in held
    assert repeat.names(["conv4_1", "conv4_2_to_12"])[-3:] == ["conv4_10", "conv4_11", "conv4_12"]
    numbers = {"conv2_1": {"kernel": np.ones(3)}, "conv2_2_to_3": {"kernel": np.arange(6.0).reshape(2, 3)}}
    tree = {"params": numbers, "batch_stats": {}}
    by_block = repeat.by_block(tree)
    assert by_block["params"]["conv2_3"]["kernel"].tolist() == [3, 4, 5]
    again = repeat.stacked(by_block, tree)
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    assert (again["params"]["conv2_2_to_3"]["kernel"] == numbers["conv2_2_to_3"]["kernel"]).all()


def test_conv_and_its_gradients_by_definition():
    keys = jax.random.split(jax.random.key(0), 3)
    x, kernel = jax.random.normal(keys[0], (3, 6, 5, 2)), jax.random.normal(keys[1], (3, 3, 2, 4))
    dy = jax.random.normal(keys[2], (3, 6, 5, 4))
    y, vjp = jax.vjp(convolution.conv_unit_stride, x, kernel)
    np.testing.assert_allclose(y, conv_by_definition(x, kernel, 1), rtol=1e-4, atol=1e-5)

    def plain(x, kernel):
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    for ours, reference in zip(vjp(dy), jax.vjp(plain, x, kernel)[1](dy), strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=1e-5)


def test_strided_conv_by_definition():
    x = jax.random.normal(jax.random.key(0), (2, 8, 6, 3))
    conv = layers.Conv(5, stride=2)
    variables = conv.init(jax.random.key(1), x)
    expected = conv_by_definition(x, variables["params"]["kernel"], 2)
    np.testing.assert_allclose(conv.apply(variables, x), expected, rtol=1e-4, atol=1e-5)


def conv_by_definition(x, kernel, stride):
    """Literal 3x3 convolution, one pixel of zeros around."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = range(0, x.shape[1], stride), range(0, x.shape[2], stride)
    out = np.zeros((len(x), len(rows), len(columns), kernel.shape[-1]))
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            out[:, i, j] = np.einsum("bhwc,hwcd->bd", padded[:, top : top + 3, left : left + 3], kernel)
    return out.astype(np.float32)


@pytest.mark.parametrize("group", [0, 2])
def test_batch_norm_by_definition(group):
    x = np.random.default_rng(0).normal(3, 2, (6, 4, 4, 5)).astype(np.float32)
    norm = layers.BatchNorm(group)
    variables = norm.init(jax.random.key(0), x, False)
    y, updated = norm.apply(variables, x, True, mutable=["batch_stats"])
    parts = np.split(x.astype(np.float64), 6 // group if group else 1)
    expected = [(p - p.mean((0, 1, 2))) / np.sqrt(p.var((0, 1, 2)) + 1e-5) for p in parts]
    np.testing.assert_allclose(y, np.concatenate(expected), rtol=1e-4, atol=1e-4)
    mean, var = np.mean([p.mean((0, 1, 2)) for p in parts], 0), np.mean([p.var((0, 1, 2)) for p in parts], 0)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(updated["batch_stats"]["var"], 0.9 + 0.1 * var, rtol=1e-4)
    at_test = norm.apply({"params": variables["params"], **updated}, x, False)
    np.testing.assert_allclose(at_test, (x - 0.1 * mean) / np.sqrt(0.9 + 0.1 * var + 1e-5), rtol=1e-4, atol=1e-4)


def test_shortcut_a_takes_every_second_pixel_and_adds_zeros():
    x = np.arange(2 * 4 * 4 * 3, dtype=np.float32).reshape(2, 4, 4, 3)
    y = np.asarray(layers.shortcut_a(x, 5, 2))
    assert (y[..., :3] == x[:, ::2, ::2]).all() and y.shape == (2, 2, 2, 5) and not y[..., 3:].any()


def test_he_initialisation():
    kernel = layers.he_normal(jax.random.key(0), (3, 3, 64, 256))
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.01)
    assert np.abs(kernel).max() > 3.5 * np.std(kernel)  # a normal, not a truncated one


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("resnot", "resnot"),
        ("resnet_cifar depth=21", "depth=21"),
        ("resnet depth=19", "depth=19"),
        ("resnet shortcut=D", "A, a_both_sides, B, C"),
        ("vgg configuration=F", "A-LRN"),
        ("vgg initialization=he", "glorot"),
        ("alexnet variant=caffe", "owt"),
        ("alexnet without=conv1", "conv2"),
        ("alexnet half=True communication=False", "two towers"),
        ("alexnet communication=False conv6=True", "joins them"),
        ("alexnet variant=owt half=True", "owt"),
        ("alexnet_cifar variant=12pct", "13pct"),
    ],
)
def test_what_is_not_a_model_is_named(text, named):
    with pytest.raises(ValueError, match=named):
        create(text)


@pytest.mark.parametrize(
    ("groups", "size", "stride", "padding"), [(2, 3, 1, 1), (1, 5, 1, 1), (2, 5, 4, "ceil"), (1, 1, 2, 0), (1, 2, 1, 0)]
)
def test_convolution_as_xla_has_it(groups, size, stride, padding):
    """In groups, the plain form is XLA's feature_group_count; with gradients."""
    x = jax.random.normal(jax.random.key(0), (2, 9, 12, 4))
    conv = layers.Conv(6, size, stride, padding, groups, bias_init=nn.initializers.normal())
    variables = conv.init(jax.random.key(1), x)
    dy = jax.random.normal(jax.random.key(2), conv.apply(variables, x).shape)
    padded = [(0, -(side - size) % stride) if padding == "ceil" else (padding, padding) for side in x.shape[1:3]]

    def plain(variables, x):
        kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
        y = lax.conv_general_dilated(
            x, kernel, (stride, stride), padded, dimension_numbers=convolution.NHWC, feature_group_count=groups
        )
        return y + bias[None, None, None]

    compare_with_gradients(conv.apply, plain, (variables, x), dy)


def compare_with_gradients(ours, plain, arguments, dy):
    for function in (ours, plain):
        assert function(*arguments).shape == dy.shape
    value, vjp = jax.vjp(ours, *arguments)
    expected, plain_vjp = jax.vjp(plain, *arguments)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
    for ours, reference in zip(jax.tree.leaves(vjp(dy)), jax.tree.leaves(plain_vjp(dy)), strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 2, "ceil"), (2, 2, "ceil"), (3, 2, 1), (3, 1, 0)])
def test_max_pooling_as_xla_has_it(size, stride, padding):
    x = jax.random.normal(jax.random.key(0), (2, 8, 11, 3))
    padded = [(0, -(side - size) % stride) if padding == "ceil" else (padding, padding) for side in x.shape[1:3]]

    def plain(x):
        window, strides = (1, size, size, 1), (1, stride, stride, 1)
        return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, ((0, 0), *padded, (0, 0)))

    dy = jax.random.normal(jax.random.key(1), plain(x).shape)
    compare_with_gradients(lambda x: pooling.max_pool(x, size, stride, padding), plain, (x,), dy)


def test_equal_values_of_a_window_share_its_gradient():
    """XLA's form gives all to the first. The sum is the same; after a rectifier, ties are zeros and do not matter."""
    gradient = lambda x: jax.grad(lambda x: pooling.max_pool(x, 2, 2).sum())(x)  # noqa: E731
    np.testing.assert_allclose(gradient(jnp.ones((1, 4, 4, 1))), np.full((1, 4, 4, 1), 0.25))
    with forms.using("max_pool:plain"):
        np.testing.assert_allclose(gradient(jnp.ones((1, 4, 4, 1)))[0, :2, :2, 0], [[1, 0], [0, 0]])


def test_average_pooling_counts_pixels_of_the_image_only():
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype(np.float32)
    expected = np.zeros((2, 3, 2, 3))
    for i in range(3):
        for j in range(2):
            expected[:, i, j] = x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].mean((1, 2))
    np.testing.assert_allclose(pooling.average_pool(jnp.asarray(x), 3, 2), expected, rtol=1e-5, atol=1e-6)


def norm_by_definition(x, size, k, alpha, beta=0.75, towers=1):
    """Krizhevsky et al. 2012, 3.3, in loops: b_i = a_i / (k + alpha sum_j a_j^2)^beta, j from i - n/2 to i + n/2."""
    x, b = np.asarray(x, np.float64), np.zeros(x.shape)
    width = x.shape[-1] // towers
    for i in range(x.shape[-1]):
        first, last = i // width * width, i // width * width + width - 1
        total = np.zeros(x.shape[:-1])
        for j in range(max(first, i - size // 2), min(last, i + size // 2) + 1):
            total += x[..., j] ** 2
        b[..., i] = x[..., i] / (k + alpha * total) ** beta
    return b


@pytest.mark.parametrize(
    ("size", "k", "alpha", "towers"),
    [(5, 2.0, 1e-4, 1), (5, 2.0, 1e-4 / 5, 2), (9, 1.0, 0.001 / 9, 1), (5, 1.0, 0.1, 2)],
)
def test_response_normalisation_by_definition(size, k, alpha, towers):
    x = 20 * jax.random.normal(jax.random.key(0), (2, 3, 3, 12))
    dy = jax.random.normal(jax.random.key(1), x.shape)
    value, vjp = jax.vjp(lambda x: response_norm.channel_norm(x, size, k, alpha, towers), x)
    np.testing.assert_allclose(value, norm_by_definition(x, size, k, alpha, towers=towers), rtol=1e-5)

    def plain(x):
        split = x.reshape(*x.shape[:-1], towers, -1)
        total = lax.reduce_window(split**2, 0.0, lax.add, (1, 1, 1, 1, size), (1,) * 5, "SAME")
        return (split * jnp.power(k + alpha * total, -0.75)).reshape(x.shape)

    np.testing.assert_allclose(vjp(dy)[0], jax.vjp(plain, x)[1](dy)[0], rtol=1e-4, atol=1e-5)


def test_response_normalisation_over_pixels():
    x = 20 * jax.random.normal(jax.random.key(0), (2, 6, 7, 3))
    dy = jax.random.normal(jax.random.key(1), x.shape)

    def plain(x):
        total = lax.reduce_window(x**2, 0.0, lax.add, (1, 5, 5, 1), (1,) * 4, "SAME")
        return x * jnp.power(1.0 + 4e-5 * total, -0.75)

    compare_with_gradients(lambda x: response_norm.response_norm(x, (1, 2), 5, 1.0, 4e-5), plain, (x,), dy)


def test_fully_connected_layers_apply_to_every_window_of_a_larger_map():
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 6))
    for groups in (1, 2):
        layer = layers.FullyConnected(8, nn.initializers.normal(), nn.initializers.normal(), groups)
        variables = layer.init(jax.random.key(1), x[:, :3, :3])
        scores = layer.apply(variables, x)
        assert scores.shape == (2, 3, 2, 8)
        for i in range(3):
            for j in range(2):
                one = layer.apply(variables, x[:, i : i + 3, j : j + 3])
                np.testing.assert_allclose(scores[:, i, j], one[:, 0, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", ["vgg configuration=A", "alexnet"])
def test_dropout_is_for_training(text, monkeypatch):
    monkeypatch.setitem(vgg.CONFIGURATIONS, "A", ("3-8", "3-8 3-8"))
    for module in (vgg, alexnet):
        narrow(monkeypatch, module)
    side = 32 if "vgg" in text else 64
    model, x = create(text), jax.random.normal(jax.random.key(0), (2, side, side, 3))
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(1), x)
    ordinary = jax.jit(functools.partial(model.apply, train=False))(variables, x)
    train = jax.jit(lambda key: model.apply(variables, x, train=True, rngs={"dropout": key}))
    first, again, other = (np.asarray(train(jax.random.key(seed))) for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any() and (first != ordinary).any()


def test_dense_scores_are_those_of_every_view_of_each_image(monkeypatch):
    """Images of different sizes in one batch, each as if it were alone; by the very parameters of ordinary scores."""
    # VGG is in test_evaluate.py; bottlenecks, and a stage's other blocks in all stages, are in test_parity.py
    monkeypatch.setitem(resnet.BASIC, 18, (2, 1, 1, 1))
    model, keys = create("resnet depth=18 shortcut=A"), jax.random.split(jax.random.key(0), 4)
    sizes = [(64, 64), (64, 77), (97, 64)]
    images = [jax.random.normal(key, (*size, 3)) for key, size in zip(keys, sizes, strict=False)]
    variables = jax.jit(functools.partial(model.init, train=False))(keys[-1], images[0][None])
    # not those of a net that was never trained, which do not normalise at all
    variables["batch_stats"] = jax.tree.map(lambda x: 3 * x + 0.1, variables["batch_stats"])
    batch = np.full((3, 97, 80, 3), 99, np.float32)
    for place, image in zip(batch, images, strict=True):
        place[: image.shape[0], : image.shape[1]] = image

    @jax.jit
    def dense(x, extent):
        with padded(x, extent, 64) as extents:
            scores = model.apply(variables, x, train=False)
        return scores, extents[scores.shape[1:3]].sides

    scores, views = dense(batch, jnp.array(sizes))
    for i, image in list(enumerate(images))[1:]:  # the first is compared with ordinary scores
        alone, whole = dense(image[None], jnp.array([sizes[i]]))
        height, width = views[i]
        assert (whole[0] == views[i]).all() and alone.shape[1:3] == (height, width)
        np.testing.assert_allclose(scores[i, :height, :width], alone[0], rtol=1e-5, atol=1e-5)
    assert np.isfinite(scores).all() and views.tolist() == [[1, 1], [1, 2], [2, 1]]  # maps of 97: 49, 24, 12, 6, 3
    ordinary = jax.jit(functools.partial(model.apply, train=False))(variables, images[0][None])
    np.testing.assert_allclose(scores[:1, 0, 0], ordinary, rtol=1e-5, atol=1e-5)


def test_towers_without_communication_meet_in_the_last_layer(monkeypatch):
    """If response normalisation, which spans all channels otherwise, stays within them."""
    narrow(monkeypatch, alexnet)
    for options, meet in (("communication=False lrn_in_towers=True", False), ("communication=False", True), ("", True)):
        model, images = create(f"alexnet {options}"), jax.random.normal(jax.random.key(1), (2, 67, 67, 3))
        params = jax.jit(lambda: model.init(jax.random.key(0), images, train=False))()["params"]  # noqa: B023

        def tower_a(kernel):
            variables = {"params": params | {"conv1": params["conv1"] | {"kernel": kernel}}}  # noqa: B023
            options = dict(train=False, capture_intermediates=True, mutable="intermediates")
            _, found = model.apply(variables, images, **options)  # noqa: B023
            fc7 = found["intermediates"]["fc7"]["__call__"][0]
            return jnp.square(fc7[..., : fc7.shape[-1] // 2]).sum()

        gradient = np.asarray(jax.jit(jax.grad(tower_a))(params["conv1"]["kernel"]))
        assert gradient[..., :48].any() and gradient[..., 48:].any() == meet


@pytest.mark.parametrize("text", ["alexnet", "vgg configuration=A narrow=16", "alexnet_cifar variant=13pct"])
def test_scores_of_bfloat16_nets_are_float32(text, monkeypatch):
    """In bfloat16, 1000 scores would have few different values, and classes would tie."""
    narrow(monkeypatch, alexnet)
    model, side = create(f"{text} dtype=bfloat16", classes=200), 32 if "cifar" in text else 64
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, side, side, 3)), jnp.float32)
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images)
    found = np.asarray(jax.jit(functools.partial(model.apply, train=False))(variables, images))
    assert (found.astype(jnp.bfloat16).astype(np.float32) != found).mean() > 0.9


def test_dropout_of_krizhevsky_et_al():
    x = jnp.ones((100, 100))
    train, test = alexnet.dropout(x, 0.4, jax.random.key(0)), alexnet.dropout(x, 0.4, None)
    assert set(np.unique(train)) == {0.0, 1.0} and float(train.mean()) == pytest.approx(0.6, abs=0.02)
    np.testing.assert_allclose(test, 0.6 * x, rtol=1e-6)


def test_initial_weights_of_vgg(monkeypatch):
    """N(0, 0.01), or uniform with the variance 2 / (inputs + outputs) of Glorot & Bengio 2010, eq. 16."""
    narrow(monkeypatch, vgg)
    key, shape = jax.random.key(0), (3, 3, 128, 256)
    normal, glorot = (vgg.INITIALIZERS[name](key, shape) for name in ("normal", "glorot"))
    assert float(normal.std()) == pytest.approx(0.01, rel=0.01)
    assert float(glorot.std()) == pytest.approx((2 / (9 * (128 + 256))) ** 0.5, rel=0.01)
    assert float(jnp.abs(glorot).max()) < 3**0.5 * 1.01 * float(glorot.std())
    model = create("vgg configuration=A initialization=glorot")
    params = jax.jit(lambda: model.init(key, jnp.zeros((1, 64, 64, 3)), train=False))()["params"]
    kernel = params["fc6"]["kernel"]  # a matrix from 2 x 2 x 512 values to 64
    assert float(kernel.std()) == pytest.approx((2 / (4 * 512 + 64)) ** 0.5, rel=0.02) and kernel.shape[:2] == (2, 2)
    model = create("vgg configuration=A initialization=normal")
    params = jax.jit(lambda: model.init(key, jnp.zeros((1, 32, 32, 3)), train=False))()["params"]
    assert all(float(layer["kernel"].std()) == pytest.approx(0.01, rel=0.05) for layer in params.values())
    assert not any(layer["bias"].any() for layer in params.values())


@pytest.mark.parametrize(
    ("text", "spread", "ones"),
    [
        (
            "alexnet",
            dict.fromkeys(("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"), 0.01),
            "conv2 conv4 conv5",
        ),
        ("alexnet variant=code", dict(conv1=0.01, conv2=0.01, conv3=0.03, conv4=0.03, conv5=0.03), "conv2 conv4 conv5"),
        ("alexnet_cifar variant=11pct", dict(conv1=1e-4, conv2=0.01, local3=0.04, local4=0.04, fc10=0.01), ""),
        ("resnet_cifar depth=8", dict(conv1=(2 / 27) ** 0.5, fc=(2 / 64) ** 0.5), ""),
    ],
)
def test_initial_weights(text, spread, ones, monkeypatch):
    narrow(monkeypatch, alexnet, 256)
    model, side = create(text), 64 if "alexnet " in f"{text} " else 16
    params = jax.jit(lambda: model.init(jax.random.key(0), jnp.zeros((1, side, side, 3)), train=False))()["params"]
    for name, std in spread.items():
        kernel = params[name]["kernel"]
        assert float(kernel.std()) == pytest.approx(std, rel=0.03 if kernel.size > 10_000 else 0.1), name
    with_bias = [name for name in params if name.startswith("conv") and "bias" in params[name]]
    assert [name for name in sorted(with_bias) if (params[name]["bias"] == 1).all()] == ones.split()
    assert all((params[name]["bias"] == (name in ones)).all() for name in with_bias)
    if ones:
        assert (
            (params["fc6"]["bias"] == 1).all()
            and (params["fc7"]["bias"] == 1).all()
            and not params["fc8"]["bias"].any()
        )


def test_new_channels_of_shortcut_a_come_last_or_on_both_sides():
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 2)).astype(np.float32)
    picked, zeros = x[:, ::2, ::2], np.zeros((2, 2, 2, 1), np.float32)
    last = layers.shortcut_a(x, 4, 2)
    assert (last == np.concatenate([picked, zeros, zeros], -1)).all()
    both = layers.shortcut_a(x, 4, 2, both_sides=True)
    assert (both == np.concatenate([zeros, picked, zeros], -1)).all()
    nets = [create(f"resnet_cifar depth=8 shortcut={shortcut}") for shortcut in ("A", "a_both_sides")]
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    variables = nets[0].init(jax.random.key(1), images, train=False)
    scores = [net.apply(variables, images, train=False) for net in nets]
    assert not np.allclose(*scores, atol=1e-3)
