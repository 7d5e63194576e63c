"""Requests a minute to the API server of a run with many worker pods and nothing to do.

    TEST_IMAGE=... PYTHONPATH=tests python benchmarks/idle_traffic.py [--pods 100] [--minutes 2]

On the testbed (`make cluster`), counted by a proxy in front of the API server. All pods are real,
created and watched by the launcher. Some run real workers; the rest only wait, because a hundred of
Parsl's pools would not start on a small machine within minutes. To the API server they are worker
pods like any other: a worker talks to the workflow's container, over ZMQ.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import click
from cluster.faults.kube import Cluster
from cluster.faults.proxy import Proxy
from cluster.faults.runs import OurRun

from bench.figures import Figure, Result, Table
from testbed import Testbed

# A pod that starts still has its last change of state before it.
SETTLED_S = 15.0
REQUESTS_A_MINUTE = 6
WAITS = "exec sleep infinity"
IDLE = """\
import time

def main(seconds):
    time.sleep(seconds)
"""


def values(pods: int, workers: int) -> dict[str, Any]:
    """Return the values of a run: some pods with a worker each, the rest tiny, and no task."""
    numbers = {"maxWorkersPerNode": 1, "coresPerWorker": 0.5}
    small = {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"memory": "64Mi"}}
    # A worker's program begins with these lines: it comes no further, and Parsl is not imported.
    tiny = {"workerInit": WAITS, "pod": {"resources": small, "terminationGracePeriodSeconds": 1}}
    executors: dict[str, Any] = {"workers": blocks(workers) | numbers}
    if pods > workers:
        executors["tiny"] = blocks(pods - workers) | numbers | tiny
    return {
        "workflow": {"call": "idle:main", "files": {"idle.py": IDLE, "counted.py": ""}},
        "executors": executors,
    }


def blocks(number: int) -> dict[str, int]:
    return {"initBlocks": number, "minBlocks": number, "maxBlocks": number}


def kind(request: str) -> str:
    """Return the kind of a request by its method and path, such as `GET pods, watch`."""
    method, _, target = request.partition(" ")
    url = urlsplit(target)
    folders = url.path.split("/")
    watch = ", watch" if "watch" in parse_qs(url.query) else ""
    return f"{method} {'/'.join(folders[5:6] + folders[7:])}{watch}"


# Pods, real workers among them, minutes, and runs.
SIZES = {"small": (20, 2, 1.0, 1), "full": (100, 4, 2.0, 5)}


@dataclass(frozen=True)
class Counted:
    """The requests of one run."""

    # While all pods ran and nothing happened.
    idle: Counter[str]
    # From its begin until then.
    start: Counter[str]
    watches: int
    pods: int


def count(pods: int, workers: int, minutes: float) -> Counted:
    """Run the chart with so many pods, and count its requests."""
    proxy = Proxy()
    run = OurRun(Cluster(), "idle-traffic")
    try:
        run.kwargs = {"seconds": 3600}
        run.start(values=values(pods, workers) | proxy.values())
        run.until_pod("all pods run", lambda: len(run.workers()) == pods, 300)
        time.sleep(SETTLED_S)
        began = time.time()
        time.sleep(minutes * 60)
        ended = time.time()
        return Counted(
            idle=Counter(kind(what) for moment, what in proxy.times if began <= moment <= ended),
            start=Counter(kind(what) for moment, what in proxy.times if moment < began),
            watches=proxy.watches,
            pods=len(run.workers()),
        )
    finally:
        run.close()
        proxy.close()


def bench(size: str) -> Result:
    """Count, beside one request for each pod, which is the least that there can be."""
    pods, workers, minutes, runs = SIZES[size]
    found = [count(pods, workers, minutes) for _ in range(runs)]
    starts = tuple((float(sum(one.start.values())), float(pods)) for one in found)
    kinds = sorted({what for one in found for what in (one.start + one.idle)})
    rows = tuple(
        (what, found[-1].start[what], round(found[-1].idle[what] / minutes, 1)) for what in kinds
    )
    return Result(
        figures=(
            Figure(f"requests to start {pods} pods", "run", "pods", "", "lower", starts, 1.1),
        ),
        tables=(Table("Requests of one run", ("request", "start", "a minute when idle"), rows),),
        notes=(f"When idle, at most {REQUESTS_A_MINUTE} requests a minute are allowed.",),
    )


@click.command(help=__doc__)
@click.option("--pods", default=100, show_default=True)
@click.option("--workers", default=4, show_default=True, help="How many of them run a real worker.")
@click.option("--minutes", default=2.0, show_default=True)
def main(pods: int, workers: int, minutes: float) -> None:
    if not Testbed().running():
        raise SystemExit("needs the testbed: make cluster")
    found = count(pods, workers, minutes)
    print(f"{found.pods} worker pods, idle for {minutes:g} minutes")
    print(f"{'watches open at the end':<40} {found.watches:6}")
    for what, times in found.idle.most_common():
        print(f"{what:<40} {times / minutes:6.1f} a minute")
    total = sum(found.idle.values()) / minutes
    print(f"{'requests in all':<40} {total:6.1f} a minute (at most {REQUESTS_A_MINUTE})")
    if found.pods != pods or found.watches != 1 or total > REQUESTS_A_MINUTE:
        raise SystemExit("more than one watch, more requests than that, or pods that did not stay")


if __name__ == "__main__":
    main()
