"""What the tests' worker pods run; a separate module, as a worker has to import it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path


def named(folder):
    """Write this pod's name to `begun`, wait for a line in `go`, and return the name."""
    name = os.environ["K8S_PARSL_POD_NAME"]
    with (Path(folder) / "begun").open("w") as begun:
        begun.write(f"{name}\n")
    with (Path(folder) / "go").open() as go:
        go.readline()
    return name


def stepwise(folder, name, end=""):
    """Write name and pod to `begun`, wait for a line in the pipe `name`, and return.

    Or end the pod's pool.
    """
    with (Path(folder) / "begun").open("w") as begun:
        begun.write(f"{name} {os.environ['K8S_PARSL_POD_NAME']}\n")
    with (Path(folder) / name).open() as go:
        go.readline()
    if end == "pool":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)
    return name


def surroundings():
    """Return working directory, `input.txt`, a module's origin, and the first path entry."""
    import antigravity

    return str(Path.cwd()), Path("input.txt").read_text(), antigravity.mine, sys.path[:2]


def cores_and_threads():
    """The environment variables of a worker process that say how many CPUs it has."""
    return {
        name: value
        for name, value in os.environ.items()
        if "THREADS" in name or name.startswith("K8S_PARSL_C")
    }
