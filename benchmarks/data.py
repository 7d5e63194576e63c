"""1 MB into and out of each task: by a file on the run's volume, beside by argument and result.

    PYTHONPATH=benchmarks python benchmarks/data.py [--size small|full]

One run does both in turns. By a file, a task writes 1 MB to the volume and another one reads it. By
argument, a task returns 1 MB and another one gets it: each of them goes through the workflow's
process and the interchange. On a laptop the volume is a folder of this disk; `data_pods` measures
volumes of a cluster.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import yaml

from bench.figures import Figure, Result

WORKFLOW = """
import time
from pathlib import Path
from parsl import python_app

@python_app
def write(path, size):
    import os
    with open(path, "wb") as file:
        file.write(os.urandom(size))
    return path

@python_app
def read(path):
    with open(path, "rb") as file:
        return len(file.read())

@python_app
def make(size):
    import os
    return os.urandom(size)

@python_app
def take(content):
    return len(content)

def by_file(folder, number, size):
    paths = [write(f"{folder}/{one}", size) for one in range(number)]
    return [read(path) for path in paths]

def by_argument(folder, number, size):
    return [take(made) for made in [make(size) for _ in range(number)]]

def seconds(ways, folder, number, size):
    began = time.perf_counter()
    assert {one.result() for one in ways(folder, number, size)} == {size}
    return time.perf_counter() - began

def main(folder, number, size, rounds):
    found = []
    for turn in range(rounds + 1):
        place = Path(folder, "data", str(turn))
        place.mkdir(parents=True)
        ways = [by_file, by_argument]
        took = {}
        for way in ways if turn % 2 else ways[::-1]:
            took[way.__name__] = seconds(way, place, number, size)
        found.append([took["by_file"], took["by_argument"]])
        for path in place.iterdir():
            path.unlink()
    # The first one starts the workers.
    return found[1:]
"""
BYTES = 1_000_000
# Tasks of each kind, and rounds.
SIZES = {"small": (50, 2), "full": (500, 5)}
FOLDER = "/data"


def values(size: str) -> dict[str, Any]:
    """Return the values of such a run, without its volume."""
    number, rounds = SIZES[size]
    kwargs = {"folder": FOLDER, "number": number, "size": BYTES, "rounds": rounds}
    return {
        "workflow": {"call": "flow:main", "kwargs": kwargs},
        "run": {"volume": "data"},
        "executors": {"workers": {"maxWorkersPerNode": 2, "maxBlocks": 1}},
    }


def result_of(name: str, size: str, pairs: list[list[float]]) -> Result:
    """Return the figure of one volume: tasks a second by file, to those by argument."""
    number, _ = SIZES[size]
    speeds = tuple((2 * number / file, 2 * number / argument) for file, argument in pairs)
    figure = Figure(f"1 MB by {name}", name, "argument", "tasks/s", "higher", speeds)
    return Result(figures=(figure,))


def bench(size: str) -> Result:
    """Measure on this machine's disk."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "flow.py").write_text(WORKFLOW)
        written = values(size)
        written["storage"] = {"data": {"mountPath": FOLDER, "existingClaim": "x"}}
        (folder / "values.yaml").write_text(yaml.safe_dump(written))
        words = [sys.executable, "-m", "k8s_parsl", "run", "-f", "values.yaml", "--path", "."]
        done = subprocess.run(  # noqa: S603
            words, cwd=folder, capture_output=True, text=True, timeout=1800, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"the run ended with {done.returncode}: {done.stderr[-2000:]}")
        return result_of("file on this disk", size, result_in(folder / "local/data"))


def result_in(volume: Path) -> Any:
    """Return what the one run on a volume returned."""
    (record,) = volume.glob("runs/*/record.json")
    return json.loads(record.read_text())["result"]


@click.command(help=__doc__)
@click.option("--size", type=click.Choice(list(SIZES)), default="small", show_default=True)
def main(size: str) -> None:
    for figure in bench(size).figures:
        click.echo(f"{figure.name}: {figure.median:.2f} {figure.pairs}")


if __name__ == "__main__":
    main()
