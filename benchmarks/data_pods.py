"""1 MB into and out of each task, on a cluster's volumes: see `data.py`.

    [DATA_STORAGE=FILE] PYTHONPATH=tests:benchmarks python benchmarks/data_pods.py [--size full]

On the testbed (`make cluster`), on a host path, and with DATA_STORAGE on another volume, too: FILE
is a values file whose `storage.data` has the volume, such as one with `cephfs`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import yaml
from cluster.faults.kube import Cluster
from cluster.faults.runs import OurRun
from data import SIZES, WORKFLOW, result_of, values

from bench.figures import Result
from testbed import Testbed

PATIENCE_S = 1800.0
PRINTED = "FOUND "
# The record may be on a volume that this machine does not mount: the log has it, too.
PRINTS = WORKFLOW.replace(
    "    return found[1:]",
    f"    print({PRINTED!r} + repr(found[1:]), flush=True)\n    return found[1:]",
)


def on_pods(size: str, storage: dict[str, Any]) -> list[list[float]]:
    """Return the seconds by file and by argument, of each round."""
    run = OurRun(Cluster(), "data")
    try:
        chosen = values(size)
        run.kwargs = chosen["workflow"]["kwargs"]
        chosen["workflow"] |= {"files": {"flow.py": PRINTS, "counted.py": ""}}
        chosen["executors"]["workers"]["coresPerWorker"] = 0.5
        run.start(values=chosen | storage)
        end = run.jobs.wait("the run's end", run.outcome, PATIENCE_S)
        lines = [line for line in run.logs() if PRINTED in line]
        if end != "Complete" or not lines:
            raise RuntimeError(run.describe())
        found: list[list[float]] = yaml.safe_load(lines[-1].partition(PRINTED)[2])
        return found
    finally:
        run.close()


def bench(size: str) -> Result:
    """Measure on each volume."""
    results = [result_of("file on a host path", size, on_pods(size, {}))]
    if file := os.environ.get("DATA_STORAGE"):
        storage = {"storage": yaml.safe_load(Path(file).read_text())["storage"]}
        results.append(result_of(f"file on {Path(file).stem}", size, on_pods(size, storage)))
    return Result(figures=tuple(figure for one in results for figure in one.figures))


@click.command(help=__doc__)
@click.option("--size", type=click.Choice(list(SIZES)), default="small", show_default=True)
def main(size: str) -> None:
    if not Testbed().running():
        raise SystemExit("needs the testbed: make cluster")
    for figure in bench(size).figures:
        click.echo(f"{figure.name}: {figure.median:.2f} {figure.pairs}")


if __name__ == "__main__":
    main()
