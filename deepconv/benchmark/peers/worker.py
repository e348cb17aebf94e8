"""A process that runs the steps of one library: python -m deepconv.benchmark.peers.worker JOB

JOB is a Job in JSON. Each answer is a line of JSON. The first one, after two steps that compile and warm up, has the
net's parameters and the versions. Then, for each number that it reads, the process runs that many steps and answers
with the mean cost of one. deepconv's process has the same settings as its commands.
"""

import importlib
import json
import os
import resource
import sys
import time
from importlib import metadata

from deepconv.benchmark.peers import Job

MODULES = {
    "deepconv": "own",
    "flax": "flax_nets",
    "torch": "torch_nets",
    "compile": "torch_nets",
    "keras": "keras_nets",
}
VERSIONS = ("jax", "jaxlib", "flax", "torch", "keras")
WARM_UP_STEPS = 2


def main(arguments: list[str]) -> int:
    """Serves until its input ends."""
    job = Job(**json.loads(arguments[1]))
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # messages of libraries do not belong to the answers
    steps = importlib.import_module(f"deepconv.benchmark.peers.{MODULES[job.peer]}").make(job)
    start = time.perf_counter()
    for _ in range(WARM_UP_STEPS):
        steps.step()
    steps.finish()
    loaded = {name: metadata.version(name) for name in VERSIONS if name in sys.modules}
    seconds = time.perf_counter() - start
    ready = {"parameters": steps.parameters, "versions": loaded, "warm_up_seconds": seconds}
    print(json.dumps(ready), file=answers)
    for line in sys.stdin:
        times = int(line)
        used, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        for _ in range(times):
            steps.step()
        steps.finish()
        seconds, now = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        cost = {
            "seconds": seconds / times,
            "user_seconds": (now.ru_utime - used.ru_utime) / times,
            "system_seconds": (now.ru_stime - used.ru_stime) / times,
            "page_faults": (now.ru_minflt - used.ru_minflt) / times,
            "peak_memory_bytes": 1024 * now.ru_maxrss,
            "peak_device_bytes": steps.device_bytes(),
        }
        print(json.dumps(cost), file=answers)
    return 0


if __name__ == "__main__":
    if Job(**json.loads(sys.argv[1])).peer != "deepconv":
        sys.exit(main(sys.argv))
    from deepconv import cli

    cli.run(main)
