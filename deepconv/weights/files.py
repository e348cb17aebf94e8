"""Import of safetensors files to runs, and export of runs."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from deepconv import models, optim
from deepconv.config import fields, recipes
from deepconv.data import statistics
from deepconv.data.sources import folders
from deepconv.models.layers import LAST_LAYERS
from deepconv.models.vgg import VGG
from deepconv.run import checkpoint
from deepconv.run.files import WriteError, replacing, write_json
from deepconv.state import TrainState, not_finite, shapes_of
from deepconv.weights import inputs
from deepconv.weights.convert import (
    COUNTS,
    Variables,
    WeightsError,
    check_fit,
    entries_of,
    from_torch,
    rescaled,
    select_layers,
    swap_rgb_bgr,
    to_torch,
)
from deepconv.weights.names import as_timm_vgg, torchvision_name

TYPES = ("F16", "F32", "F64")
TO_SAFETENSORS = (
    """python -c "import torch, safetensors.torch as s; """
    """w = torch.load('{path}', map_location='cpu', weights_only=True); w = w.get('state_dict', w); """
    """s.save_file({{n.removeprefix('module.'): t.contiguous() for n, t in w.items()}}, '{to}')" """.rstrip()
)


def load_weights(
    source: Path, model: nn.Module, image_size: int, layers: Sequence[str], bgr: bool = False
) -> Variables:
    """Loads the weights of these layers, or of all layers by default, from a run directory or a safetensors file.

    bgr: the file's net takes BGR images. Raises ValueError, OSError.
    """
    shapes = shapes_of(model, image_size)
    if [*layers] == [inputs.ALL_BUT_HEAD]:
        layers = [layer for layer in shapes["params"] if layer not in LAST_LAYERS]
    if unknown := sorted(set(layers) - set(shapes["params"])):
        raise WeightsError(
            f"--init_layers={unknown[0]} is not a layer of this net; choose from {', '.join(shapes['params'])}, "
            f"or {inputs.ALL_BUT_HEAD}"
        )
    try:
        if not source.is_dir():
            found = from_torch(load_file(source), model, image_size, layers)
            return swap_rgb_bgr(found) if bgr else found
        state = checkpoint.read(source / "checkpoints")
        found = select_layers({kind: state[kind] for kind in ("params", "batch_stats")}, layers)
        shapes_found, wanted = (  # by names for messages, such as conv1.kernel
            {".".join(path[1:]): leaf.shape for path, leaf in tree.items()}
            for tree in (found, select_layers(shapes, layers))
        )
        check_fit(shapes_found, wanted, model)
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from None
    return unflatten_dict(found)


