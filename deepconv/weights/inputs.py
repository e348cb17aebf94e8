"""What a file of weights does not say: how the net around them is built, and what images it takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from deepconv.data import statistics

Fields = dict[str, Any]  # of a config, such as {"model.stride_on": "3x3"}

ALL_BUT_HEAD = "all_but_head"  # for --init_layers: every layer but the last


@dataclass(frozen=True)
class Images:
    """The images that a net takes: pixels from 0 to 255 less a mean, divided by a standard deviation.

    mean and std are values of config.data.mean and config.data.std.
    """

    mean: str
    std: str = "none"
    bgr: bool = False  # the colours' order is blue, green, red


# torchvision and timm write their numbers for pixels from 0 to 1; here they are multiplied by 255.
INPUTS = {
    "torchvision": Images("123.675,116.28,103.53", "58.395,57.12,57.375"),
    "caffe": Images("123.68,116.779,103.939", bgr=True),  # the VGG authors' and their successors'
    "timm:default": Images("123.675,116.28,103.53", "58.395,57.12,57.375"),
    "timm:inception": Images("127.5,127.5,127.5", "127.5,127.5,127.5"),
}
KNOWN = (
    f"{', '.join(INPUTS)}; paper, as the recipe has it; or a mean, or a mean/standard deviation, in RGB from 0 to 255, "
    "such as 123.68,116.779,103.939/58.4,57.1,57.4"
)

LIBRARY_HELP = "Whose net a safetensors file is: sets strides, shortcuts and images as that library has them."
INPUT_HELP = f"The images that the net of a safetensors file takes: {KNOWN}."

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
VGGS = ("A", "B", "D", "E")  # what the libraries call vgg11, vgg13, vgg16, vgg19
# By config.model.name: the fields that the library's nets have
LIBRARIES: Mapping[str, Mapping[str, Fields]] = {
    "torchvision": {"resnet": RESNET, "vgg": {}, "alexnet": ALEXNET},
    "timm": {"resnet": RESNET, "vgg": {}},
}
# By config.model.name: fields that change a net's scores and cannot be seen in its weights
UNSEEN = {
    "alexnet": ("variant", "activation", "overlapping_pooling", "lrn", "lrn_k", "lrn_alpha", "lrn_in_towers"),
    "alexnet_cifar": ("activation", "lrn"),
    "resnet": ("shortcut", "stride_on", "pool1"),
    "resnet_cifar": ("shortcut",),
}


def parse_input(text: str) -> Images | None:
    """The images that --input names; None for "paper", which is what the recipe says. Raises ValueError."""
    if text == "paper":
        return None
    if text in INPUTS:
        return INPUTS[text]
    mean, _, std = text.partition("/")
    if statistics.numbers(mean) is None or (std and statistics.numbers(std) is None):
        raise ValueError(f"--input={text} is unknown; choose one of {KNOWN}")
    return Images(mean, std or "none")


def library_fields(library: str, config: ConfigDict) -> Fields:
    """The fields that this library's net of a recipe has. Raises ValueError where the library has no such net."""
    if library not in LIBRARIES:
        raise ValueError(f"--library={library} is unknown; choose one of {', '.join(LIBRARIES)}")
    nets, name = LIBRARIES[library], config.model.name
    if name not in nets or config.model.get("configuration", "A") not in VGGS:
        net = f"{name} {config.model.get('configuration', '')}".strip()
        raise ValueError(f"--library={library}: {library} has no net like {net}; give --input and --config.model...")
    return dict(nets[name])


def check_library(library: str, config: ConfigDict) -> None:
    """Raises ValueError where the net of a config is not the library's."""
    for field, value in library_fields(library, config).items():
        part, name = field.split(".")
        if part == "model" and (mine := config.model[name]) != value:
            raise ValueError(f"the net is not {library}'s: config.{field}={mine}, there {value}")


def images_of(library: str, given: str) -> Images | None:
    """The images that --library and --input say, --input having the last word; None where the recipe has it."""
    return parse_input(given or ("torchvision" if library == "torchvision" else "timm:default" if library else "paper"))


def in_bgr(library: str, given: str) -> bool:
    """Whether a file's net takes images in BGR."""
    images = images_of(library, given)
    return bool(images and images.bgr)


def of_file(config: ConfigDict, library: str, given: str) -> Fields:
    """What --library and --input change in a recipe for a file of weights. Raises ValueError."""
    images = images_of(library, given)
    fields = library_fields(library, config) if library else {}
    return fields | ({"data.mean": images.mean, "data.std": images.std} if images else {})


def of_run(config: ConfigDict, source: Mapping[str, Any], whole: bool) -> Fields:
    """What a recipe has to say so that its net takes images, and is built, as that of the run it starts from.

    source is that run's config.json. Only a whole net is built alike; some of its layers may become part of another.
    """
    names = [("data", "mean"), ("data", "std")]
    if "central_square" in config.data and "central_square" in source["data"]:
        names.append(("data", "central_square"))
    if whole and source["model"]["name"] == config.model.name:
        names += [("model", field) for field in UNSEEN.get(config.model.name, ())]
    return {
        f"{part}.{field}": source[part][field]
        for part, field in names
        if field in source[part] and config[part].get(field) != source[part][field]
    }


def warning(config: ConfigDict, file: Path) -> str:
    """What is assumed of a file of weights where nothing is said of it."""
    fields = UNSEEN.get(config.model.name, ())
    fields = [f"config.model.{field}={config.model[field]}" for field in fields if field in config.model]
    fields += [f"config.data.{field}={config.data[field]}" for field in ("mean", "std")]
    return (
        f"WARNING: {file} does not say how its net is built and what images it takes. Assumed is what the recipe says: "
        f"{' '.join(fields)}. Where that is wrong, errors are wrong, too. For a net of torchvision or timm give "
        "--library=torchvision or --library=timm; for others --input, and --config.model... if need be"
    )
