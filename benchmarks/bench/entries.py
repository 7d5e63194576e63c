"""The benchmarks, by name. Each is a module with `bench(size)`, which returns a `Result`."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from bench.figures import Result

SIZES = ("small", "full")


@dataclass(frozen=True)
class Entry:
    """One benchmark."""

    name: str
    title: str
    needs_cluster: bool = False

    @property
    def needs_text(self) -> str:
        return "the test cluster" if self.needs_cluster else "this machine"

    def run(self, size: str) -> Result:
        """Measure, in this process: a benchmark may change it."""
        result: Result = importlib.import_module(self.name).bench(size)
        return result


ENTRIES = {
    entry.name: entry
    for entry in (
        Entry("throughput", "No-op tasks a second, beside tuned HighThroughputExecutor"),
        Entry("peers", "No-op tasks a second, beside Ray and Dask"),
        Entry("map", "Short calls a second, by `tasks.map`"),
        Entry("monitoring_cost", "Throughput with Parsl's monitoring database"),
        Entry("status", "`status()` of many blocks, and the launcher's memory for each pod"),
        Entry("managers", "The interchange with the managers of 2,000 workers"),
        Entry("pending", "From a task that waits to a pod that is asked for"),
        Entry("breathing", "Waves of tasks: worker pods come and go"),
        Entry("data", "1 MB in and out of each task: by a file, and by argument"),
        Entry("checkpoints", "Results that are kept, beside none and Parsl's checkpoints"),
        Entry("million", "A run of 1,000,000 no-op tasks: memory, bytes, answers"),
        Entry("resumed", "A run of 1,000,000 cached tasks, killed half way and gone on from"),
        Entry("footprint", "Imports, memory of each program, and packages"),
        Entry("first_task", "From `helm install` to the first task", needs_cluster=True),
        Entry("idle_traffic", "Requests to the API server", needs_cluster=True),
        Entry("memory", "Memory of launcher and workflow, by worker pods", needs_cluster=True),
        Entry("many_pods", "1,000 to 10,000 worker pods, on KWOK's nodes", needs_cluster=True),
        Entry("breathing_pods", "Waves of tasks on real worker pods", needs_cluster=True),
        Entry("data_pods", "1 MB in and out, on CephFS and a host path", needs_cluster=True),
        Entry("checkpoints_cephfs", "Results that are kept on CephFS", needs_cluster=True),
        Entry("image_layers", "The images, layer by layer", needs_cluster=True),
    )
}
