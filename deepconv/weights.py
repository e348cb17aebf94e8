"""Weights as safetensors files with the names of torchvision and timm, without torch.

    python -m deepconv.weights import --config=configs/vgg16.py --library=torchvision --from=vgg16.safetensors --out=DIR
    python -m deepconv.weights export --run=DIR --library=torchvision --to=vgg16.safetensors

A file does not say how its net is built and what images it takes. --library says it for the nets of torchvision and
timm, --input for images alone; what is said is kept with the run. Only arrays are read and written, never code.
"""

if __name__ == "__main__":
    from deepconv import preemption

    preemption.install()  # before the imports, which take seconds

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from absl import flags
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from deepconv import checkpoint, conventions, models, optim, runlog, sharding
from deepconv import config as config_lib
from deepconv.data import sources, statistics
from deepconv.models.alexnet import AlexNet
from deepconv.models.resnet import CifarResNet, ResNet
from deepconv.models.vgg import CONFIGURATIONS, VGG
from deepconv.state import TrainState, not_finite

Variables = dict[str, Any]  # {"params": {layer: ...}, "batch_stats": {layer: ...}}

OWT_NAMES = {"conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8"}
OWT_NAMES |= {"conv5": "features.10", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"}
TIMM_VGG_NAMES = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}
BLOCK_NAMES = {"projection": "downsample.0", "projection_bn": "downsample.1"}
TYPES = ("F16", "F32", "F64")
COUNTS = "num_batches_tracked"  # of BatchNorm's steps; torch itself does not use them by default
LAST_LAYERS = ("fc", "fc8", "fc10")
FIRST_LAYERS = ("conv1", "conv1_1")
TO_SAFETENSORS = (
    """python -c "import torch, safetensors.torch as s; """
    """w = torch.load('{path}', map_location='cpu', weights_only=True); w = w.get('state_dict', w); """
    """s.save_file({{n.removeprefix('module.'): t.contiguous() for n, t in w.items()}}, '{to}')" """.rstrip()
)
LEAF_NAMES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


class WeightsError(ValueError):
    """A file or run does not hold the weights of this net."""


@dataclass(frozen=True)
class Entry:
    """Where a tensor of a file lies in our variables."""

    name: str
    path: tuple[str, ...]
    block: int | None  # along the first axis of parameters that a scan stacks
    shape: tuple[int, ...]  # without that axis

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """Ours -> theirs: kernels [h, w, in, out] -> [out, in, h, w], fully connected ones flattened from that."""
        if self.path[-1] != "kernel":
            return array
        if array.ndim == 2:
            return array.T
        if array.ndim == 6:  # locally connected: the place in the image first
            return array.transpose(0, 1, 5, 4, 2, 3)
        array = array.transpose(3, 2, 0, 1)
        return array.reshape(len(array), -1) if self.path[-2].startswith("fc") else array

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """Of the tensor in a file."""
        return self.to_torch(np.empty(self.shape, np.bool_)).shape

    def from_torch(self, tensor: np.ndarray) -> np.ndarray:
        """Theirs -> ours."""
        if self.path[-1] != "kernel":
            return tensor
        if len(self.shape) == 2:
            return tensor.T
        if len(self.shape) == 6:
            return tensor.transpose(0, 1, 4, 5, 3, 2)
        height, width, inputs, outputs = self.shape
        return tensor.reshape(outputs, inputs, height, width).transpose(2, 3, 1, 0)


def to_torch(variables: Mapping[str, Any], model: nn.Module) -> dict[str, np.ndarray]:
    """Variables of a model -> tensors by torchvision's names, or by our own for nets that it does not have."""
    arrays = flatten_dict(dict(variables))
    tensors = {}
    for entry in _entries(model, variables):
        array = np.asarray(arrays[entry.path])
        tensors[entry.name] = np.ascontiguousarray(entry.to_torch(array if entry.block is None else array[entry.block]))
    return tensors


