"""A run of the laptop's, for several files of tests."""

from __future__ import annotations

import sys

# One volume, on which the run is kept, and two workers.
VALUES = """
workflow: {call: "flow:main", kwargs: {out: /data/out}}
run: {volume: data}
executors: {workers: {maxWorkersPerNode: 2}}
parsl: {strategyPeriod: 0.5}
storage: {data: {mountPath: /data, existingClaim: x}}
"""


def run_command(
    *more: str, files: tuple[str, ...] = ("values.yaml",), path: str = "."
) -> list[str]:
    """Return the command line of a run in a folder with values files, code and volumes."""
    named = [word for file in files for word in ("-f", file)]
    words = ["run", *named, "--path", path, "--volumes", "volumes"]
    return [sys.executable, "-m", "k8s_parsl", *words, *more]
