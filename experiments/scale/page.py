"""The tables of docs/scale.md."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from experiments import cells, entries, entry
from experiments.entry import Run
from experiments.marks import markdown
from experiments.scale import model
from experiments.scale.model import Assumptions, Work
from experiments.scale.work import SPEEDS, count

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
CLUSTERS = (1, 8, 64, 512)  # GPUs
JPEG_BYTES = 110_000  # of a photograph of ImageNet: the mean of 250
PACKED_BYTES = 256 * 256 * 3
NETS = {
    "AlexNet": Run("alexnet"),
    "VGG-16": Run("vgg16"),
    "ResNet-50": Run("resnet50"),
    "ResNet-152": Run("resnet152"),
    "ResNet-20, CIFAR": Run("resnet_cifar"),
    "ResNet-110, CIFAR": Run("resnet_cifar", {"model.depth": 110}),
}


def tables(given: Assumptions, speeds: Mapping[str, float]) -> dict[str, str]:
    """Returns the tables of the page by name."""
    nets = {label: count(run, speeds) for label, run in NETS.items()}
    return {
        "assumptions": assumptions_table(given, speeds),
        "steps": steps_table(nets, given),
        "bytes": bytes_table(nets, given),
        "tables": hours_table(given, speeds),
    }


def assumptions_table(given: Assumptions, speeds: Mapping[str, float]) -> str:
    """Returns the values of all assumptions with their sources."""
    published = "published: TensorFlow, float16, A100 of 40 GB"
    lines = [
        [f"training of {name} on one GPU, images/s", f"{speed:,.0f}", published if speed == SPEEDS[name] else "--speed"]
        for name, speed in speeds.items()
    ]
    for field in dataclasses.fields(given):
        value = getattr(given, field.name)
        source = field.metadata["source"] if value == field.default else f"--{field.name}"
        lines.append([field.metadata["text"], f"{value:,.10g}", source])
    return markdown(["", "value", "source"], lines)


def steps_table(nets: Mapping[str, Work], given: Assumptions) -> str:
    """Returns the parts of a step on one node and on eight, and the GPUs a run can use."""
    heading = ["", "batch", "1 GPU"]
    for gpus in CLUSTERS[1:3]:
        heading += [f"{gpus} GPUs", "compute", "BatchNorm", "all-reduce", "input"]
    lines = []
    for label, net in nets.items():
        line = [label, str(net.batch), f"{1e3 * model.step(net, 1, given).seconds:.1f}"]
        for gpus in CLUSTERS[1:3]:
            parts = model.step(net, gpus, given)
            times = (parts.seconds, parts.compute, parts.norms, parts.exposed, parts.input)
            line += [f"{1e3 * value:.1f}" for value in times]
        lines.append([*line, str(model.most_gpus(net, given))])
    return markdown([*heading, "most GPUs"], lines)


def bytes_table(nets: Mapping[str, Work], given: Assumptions) -> str:
    """Returns the bytes of the all-reduce, of checkpoints and of the input on eight GPUs."""
    heading = ["", "all-reduce, MB", "checkpoint, MB", "written, MB/s", "images/s"]
    heading += ["JPEG, GB/s", "packed, GB/s", "cores for JPEG"]
    lines = []
    for label, net in nets.items():
        seconds = model.step(net, CLUSTERS[1], given).fed_seconds
        speed = net.batch / seconds
        written = net.checkpoint_bytes / (net.checkpoint_every_steps * seconds)
        photographs = [f"{speed * JPEG_BYTES / 1e9:.1f}", f"{speed * PACKED_BYTES / 1e9:.1f}"]
        photographs += [f"{speed / given.jpeg_per_core:.0f}"]
        megabytes = [f"{value / 1e6:,.1f}" for value in (net.reduced_bytes, net.checkpoint_bytes, written)]
        lines.append([label, *megabytes, f"{speed:,.0f}", *(photographs if net.images != "memory" else [""] * 3)])
    return markdown(heading, lines)


def hours_table(given: Assumptions, speeds: Mapping[str, float]) -> str:
    """Returns the hours and the cost of every entry's runs, and of all runs together."""
    heading = ["", "runs", "steps, millions", "images, billions", "1 GPU"]
    heading += [f"{gpus} GPUs" for gpus in CLUSTERS[1:]]
    jobs = {name: entry.jobs(cells.missing(table, {})) for name, table in entries.load().items()}
    jobs = {name: {key: run for key, (run, _) in found.items()} for name, found in jobs.items() if found}
    jobs["all runs"] = {key: run for found in jobs.values() for key, run in found.items()}
    works = {key: count(run, speeds) for key, run in jobs["all runs"].items()}
    lines = []
    for name, runs in jobs.items():
        chosen = {key: works[key] for key in runs}
        needs = {key: [source.name for source in run.sources] for key, run in runs.items()}
        steps = sum(net.steps for net in chosen.values()) / 1e6
        images = sum(net.steps * net.batch for net in chosen.values()) / 1e9
        line = [name, str(len(runs)), f"{steps:.2f}", f"{images:.2f}"]
        for gpus in CLUSTERS:
            plan = model.plan(chosen, needs, gpus, given)
            line.append(f"{short(plan.hours)} h, ${short(plan.gpu_hours * given.price)}")
        lines.append(line)
    return markdown(heading, lines)


def short(value: float) -> str:
    """Formats a number with two or more digits."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
