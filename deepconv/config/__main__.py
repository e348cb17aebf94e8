"""Print a recipe with its changes, its layers and its schedule: python -m deepconv.config resnet50

    python -m deepconv.config resnet50 --config.model.depth=101 --data_dir=DIR

It trains nothing and reads no images. The papers' data sets need not be there.
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports

import functools
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console

from deepconv import cli
from deepconv.config import fields, recipes
from deepconv.data.known import DATA

if TYPE_CHECKING:
    from deepconv.data.sources.source import Source


def main(arguments: list[str]) -> int:
    """Prints the recipe that the flags describe."""
    try:
        config, name = cli.load_config(arguments)
        if config.data.name not in DATA:
            from deepconv.data import sources

            sources.check_exists(config.data.name, cli.DATA_DIR.value)
        # Imported here, since `--help` and mistakes in the config need not wait for JAX.
        from deepconv import description
        from deepconv import task as task_lib
        from deepconv.data import statistics

        # images are not read, and any statistics will do
        find = functools.partial(_find, fields.predicts_boxes(config))
        task = task_lib.prepare(config, cli.DATA_DIR.value, given=statistics.PUBLISHED, find=find, trained=True)
        fields.check_together(config, task.train_source.examples, devices=1)  # whatever this machine has
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=2)
    print(f"{name}\n")
    changes = cli.changes(config)
    for field, value in recipes.flatten(config.to_dict()).items():
        before = f"   (in the recipe: {changes[field][0]!r})" if field in changes else ""
        print(f"  {field} = {value!r}{before}")
    Console().print(description.layer_table(description.layers(task.model, config.data.image_size)))
    for line in description.schedule(config, task.train_source.examples):
        print(line)
    print("time: the training command with --dry_run estimates it on this machine")
    return 0


def _find(boxes: bool, name: str, split: str, **settings: Any) -> "Source":
    """Finds a data set, or describes one of the papers that is missing; with `boxes`, only images that have boxes."""
    from deepconv.data import sources
    from deepconv.data.sources import described

    try:
        return (sources.find_annotated if boxes else sources.find)(name, split, **settings)
    except OSError:
        if name in DATA:
            return described.describe(name, split, boxes)
        raise


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        sys.argv[1] = f"--config={sys.argv[1]}"
    cli.run(main)
