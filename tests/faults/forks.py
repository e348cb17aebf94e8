"""A process that has imported everything and forks a child per command: imports take longer than most commands.

Reads requests from standard input, a JSON object a line, and answers each with a line.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import sys
import warnings

LIBRARIES = (
    "deepconv.evaluation.batch_stats",
    "deepconv.curves",
    "deepconv.data.prepare",
    "deepconv.evaluation.run",
)
LIBRARIES += ("deepconv.run.preemption", "deepconv.train", "matplotlib.pyplot", "PIL.Image", "rich.progress")


def serve() -> None:
    """Start commands, and say how they ended, until standard input is closed."""
    children = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            children.discard(request["wait"])
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        elif answer := os.fork():
            children.add(answer)
        else:
            return become(request)  # and not in this loop: the child's end is that of any Python process
        print(answer, flush=True)
    for child in children:
        os.killpg(child, signal.SIGKILL)


def become(request: dict) -> None:
    """Be `python -m MODULE ARGUMENTS`, in a session of its own, after the faults that the request injects."""
    os.setsid()
    os.chdir(request["cwd"])
    for stream, (name, flags) in enumerate((("/dev/null", os.O_RDONLY), *request["streams"])):
        os.dup2(os.open(name, flags, 0o644), stream)
    os.environ.update(request["variables"])
    exec(compile(request["inject"], "<injected>", "exec"), {})
    sys.argv = [request["module"], *request["arguments"]]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    for name in LIBRARIES:
        importlib.import_module(name)
    warnings.simplefilter(
        "ignore"
    )  # JAX warns of forks, but none of its threads runs; runpy of modules imported before
    gc.freeze()  # else a child's first look for cycles copies all pages
    print(os.getpid(), flush=True)
    serve()
