"""Data sets in TFDS's layout, as array_record files written without TensorFlow."""

import contextlib
import itertools
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepconv.run import log as runlog
from deepconv.run.directory import lock
from deepconv.run.files import read_json, write_json

Example = dict[str, bytes | int]


@dataclass(frozen=True)
class Split:
    """A split to write: its size, and an iterator over its examples from a given index on."""

    examples: int
    size_bytes: int  # approximate
    examples_from: Callable[[int], Iterator[Example]]


def write_tfds(folder: Path, target: Path, features: dict[str, Any], splits: Mapping[str, Split]) -> None:
    """Writes a data set to a folder that will become target = DIR/NAME/VERSION; complete files in it are kept.

    Raises OSError, before anything is written, if the disk is too small.
    """
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.core.utils.shard_utils import ShardConfig, get_shard_boundaries

    need_space(folder, sum(split.size_bytes for split in splits.values()))
    infos = []
    for name, split in splits.items():
        ends = get_shard_boundaries(
            split.examples, ShardConfig.calculate_number_shards(split.size_bytes, split.examples)
        )
        template = tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name=target.parent.name, split=name, filetype_suffix="array_record"
        )
        files = [Path(template.sharded_filepath(shard_index=i, num_shards=len(ends))) for i in range(len(ends))]
        lengths = [end - start for start, end in itertools.pairwise([0, *ends])]
        complete = next((i for i, file in enumerate(files) if not file.exists()), len(files))
        done = sum(lengths[:complete])
        examples = split.examples_from(done)
        with progress(f"{target.parent.name} {name}", split.examples, done) as show:
            for file, length in zip(files[complete:], lengths[complete:], strict=True):
                with _naming(file):
                    writer = ArrayRecordWriter(f"{file}.part", "group_size:1")
                for _ in range(length):
                    content = _serialized(next(examples))
                    with _naming(file):
                        writer.write(content)
                    done += 1
                    show(done)
                with _naming(file):
                    writer.close()
                Path(f"{file}.part").replace(file)
        size = sum(file.stat().st_size for file in files)
        infos.append(tfds.core.SplitInfo(name=name, shard_lengths=lengths, num_bytes=size, filename_template=template))
    identity = tfds.core.dataset_info.DatasetIdentity(target.parent.name, target.name, str(folder), module_name="")
    info = tfds.core.DatasetInfo(
        builder=identity, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
    )
    info.set_file_format("array_record")
    info.set_splits(tfds.core.splits.SplitDict(infos))
    info.write_to_directory(folder)


@contextlib.contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Turns array_record's errors into OSErrors."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(f"{file}.part cannot be written: {error}") from None


def _serialized(example: Example) -> bytes:
    from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

    def feature(value: bytes | int) -> tf_feature_pb2.Feature:
        if isinstance(value, bytes):
            return tf_feature_pb2.Feature(bytes_list=tf_feature_pb2.BytesList(value=[value]))
        return tf_feature_pb2.Feature(int64_list=tf_feature_pb2.Int64List(value=[value]))

    features = tf_feature_pb2.Features(feature={name: feature(value) for name, value in example.items()})
    return tf_example_pb2.Example(features=features).SerializeToString()


def tfds_order(split: str, keys: Sequence[str | int]) -> list[int]:
    """Returns the order in which TFDS would write examples with these keys."""
    from tensorflow_datasets.core.hashing import Hasher

    hasher = Hasher(split)
    hashes = [hasher.hash_key(key) for key in keys]
    return sorted(range(len(keys)), key=hashes.__getitem__)


@contextlib.contextmanager
def building(target: Path, inputs: Mapping[str, Any]) -> Iterator[Path]:
    """Yields a folder that becomes the target when the block succeeds. One process at a time may build.

    `inputs` describes what the target is made from. When an interrupted build continues, its inputs must be the same.
    Raises FileExistsError if they differ.
    """
    folder = target.with_name(target.name + ".unfinished")
    with lock(folder, stays=False):
        begun = folder / "begun.json"
        if not begun.exists():
            write_json(begun, inputs)
        elif read_json(begun, dict, remedy=f"remove {folder}, then repeat the command") != inputs:
            raise FileExistsError(
                f"{folder} was begun with different data or splits; remove it, then repeat the command"
            )
        try:
            yield folder
        finally:
            if {file.name for file in folder.iterdir()} == {"begun.json", "lock"}:
                begun.unlink()  # nothing was written yet: the next start may have other inputs
        for file in (begun, folder / "lock"):
            file.unlink()
        folder.rename(target)


def need_space(folder: Path, total_bytes: int) -> None:
    """Raises OSError if the disk is too small for a folder to grow to total_bytes."""
    used = sum(file.stat().st_size for file in folder.iterdir())
    free = shutil.disk_usage(folder).free
    if total_bytes - used > free:
        raise OSError(
            f"{folder} needs {(total_bytes - used) / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free; give another "
            f"--data_dir, or free some space and repeat the command"
        )


@contextlib.contextmanager
def progress(title: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yields show(done), which may be called often: it updates once a second and prints a line every ten seconds."""
    with runlog.progress(title, total, done) as show:
        shown = logged = time.monotonic()

        def show_sometimes(done: int) -> None:
            nonlocal shown, logged
            now = time.monotonic()
            if now - shown > 1 or done == total:
                log = now - logged > 10 or done == total
                shown, logged = now, now if log else logged
                show(done, "", log)

        yield show_sometimes
