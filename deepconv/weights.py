"""Weights as safetensors files with the names of torchvision and timm, without torch.

    python -m deepconv.weights import --config=configs/vgg16.py --from=model.safetensors --out=RUN_DIR
    python -m deepconv.weights export --run=RUN_DIR --to=model.safetensors

The names do not tell a net's strides and shortcuts. What torchvision calls resnet50, 101 and 152 is
--config.model.stride_on=3x3 --config.model.pool1=symmetric; its resnet18 and 34 need --config.model.shortcut=B as well.
Only arrays are read and written, never code.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from absl import app, flags
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from deepconv import checkpoint, models, optim, runlog
from deepconv import config as config_lib
from deepconv.data import sources, statistics
from deepconv.models.alexnet import AlexNet
from deepconv.models.resnet import CifarResNet, ResNet
from deepconv.models.vgg import CONFIGURATIONS, VGG
from deepconv.state import TrainState

Variables = dict[str, Any]  # {"params": {layer: ...}, "batch_stats": {layer: ...}}

OWT_NAMES = {"conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8"}
OWT_NAMES |= {"conv5": "features.10", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"}
TIMM_VGG_NAMES = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}
BLOCK_NAMES = {"projection": "downsample.0", "projection_bn": "downsample.1"}
TYPES = ("F16", "F32", "F64")
COUNTS = "num_batches_tracked"  # of BatchNorm's steps; torch itself does not use them by default
LAST_LAYERS = ("fc", "fc8", "fc10")
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

    def from_torch(self, tensor: np.ndarray) -> np.ndarray:
        """Theirs -> ours; raises WeightsError for another shape."""
        like = self.to_torch(np.empty(self.shape, np.bool_)).shape
        flat = (
            *tensor.shape[:1],
            math.prod(tensor.shape[1:]),
        )  # timm's VGG has convolutions for fully connected layers
        if like not in (tensor.shape, flat if tensor.ndim == 4 else None):
            raise WeightsError(f"{self.name} has shape {[*tensor.shape]}, the net needs {[*like]}")
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
    if missing := sorted(set(entries) - set(tensors)):
        raise WeightsError(f"{len(missing)} tensors are missing, such as {', '.join(missing[:3])}")
    if not layers and (surplus := sorted(set(tensors) - set(entries))):
        raise WeightsError(f"{len(surplus)} tensors are not of this net, such as {', '.join(surplus[:3])}")
    arrays = {path: np.empty(leaf.shape, np.float32) for path, leaf in shapes.items()}
    for name, entry in entries.items():
        place = arrays[entry.path]
        place[... if entry.block is None else entry.block] = entry.from_torch(tensors[name])
    return unflatten_dict(arrays)


def shapes_of(model: nn.Module, image_size: int) -> Variables:
    """The shapes of a model's variables, as jax.ShapeDtypeStruct."""
    images = jnp.zeros((1, image_size, image_size, 3))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))


def take(source: Path, model: nn.Module, image_size: int, layers: Sequence[str]) -> Variables:
    """The weights of a run directory or a safetensors file, of these layers or, if none are named, of an equal net.

    Raises ValueError, OSError, CheckpointError.
    """
    shapes = shapes_of(model, image_size)
    if unknown := sorted(set(layers) - set(shapes["params"])):
        raise WeightsError(f"--init_layers={unknown[0]} is not of {', '.join(shapes['params'])}")
    if not source.is_dir():
        return from_torch(load_file(source), model, image_size, layers)
    state = checkpoint.read(source / "checkpoints")
    found = _of_layers({kind: state[kind] for kind in ("params", "batch_stats")}, layers)
    here = {path: array.shape for path, array in found.items()}
    wanted = {path: leaf.shape for path, leaf in _of_layers(shapes, layers).items()}
    if odd := sorted({layer for (_, layer, *_), _ in here.items() ^ wanted.items()}):
        raise WeightsError(
            f"{source} does not have {', '.join(odd)} as this net has; "
            "--init_layers=conv1,conv2 says which layers to take, where not all can be"
        )
    return unflatten_dict(found)


