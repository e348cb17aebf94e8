"""Speed of dense tests, compared with central crops."""

import functools
import itertools
import statistics
import time

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from deepconv import distributed, resume
from deepconv import task as task_lib
from deepconv.benchmark.record import Figures
from deepconv.evaluation import protocols
from deepconv.evaluation import run as evaluate
from deepconv.evaluation.dense import bucket_shape, empty_batch, put


def show_dense(task: task_lib.Task, scale: int, steps: int) -> Figures:
    """Measures and prints the median time for a crop's area, in central crops and dense tests of several shapes."""
    size, rng = task.config.data.image_size, np.random.default_rng(0)
    net = task_lib.net_for(task, resume.statistics_for(task, task.train_source.open()))
    state = resume.initial_state(task)()
    crops = evaluate.jit(net, protocols.Protocol("center", "center", None, posteriors=False, precise=False))
    dense = evaluate.jit(net, protocols.Protocol("dense", "dense", scale, posteriors=False, precise=False))
    batch = distributed.put_batch(
        {"image": rng.integers(0, 256, (net.batch_size, 1, size, size, 3), np.uint8)}, net.mesh
    )
    tests, crop_areas = {"central crops": lambda: crops(state, batch)}, {"central crops": net.batch_size}
    for ratio in (1, 1.01, 4 / 3, 1.5, 1.78):
        shape = scale, round(scale * ratio)
        images, image = empty_batch(net, bucket_shape(*shape)), rng.integers(0, 256, (*shape, 3), np.uint8)
        count = len(images["image"])
        for place in range(count):
            put(image, images, place)
        name = f"{count} x [{shape[0]}, {shape[1]}]"
        tests[name] = functools.partial(dense, state, distributed.put_batch(images, net.mesh))
        crop_areas[name] = 2 * count * shape[0] * shape[1] / size**2  # the images and their mirror images
    seconds = {name: [] for name in tests}
    for turn, (name, test) in itertools.product(range(steps // 5 + 1), tests.items()):
        start = time.perf_counter()
        jax.block_until_ready(test())
        if turn:  # the first compiles
            seconds[name].append((time.perf_counter() - start) / crop_areas[name])
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    table = Table("", "ms per crop area", "relative to central crops")
    for name, median in medians.items():
        table.add_row(name, f"{1000 * median:.1f}", f"{median / medians['central crops']:.2f}")
    Console().print(table)
    return {"tests": [{"test": name, "seconds_per_crops_pixels": median} for name, median in medians.items()]}
