"""Prepare data sets without TensorFlow: TFDS's files from official archives, packed images, statistics.

    python -m deepconv.data.prepare imagenet2012 --archives=DIR --data_dir=DIR
    python -m deepconv.data.prepare cifar10 --archives=DIR --data_dir=DIR
    python -m deepconv.data.prepare pack NAME --data_dir=DIR --split=train,validation --format=uint8
    python -m deepconv.data.prepare statistics NAME --data_dir=DIR --split=train

imagenet2012 needs ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar in --archives; cifar10 needs
cifar-10-binary.tar.gz or cifar-10-python.tar.gz. `tfds.data_source` reads the result, which has TFDS's order.
pack takes any data set that training takes. It rescales the shorter side to --size and keeps the central square: as
uint8 in one file that is read in place (ImageNet: 252 GB), or as jpeg in TFDS's files (about 37 GB). statistics takes
data sets that do not fit into memory; it also writes the SHA-256 sums of a folder's files to SHA256SUMS.<split>.txt,
for `sha256sum -c` and main's --verify_data.
Repeat a command to continue it after a stop.
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports, which take seconds

from absl import flags

from deepconv import cli
from deepconv.config.mistakes import suggestion
from deepconv.run.files import expanded

COMMANDS = ("imagenet2012", "cifar10", "pack", "statistics")
REFUSALS = (ValueError, FileNotFoundError, FileExistsError, BlockingIOError)  # errors before the work


def define_flags() -> None:
    """Defines the flags of this command only; cli defines --data_dir."""
    flags.DEFINE_string("archives", None, "imagenet2012, cifar10: directory of the official archives.")
    flags.DEFINE_list("split", ["train"], "pack, statistics: splits, such as train,validation.")
    flags.DEFINE_integer("size", 256, "pack, statistics: side of the central squares in pixels.", lower_bound=1)
    flags.DEFINE_enum("format", "uint8", ["uint8", "jpeg"], "pack: pixels, or JPEG of quality 90.")
    flags.DEFINE_enum(
        "on_corrupt",
        "fail",
        ["fail", "replace"],
        "pack, statistics: stop at a damaged image, or replace it with the next.",
    )


def main(arguments: list[str]) -> int:
    """Runs one of the four commands."""
    given, command, names = flags.FLAGS, " ".join(arguments[1:2]), arguments[2:]
    replace = given.on_corrupt == "replace"
    # Imported here, since `--help` need not wait for the readers of images.
    from deepconv.data.prepare.cifar10 import cifar10
    from deepconv.data.prepare.image_statistics import compute_statistics
    from deepconv.data.prepare.imagenet import imagenet2012
    from deepconv.data.prepare.pack import pack
    from deepconv.data.sources.source import data_root

    try:
        data_dir = data_root(cli.DATA_DIR.value)
        if not given.split:
            raise ValueError("--split is empty; name splits, as in --split=train,validation")
        if command in ("imagenet2012", "cifar10") and not names:
            if not given["archives"].present:
                raise ValueError(
                    f"{command} needs --archives=DIR; it writes to {data_dir} unless --data_dir=DIR is given"
                )
            make = imagenet2012 if command == "imagenet2012" else cifar10
            results = [make(expanded(given.archives), data_dir)]
        elif command == "pack" and len(names) == 1:
            if not given["split"].present:
                raise ValueError("pack needs --split with all splits to pack, such as --split=train,validation")
            results = [pack(names[0], data_dir, given.split, given.size, given.format, replace)]
        elif command == "statistics" and len(names) == 1:
            results = [compute_statistics(names[0], data_dir, split, given.size, replace) for split in given.split]
        elif command in ("pack", "statistics"):
            raise ValueError(f"{command} needs the name of one data set, as in: {command} imagenet2012")
        elif not command:
            raise ValueError(f"no command is given; choose one of {', '.join(COMMANDS)}")
        else:
            raise ValueError(f"{' '.join(arguments[1:])!r} is not a command; {suggestion(command, COMMANDS)}")
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=2 if isinstance(error, REFUSALS) else 1)
    print("\n".join(f"{result} is complete" for result in results))
    return 0


if __name__ == "__main__":
    define_flags()
    cli.run(main)
