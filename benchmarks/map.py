"""Short calls a second: `k8s_parsl.tasks.map`, one call each, and Python's own process pool.

    python benchmarks/map.py [--calls 40000] [--each 2000] [--rounds 5] [--seconds 0]

Each round makes the same calls in turn with each, on this machine, with two workers that have
begun: `map` and `each` by k8s-parsl, with its journal; `pool` by `ProcessPoolExecutor.map` of
concurrent.futures with `chunksize=256`. `--each` is how many calls are made one by one, which take
longer. A call computes for `--seconds` of CPU time; 0 is a call that returns its argument. The
output is one JSON document: calls a second of each round, the medians, and the ratios of the
medians. Publish ratios only, from a machine that nothing else uses.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import click

from bench.figures import Figure, Result

WORKFLOW = """
import json, time
from concurrent.futures import ProcessPoolExecutor
from parsl import python_app
from k8s_parsl import tasks

def call(i, seconds):
    import time
    until = time.process_time() + seconds
    while seconds and time.process_time() < until:
        pass
    return i

app = python_app(call)

def timed(calls, results):
    began = time.perf_counter()
    total = sum(results)
    took = time.perf_counter() - began
    assert total == sum(range(calls))
    return calls / took

def each(calls, seconds):
    futures = [app(i, seconds) for i in range(calls)]
    return (future.result() for future in futures)

def main(calls, each_calls, rounds, seconds, to):
    list(tasks.map(app, range(2000), seconds=seconds))
    found = {"map": [], "each": [], "pool": []}
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(call, range(2000), [seconds] * 2000, chunksize=256))
        for _ in range(rounds):
            found["map"].append(timed(calls, tasks.map(app, range(calls), seconds=seconds)))
            # Its generator makes the calls when it is asked for the first result.
            found["each"].append(timed(each_calls, each(each_calls, seconds)))
            items = (range(calls), [seconds] * calls)
            found["pool"].append(timed(calls, pool.map(call, *items, chunksize=256)))
    open(to, "w").write(json.dumps(found))
"""
VALUES = """
workflow: {{call: "flow:main", kwargs: {kwargs}}}
executors: {{cpu: {{maxWorkersPerNode: 2, maxBlocks: 1, initBlocks: 1}}}}
"""


# Calls, calls made one by one, and rounds.
SIZES = {"small": (4_000, 400, 2), "full": (40_000, 2_000, 5)}


def bench(size: str) -> Result:
    """Measure calls that return their argument."""
    calls, each, rounds = SIZES[size]
    found = measured(calls, each, rounds, 0.0)
    figures = [
        Figure(
            f"calls/s, tasks.map to {against}",
            "tasks.map",
            against,
            "calls/s",
            "higher",
            tuple(zip(found["map"], found[name], strict=True)),
        )
        for name, against in (("each", "one call each"), ("pool", "ProcessPoolExecutor.map"))
    ]
    return Result(tuple(figures))


def measured(calls: int, each: int, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return the calls a second of each round, by `map`, `each` and `pool`."""
    kwargs = {"calls": calls, "each_calls": each, "rounds": rounds, "seconds": seconds}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        to = folder / "found.json"
        (folder / "flow.py").write_text(WORKFLOW)
        text = VALUES.format(kwargs=json.dumps({**kwargs, "to": str(to)}))
        (folder / "values.yaml").write_text(text)
        program = Path(sys.executable).parent / "k8s-parsl"
        subprocess.run(  # noqa: S603
            [program, "run", "-f", "values.yaml", "--path", "."],
            cwd=folder,
            check=True,
            stdout=sys.stderr,
        )
        found: dict[str, list[float]] = json.loads(to.read_text())
    return found


@click.command()
@click.option("--calls", default=40_000)
@click.option("--each", default=2_000)
@click.option("--rounds", default=5)
@click.option("--seconds", default=0.0)
def main(calls: int, each: int, rounds: int, seconds: float) -> None:
    """Measure, and print."""
    load = os.getloadavg()[0]
    found = measured(calls, each, rounds, seconds)
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    document = {
        "calls": calls,
        "each_calls": each,
        "seconds": seconds,
        "calls_a_second": {name: [round(one, 1) for one in rates] for name, rates in found.items()},
        "medians": {name: round(one, 1) for name, one in medians.items()},
        "map_to_each": round(medians["map"] / medians["each"], 2),
        "map_to_pool": round(medians["map"] / medians["pool"], 3),
        "load_at_the_beginning": round(load, 2),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "parsl": metadata.version("parsl"),
    }
    click.echo(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
