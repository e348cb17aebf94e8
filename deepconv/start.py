"""The weights that a run starts from: those of another run, or of a file."""

import hashlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from ml_collections import ConfigDict

from deepconv import processes
from deepconv.config import durations, recipes
from deepconv.run import checkpoint_files
from deepconv.run.files import expanded, read_json
from deepconv.weights import inputs

if TYPE_CHECKING:
    from deepconv.data.statistics import Statistics
    from deepconv.task import Task


class Origin(TypedDict, total=False):
    """The part of config.json that describes the weights a run starts from."""

    init_from: str
    init_layers: list[str]
    init_bgr: bool
    init_sha256: str  # of a file, or of the sums of a run's last checkpoint
    train: bool  # false if they are tested without training


@dataclass(frozen=True)
class Start:
    """The flags that describe the weights a run starts from; empty where they are not given."""

    init_from: str
    init_layers: Sequence[str]
    library: str
    images: str  # --input

    def record(self) -> Origin:
        """Returns the record of the weights; a digest identifies a file's content, or a run's last checkpoint."""
        origin = Origin(init_from=self.init_from, init_layers=[*self.init_layers])
        if inputs.in_bgr(self.library, self.images):
            origin["init_bgr"] = True
        source = expanded(self.init_from)
        if source.is_file():
            with source.open("rb") as content:
                origin["init_sha256"] = hashlib.file_digest(content, "sha256").hexdigest()
        elif digest := checkpoint_files.newest(source / "checkpoints")[1]:
            origin["init_sha256"] = digest
        return origin

    def fields(self, config: ConfigDict, name: str, workdir: str) -> dict[str, Any]:
        """Returns the recipe's fields to change so that they match the weights; `workdir` is "" for runs/<name>."""
        if not self.init_from:
            if self.library or self.images:
                raise ValueError("--library and --input need --init_from=FILE, the file that they describe")
            return {}
        source = expanded(self.init_from)
        if not (source.exists() or self.library or self.images):  # a resumed run does not need its source
            claimed = [workdir] if workdir else [f"runs/{name}", f"runs/{name},train=False"]
            source = next((path for path in map(expanded, claimed) if (path / "config.json").exists()), source)
        if not (source / "config.json").exists():
            return inputs.file_fields(config, self.library, self.images)
        if self.library or self.images:
            raise ValueError(f"--library and --input describe files; {source} is a run, which records its images")
        same_net = self.init_layers in ([], [inputs.ALL_BUT_HEAD])
        fields = inputs.run_fields(config, recipes.read_run(source), same_net)
        if fields:
            changes = " ".join(f"--config.{field}={value}" for field, value in fields.items())
            print(f"taken from {source}, unless a flag sets it: {changes}", flush=True)
        return fields

    def is_for_tests_only(self, workdir: Path, train: bool | None, tests_given: bool) -> bool:
        """Returns whether to test the weights without training: with --notrain, or a full net from a file and --evals.

        `train` is the flag's value, None if it is not given. Raises ValueError for --notrain without weights.
        """
        if train is False and not self.init_from:
            raise ValueError("--notrain needs --init_from=FILE, the net to test")
        if train is not None:
            return not train
        if not (self.init_from and tests_given) or self.init_layers or expanded(self.init_from).is_dir():
            return False
        # a run begun from these weights may exist: then --evals are tests of that run
        claimed = workdir / "config.json"
        return not claimed.exists() or recipes.read_run(workdir).get("train") is False

    def weights(self, task: "Task", workdir: Path) -> dict[str, Any]:
        """Reads the weights by layer; empty for a run that is resumed, which does not need them."""
        from deepconv.weights import files

        if processes.agree(lambda: bool(checkpoint_files.steps(workdir / "checkpoints"))):
            return {}
        source = expanded(self.init_from)
        if not source.exists():
            raise FileNotFoundError(f"{source} does not exist; give the directory of a run, or a safetensors file")
        _check_finished(source)
        if not task.total_steps:
            _check_classes(source, task.train_source.classes, task.config.data.name)
        bgr = inputs.in_bgr(self.library, self.images)
        weights = files.load_weights(source, task.model, task.config.data.image_size, self.init_layers, bgr)
        assumed = source.is_file() and inputs.is_assumed(task.config, source, self.library, self.images)
        if assumed and processes.primary():
            print(inputs.warning(task.config, source), file=sys.stderr)
        return weights


def from_flags(init_from: str, init_layers: Sequence[str], library: str, images: str) -> Start:
    """Returns what these flags describe; a file may record its images. Raises ValueError if --input contradicts it."""
    return Start(init_from, init_layers, library, inputs.recorded(expanded(init_from), library, images))


def saved_statistics(workdir: Path, init_from: str) -> "Statistics | None":
    """Returns the image statistics saved by a run without training, or by its source; None if neither has them."""
    from deepconv.data import statistics

    for folder in (workdir, expanded(init_from)):
        if (file := folder / "statistics.npz").exists():
            return statistics.load(file, "")
    return None


def _check_finished(source: Path) -> None:
    """Raises ValueError if the run to start from is not finished."""
    if not (source / "config.json").exists():
        return
    total = durations.total_steps(recipes.read_run(source))
    if (saved := checkpoint_files.steps(source / "checkpoints")) and saved[-1] < total:
        raise ValueError(
            f"{source} is an unfinished run (step {saved[-1]} of {total}); finish it, or start "
            f"from a file: python -m deepconv.weights export --run={shlex.quote(str(source))} --to=FILE.safetensors"
        )


def _check_classes(source: Path, classes: Sequence[str], data: str) -> None:
    """Raises ValueError if the net of a run or an exported file has other classes than the data it is tested on.

    Those of imported weights and of other files may have other names in a data set.
    """
    names = inputs.exported_classes(source)
    if (source / "config.json").exists() and "train_data" in recipes.read_run(source):
        file = source / "classes.json"
        names = read_json(file, list) if file.exists() else None
    if names is not None and names != [*classes]:
        raise ValueError(
            f"the classes of {source} are not those of {data}, or in another order; give the data it was made for"
        )