def from_torch(
    tensors: Mapping[str, np.ndarray], model: nn.Module, image_size: int = 224, layers: Sequence[str] = ()
) -> Variables:
    """Tensors by torchvision's or timm's names -> variables, float32, of a model for training images of this size.

    If layers are named, of these alone. Raises WeightsError that names tensors which are missing, too many or of
    another shape.
    """
    tensors = {_known_name(name, model): tensor for name, tensor in tensors.items() if not name.endswith(COUNTS)}
    shapes = _of_layers(shapes_of(model, image_size), layers)
    entries = {entry.name: entry for entry in _entries(model, unflatten_dict(shapes))}
    wanted = {name: entry.torch_shape for name, entry in entries.items()}
    found = {name: _flat(tensor.shape, wanted.get(name)) for name, tensor in tensors.items()}
    _check_fit({name: shape for name, shape in found.items() if not layers or name in wanted}, wanted, model)
    arrays = {path: np.empty(leaf.shape, np.float32) for path, leaf in shapes.items()}
    for name, entry in entries.items():
        place = arrays[entry.path]
        with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite, and is named below
            place[... if entry.block is None else entry.block] = entry.from_torch(tensors[name])
    found = unflatten_dict(arrays)
    if bad := not_finite(found):
        raise WeightsError(f"{bad}; such a net cannot be used")
    return found


def _flat(shape: tuple[int, ...], wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape, or [out, in * h * w] of [out, in, h, w]: timm's VGG has convolutions for fully connected layers."""
    flat = (*shape[:1], math.prod(shape[1:]))
    return flat if len(shape) == 4 and flat == wanted else shape


def _check_fit(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], model: nn.Module) -> None:
    """Raises WeightsError with all that keeps these tensors, shapes by name, from being those of the model."""
    missing, surplus = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    other = sorted(name for name in set(found) & set(wanted) if found[name] != wanted[name])
    wrong = [
        f"{len(names)} tensors are {what}, such as {runlog.printable(', '.join(names[:3]))}"
        for names, what in ((missing, "missing"), (surplus, "not of this net"))
        if names
    ]
    if other:
        name, more = other[0], f" (and {len(other) - 1} more do not fit)" if len(other) > 1 else ""
        wrong.append(f"{name} has shape {[*found[name]]}, the net needs {[*wanted[name]]}{more}")
    if wrong:
        raise WeightsError(f"{'; '.join(wrong)}. {_remedy(missing, surplus, other, model)}")


def _remedy(missing: Sequence[str], surplus: Sequence[str], other: Sequence[str], model: nn.Module) -> str:
    """What to do about weights that do not fit."""
    projections = ("downsample", "projection")
    if isinstance(model, AlexNet) and model.variant != "owt" and any(name.startswith("features.") for name in surplus):
        return "These are the names of torchvision's alexnet: configs/alexnet_owt.py is that net"
    if isinstance(model, ResNet) and any(part in name for name in surplus for part in projections):
        return "Shortcuts are projections there: --config.model.shortcut=B"
    if isinstance(model, ResNet) and missing and all(any(part in name for part in projections) for name in missing):
        return "Shortcuts have no weights there: --config.model.shortcut=A"
    if not missing and not surplus and {_module(name) for name in other} <= {*LAST_LAYERS, "classifier.6", "head.fc"}:
        return f"--init_layers={conventions.ALL_BUT_HEAD} takes all layers but the last, for a net with other classes"
    return "--init_layers=conv1,conv2 says which layers to take, where not all can be"


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def shapes_of(model: nn.Module, image_size: int) -> Variables:
    """The shapes of a model's variables, as jax.ShapeDtypeStruct."""
    images = jnp.zeros((1, image_size, image_size, 3))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))


def take(source: Path, model: nn.Module, image_size: int, layers: Sequence[str], bgr: bool = False) -> Variables:
    """The weights of a run directory or a safetensors file: of these layers or, if none are named, of an equal net.

    bgr says that a file's net takes images in BGR. Raises ValueError, OSError.
    """
    shapes = shapes_of(model, image_size)
    if [*layers] == [conventions.ALL_BUT_HEAD]:
        layers = [layer for layer in shapes["params"] if layer not in LAST_LAYERS]
    if unknown := sorted(set(layers) - set(shapes["params"])):
        raise WeightsError(
            f"--init_layers={unknown[0]} is not a layer of this net; choose from {', '.join(shapes['params'])}, "
            f"or {conventions.ALL_BUT_HEAD}"
        )
    try:
        if not source.is_dir():
            found = from_torch(load_file(source), model, image_size, layers)
            return in_rgb(found) if bgr else found
        state = checkpoint.read(source / "checkpoints")
        found = _of_layers({kind: state[kind] for kind in ("params", "batch_stats")}, layers)
        wanted = _of_layers(shapes, layers)
        _check_fit(*({_leaf(path): leaf.shape for path, leaf in tree.items()} for tree in (found, wanted)), model)
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from None
    return unflatten_dict(found)


