"""A workflow for test_executors.py: what its own process sees of what was asked for in the values."""

import json

from parsl import python_app


def seen():
    """Environment, files and names, as they are where this runs."""
    import os
    import socket
    from pathlib import Path

    hosts = [
        line.split()
        for line in Path("/etc/hosts").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    made = Path("/prepared/by-init")
    return {
        "pod": socket.gethostname(),
        "env": {name: os.environ.get(name) for name in ("PLAIN", "NODE", "FROM_MAP")},
        "hosts": [line for line in hosts if line[0] == "192.0.2.7"],
        "ndots": "ndots:3" in Path("/etc/resolv.conf").read_text(),
        "prepared": made.read_text().strip() if made.is_file() else None,
    }


@python_app(executors=["cpu"])
def on_cpu():
    """As a worker of executor cpu."""
    return seen()


@python_app(executors=["device"])
def on_device():
    """As a worker of executor device."""
    return seen()


def main():
    """One line for each of the three kinds of pod."""
    for kind, found in (
        ("launcher", seen()),
        ("cpu", on_cpu().result()),
        ("device", on_device().result()),
    ):
        print(f"SEEN {kind} {json.dumps(found)}", flush=True)
