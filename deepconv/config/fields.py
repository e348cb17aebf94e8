"""The fields of recipes and their allowed values."""

import difflib
import math
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from deepconv.config.durations import is_given, steps, unit_of
from deepconv.config.mistakes import raise_all

# values of config.objective that commands distinguish; deepconv.objective has all
ONE_BOX = "single_class_regression"  # one box for all classes
PROPOSES = "class_region_proposal"
REFINES = "class_box_refinement"  # refines the boxes that another net proposes
# Required fields by part of a recipe; "" is the recipe itself
EVERY_RECIPE = {
    "": ("batch_size", "seed", "log_every_steps", "checkpoint_every_steps", "model", "data", "optimizer"),
    "model": ("name",),
    "data": ("name", "train_split", "eval_split", "image_size", "mean", "augment"),
    "optimizer": ("learning_rate", "drop_factor", "momentum", "weight_decay"),
}
STEPS = (int, 1, 2**31 - 1)  # a step is an int32
EPOCHS = (float, 1e-6, 1e6)  # parts of an epoch with --shorten
SIDE = (int, 1, 8192)  # pixels
RATE = (float, 0, 1e6)  # far above any rate that trains, far below the largest float32
# Fields of the optimiser that biases and layers may override
SCHEDULE = {
    "learning_rate": RATE,
    "weight_decay": RATE,
    "drop_at_steps": STEPS,
    "drop_at_epochs": (float, 0, 1e6),
}
FREEZE = {"freeze_at_steps": (int, 0, 2**31 - 1), "freeze_at_epochs": (float, 0, 1e6)}
# The type of each field, or of each value of a field in TUPLES, and the lowest and highest value of a number.
# Limits without a comment are far beyond the papers' values and any machine.
FIELDS = {
    "": {
        "schema": (int, 1, 10_000),  # `complete` refuses unknown ones
        "seed": (int, 0, 2**32 - 1),  # more would be cut off for JAX
        "batch_size": (int, 1, 2**20),
        "total_steps": STEPS,
        "total_epochs": EPOCHS,
        "eval_every_steps": STEPS,
        "eval_every_epochs": EPOCHS,
        "log_every_steps": STEPS,
        "checkpoint_every_steps": STEPS,
        "objective": (str,),  # without it, classification
        "model": (ConfigDict,),
        "data": (ConfigDict,),
        "optimizer": (ConfigDict,),
    },
    "model": dict.fromkeys(
        ("name", "variant", "activation", "without", "configuration", "initialization", "shortcut", "stride_on")
        + ("pool1", "dtype"),
        (str,),
    )
    | dict.fromkeys(
        ("half", "grouped", "communication", "overlapping_pooling", "lrn", "lrn_in_towers", "conv6", "residual")
        + ("bn_fixed",),
        (bool,),
    )
    | {
        "depth": (int, 1, 10_000),  # the paper's deepest has 1202
        "bn_group": (int, 0, 2**20),
        "narrow": (int, 1, 64),  # the narrowest layer has 64 filters
        "dropout": (float, 0, 0.99),  # 1 would leave nothing
        "lrn_k": (float, 1e-6, 1e6),  # 0 would divide black pixels by 0
        "lrn_alpha": RATE,
    },
    "data": dict.fromkeys(
        ("name", "train_split", "eval_split", "mean", "augment", "lighting", "on_corrupt"),
        (str,),
    )
    | {
        "std": (str,),
        "image_size": SIDE,
        "train_scale": SIDE,
        "test_scale": SIDE,
        "central_square": (bool,),
        "lighting_until_steps": STEPS,
        "lighting_until_epochs": (float, 0, 1e6),
    },
    "optimizer": SCHEDULE
    | {
        "drop_factor": (float, 1e-6, 1),
        "momentum": (float, 0, 0.99999),  # with 1, no update would ever decay
        "ema_decay": (float, 0, 0.999999),  # 0: no averages
        "warm_up_at_depth": (int, 0, 10_000),
        "warm_up_learning_rate": RATE,
        "warm_up_until_error": (float, 0, 100),
        "bias": (ConfigDict,),
        "layers": (ConfigDict,),
    },
}
DROPS = {"drop_at_steps", "drop_at_epochs"}
FREEZES = {*FREEZE}
TUPLES = {"train_scale", *DROPS}
KINDS = {bool: "True or False", str: "text", ConfigDict: "a ConfigDict"}


