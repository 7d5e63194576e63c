"""No-op tasks a second beside Ray and Dask, each in turns with tuned HighThroughputExecutor.

    make bench ONLY=peers

Ray and Dask get two worker processes on this machine, like the others, and run the workflow in the
way that their documentation shows. They are installed into an environment of the cache folder, in
these versions. See `throughput.py` for what is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from throughput import SIZES, Side, measure

from bench.figures import Figure, Result, in_turns

VERSIONS = ("ray==2.60.0", "distributed==2026.8.0")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "k8s-parsl" / "peers"
# By the name of a figure: `parsl.retryLostTasks`.
OURS = {"may run twice": "all", "may run once": "cached"}

RUNS = """
def measured(n, begun, go, ended, gone, run):
    open(begun, "w").write("begun")
    open(go).read()
    began = time.perf_counter()
    run(range(n))
    took = time.perf_counter() - began
    open(ended, "w").write(repr(n / took))
    open(gone).read()

arguments = json.loads(sys.argv[1])
del arguments["with_journal"]
"""
RAY = f"""
import json, sys, time
import ray

@ray.remote
def noop(i):
    return i

@ray.remote
def warm(i):
    time.sleep(0.5)
{RUNS}
ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
ray.get([warm.remote(i) for i in range(4)])
measured(run=lambda numbers: ray.get([noop.remote(i) for i in numbers]), **arguments)
ray.shutdown()
"""
DASK = f"""
import json, sys, time
from distributed import Client, LocalCluster

def noop(i):
    return i

def warm(i):
    time.sleep(0.5)
{RUNS}
if __name__ == "__main__":
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster) as client:
        client.gather(client.map(warm, range(4), pure=False))
        measured(
            run=lambda numbers: client.gather(client.map(noop, numbers, pure=False)), **arguments
        )
"""
PROGRAMS = {"Ray": RAY, "Dask": DASK}


@dataclass(frozen=True)
class Peer(Side):
    """Ray or Dask."""

    def environment(self, folder: Path) -> dict[str, str]:  # noqa: ARG002
        """Return what a run needs in its environment."""
        return {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}

    def command(self, folder: Path, kwargs: str) -> list[str]:
        """Write the program; return its command."""
        (folder / "peer.py").write_text(PROGRAMS[self.name])
        return [str(CACHE / "bin" / "python"), "peer.py", kwargs]


def install() -> None:
    """Install the peers; a moment where that has been done."""
    uv = str(Path(sys.executable).parent / "uv")
    if not CACHE.exists():
        subprocess.run([uv, "venv", "--python", sys.executable, str(CACHE)], check=True)  # noqa: S603
    python = str(CACHE / "bin" / "python")
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *VERSIONS], check=True)  # noqa: S603


def bench(size: str) -> Result:
    """Measure each in turns with tuned HighThroughputExecutor, and ours with Ray."""
    install()
    tasks, rounds = SIZES[size]
    htex, ray = Side("htex", alone=True), Peer("Ray")
    ours = [Side(name, lost_tasks=lost) for name, lost in OURS.items()]
    pairs = [(ray, htex, None), (Peer("Dask"), htex, None), *((one, ray, 1.0) for one in ours)]
    figures = []
    for this, than, goal in pairs:
        found = in_turns(rounds, partial(measure, this, tasks), partial(measure, than, tasks))
        speeds = tuple((one.tasks_a_second, other.tasks_a_second) for one, other in found)
        name = f"tasks/s, {this.name} to {than.name}"
        figures.append(Figure(name, this.name, than.name, "tasks/s", "higher", speeds, goal))
    return Result(tuple(figures), notes=(f"Versions: {', '.join(VERSIONS)}.",))
