"""Classify your own photographs with a trained net, or extract its features.

python -m deepconv.predict --run=RUN_DIR photo.jpg ...
python -m deepconv.predict --weights=resnet50.safetensors --library=torchvision --config=resnet50 photo.jpg ...
python -m deepconv.predict --run=RUN_DIR --csv FOLDER 'more/*.jpg' > classes.csv
python -m deepconv.predict --run=RUN_DIR --protocol=dense_q256_384_512 --plot=top5.png photo.jpg ...
python -m deepconv.predict --run=RUN_DIR --features=fc7 --rectify --out=fc7.npy photo.jpg ...
python -m deepconv.predict --run=RUN_DIR --features=fc7 --rectify --out=fc7.npy --split=train --data_dir=DIR

python -m deepconv.predict --run=LOC --classes_from=RUN_DIR --plot=boxes.png photo.jpg ...

A folder stands for all images in it and below it. A localisation net gives boxes; if it predicts one for each class,
the net of --classes_from gives the class.
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports, which take seconds

import glob
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from deepconv import cli
from deepconv.config import fields, recipes
from deepconv.run import checkpoint_files
from deepconv.run.files import expanded
from deepconv.weights import inputs

if TYPE_CHECKING:
    from deepconv.data.sources.source import Source
    from deepconv.evaluation.net import Trained

FLAGS = flags.FLAGS


def main(arguments: list[str]) -> int:
    """Classifies photographs, or writes features."""
    code = 2
    try:
        _check_flags(arguments[1:])
        load, boxes = _find_net(arguments[0])
        photos = _find_photos(arguments[1:])
        # Imported here, since `--help` and mistakes need not wait for JAX.
        from deepconv.evaluation import photographs

        trained = load()
        classifier = _load_classifier(trained) if FLAGS.classes_from else None
        if FLAGS.features:
            try:
                photographs.check_layer(trained, FLAGS.features, FLAGS.rectify)
            except ValueError as error:
                raise ValueError(f"--features={error}") from None
            unread = _unreadable(photos)
            if unread:
                raise ValueError(f"no features were written: {unread} files cannot be read")
            source = _source(trained)
            options = FLAGS.features, FLAGS.rectify, expanded(FLAGS.out), _origin()
            code = 1  # from here on, failures are failures during work
            photographs.write_features(trained, photos, source, *options)
        else:
            code = 1
            unread = _predict(trained, classifier, photos, boxes)
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), 2 if isinstance(error, ValueError) else code)  # a wrong protocol is found late
    return 1 if unread else 0


def _origin() -> str:
    """Returns what distinguishes the net of these flags, apart from its config and step."""
    if FLAGS.run:
        return repr((FLAGS.run, checkpoint_files.newest(expanded(FLAGS.run) / "checkpoints")[1]))
    file = expanded(FLAGS.weights)
    return repr((FLAGS.weights, file.stat().st_mtime_ns, file.stat().st_size, FLAGS.library, FLAGS.input))


def _check_flags(photos: Sequence[str]) -> None:
    if not (FLAGS.run or FLAGS.weights):
        raise ValueError(
            "--run=RUN_DIR is missing: the directory of a run, or of imported weights; --weights=FILE reads a file"
        )
    if FLAGS.run and FLAGS.weights:
        raise ValueError("--run and --weights each give a net; leave out one of them")
    given = [f"--{name}" for name in ("config", "library", "input") if FLAGS[name].present]
    if FLAGS.run and given:
        raise ValueError(f"{given[0]} describes a file of --weights; {FLAGS.run} is a run, which records its net")
    if bool(photos) == bool(FLAGS.split):
        raise ValueError("give the files of photographs, or --split of the run's data set with --features")
    if bool(FLAGS.features) != bool(FLAGS.out) or (FLAGS.split and not FLAGS.features):
        raise ValueError("--features=LAYER and --out=FILE.npy need each other, and --split needs both")
    if FLAGS.rectify and not FLAGS.features:
        raise ValueError("--rectify is for --features; leave it out")
    if FLAGS.json and FLAGS.csv:
        raise ValueError("--json and --csv are two formats; leave out one of them")
    own = [f"--{name}" for name in ("protocol", "plot", "top", "json", "csv") if FLAGS[name].present]
    if FLAGS.features and own:
        raise ValueError(f"--features are those of the central crop, written to --out; leave out {', '.join(own)}")
    cli.check_file("plot", picture=True)
    cli.check_file("out")


def _find_net(program: str) -> "tuple[Callable[[], Trained], bool]":
    """Returns a function that loads the net, and whether it gives boxes. Raises ValueError, OSError."""
    library, images = FLAGS.library or "", FLAGS.input or ""
    if FLAGS.classes_from and (FLAGS.weights or FLAGS.features):
        raise ValueError("--classes_from is for boxes of a --run; leave it out")
    if FLAGS.weights:
        file = expanded(FLAGS.weights)
        if file.is_dir():
            raise ValueError(f"--weights={file} is a directory; --run takes the directory of a run")
        if not file.exists():
            raise FileNotFoundError(f"--weights={file} does not exist")
        images = inputs.recorded(file, library, images)
        config, _ = cli.load_config([program], change=lambda config, name: inputs.file_fields(config, library, images))

        def load() -> "Trained":
            from deepconv import nets

            return nets.from_file(config, file, library, images)

        return load, False
    config = recipes.read_run(expanded(FLAGS.run))
    boxes = fields.predicts_boxes(config) and not FLAGS.features
    of_classes = boxes and config["objective"] != fields.ONE_BOX
    if boxes and config["objective"] == fields.REFINES:
        raise ValueError(
            f"--run={FLAGS.run} refines the proposals of another net; give --run=RPN, the net that makes them, or test "
            f"both: python -m deepconv.localization --run=RPN --refined_by={FLAGS.run}"
        )
    if of_classes and not FLAGS.classes_from:
        raise ValueError(
            f"--run={FLAGS.run} predicts boxes for given classes; give --classes_from=RUN, a classification net with "
            "the same classes"
        )
    if FLAGS.classes_from and not of_classes:
        raise ValueError(
            f"--classes_from is for a net with boxes of each class, unlike that of --run={FLAGS.run}; leave it out"
        )
    if boxes and FLAGS["top"].present:
        raise ValueError(f"--run={FLAGS.run} predicts one box; leave out --top")
    if boxes and not of_classes and FLAGS.protocol != "center":
        raise ValueError(f"--run={FLAGS.run} predicts one box on the central crop; leave out --protocol")

    def load_run() -> "Trained":
        from deepconv.evaluation import net

        return net.load_run(FLAGS.run)

    return load_run, boxes


def _load_classifier(localizer: "Trained") -> "Trained":
    """Loads the net of --classes_from. Raises ValueError if it does not give the localizer's classes."""
    from deepconv.evaluation import net

    if fields.predicts_boxes(recipes.read_run(expanded(FLAGS.classes_from))):
        raise ValueError(f"--classes_from={FLAGS.classes_from} predicts boxes; give a classification net")
    classifier = net.load_run(FLAGS.classes_from)
    if [*classifier.classes] != [*localizer.classes]:
        raise ValueError(
            f"--classes_from={FLAGS.classes_from} has other classes than --run={FLAGS.run}; give nets that were "
            "trained on the same data set"
        )
    return classifier


