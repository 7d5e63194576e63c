"""Waves of tasks on real worker pods: see `breathing.py`.

    PYTHONPATH=tests:benchmarks python benchmarks/breathing_pods.py [--size small|full]

On the testbed (`make cluster`).
"""

from __future__ import annotations

import click
from breathing import SIZES, WORKFLOW, Breath, Size, of_volume, result, values
from cluster.faults.kube import Cluster
from cluster.faults.runs import OurRun

from bench.figures import Result
from testbed import Testbed

PATIENCE_S = 1800.0


def on_pods(size: Size) -> Breath:
    """Run it in the cluster."""
    run = OurRun(Cluster(), "breathing")
    try:
        run.kwargs = size.kwargs
        chosen = values(size)
        chosen["workflow"] |= {"files": {"flow.py": WORKFLOW, "counted.py": ""}}
        chosen["executors"]["workers"]["coresPerWorker"] = 0.25
        run.start(values=chosen)
        end = run.jobs.wait("the run's end", run.outcome, PATIENCE_S)
        if end != "Complete":
            raise RuntimeError(run.describe())
        return of_volume(run.data)
    finally:
        run.close()


def bench(size: str) -> Result:
    """Measure in the cluster."""
    chosen = SIZES[size]
    return result([on_pods(chosen) for _ in range(chosen.rounds)])


@click.command(help=__doc__)
@click.option("--size", type=click.Choice(list(SIZES)), default="small", show_default=True)
def main(size: str) -> None:
    if not Testbed().running():
        raise SystemExit("needs the testbed: make cluster")
    table = bench(size).tables[0]
    for name, *cells in zip(table.columns, *table.rows, strict=True):
        click.echo(f"{name:<45} {' '.join(map(str, cells))}")


if __name__ == "__main__":
    main()
