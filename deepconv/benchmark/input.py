"""Speed of the input pipeline, compared with a plain loop and torch's DataLoader."""

import io
import itertools
import random
import statistics
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from deepconv import task as task_lib
from deepconv import train
from deepconv.benchmark.record import Figures
from deepconv.benchmark.timing import timed
from deepconv.data import decode, pipeline
from deepconv.data.decode import Geometry
from deepconv.data.images import Encoded, Images
from deepconv.run.starts import environment


def host_batches(task: task_lib.Task, data: Images) -> Iterator[pipeline.Batch]:
    """Yields training batches without transfer to the devices."""
    settings = dict(batch_size=task.config.batch_size, seed=0, geometry=task.geometry, workers=task.workers)
    report = train.printed_replacements(task)
    return pipeline.train_batches(data, task.train_source.examples, report=report, **settings)


def most_ahead(task: task_lib.Task, data: Images) -> int:
    """Returns a number of batches, no less than the pipeline prepares ahead.

    Each loader process has three buffers of four batches, the last of them in this process, and works on others.
    """
    return 14 * task.workers or 4 * (2 if data.in_memory else pipeline.THREADS)


class ByPillow:
    """The pipeline's work as a torch data set: Pillow decodes and rescales the whole image, then crops it."""

    def __init__(self, data: Encoded, examples: int, geometry: Geometry) -> None:
        self.data, self.examples, self.geometry = data, examples, geometry

    def __len__(self) -> int:
        return self.examples

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        record, size = self.data.read([index])[0], self.geometry.size
        image = Image.open(io.BytesIO(record.data)).convert("RGB")
        scale = random.randint(*self.geometry.scale) / min(image.size)
        width, height = round(scale * image.width), round(scale * image.height)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        top, left = random.randint(0, height - size), random.randint(0, width - size)
        return np.array(image.crop((left, top, left + size, top + size))), record.label


def show_input(task: task_lib.Task, steps: int) -> Figures:
    """Measures and prints the median speeds of the pipeline and of its alternatives, measured in turns."""
    data, geometry, batch_size = task.train_source.open(), task.geometry, task.config.batch_size
    examples, threads = task.train_source.examples, task.workers or pipeline.THREADS
    batches = host_batches(task, data)
    workers = f"{task.workers} processes" if task.workers else "one thread" if data.in_memory else f"{threads} threads"
    deepconv = f"deepconv, {workers}"
    pipelines: dict[str, Callable[[], object]] = {deepconv: lambda: next(batches)}
    if isinstance(data, Encoded):
        sample = [record.data for record in data.read(range(min(examples, batch_size)))]
        rng = np.random.default_rng(0)
        pipelines["decode + rescale, one core"] = lambda: [
            decode.view(decode.decode(image), geometry, rng)
            for image in itertools.islice(itertools.cycle(sample), batch_size)
        ]
        try:
            from torch.utils.data import DataLoader, RandomSampler
        except ImportError:
            print("torch is not installed (pip install -e '.[parity]'), so its DataLoader is not compared")
        else:
            images = ByPillow(data, examples, geometry)
            endless = RandomSampler(images, replacement=True, num_samples=2**40)
            options = dict(batch_size=batch_size, num_workers=threads, multiprocessing_context="spawn")
            with warnings.catch_warnings(action="ignore"):  # it advises one worker per core at most
                torch_batches = iter(DataLoader(images, sampler=endless, **options))
            pipelines[f"torch DataLoader + Pillow, {threads} processes"] = lambda: next(torch_batches)
    rates = {name: [] for name in pipelines}
    for _ in range(5):
        for name, fetch in pipelines.items():
            # uses up prefetched batches, while the other pipelines end their prefetching
            for _ in range(max(4 * threads, most_ahead(task, data))):
                fetch()
            seconds = timed(fetch, steps)
            rates[name].append(batch_size * len(seconds) / sum(seconds))
    torch_batches = None  # ends its processes before the interpreter exits
    env = environment()
    print(f"{task.train_source.name} {task.train_source.split}, batches of {batch_size}, {env['cpus']} CPU cores")
    table = Table("", "images/s", "deepconv's speed relative to it")
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, median in medians.items():
        table.add_row(name, f"{median:,.0f}", f"{medians[deepconv] / median:.2f}")
    Console().print(table)
    return {
        "data": f"{task.train_source.name} {task.train_source.split}",
        "batch_size": batch_size,
        "pipelines": [{"pipeline": name, "images_per_second": median} for name, median in medians.items()],
    }
