"""The construction of a net and the images it takes, which most files of weights do not record."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

Fields = dict[str, Any]  # of a config, such as {"model.stride_on": "3x3"}

ALL_BUT_HEAD = "all_but_head"  # --init_layers: every layer but the last


@dataclass(frozen=True)
class InputFormat:
    """The images that a net takes: pixels from 0 to 255 minus a mean, divided by a standard deviation.

    mean and std are values of config.data.mean and config.data.std.
    """

    mean: str
    std: str = "none"
    bgr: bool = False  # channels in the order blue, green, red


# torchvision's and timm's numbers are for pixels from 0 to 1; here they are multiplied by 255.
INPUTS = {
    "torchvision": InputFormat("123.675,116.28,103.53", "58.395,57.12,57.375"),
    # the nets of the VGG authors and others trained with Caffe
    "caffe": InputFormat("123.68,116.779,103.939", bgr=True),
    "timm:default": InputFormat("123.675,116.28,103.53", "58.395,57.12,57.375"),
    "timm:inception": InputFormat("127.5,127.5,127.5", "127.5,127.5,127.5"),
}
CHOICES = (
    f"{', '.join(INPUTS)}; paper, as in the recipe; or a mean, or a mean/standard deviation, in RGB from 0 to 255, "
    "such as 123.68,116.779,103.939/58.4,57.1,57.4"
)

LIBRARY_HELP = "The library a safetensors file comes from: sets strides, shortcuts and images as in that library."
INPUT_HELP = f"The images that a safetensors file's net takes: {CHOICES}."

RESNET = {
    "model.residual": True,
    "model.shortcut": "B",
    "model.stride_on": "3x3",
    "model.pool1": "symmetric",
}
ALEXNET = {
    "model.variant": "owt",
    "model.activation": "relu",
    "model.half": False,
    "model.lrn": False,
    "model.without": "",
    "model.conv6": False,
    "data.central_square": False,
}
VGGS = ("A", "B", "D", "E")  # called vgg11, vgg13, vgg16, vgg19 in the libraries
# By config.model.name: fields of the library's nets
LIBRARIES: Mapping[str, Mapping[str, Fields]] = {
    "torchvision": {"resnet": RESNET, "vgg": {}, "alexnet": ALEXNET},
    "timm": {"resnet": RESNET, "vgg": {}},
}
# By config.model.name: fields that change a net's scores but not the shapes of its weights
UNSEEN = {
    "alexnet": (
        "variant",
        "activation",
        "overlapping_pooling",
        "lrn",
        "lrn_k",
        "lrn_alpha",
        "lrn_in_towers",
        "dropout",
    ),
    "alexnet_cifar": ("activation", "lrn"),
    "resnet": ("residual", "shortcut", "stride_on", "pool1"),
    "resnet_cifar": ("residual", "shortcut"),
}
SAME_SHAPES = {"A", "A-LRN"}  # VGG's configurations that differ in no weight of a run; files number layers differently


def parse_input(text: str) -> InputFormat | None:
    """Returns the images that --input names; None for "paper", the recipe's images. Raises ValueError."""
    if text == "paper":
        return None
    if text in INPUTS:
        return INPUTS[text]
    from deepconv.data import statistics  # imports NumPy, which --help need not wait for

    mean, _, std = text.partition("/")
    divisor = statistics.numbers(std) if std else statistics.numbers("1,1,1")
    if statistics.numbers(mean) is None or divisor is None:
        raise ValueError(f"--input={text} is unknown; choose one of {CHOICES}")
    if (divisor <= 0).any():
        raise ValueError(f"--input={text}: a standard deviation must be above 0")
    return InputFormat(mean, std or "none")