def check_fields(config: ConfigDict) -> None:
    """Raises ValueError with a line for each field that is missing, unknown or has a wrong value."""
    check_parts(config)
    wrong: list[str] = []
    for part, fields in FIELDS.items():
        wrong += _wrong_values(f"config.{part}".rstrip("."), config[part] if part else config, fields)
    raise_all(wrong)
    for duration in ("total", "eval_every"):
        unit_of(config, duration)
    if config.model.get("dtype", "float32") not in ("float32", "bfloat16"):
        raise ValueError(f"config.model.dtype={config.model.dtype!r}; choose float32 or bfloat16")
    _check_optimizer(config.optimizer)


def predicts_boxes(config: ConfigDict | dict[str, Any]) -> bool:
    """Returns whether config.objective, if there is one, is to predict boxes."""
    return config.get("objective", "classification") != "classification"


def check_together(config: ConfigDict, examples: int, devices: int) -> None:
    """Raises ValueError for values that conflict with each other, with this data set or with these devices."""
    batch_size = config.batch_size
    if batch_size > examples:
        raise ValueError(
            f"config.batch_size={batch_size} is more than the {examples} training examples; take {examples} at most"
        )
    if batch_size % devices:
        raise ValueError(
            f"config.batch_size={batch_size} cannot be divided among {devices} devices; take a multiple of {devices}, "
            "or other devices (CUDA_VISIBLE_DEVICES)"
        )
    group = config.model.get("bn_group", 0)
    if group and batch_size % group:
        raise ValueError(
            f"config.model.bn_group={group} does not divide config.batch_size={batch_size}; 0 is the full batch"
        )
    total, last = unit_of(config, "total"), steps(config, "total", examples, batch_size)
    if last < 1:
        raise ValueError(f"config.{total}={config[total]} is less than one step of {batch_size} images; train longer")
    if last > STEPS[2]:
        raise ValueError(f"config.{total}={config[total]} is {last} steps; {STEPS[2]} is the maximum")
    wrong: list[str] = []
    for field in {"lighting_until_steps", "lighting_until_epochs"} & {*config.data}:
        if not 0 < steps(config.data, "lighting_until", examples, batch_size) <= last:
            wrong.append(
                f"config.data.{field}={config.data[field]} is not between the start and the end "
                f"(config.{total}={config[total]}); change one of them"
            )
    for name, node in schedules(config.optimizer):
        for field in DROPS & {*node}:
            drops = steps(node, "drop_at", examples, batch_size)
            if sorted({*drops} - {0}) != list(drops):
                wrong.append(f"{name}.{field}={node[field]} is at steps {drops}; they must rise from 1 or more")
            elif late := [drop for drop in drops if drop >= last]:
                wrong.append(
                    f"{name}.{field}={node[field]}: a drop comes at step {late[0]}, not before the end at step {last} "
                    f"(config.{total}={config[total]}); change both, as in '--{name}.{field}=()'"
                )
        for field in FREEZES & {*node}:
            if steps(node, "freeze_at", examples, batch_size) >= last:
                wrong.append(
                    f"{name}.{field}={node[field]} is not before the end (config.{total}={config[total]}); change one "
                    "of them"
                )
    raise_all(wrong)


def schedules(optimizer: ConfigDict) -> Iterator[tuple[str, ConfigDict]]:
    """Yields the nodes that may set learning rates, drops and decay, with their names for messages."""
    yield "config.optimizer", optimizer
    if "bias" in optimizer:
        yield "config.optimizer.bias", optimizer.bias
    for layer, node in optimizer.get("layers", {}).items():
        yield f"config.optimizer.layers.{layer}", node


