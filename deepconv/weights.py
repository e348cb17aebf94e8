"""Weights as safetensors files with the names of torchvision and timm.

    python -m deepconv.weights import --config=configs/resnet50.py --from=model.safetensors --out=RUN_DIR
    python -m deepconv.weights export --run=RUN_DIR --to=model.safetensors

Only arrays are read and written, never code. Without torch.
"""

import json
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
from deepconv.models.alexnet import AlexNet
from deepconv.models.resnet import CifarResNet, ResNet
from deepconv.models.vgg import CONFIGURATIONS, VGG
from deepconv.state import TrainState

Variables = dict[str, Any]  # {"params": {layer: ...}, "batch_stats": {layer: ...}}

OWT_NAMES = {"conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8"}
OWT_NAMES |= {"conv5": "features.10", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"}
TIMM_VGG_NAMES = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}
BLOCK_NAMES = {"projection": "downsample.0", "projection_bn": "downsample.1"}
TYPES = ("F16", "F32", "F64", "I64")  # the last for counts
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
        if tensor.shape != like and not (tensor.ndim == 4 and tensor.reshape(len(tensor), -1).shape == like):
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


def from_torch(tensors: Mapping[str, np.ndarray], model: nn.Module, image_size: int = 224) -> Variables:
    """Tensors by torchvision's or timm's names -> variables, float32, of a model for training images of this size.

    Raises WeightsError that names tensors which are missing, too many or of another shape.
    """
    tensors = {
        _known_name(name, model): tensor
        for name, tensor in tensors.items()
        if not name.endswith("num_batches_tracked")  # a count of BatchNorm's that torch itself does not use by default
    }
    shapes = shapes_of(model, image_size)
    entries = list(_entries(model, shapes))
    names = {entry.name for entry in entries}
    if missing := sorted(names - set(tensors)):
        raise WeightsError(f"{len(missing)} tensors are missing, such as {', '.join(missing[:3])}")
    if surplus := sorted(set(tensors) - names):
        raise WeightsError(f"{len(surplus)} tensors are not of this net, such as {', '.join(surplus[:3])}")
    arrays = {path: np.empty(leaf.shape, np.float32) for path, leaf in flatten_dict(shapes).items()}
    for entry in entries:
        place = arrays[entry.path]
        place[... if entry.block is None else entry.block] = entry.from_torch(tensors[entry.name])
    return unflatten_dict(arrays)


def shapes_of(model: nn.Module, image_size: int) -> Variables:
    """The shapes of a model's variables, as jax.ShapeDtypeStruct."""
    images = jnp.zeros((1, image_size, image_size, 3))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))


def read(source: Path, model: nn.Module, image_size: int) -> Variables:
    """All weights of a run directory, or of a safetensors file for this model. Raises WeightsError, CheckpointError."""
    if source.is_dir():
        state = checkpoint.read(source / "checkpoints")
        return {kind: state[kind] for kind in ("params", "batch_stats") if state[kind]}
    return from_torch(load_file(source), model, image_size)


def take(source: Path, model: nn.Module, image_size: int, layers: Sequence[str]) -> Variables:
    """What a run may start from: all of an equal net's weights, of another net's only these layers.

    Raises WeightsError, CheckpointError.
    """
    found, wanted = flatten_dict(read(source, model, image_size)), flatten_dict(shapes_of(model, image_size))
    odd = {path[1] for path in {*found, *wanted} if np.shape(found.get(path)) != getattr(wanted.get(path), "shape", 0)}
    if odd and not layers:
        raise WeightsError(
            f"{source} holds another net ({', '.join(sorted(odd)[:4])}, ... differ); "
            "config.init_layers says which layers to take from it, as in --config.init_layers=conv1,conv2"
        )
    if not odd:
        layers = [path[1] for path in wanted]
    elif bad := sorted(odd & set(layers)):
        raise WeightsError(f"config.init_layers names {', '.join(bad)}, which {source} does not have in this shape")
    return unflatten_dict({path: array for path, array in found.items() if path[1] in layers})


def load_file(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file. Raises WeightsError where it is not one, OSError where it is not there."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}
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
    """A safetensors file -> a run directory at step 0. Raises WeightsError, OSError; then nothing is written."""
    tensors = load_file(source)
    last = {"fc.bias", "classifier.6.bias", "head.fc.bias", "fc8.bias", "fc10.bias"} & set(tensors)
    if len(last) != 1:
        raise WeightsError(f"{source}: there is no last layer (fc, classifier.6, head.fc, fc8 or fc10)")
    model = models.create(config.model, len(tensors[last.pop()]))
    variables = from_torch(tensors, model, config.data.image_size)
    if out.exists():
        raise FileExistsError(f"{out} exists; give another --out")
    tx = optim.create(config.optimizer, lambda node, what: 0, warm_up=False)  # of its state only the form counts
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    out.mkdir(parents=True)
    runlog.write_json(out / "config.json", json.loads(config.to_json()))
    manager = checkpoint.open_manager(out / "checkpoints", 0)
    checkpoint.save(manager, TrainState(jnp.zeros((), jnp.int32), params, batch_stats, jax.jit(tx.init)(params)))
    checkpoint.wait(manager)
    manager.close()


def export_run(run: Path, target: Path) -> int:
    """The newest checkpoint of a run -> a safetensors file; gives its step. Raises CheckpointError, OSError."""
    state = checkpoint.read(run / "checkpoints")
    config = ConfigDict(json.loads((run / "config.json").read_text()))
    params, batch_stats = state["params"], state["batch_stats"]
    last = next(name for name in ("fc", "fc8", "fc10") if name in params)
    model = models.create(config.model, len(params[last]["bias"]))
    tensors = to_torch({"params": params, "batch_stats": batch_stats}, model)
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
