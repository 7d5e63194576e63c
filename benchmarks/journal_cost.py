"""What the journal costs: no-op tasks a second of this checkout and of another one, in turns.

    python benchmarks/journal_cost.py --other PATH [--tasks 3000] [--rounds 5]

PATH is a checkout with its own .venv, such as one of the commit before a change. Each round runs
the same workflow once with each, on this machine, with two workers; the workflow itself takes the
time between its first submit and its last result, after all workers have started. Printed are both
medians, and the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
WORKFLOW = """
import time
from parsl import python_app

@python_app
def noop(i):
    return i

@python_app
def warm(i):
    import time
    time.sleep(0.5)

def main(n):
    [one.result() for one in [warm(i) for i in range(4)]]
    began = time.perf_counter()
    futures = [noop(i) for i in range(n)]
    for future in futures:
        future.result()
    return n / (time.perf_counter() - began)
"""
VALUES = """
workflow: {{call: "flow:main", kwargs: {{"n": {tasks}}}}}
executors: {{cpu: {{maxWorkersPerNode: 2, maxBlocks: 1, initBlocks: 1, prefetchCapacity: 10}}}}
"""


def tasks_a_second(checkout: Path, tasks: int, more: str = "") -> float:
    """Run the workflow once with a checkout's launcher, and ``more`` values; return its speed."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "flow.py").write_text(WORKFLOW)
        Path(folder, "values.yaml").write_text(VALUES.format(tasks=tasks) + more)
        command = [str(checkout / ".venv/bin/k8s-parsl"), "run", "-f", "values.yaml", "--path", "."]
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        subprocess.run(  # noqa: S603
            command, cwd=folder, env=environment, check=True, capture_output=True
        )
        (record,) = Path(folder).glob("local/runs/*/record.json")
        return float(json.loads(record.read_text())["result"])


def main() -> None:
    """Measure in turns, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--other", type=Path, required=True)
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"load at the beginning: {os.getloadavg()[0]:.1f}; {os.cpu_count()} CPUs")
    rounds = []
    for number in range(options.rounds):
        pair = [HERE, options.other] if number % 2 else [options.other, HERE]
        rates = {checkout: tasks_a_second(checkout, options.tasks) for checkout in pair}
        rounds.append((rates[HERE], rates[options.other]))
        print(f"this {rates[HERE]:7.1f}  other {rates[options.other]:7.1f} tasks/s")
    this, other = zip(*rounds, strict=True)
    ratio = statistics.median(one / two for one, two in rounds)
    print(
        f"median: this {statistics.median(this):.1f}, other {statistics.median(other):.1f} tasks/s"
    )
    print(f"median of the ratios: {ratio:.3f}")


if __name__ == "__main__":
    main()