def check_parts(config: ConfigDict | dict[str, Any]) -> None:
    """Raises ValueError for a missing part or required field."""
    for part, fields in EVERY_RECIPE.items():
        node = config[part] if part else config
        if not isinstance(node, ConfigDict | dict):
            raise ValueError(
                f"config.{part}={node!r}; it must be a ConfigDict; deepconv config resnet_cifar prints its fields"
            )
        for field in fields:
            if field not in node:
                name = f"{part}.{field}".lstrip(".")
                raise ValueError(f"config.{name} is missing; every recipe has {', '.join(fields)} there")


def unknown_field(config: ConfigDict, field: str) -> str:
    """Says what is wrong with the name of a field, such as "model.depht", and what is nearest; empty if it exists."""
    node, parts = config, [part.partition("[")[0] for part in field.split(".")]
    for place, part in enumerate(parts):
        above = ".".join(["config", *parts[:place]])
        if not isinstance(node, ConfigDict):
            return f"config.{field} is not a field of this recipe; {above} is {node!r}, and has no fields"
        if part not in node:
            names = {name: name.split(".")[-1] for name in _names(config)}
            near = [name for name, last in names.items() if last == parts[-1]]
            near += difflib.get_close_matches(field, names, n=1, cutoff=0.75)
            similar = difflib.get_close_matches(parts[-1], names.values(), n=1, cutoff=0.75)
            if near := near + [name for name, last in names.items() if last in similar]:
                return f"config.{field} is not a field of this recipe; did you mean config.{near[0]}?"
            return f"config.{field} is not a field of this recipe; the fields of {above} are {', '.join(sorted(node))}"
        node = node[part]
    return ""


def _names(config: ConfigDict, prefix: str = "") -> list[str]:
    names = []
    for name, value in config.items():
        names += _names(value, f"{prefix}{name}.") if isinstance(value, ConfigDict) else [prefix + name]
    return names


def _wrong_values(name: str, node: ConfigDict, fields: Mapping[str, tuple[Any, ...]]) -> Iterator[str]:
    """Yields a line for each value of a part of a config that does not fit its entry in FIELDS."""
    for field, value in node.items():
        if field not in fields:
            near = "".join(f"; did you mean {match}?" for match in difflib.get_close_matches(field, fields, 1))
            yield f"{name}.{field} is not a field of any recipe{near or f': {sorted(fields)}'}"
            continue
        kind, *limits = fields[field]
        values = value if field in TUPLES else (value,)
        if not isinstance(values, tuple) or not all(_fits(each, kind, *limits) for each in values):
            number = "whole number" if kind is int else "number"
            wanted = KINDS.get(kind) or f"a {number} from {limits[0]} to {limits[1]}"
            if field in TUPLES:
                wanted = f"numbers such as 32000,48000, each {wanted}"
            yield f"{name}.{field}={value!r}; it must be {wanted}"


def _fits(value: Any, kind: Any, low: float = -math.inf, high: float = math.inf) -> bool:
    if kind in (int, float):  # isinstance would take True and False for numbers
        return type(value) in (int, kind) and low <= value <= high
    return isinstance(value, kind)


def _check_optimizer(optimizer: ConfigDict) -> None:
    unit_of(optimizer, "drop_at")
    for field in ("warm_up_learning_rate", "warm_up_until_error"):
        if "warm_up_at_depth" in optimizer and field not in optimizer:
            raise ValueError(f"config.optimizer.{field} is missing; warm_up_at_depth needs it")
    for layer, node in optimizer.get("layers", {}).items():
        if not isinstance(node, ConfigDict):
            raise ValueError(f"config.optimizer.layers.{layer}={node!r}; it must be a ConfigDict")
    for name, node in schedules(optimizer):
        if node is not optimizer:
            raise_all([*_wrong_values(name, node, SCHEDULE | (FREEZE if ".layers." in name else {}))])
        for duration in ("drop_at", "freeze_at"):
            if is_given(node, duration):
                unit_of(node, duration)
        for field in DROPS & {*node}:
            drops = node[field]
            if sorted(set(drops)) != list(drops) or any(drop <= 0 for drop in drops):
                raise ValueError(f"{name}.{field}={drops}; it must rise, starting above 0")
