"""The record of a measurement: its figures, and the command, code, versions and hardware they come from."""

import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepconv.run.files import expanded, write_json
from deepconv.run.starts import environment

Figures = Mapping[str, Any]  # numbers, or trees of them; names end in their units


def record(measurement: str, figures: Figures) -> dict[str, Any]:
    """Returns the record of figures measured by this command."""
    env = environment()
    arguments = (argument for argument in sys.argv[1:] if not argument.startswith("--json="))  # has no effect on speed
    return {
        "measurement": measurement,
        "command": shlex.join(["python", "-m", "deepconv.benchmark", *arguments]),
        "time": env["time"],
        "commit": env["commit"],
        "dirty": env["dirty"],
        "versions": {"python": env["python"], **env["versions"]},
        "hardware": {"device": env["device_kind"], "devices": env["devices"], "cpu": cpu(), "cpus": env["cpus"]},
        "xla_flags": env["xla_flags"],
        "forms": env.get("forms", {}),
        "figures": figures,
    }


def cpu() -> str:
    """Returns the name of this machine's CPU."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), os.uname().machine)


def write(path: str, content: Mapping[str, Any]) -> None:
    """Writes a record to a file, or prints it for the path "-". Raises OSError."""
    if path == "-":
        print(json.dumps(content, indent=2))
    else:
        write_json(expanded(path), content)