def load_file(path: Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a safetensors file. Raises WeightsError for another file, OSError if it is missing."""
    if path.exists() and not path.is_file():
        raise WeightsError("not a file")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys() if not name.endswith(COUNTS)}
            if odd := [f"{name} is {kind}" for name, kind in sorted(kinds.items()) if kind not in TYPES]:
                raise WeightsError(f"{odd[0]}; it must be one of {', '.join(TYPES)}")
            tensors = {name: file.get_tensor(name) for name in kinds}
    except safetensors.SafetensorError as error:
        command = TO_SAFETENSORS.format(path=path, to=path.with_suffix(".safetensors"))
        convert = (
            f". To convert a file of torch: {command}" if path.suffix in (".pth", ".pt", ".th", ".bin", ".tar") else ""
        )
        raise WeightsError(f"not a safetensors file, or an incomplete one ({error}){convert}") from error
    if bad := not_finite(tensors):
        raise WeightsError(f"{bad}; such a net cannot be used")
    return tensors


def read_net(config: ConfigDict, source: Path, bgr: bool = False) -> tuple[Variables, list[str]]:
    """Reads a full net from a safetensors file; returns its variables and the names of its classes.

    A file that deepconv exported has these names. Otherwise, a net of 1000 classes is assumed to be ImageNet's; other
    classes are named by their numbers. bgr: the file's net takes BGR images. Raises ValueError, OSError.
    """
    statistics.check(config.data)
    tensors, size = load_file(source), config.data.image_size
    model = models.create(config.model, 1)
    biases = [entry for entry in entries_of(model, shapes_of(model, size)) if entry.path[-1] == "bias"]
    last = next(entry.name for entry in biases if entry.path[1] in LAST_LAYERS)
    known = {torchvision_name(name, model): tensor.size for name, tensor in tensors.items()}
    if last not in known:
        from_torch(tensors, model, size)  # raises, naming the tensors that the file lacks
    if not known[last]:
        raise WeightsError(f"{last} has no values: a net of 0 classes")
    variables = from_torch(tensors, models.create(config.model, known[last]), size)
    return swap_rgb_bgr(variables) if bgr else variables, _class_names(source, known[last])


def _class_names(source: Path, count: int) -> list[str]:
    names = inputs.exported_classes(source)
    if names and len(names) == count:
        return names
    return folders.imagenet_synsets() if count == 1000 else [str(number) for number in range(count)]


def published(config: ConfigDict, classes: Sequence[str]) -> statistics.Statistics | None:
    """Returns ImageNet's statistics if a file's net needs its mean colour and is, or is assumed to be, ImageNet's."""
    is_imagenet = [*classes] == folders.imagenet_synsets()
    return statistics.PUBLISHED if is_imagenet and config.data.mean == "channel" else None


def import_file(config: ConfigDict, source: Path, out: Path, bgr: bool = False) -> None:
    """Imports a safetensors file to a new run directory at step 0. Raises ValueError, OSError before writing.

    ImageNet's class names and mean colour are written to the directory of a net that `read_net` takes for ImageNet's.
    """
    if fields.predicts_boxes(config):
        raise ValueError(
            f"config.objective={config.objective} predicts boxes, and {source} lacks the classes of its run; use the "
            f"run, or train from the file by --init_from"
        )
    variables, names = read_net(config, source, bgr)
    if out.exists():
        raise FileExistsError(f"{out} exists; give another --out")
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    tx = optim.create(config.optimizer, lambda node, name: 0, optim.warms_up(config))  # drops do not affect step 0
    out.mkdir(parents=True)
    try:
        write_json(out / "config.json", json.loads(config.to_json()))
        write_json(out / "classes.json", names)
        if averages := published(config, names):
            statistics.save(out / "statistics.npz", averages, fingerprint="")
        with checkpoint.opened(out / "checkpoints", 0) as manager:
            state = TrainState(jnp.zeros((), jnp.int32), params, batch_stats, jax.jit(tx.init)(params))
            checkpoint.save(manager, state)
    except BaseException as error:
        shutil.rmtree(out, ignore_errors=True)  # else the repeated command would refuse it; a killed process leaves it
        if isinstance(error, OSError) and not isinstance(error, checkpoint.CheckpointError):
            raise WriteError(f"{out} cannot be written: {error}") from None
        raise


def export_run(run: Path, target: Path, library: str = "", given: str = "") -> tuple[int, statistics.Input | None]:
    """Exports a run's newest checkpoint to a safetensors file; returns its step and the input of the file's net.

    The input is None if unknown, as for weights imported without --input. With a library, the file has its names and
    input; `given` sets another input, as --input does. Raises ValueError for a net that the library lacks or an input
    that the net cannot take, OSError.
    """
    if target.exists():
        raise OSError(f"--to={target} exists; give another file")
    state = checkpoint.read(run / "checkpoints")
    config = ConfigDict(recipes.read_run(run))
    (last,) = set(LAST_LAYERS) & set(state["params"])
    model = models.create(config.model, len(state["params"][last]["bias"]))
    variables = {kind: state[kind] for kind in ("params", "batch_stats")}
    net_input, wanted = _input_of_run(run, config.data), inputs.images_of(library, given)
    if library:
        inputs.check_library(library, config)
    if wanted:
        if not net_input:
            raise WeightsError(f"{run} has no statistics.npz; the input of its net is therefore unknown")
        variables, net_input = _fold(variables, net_input, wanted)
    tensors = to_torch(variables, model)
    if library == "timm" and isinstance(model, VGG):
        tensors = as_timm_vgg(tensors)
    described = {"format": "pt", "step": str(int(state["step"]))}
    if (run / "classes.json").exists():
        described["classes"] = (run / "classes.json").read_text()
    if net_input:
        described |= {"std": joined(net_input.std), "channels": "BGR" if wanted and wanted.bgr else "RGB"}
    if net_input and net_input.mean.shape[1] == 1:  # a mean image is too large
        described["mean"] = joined(net_input.mean)
    try:
        with replacing(target) as temporary:
            safetensors.numpy.save_file(tensors, temporary, metadata=described)
    except (safetensors.SafetensorError, OSError) as error:
        raise WriteError(f"{target} cannot be written: {error}") from None
    return int(state["step"]), net_input


def _input_of_run(run: Path, data: ConfigDict) -> statistics.Input | None:
    if not statistics.needed(data, training=False):
        return statistics.input_of(data, statistics.NOT_NEEDED)
    file = run / "statistics.npz"
    return statistics.input_of(data, statistics.load(file, "")) if file.exists() else None


def _fold(
    variables: Variables, net_input: statistics.Input, wanted: inputs.InputFormat
) -> tuple[Variables, statistics.Input]:
    """Adapts weights to the wanted images without changing scores. Raises WeightsError for another mean."""
    target = statistics.input_of(ConfigDict({"mean": wanted.mean, "std": wanted.std}), statistics.NOT_NEEDED)
    if net_input.mean.shape != target.mean.shape or not np.allclose(net_input.mean, target.mean, atol=1e-3):
        raise WeightsError(
            f"the net takes images minus {describe_mean(net_input.mean)}, not minus {describe_mean(target.mean)}. "
            "A scale can be folded into the first convolution; another mean cannot, because that convolution pads with "
            "zeros. Export without --library and --input, and subtract the net's own mean"
        )
    folded = rescaled(variables, (net_input.std / target.std).ravel())
    return swap_rgb_bgr(folded) if wanted.bgr else folded, target


def joined(colour: np.ndarray | jax.Array) -> str:
    """Returns three numbers as in "123.68,116.779,103.939", with as many digits as float32 has."""
    return ",".join(np.format_float_positional(np.float32(value), trim="-") for value in np.asarray(colour).ravel())


def describe_mean(mean: np.ndarray | jax.Array) -> str:
    """Describes a mean for messages."""
    return "a mean image" if mean.shape[1] > 1 else f"the colour {joined(mean)}"