def _of_layers(variables: Mapping[str, Any], layers: Sequence[str]) -> dict[tuple[str, ...], Any]:
    return {path: leaf for path, leaf in flatten_dict(dict(variables)).items() if not layers or path[1] in layers}


def load_file(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file. Raises WeightsError where it is not one, OSError where it is not there."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys() if not name.endswith(COUNTS)}
            if odd := [f"{name} is {kind}" for name, kind in sorted(kinds.items()) if kind not in TYPES]:
                raise WeightsError(f"{path}: {odd[0]}, has to be one of {', '.join(TYPES)}")
            return {name: file.get_tensor(name) for name in kinds}
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path} is not a safetensors file, or not a whole one ({error})") from error


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
    module, _, leaf = name.rpartition(".")
    return f"{TIMM_VGG_NAMES[module]}.{leaf}" if isinstance(model, VGG) and module in TIMM_VGG_NAMES else name


def import_file(config: ConfigDict, source: Path, out: Path) -> None:
    """A safetensors file -> a run directory at step 0. Raises ValueError, OSError; then nothing is written.

    A net of 1000 classes is taken to be ImageNet's, whose names and mean colour are left beside it.
    """
    tensors, size = load_file(source), config.data.image_size
    model = models.create(config.model, 1)
    biases = [entry for entry in _entries(model, shapes_of(model, size)) if entry.path[-1] == "bias"]
    last = next(entry.name for entry in biases if entry.path[1] in LAST_LAYERS)
    known = {_known_name(name, model): tensor.size for name, tensor in tensors.items()}
    if last not in known:
        raise WeightsError(f"{source} has no {last}, which would tell the number of classes")
    variables = from_torch(tensors, models.create(config.model, known[last]), size)
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


def export_run(run: Path, target: Path) -> int:
    """The newest checkpoint of a run -> a safetensors file; gives its step. Raises CheckpointError, OSError."""
    if target.exists() or not target.absolute().parent.is_dir():
        raise OSError(f"{target} exists, or its folder does not; give another --to")
    state = checkpoint.read(run / "checkpoints")
    config = ConfigDict(config_lib.read_run(run))
    (last,) = set(LAST_LAYERS) & set(state["params"])
    model = models.create(config.model, len(state["params"][last]["bias"]))
    tensors = to_torch({kind: state[kind] for kind in ("params", "batch_stats")}, model)
    safetensors.numpy.save_file(tensors, target, metadata={"format": "pt"})
    return int(state["step"])


def define_flags() -> None:
    """The flags of this command alone; --config and its overrides come from cli."""
    flags.DEFINE_string("from", None, "import: the safetensors file.")
    flags.DEFINE_string("out", None, "import: the run directory to make.")
    flags.DEFINE_string("run", None, "export: the run directory.")
    flags.DEFINE_string("to", None, "export: the safetensors file to write.")


def main(arguments: list[str]) -> int:
    """`import` or `export`."""
    from deepconv import cli

    what, given = " ".join(arguments[1:]), flags.FLAGS
    needed = {"import": ("config", "from", "out"), "export": ("run", "to")}
    try:
        if what not in needed:
            raise ValueError(f"{what or 'nothing'!r} is not a command; it is `import` or `export`, then flags")
        if missing := [f"--{name}" for name in needed[what] if not given[name].present]:
            raise ValueError(f"{what} needs {', '.join(missing)}")
        if what == "import":
            config, _ = cli.load_config(arguments[:1])
            out = Path(given["out"].value)
            import_file(config, Path(given["from"].value), out)
            print(f"{out} holds the weights; a run can start from them with --init_from={out}")
            if config.model.name == "resnet":
                chosen = ", ".join(f"{field}={config.model[field]}" for field in ("shortcut", "stride_on", "pool1"))
                print(f"the file does not tell whether its net is this one: {chosen}; torchvision's: see --help")
        else:
            step = export_run(Path(given["run"].value), Path(given["to"].value))
            print(f"{given['to'].value} holds the weights of {given['run'].value} at step {step}")
    except (ValueError, OSError, checkpoint.CheckpointError) as error:
        return cli.refuse(str(error))
    return 0


if __name__ == "__main__":
    from deepconv.cli import parse

    define_flags()
    app.run(main, flags_parser=parse)
