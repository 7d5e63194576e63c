"""The workflow of the fault tests, delivered as `counted.py`.

Each task writes what it does into its own file.

The same file runs on this project and on Parsl's own KubernetesProvider (`upstream`).
"""

from __future__ import annotations

import os
import time
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path

from parsl import python_app


@python_app(cache=True)
def count(number, seconds, folder, *, greedy=False):
    """Run one task: it begins, lives (ten times a second) and ends.

    ``greedy``: the first try takes all memory there is.
    """
    import json
    import os
    import time
    import uuid
    from pathlib import Path

    path = Path(folder) / f"task-{number:03d}.jsonl"
    first = not path.exists()
    with path.open("a", buffering=1) as file:
        execution = uuid.uuid4().hex

        def write(event, *, sync=True):
            line = {
                "event": event,
                "execution": execution,
                "pod": os.environ["HOSTNAME"],
                "time": time.time(),
            }
            file.write(json.dumps(line) + "\n")
            if sync:
                os.fsync(file.fileno())

        write("start")
        if greedy and first:
            hoard = []
            while True:
                hoard.append(bytearray(os.urandom(1 << 20)) * 16)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
            write("alive", sync=False)
        write("end")
    return number


@python_app
def warm(number):
    """Which pod ran it."""
    import os
    import time

    time.sleep(0.3)
    return os.environ["HOSTNAME"]


def main(folder, tasks=12, seconds=3.0, at_once=2, pods=2, slots=4, greedy_task=-1, greedy=0):
    """Run ``tasks`` tasks, ``at_once`` at a time, fewer than slots: a retry never waits for one.

    Before them, tasks that are not counted, until ``pods`` pods have run one: the fault then meets
    a pool that is complete. ``greedy``: the workflow itself takes all memory there is, the first
    time.
    """
    marker = Path(folder) / "workflow-was-greedy"
    marker.parent.mkdir(parents=True, exist_ok=True)
    seen, patience = set(), time.monotonic() + 60
    while len(seen) < pods and time.monotonic() < patience:
        seen |= {future.result() for future in [warm(number) for number in range(slots)]}
    print(f"counted: {len(seen)} pods are there", flush=True)
    numbers, running, results = iter(range(tasks)), set(), []
    while True:
        for number in numbers:
            running.add(count(number, seconds, folder, greedy=number == greedy_task))
            if len(running) == at_once:
                break
        if not running:
            break
        done, running = wait(running, return_when=FIRST_COMPLETED)
        results += [future.result() for future in done]
        if greedy and len(results) >= 2 and not marker.exists():
            marker.touch()
            hoard = []
            while True:
                hoard.append(bytearray(os.urandom(1 << 20)) * 16)
    print(f"counted: {len(results)} results", flush=True)
    return {"results": len(results)}
