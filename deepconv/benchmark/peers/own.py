"""deepconv's own steps: a recipe's full training step, with augmentation, decay and metrics, or its test `center`."""

import numpy as np

from deepconv import distributed, resume, train
from deepconv import task as task_lib
from deepconv.benchmark.peers import Job, Steps
from deepconv.benchmark.peers.jax_queue import Queue, device_bytes
from deepconv.config import recipes
from deepconv.evaluation import run as evaluate
from deepconv.ops import counting, forms


class Training:
    """A state that takes training steps on one batch."""

    def __init__(self, task: task_lib.Task, images: np.ndarray) -> None:
        labels = np.arange(len(images), dtype=np.int32) % len(task.train_source.classes)
        self.step_fn = train.jit_step(task, resume.statistics_for(task, task.train_source.open()))
        self.state = resume.initial_state(task)()
        self.batch = distributed.put_batch({"image": images, "label": labels}, task.mesh)

    def step(self) -> object:
        """Takes a step; returns its metrics."""
        self.state, metrics = self.step_fn(self.state, self.batch)
        return metrics


class Inference:
    """A net that gives the probabilities of one batch of central crops."""

    def __init__(self, task: task_lib.Task, images: np.ndarray) -> None:
        net = task_lib.net_for(task, resume.statistics_for(task, task.train_source.open()))
        (center,) = task.protocols["center"]
        self.predict = evaluate.jit(net, center)
        self.state = resume.initial_state(task)().replace(opt_state=())
        self.batch = distributed.put_batch({"image": images[:, None]}, net.mesh)

    def step(self) -> object:
        """Returns probabilities."""
        return self.predict(self.state, self.batch)


def make(job: Job) -> Steps:
    """Returns the steps of a recipe in ./configs. Raises ValueError if it is not there."""
    forms.choose(job.forms)
    changes = {"data.image_size": job.pixels, "batch_size": job.batch, "model.dtype": job.dtype}
    changes["data.train_split"] = f"train[:{max(160, job.batch)}]"  # --smoke keeps 160
    if job.net.startswith("resnet"):
        changes["model.bn_group"] = 0  # BatchNorm over the full batch, as in the other libraries
    task = task_lib.prepare(recipes.load(recipes.find(job.net), changes, smoke=True), None)
    images = np.random.default_rng(0).integers(0, 256, (job.batch, job.pixels, job.pixels, 3), np.uint8)
    work = (Training if job.mode == "train" else Inference)(task, images)
    queue = Queue(work.step)
    return Steps(queue.step, queue.finish, counting.count_parameters(work.state.params), device_bytes)
