"""Memory of the launcher and of the workflow, by the number of worker pods.

    TEST_IMAGE=... PYTHONPATH=tests python benchmarks/memory.py [--pods 1 --pods 1000]

On the testbed (`make cluster`). One run for each number. All pods but the first ask for more memory
than a node has: they stay Pending, and the launcher creates, watches and counts them like any
other. Shown are the resident memory of each process, and the part that it shares with no other, as
the kernel counts them when all pods exist.
"""

from __future__ import annotations

import time
from typing import Any

import click
from cluster.faults.host import Process, main_process, processes_of, workflow_process
from cluster.faults.kube import Cluster
from cluster.faults.runs import OurRun

from bench import cpu
from bench.figures import Figure, Result, in_turns
from testbed import Testbed

SETTLED_S = 20.0
TOO_MUCH = {"requests": {"cpu": "1m", "memory": "1Ti"}, "limits": {"memory": "1Ti"}}
IDLE = """\
import time

def main(seconds):
    time.sleep(seconds)
"""


def values(pods: int) -> dict[str, Any]:
    """Return the values of a run with one worker pod that runs, the rest Pending, and no task."""
    executors: dict[str, Any] = {"workers": blocks(1)}
    if pods > 1:
        executors["pending"] = blocks(pods - 1) | {"pod": {"resources": TOO_MUCH}}
    return {
        "workflow": {"call": "idle:main", "files": {"idle.py": IDLE, "counted.py": ""}},
        "executors": executors,
    }


def blocks(number: int) -> dict[str, int]:
    return {"initBlocks": number, "minBlocks": number, "maxBlocks": number}


def memory(process: Process) -> dict[str, float]:
    """Return the memory of one process, in MiB."""
    return cpu.memory_mib(process.identity.pid)


def measure(pods: int) -> dict[str, dict[str, float]]:
    """Return the memory of the launcher, the workflow, and the rest of the workflow's container."""
    run = OurRun(Cluster(), f"memory-{pods}")
    try:
        run.kwargs = {"seconds": 3600}
        run.start(values=values(pods))
        run.until_pod("all pods made", lambda: len(run.pods.workers()) == pods, 60 + pods)
        run.until_pod("a worker runs", lambda: len(run.workers()) == 1, 120)
        time.sleep(SETTLED_S)
        pod = run.launcher()
        workflow = workflow_process(pod)
        others = [
            memory(one)
            for one in processes_of(pod, "workflow")
            if one.identity != workflow.identity
        ]
        return {
            "launcher": memory(main_process(pod, "launcher")),
            "workflow": memory(workflow),
            "interchange and supervisor": {
                part: sum(each[part] for each in others) for part in ("resident", "own")
            },
        }
    finally:
        run.close()


# Pods of the larger run, and rounds.
SIZES = {"small": (50, 1), "full": (1000, 5)}


def bench(size: str) -> Result:
    """Measure with many pods, beside one pod."""
    pods, rounds = SIZES[size]
    found = in_turns(rounds, lambda: measure(pods), lambda: measure(1))
    figures = tuple(
        Figure(
            f"memory of the {name}, {pods:,} pods to 1",
            f"{pods:,} pods",
            "1 pod",
            "MiB",
            "lower",
            tuple((many[name]["own"], one[name]["own"]) for many, one in found),
        )
        for name in found[0][0]
    )
    return Result(figures)


@click.command(help=__doc__)
@click.option("--pods", "numbers", multiple=True, default=(1, 1000), show_default=True)
def main(numbers: tuple[int, ...]) -> None:
    if not Testbed().running():
        raise SystemExit("needs the testbed: make cluster")
    print(f"{'worker pods':>11}  {'process':<28} {'resident':>12} {'its own':>12}")
    for number in numbers:
        for name, sizes in measure(number).items():
            print(
                f"{number:>11}  {name:<28} {sizes['resident']:>8.1f} MiB {sizes['own']:>8.1f} MiB"
            )


if __name__ == "__main__":
    main()
