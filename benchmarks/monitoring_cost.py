"""What Parsl's monitoring database costs: no-op tasks a second with and without it, in turns.

    python benchmarks/monitoring_cost.py [--tasks 1000] [--rounds 3]

The environment needs parsl[monitoring]. Each round runs the workflow of `journal_cost.py` once
without the database, once with begin and end of each task only, and once with Parsl's own measuring
process for each task. Printed are the medians, and the medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics

from journal_cost import HERE, tasks_a_second

VALUES = "parsl: {{monitoring: {{enabled: true, resourceMonitoringInterval: {seconds}}}}}\n"
VARIANTS = {
    "without": "",
    "begin and end": VALUES.format(seconds=0),
    "with measuring": VALUES.format(seconds=30),
}


def main() -> None:
    """Measure in turns, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"load at the beginning: {os.getloadavg()[0]:.1f}; {os.cpu_count()} CPUs")
    rounds = []
    for _ in range(options.rounds):
        rates = {name: tasks_a_second(HERE, options.tasks, more) for name, more in VARIANTS.items()}
        rounds.append(rates)
        print("  ".join(f"{name}: {rate:.1f}/s" for name, rate in rates.items()), flush=True)
    for name in VARIANTS:
        median = statistics.median(rates[name] for rates in rounds)
        ratio = statistics.median(rates[name] / rates["without"] for rates in rounds)
        print(f"{name}: {median:.1f} tasks/s, {ratio:.2f} of the throughput without")


if __name__ == "__main__":
    main()