def _leaf(path: Sequence[str]) -> str:
    return ".".join(path[1:])


def in_rgb(variables: Variables) -> Variables:
    """The weights of a net that takes images in BGR -> of one that takes them in RGB, and the other way round."""
    return _with_first_kernel(variables, lambda kernel: kernel[:, :, ::-1])


def rescaled(variables: Variables, factors: np.ndarray) -> Variables:
    """The weights of a net that takes images multiplied by these factors of R, G and B, [3]."""
    return _with_first_kernel(variables, lambda kernel: kernel / factors[:, None])


def _with_first_kernel(variables: Variables, change: Callable[[np.ndarray], np.ndarray]) -> Variables:
    """The variables with the kernel [h, w, 3, out] of the first convolution changed, where it is among them."""
    params = dict(variables["params"])
    for layer in set(FIRST_LAYERS) & set(params):
        params[layer] = params[layer] | {"kernel": change(np.asarray(params[layer]["kernel"]))}
    return variables | {"params": params}


def _of_layers(variables: Mapping[str, Any], layers: Sequence[str]) -> dict[tuple[str, ...], Any]:
    return {path: leaf for path, leaf in flatten_dict(dict(variables)).items() if not layers or path[1] in layers}


def load_file(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file. Raises WeightsError where it is not one, OSError where it is not there."""
    if path.exists() and not path.is_file():
        raise WeightsError("not a file")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys() if not name.endswith(COUNTS)}
            if odd := [f"{name} is {kind}" for name, kind in sorted(kinds.items()) if kind not in TYPES]:
                raise WeightsError(f"{odd[0]}, has to be one of {', '.join(TYPES)}")
            tensors = {name: file.get_tensor(name) for name in kinds}
    except safetensors.SafetensorError as error:
        how = TO_SAFETENSORS.format(path=path, to=path.with_suffix(".safetensors"))
        convert = (
            f". To convert a file of torch: {how}" if path.suffix in (".pth", ".pt", ".th", ".bin", ".tar") else ""
        )
        raise WeightsError(f"not a safetensors file, or not a whole one ({error}){convert}") from error
    if bad := not_finite(tensors):
        raise WeightsError(f"{bad}; such a net cannot be used")
    return tensors


def _entries(model: nn.Module, variables: Mapping[str, Any]) -> Iterator[Entry]:
    for path, leaf in flatten_dict(dict(variables)).items():
        _, layer, *inner, leaf_name = path
        stacked = layer.endswith("_rest")
        for block in range(leaf.shape[0]) if stacked else (None,):
            module = ".".join([_layer_name(model, layer, block), *(BLOCK_NAMES.get(part, part) for part in inner)])
            yield Entry(f"{module}.{LEAF_NAMES[leaf_name]}", path, block, leaf.shape[stacked:])


def _layer_name(model: nn.Module, layer: str, block: int | None) -> str:
    if isinstance(model, ResNet | CifarResNet) and "_" in layer:  # conv2_first, conv2_rest; stage1_first, ...
        first = 1 if isinstance(model, CifarResNet) else 2
        part, _ = layer.split("_")
        return f"layer{int(part[-1]) - first + 1}.{0 if block is None else block + 1}"
    if isinstance(model, VGG):
        return _vgg_names(model.configuration)[layer]
    if isinstance(model, AlexNet) and model.variant == "owt":
        return OWT_NAMES[layer]
    return layer


def _vgg_names(configuration: str) -> dict[str, str]:
    names, place = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}, 0
    for block, line in enumerate(CONFIGURATIONS[configuration], 1):
        for layer, text in enumerate(line.split(), 1):
            if text == "LRN":
                place += 1
            else:
                names[f"conv{block}_{layer}"] = f"features.{place}"
                place += 2  # a rectifier follows
        place += 1  # pooling
    return names


def _known_name(name: str, model: nn.Module) -> str:
    """torchvision's name for a tensor that timm's VGG or other nets for CIFAR-10 call differently."""
    module, _, leaf = name.removeprefix("module.").rpartition(".")  # a prefix that torch's DataParallel leaves
    if isinstance(model, VGG):
        module = TIMM_VGG_NAMES.get(module, module)
    if isinstance(model, CifarResNet) and module == "linear":
        module = "fc"
    return f"{module}.{leaf}"


def import_file(config: ConfigDict, source: Path, out: Path, bgr: bool = False) -> None:
    """A safetensors file -> a run directory at step 0. Raises ValueError, OSError; then nothing is written.

    A net of 1000 classes is taken to be ImageNet's, whose names and mean colour are left beside it.
    """
    statistics.check(config.data)
    tensors, size = load_file(source), config.data.image_size
    model = models.create(config.model, 1)
    biases = [entry for entry in _entries(model, shapes_of(model, size)) if entry.path[-1] == "bias"]
    last = next(entry.name for entry in biases if entry.path[1] in LAST_LAYERS)
    known = {_known_name(name, model): tensor.size for name, tensor in tensors.items()}
    if last not in known:
        from_torch(tensors, model, size)  # raises, and says what the file lacks
    if not known[last]:
        raise WeightsError(f"{last} has no values: a net of 0 classes")
    variables = from_torch(tensors, models.create(config.model, known[last]), size)
    variables = in_rgb(variables) if bgr else variables
    if out.exists():
        raise FileExistsError(f"{out} exists; give another --out")
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    tx = optim.create(config.optimizer, lambda node, what: 0, optim.warms_up(config))  # it starts alike for all drops
    out.mkdir(parents=True)
    runlog.write_json(out / "config.json", json.loads(config.to_json()))
    names = sources.imagenet_synsets() if known[last] == 1000 else [str(number) for number in range(known[last])]
    runlog.write_json(out / "classes.json", names)
    if known[last] == 1000 and config.data.mean == "channel":
        statistics.save(out / "statistics.npz", statistics.PUBLISHED, fingerprint="")
    manager = checkpoint.open_manager(out / "checkpoints", 0)
    checkpoint.save(manager, TrainState(jnp.zeros((), jnp.int32), params, batch_stats, jax.jit(tx.init)(params)))
    checkpoint.wait(manager)
    manager.close()


def export_run(run: Path, target: Path, library: str = "", given: str = "") -> tuple[int, statistics.Input | None]:
    """The newest checkpoint of a run -> a safetensors file; returns its step and what images the file's net takes.

    These are None for imported weights of which nobody said. For a library, the file has its names and takes its
    images; `given` names other images, as --input does. Raises ValueError for a net that the library does not have, or
    images that it cannot take, OSError.
    """
    if target.exists() or not target.absolute().parent.is_dir():
        raise OSError(f"{target} exists, or its folder does not; give another --to")
    state = checkpoint.read(run / "checkpoints")
    config = ConfigDict(config_lib.read_run(run))
    (last,) = set(LAST_LAYERS) & set(state["params"])
    model = models.create(config.model, len(state["params"][last]["bias"]))
    variables = {kind: state[kind] for kind in ("params", "batch_stats")}
    takes, wanted = _input_of_run(run, config.data), conventions.images_of(library, given)
    if library:
        conventions.check_library(library, config)
    if wanted and not takes:
        raise WeightsError(f"{run} has no statistics.npz, so it is not known what images its net takes")
    if wanted:
        variables, takes = _fold(variables, takes, wanted)
    tensors = to_torch(variables, model)
    if library == "timm" and isinstance(model, VGG):
        tensors = _as_timm_vgg(tensors)
    safetensors.numpy.save_file(tensors, target, metadata={"format": "pt"})
    return int(state["step"]), takes


def _input_of_run(run: Path, data: ConfigDict) -> statistics.Input | None:
    if not statistics.needed(data, training=False):
        return statistics.input_of(data, statistics.NOT_NEEDED)
    file = run / "statistics.npz"
    return statistics.input_of(data, statistics.load(file, "")) if file.exists() else None


def _fold(
    variables: Variables, takes: statistics.Input, wanted: conventions.Images
) -> tuple[Variables, statistics.Input]:
    """The weights of a net that takes other images, and the same scores from them. Raises WeightsError."""
    theirs = statistics.input_of(ConfigDict({"mean": wanted.mean, "std": wanted.std}), statistics.NOT_NEEDED)
    if takes.mean.shape != theirs.mean.shape or not np.allclose(takes.mean, theirs.mean, atol=1e-3):
        raise WeightsError(
            f"the net takes images less {_written(takes.mean)}, not less {_written(theirs.mean)}. A scale can be "
            "folded into the first convolution; another mean cannot, because that convolution pads with zeros. Export "
            "without --library and --input, and subtract the net's own mean"
        )
    folded = rescaled(variables, (takes.std / theirs.std).ravel())
    return in_rgb(folded) if wanted.bgr else folded, theirs


def _written(mean: np.ndarray) -> str:
    return "a mean image" if mean.shape[1] > 1 else "the colour " + ",".join(f"{value:g}" for value in mean.ravel())


def _as_timm_vgg(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """timm's VGG has convolutions for its first two fully connected layers, and names of its own."""
    names = {theirs: ours for ours, theirs in TIMM_VGG_NAMES.items()}
    renamed = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        if names.get(module, "").startswith("pre_logits") and leaf == "weight":
            channels = 512 if module == "classifier.0" else 4096
            side = math.isqrt(tensor.shape[1] // channels)
            tensor = tensor.reshape(len(tensor), channels, side, side)
        renamed[f"{names.get(module, module)}.{leaf}"] = tensor
    return renamed


def define_flags() -> None:
    """The flags of this command alone; --config and its overrides come from cli."""
    flags.DEFINE_string("from", None, "import: the safetensors file.")
    flags.DEFINE_string("out", None, "import: the run directory to make.")
    flags.DEFINE_string("run", None, "export: the run directory.")
    flags.DEFINE_string("to", None, "export: the safetensors file to write.")
    flags.DEFINE_enum("library", None, [*conventions.LIBRARIES], conventions.LIBRARY_HELP)
    flags.DEFINE_string("input", None, conventions.INPUT_HELP)


def main(arguments: list[str]) -> int:
    """`import` or `export`."""
    from deepconv import cli

    what, given = " ".join(arguments[1:]), flags.FLAGS
    needed = {"import": ("config", "from", "out"), "export": ("run", "to")}
    try:
        if what not in needed:
            raise ValueError(f"{what or 'nothing'!r} is not a command; it is `import` or `export`, then flags")
        sharding.check_devices()
        if missing := [f"--{name}" for name in needed[what] if not given[name].present]:
            raise ValueError(f"{what} needs {', '.join(missing)}")
        library, images = given["library"].value or "", given["input"].value or ""
        if what == "import":
            config, _ = cli.load_config(
                arguments[:1], change=lambda config, name: conventions.of_file(config, library, images)
            )
            source, out = Path(given["from"].value), Path(given["out"].value)
            bgr = conventions.in_bgr(library, images)
            try:
                import_file(config, source, out, bgr)
            except WeightsError as error:
                raise WeightsError(f"{source}: {error}") from None
            if not (library or images):
                print(conventions.warning(config, source), file=sys.stderr)
            print(f"{out} holds the weights; a run can start from them with --init_from={out}")
        else:
            run, target = Path(given["run"].value), Path(given["to"].value)
            step, takes = export_run(run, target, library, images)
            print(f"{target} holds the weights of {run} at step {step}")
            if takes:
                order = "BGR" if conventions.in_bgr(library, images) else "RGB"
                std = ",".join(f"{value:g}" for value in takes.std.ravel())
                print(f"its net takes {order} from 0 to 255 less {_written(takes.mean)}, divided by {std}")
    except (ValueError, OSError) as error:
        at_work = what == "import" and isinstance(error, checkpoint.CheckpointError)  # an export only reads one
        return cli.refuse(str(error), code=1 if at_work else 2)
    return 0


if __name__ == "__main__":
    from deepconv import cli

    define_flags()
    cli.run(main)
