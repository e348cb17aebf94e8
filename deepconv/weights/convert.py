"""Conversion between variables of a net and tensors in PyTorch's layout."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from deepconv.models.alexnet import AlexNet
from deepconv.models.layers import FIRST_LAYERS, LAST_LAYERS
from deepconv.models.resnet import ResNet
from deepconv.ops import repeat
from deepconv.run.files import printable
from deepconv.state import not_finite, shapes_of
from deepconv.weights import inputs
from deepconv.weights.names import BLOCK_NAMES, LEAF_NAMES, layer_name, torchvision_name

Variables = dict[str, Any]  # {"params": {layer: ...}, "batch_stats": {layer: ...}}
COUNTS = "num_batches_tracked"  # BatchNorm's step counts, which torch does not use by default


class WeightsError(ValueError):
    """A file or run does not hold weights that fit this net."""


@dataclass(frozen=True)
class Entry:
    """A tensor of a file and its place in a net's variables."""

    name: str
    path: tuple[str, ...]
    shape: tuple[int, ...]

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """Converts to PyTorch's layout: kernels [h, w, in, out] -> [out, in, h, w], flattened if fully connected."""
        if self.path[-1] != "kernel":
            return array
        if array.ndim == 2:
            return array.T
        if array.ndim == 6:  # locally connected: the pixel's axes stay first
            return array.transpose(0, 1, 5, 4, 2, 3)
        array = array.transpose(3, 2, 0, 1)
        return array.reshape(len(array), -1) if self.path[-2].startswith("fc") else array

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """Returns the shape of the tensor in a file."""
        return self.to_torch(np.empty(self.shape, np.bool_)).shape

    def from_torch(self, tensor: np.ndarray) -> np.ndarray:
        """Converts a tensor from PyTorch's layout."""
        if self.path[-1] != "kernel":
            return tensor
        if len(self.shape) == 2:
            return tensor.T
        if len(self.shape) == 6:
            return tensor.transpose(0, 1, 4, 5, 3, 2)
        height, width, inputs, outputs = self.shape
        return tensor.reshape(outputs, inputs, height, width).transpose(2, 3, 1, 0)


def to_torch(variables: Mapping[str, Any], model: nn.Module) -> dict[str, np.ndarray]:
    """Converts a model's variables to tensors with torchvision's names, or deepconv's if torchvision lacks the net."""
    variables = repeat.by_block(dict(variables))
    arrays, tensors = flatten_dict(variables), {}
    for entry in entries_of(model, variables):
        tensors[entry.name] = np.ascontiguousarray(entry.to_torch(np.asarray(arrays[entry.path])))
    return tensors


def from_torch(
    tensors: Mapping[str, np.ndarray], model: nn.Module, image_size: int = 224, layers: Sequence[str] = ()
) -> Variables:
    """Converts tensors with torchvision's or timm's names to the float32 variables of a model trained at image_size.

    With `layers`, only these are converted. Raises WeightsError naming tensors that are missing, unknown or of another
    shape.
    """
    tensors = {torchvision_name(name, model): tensor for name, tensor in tensors.items() if not name.endswith(COUNTS)}
    shapes = select_layers(shapes_of(model, image_size), layers)
    entries = {entry.name: entry for entry in entries_of(model, unflatten_dict(shapes))}
    wanted = {name: entry.torch_shape for name, entry in entries.items()}
    found = {name: _flat(tensor.shape, wanted.get(name)) for name, tensor in tensors.items()}
    check_fit({name: shape for name, shape in found.items() if not layers or name in wanted}, wanted, model)
    with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite, and is reported below
        arrays = {
            entry.path: np.ascontiguousarray(entry.from_torch(tensors[name]), np.float32)
            for name, entry in entries.items()
        }
    found = unflatten_dict(arrays)
    if bad := not_finite(found):
        raise WeightsError(f"{bad}; such a net cannot be used")
    variances = {name: arrays[entry.path] for name, entry in entries.items() if entry.path[-1] == "var"}
    if wrong := [name for name, variance in variances.items() if (variance < 0).any()]:
        raise WeightsError(f"{wrong[0]} has negative variances; were means and variances exchanged?")
    return found