def _find_photos(arguments: Sequence[str]) -> list[str]:
    """Returns the files that the arguments name: files, folders with images, patterns such as '*.jpg'."""
    from deepconv.data.sources.folders import SUFFIXES

    photos = []
    for argument in arguments:
        if Path(argument).is_dir():
            below = (path for path in _files_below(argument, frozenset()) if path.suffix.lower() in SUFFIXES)
            found = sorted(str(path) for path in below if path.is_file())
            if not found:
                raise ValueError(f"{argument} holds no images ({', '.join(SUFFIXES)})")
        elif glob.has_magic(argument) and not Path(argument).exists():
            found = sorted(path for path in glob.glob(argument, recursive=True) if not Path(path).is_dir())
            if not found:
                raise ValueError(f"no file matches {argument}")
        else:
            found = [argument]
        photos += found
    return [*dict.fromkeys(photos)]


def _files_below(folder: str, above: Set[str]) -> Iterator[Path]:
    """Yields the files in a folder and its folders, also linked ones, but for hidden ones and circles of links."""
    above = above | {os.path.realpath(folder)}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                yield Path(entry.path)
            elif os.path.realpath(entry.path) not in above:
                yield from _files_below(entry.path, above)


def _source(trained: "Trained") -> "Source | None":
    """Returns the split of the run's data set that --split names, if it names one. Raises ValueError, OSError."""
    from deepconv.data import sources

    data = trained.data
    if not FLAGS.split:
        return None
    source = sources.find(data.name, FLAGS.split, cli.DATA_DIR.value, data.image_size, data.get("train_scale"))
    if source.size and min(source.size) < data.image_size:
        raise ValueError(
            f"the images of {data.name} have {source.size[0]} x {source.size[1]} pixels, fewer than the net's "
            f"{data.image_size} x {data.image_size}"
        )
    return source