def metadata(file: Path) -> dict[str, str]:
    """Returns the metadata of a safetensors file; empty if it has none, or is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as found:
            return found.metadata() or {}
    except (OSError, SafetensorError):  # whoever reads the weights reports it
        return {}


def exported(file: Path) -> str:
    """Returns the images, as --input has them, in the metadata of a file that deepconv exported; "" for other files."""
    known = metadata(file) if file.is_file() else {}
    if not {"step", "mean", "std", "channels"} <= known.keys():
        return ""
    return "caffe" if known["channels"] == "BGR" else f"{known['mean']}/{known['std']}"


def exported_classes(file: Path) -> list[str] | None:
    """Returns the names of the classes in the metadata of a file that deepconv exported; None for other files."""
    known = metadata(file) if file.is_file() else {}
    return json.loads(known["classes"]) if {"step", "classes"} <= known.keys() else None


def recorded(file: Path, library: str, given: str) -> str:
    """Returns --input or, without it and --library, the images in the metadata of a file that deepconv exported.

    Raises ValueError if the flags contradict the metadata.
    """
    images = exported(file)
    if not (library or given) or not images:
        return images or given
    wanted, found = images_of(library, given), images_of("", images)
    if wanted and found and not _same(wanted, found):
        flags = f"--input={given}" if given else f"--library={library}"
        raise ValueError(f"the metadata of {file} says --input={images}, unlike {flags}; give --input={images}")
    return given


def _same(one: InputFormat, other: InputFormat) -> bool:
    import numpy as np

    from deepconv.data import statistics

    def numbers(images: InputFormat) -> np.ndarray:
        parts = statistics.numbers(images.mean), statistics.numbers(images.std.replace("none", "1,1,1"))
        return np.concatenate([part for part in parts if part is not None])

    return one.bgr == other.bgr and np.allclose(numbers(one), numbers(other), atol=1e-3)


def library_fields(library: str, config: ConfigDict) -> Fields:
    """Returns the fields of a library's net for a recipe. Raises ValueError if the library has no such net."""
    if library not in LIBRARIES:
        raise ValueError(f"--library={library} is unknown; choose one of {', '.join(LIBRARIES)}")
    nets, name = LIBRARIES[library], config.model.name
    if name not in nets or config.model.get("configuration", "A") not in VGGS:
        net = f"{name} {config.model.get('configuration', '')}".strip()
        raise ValueError(
            f"--library={library}: {library} has no net like {net}; give --input and --config.model... instead"
        )
    return dict(nets[name])


def check_library(library: str, config: ConfigDict) -> None:
    """Raises ValueError if a config's net differs from the library's."""
    for field, value in library_fields(library, config).items():
        part, name = field.split(".")
        if part == "model" and (found := config.model[name]) != value:
            raise ValueError(f"the net is not {library}'s: config.{field}={found}, but {value} in {library}")


def images_of(library: str, given: str) -> InputFormat | None:
    """Returns the images set by --input or else by --library; None for the recipe's own."""
    return parse_input(given or ("torchvision" if library == "torchvision" else "timm:default" if library else "paper"))


def in_bgr(library: str, given: str) -> bool:
    """Returns whether a file's net takes BGR images."""
    images = images_of(library, given)
    return bool(images and images.bgr)


def file_fields(config: ConfigDict, library: str, given: str) -> Fields:
    """Returns the fields that --library and --input change in a recipe. Raises ValueError."""
    images = images_of(library, given)
    fields = library_fields(library, config) if library else {}
    return fields | ({"data.mean": images.mean, "data.std": images.std} if images else {})


def run_fields(config: ConfigDict, source: Mapping[str, Any], same_net: bool) -> Fields:
    """Returns the fields to change in a recipe to match the images, and the net, of the run it starts from.

    source is that run's config.json. Without same_net, only the fields for images are returned.
    """
    names = [("data", "mean"), ("data", "std")]
    if "central_square" in config.data and "central_square" in source["data"]:
        names.append(("data", "central_square"))
    if same_net and source["model"]["name"] == config.model.name:
        names += [("model", field) for field in UNSEEN.get(config.model.name, ())]
        if {source["model"].get("configuration"), config.model.get("configuration")} == SAME_SHAPES:
            names.append(("model", "configuration"))
    return {
        f"{part}.{field}": source[part][field]
        for part, field in names
        if field in source[part] and config[part].get(field) != source[part][field]
    }


def is_assumed(config: ConfigDict, file: Path, library: str, images: str) -> bool:
    """Returns whether no flag says how the net of a file is built; `images` are those of `recorded`.

    The file shows all of a VGG's net, and exported files say which images they take.
    """
    known = exported(file)
    return not library and images == known and not (known and config.model.name not in UNSEEN)


def warning(config: ConfigDict, file: Path) -> str:
    """Returns a warning with what is assumed of a file of weights: its net and, unless it says so, its images."""
    known = exported(file)
    fields = UNSEEN.get(config.model.name, ())
    fields = [f"config.model.{field}={config.model[field]}" for field in fields if field in config.model]
    fields += [] if known else [f"config.data.{field}={config.data[field]}" for field in ("mean", "std")]
    images = "" if known else " and which images it takes"
    return (
        f"WARNING: {file} does not record how its net is built{images}. The recipe's are assumed: "
        f"{' '.join(fields)}. If they are wrong, the test errors are too. For a net of torchvision or timm, give "
        "--library=torchvision or --library=timm; for others, give --input and, if necessary, --config.model..."
    )