def _flat(shape: tuple[int, ...], wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    """Flattens [out, in, h, w] to [out, in * h * w] if `wanted` is flat: fc6 and fc7 are convolutions in timm's VGG."""
    flat = (*shape[:1], math.prod(shape[1:]))
    return flat if len(shape) == 4 and flat == wanted else shape


def check_fit(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], model: nn.Module) -> None:
    """Raises WeightsError with every reason why tensors, given as shapes by name, do not fit the model."""
    missing, surplus = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    other = sorted(name for name in set(found) & set(wanted) if found[name] != wanted[name])
    wrong = [
        f"{len(names)} tensors are {problem}, such as {printable(', '.join(names[:3]))}"
        for names, problem in ((missing, "missing"), (surplus, "not in this net"))
        if names
    ]
    if other:
        name, more = other[0], f" (and {len(other) - 1} more have wrong shapes)" if len(other) > 1 else ""
        wrong.append(f"{name} has shape {[*found[name]]}, the net needs {[*wanted[name]]}{more}")
    if wrong:
        raise WeightsError(f"{'; '.join(wrong)}. {_remedy(missing, surplus, other, model)}")


def _remedy(missing: Sequence[str], surplus: Sequence[str], other: Sequence[str], model: nn.Module) -> str:
    """Returns advice on weights that do not fit."""
    projections = ("downsample", "projection")
    if isinstance(model, AlexNet) and model.variant != "owt" and any(name.startswith("features.") for name in surplus):
        return "The file has the names of torchvision's alexnet: use configs/alexnet_owt.py"
    if isinstance(model, ResNet) and any(part in name for name in surplus for part in projections):
        return "The file's shortcuts are projections: use --config.model.shortcut=B"
    if isinstance(model, ResNet) and missing and all(any(part in name for part in projections) for name in missing):
        return "The file's shortcuts have no weights: use --config.model.shortcut=A"
    modules = {name.rpartition(".")[0] for name in other}
    if not missing and not surplus and modules <= {*LAST_LAYERS, "classifier.6", "head.fc"}:
        return f"deepconv.main takes all layers but the last with --init_layers={inputs.ALL_BUT_HEAD}"
    return (
        "Choose the recipe, and --config.model..., of the net that they are from; deepconv.main takes only some layers "
        "with --init_layers"
    )


def swap_rgb_bgr(variables: Variables) -> Variables:
    """Converts the weights of a net that takes BGR images to those of one that takes RGB, and vice versa."""
    return _with_first_kernel(variables, lambda kernel: kernel[:, :, ::-1])


def rescaled(variables: Variables, factors: np.ndarray) -> Variables:
    """Adapts the weights of a net to images multiplied by these factors of R, G and B, [3]."""
    return _with_first_kernel(variables, lambda kernel: kernel / factors[:, None])


def _with_first_kernel(variables: Variables, change: Callable[[np.ndarray], np.ndarray]) -> Variables:
    """Changes the kernel [h, w, 3, out] of the first convolution, if the variables have it."""
    params = dict(variables["params"])
    for layer in set(FIRST_LAYERS) & set(params):
        params[layer] = params[layer] | {"kernel": change(np.asarray(params[layer]["kernel"]))}
    return variables | {"params": params}


def select_layers(variables: Mapping[str, Any], layers: Sequence[str]) -> dict[tuple[str, ...], Any]:
    """Returns the variables of these layers by path, or all variables if no layers are given."""
    return {path: leaf for path, leaf in flatten_dict(dict(variables)).items() if not layers or path[1] in layers}


def entries_of(model: nn.Module, variables: Mapping[str, Any]) -> Iterator[Entry]:
    """Yields an Entry for each variable of a model."""
    for path, leaf in select_layers(variables, ()).items():
        _, layer, *inner, leaf_name = path
        module = ".".join([layer_name(model, layer), *(BLOCK_NAMES.get(part, part) for part in inner)])
        yield Entry(f"{module}.{LEAF_NAMES[leaf_name]}", path, leaf.shape)