def _unreadable(photos: Sequence[str]) -> int:
    """Returns the number of files that are not photographs, and prints a line for each."""
    from deepconv.data import decode, pipeline
    from deepconv.evaluation import photographs

    def mistake(photo: str) -> str | None:
        try:
            decode.decode(Path(photo).read_bytes())
        except (OSError, decode.CorruptImage) as error:
            return photographs.reason(photo, error)
        return None

    with ThreadPoolExecutor(pipeline.THREADS) as threads:
        mistakes = [line for line in threads.map(mistake, photos) if line]
    for line in mistakes:
        cli.refuse(line)
    return len(mistakes)


def _predict(trained: "Trained", classifier: "Trained | None", photos: Sequence[str], boxes: bool) -> int:
    """Prints and draws the classes or boxes of photographs; returns the number of photographs that cannot be read.

    A classifier gives the class whose box is found.
    """
    import numpy as np

    from deepconv.evaluation import drawing, photographs, predictions

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `... | head` ends the command silently
    unread: dict[int, str] = {}
    drawn: dict[int, np.ndarray] = {}
    guesses: list[predictions.Guess] = []
    form = "json" if FLAGS.json else "csv" if FLAGS.csv else "text"

    def describe(number: int, row: np.ndarray) -> str:
        if boxes:
            return predictions.BOXES[form](photos[number], row, guesses[number] if guesses else None)
        return predictions.CLASSES[form](photos[number], row, trained.classes, FLAGS.top)

    with predictions.progress(len(photos) * (2 if classifier else 1)) as advance:

        def show(number: int, row: np.ndarray) -> None:
            if number in unread:
                cli.refuse(unread[number])
            else:
                print(describe(number, row), end="", flush=True)
                if FLAGS.plot and len(drawn) < drawing.MOST:
                    drawn[number] = row.copy()
            advance()

        print(predictions.head(form, boxes, of_classes=classifier is not None), end="", flush=True)
        if classifier:
            probs = photographs.classify(classifier, photos, FLAGS.protocol, unread, lambda number, row: advance())
            best = [predictions.likeliest(row, 1)[0] for row in probs]
            guesses += [(trained.classes[k], float(row[k])) for k, row in zip(best, probs, strict=True)]
            photographs.find_boxes(trained, photos, unread, show, best)
        elif boxes:
            photographs.find_boxes(trained, photos, unread, show)
        else:
            photographs.classify(trained, photos, FLAGS.protocol, unread, show)
    if drawn:
        drawn = dict(sorted(drawn.items()))
        files, rows = [photos[number] for number in drawn], np.stack([*drawn.values()])
        if boxes:
            captions = [predictions.describe(guesses[number]) for number in drawn] if guesses else []
            figure = drawing.draw_boxes(files, rows, captions)
        else:
            figure = drawing.draw_classes(files, rows, trained.classes, FLAGS.top)
        figure.savefig(expanded(FLAGS.plot))
        read = len(photos) - len(unread)
        left = f" ({len(drawn)} of {read} photographs)" if len(drawn) < read else ""
        print(f"drawn to {FLAGS.plot}{left}", file=sys.stdout if form == "text" else sys.stderr)
    return len(unread)


def define_flags() -> None:
    """Defines the flags of this command only; cli defines --config and its overrides."""
    flags.DEFINE_string("run", None, "The run's directory.")
    flags.DEFINE_string("weights", None, "A safetensors file, in place of a run; --config gives the recipe of its net.")
    flags.DEFINE_enum("library", None, [*inputs.LIBRARIES], inputs.LIBRARY_HELP)
    flags.DEFINE_string("input", None, inputs.INPUT_HELP)
    flags.DEFINE_string(
        "classes_from", None, "The run of a classification net, which gives the classes that boxes are found for."
    )
    flags.DEFINE_string("protocol", "center", "The test protocol that gives classes, as in main's --evals.")
    flags.DEFINE_integer("top", 5, "The number of likeliest classes to show.", lower_bound=1)
    flags.DEFINE_bool("json", False, "Print a line of JSON per photograph.")
    flags.DEFINE_bool("csv", False, "Print a line of CSV per photograph and class.")
    flags.DEFINE_string("plot", None, "Draw the photographs and their likeliest classes, or their boxes, to this file.")
    flags.DEFINE_string("features", None, "Write the output of this layer, such as fc7, instead of classes.")
    flags.DEFINE_bool("rectify", False, "Set negative features to zero, as the layer's rectifier does.")
    flags.DEFINE_string("out", None, "The .npy file for features, float32 [N, ...].")
    flags.DEFINE_string("split", None, "Write features of this split of the run's data set, instead of photographs.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
