"""Thousands of worker pods, on KWOK's nodes and the testbed's real API server.

    PYTHONPATH=tests:benchmarks python benchmarks/many_pods.py [--size small|full]

On the testbed (`make cluster`), which gets KWOK's nodes for it (`tests/testbed/kwok.py`): their
pods run a moment after they are scheduled, and no container does. The launcher is real, in its own
pod, behind a proxy that counts its requests. A bare loop of creations of the same manifest, with as
many threads and by the same library, runs in turns with it: no launcher can be faster than that.

Then: an idle time, a thousand pods deleted at once, a watch that has to begin again with all pods
there, and the end of the run.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import click
import urllib3
from cluster import restricted
from cluster.faults.host import Process, main_process
from cluster.faults.kube import Cluster
from cluster.faults.proxy import GONE, Fault, Proxy
from cluster.faults.runs import OurRun
from idle_traffic import IDLE, blocks, kind

from bench import cpu
from bench.figures import Figure, Plot, Result, Table
from k8s_parsl.run.worker_pods import CREATORS
from testbed import Testbed, kwok, layout

PATIENCE_S = 900.0
SMALL = {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"memory": "16Mi"}}


@dataclass(frozen=True)
class Size:
    """Pods of each step, and rounds of the first one; the larger ones are measured once."""

    pods: tuple[int, ...]
    rounds: int
    idle_s: float
    lost: int


SIZES = {
    "small": Size(pods=(100,), rounds=2, idle_s=20.0, lost=50),
    "full": Size(pods=(1000, 5000, 10_000), rounds=5, idle_s=120.0, lost=1000),
}


@dataclass(frozen=True)
class Measured:
    """One run with so many pods."""

    created_s: float
    running_s: float
    requests: Counter[str]
    idle_a_minute: float
    idle_cpus: float
    # The launcher's: CPU time from the first pod to the last one's start, and memory a pod.
    cpu_s: float
    kib_a_pod: float
    replaced_s: float
    watch_again_s: float
    deleted_s: float


@contextlib.contextmanager
def cleared(cluster: Cluster, name: str) -> Iterator[str]:
    """Yield a new namespace, which is removed afterwards."""
    path = "/api/v1/namespaces"
    cluster.post(path, restricted.namespace(name))
    try:
        yield f"{path}/{name}"
    finally:
        cluster.delete(f"{path}/{name}")


def bare(cluster: Cluster, number: int, manifest: dict[str, Any]) -> float:
    """Return the seconds that a bare loop takes to create so many pods."""
    folder = layout.pki_dir()
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "admin.crt", folder / "admin.key")
    pool = urllib3.HTTPSConnectionPool(
        "127.0.0.1", layout.API_PORT, maxsize=CREATORS, ssl_context=context
    )

    def create(path: str, name: str) -> None:
        metadata = {"name": name, "labels": manifest["metadata"]["labels"]}
        body = {**manifest, "metadata": metadata}
        headers = {"Content-Type": "application/json"}
        answer = pool.request("POST", path, body=json.dumps(body), headers=headers)
        if answer.status >= 300:
            raise RuntimeError(f"{path}: {answer.status} {answer.data[:200]!r}")

    with cleared(cluster, f"bare-{time.monotonic_ns() % 10**8}") as base:
        began = time.perf_counter()
        with ThreadPoolExecutor(CREATORS) as creators:
            list(creators.map(lambda one: create(f"{base}/pods", f"bare-{one}"), range(number)))
        took = time.perf_counter() - began
        cluster.call("DELETE", f"{base}/pods", gracePeriodSeconds="0")
        return took


class Run:
    """A run of the chart whose worker pods are KWOK's."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.proxy = Proxy()
        self.run = OurRun(Cluster(), f"many-{number}")
        self.run.kwargs = {"seconds": 36000}

    def close(self) -> None:
        self.run.close()
        self.proxy.close()

    def start(self) -> None:
        executor = blocks(self.number) | {"maxWorkersPerNode": 1, "coresPerWorker": 0.5}
        values = {
            "workflow": {"call": "idle:main", "files": {"idle.py": IDLE, "counted.py": ""}},
            "executors": {"workers": executor | {"pod": {"resources": SMALL, **kwok.POD}}},
        }
        self.run.start(values=values | self.proxy.values())

    def workers(self) -> list[dict[str, Any]]:
        return [pod.last for pod in self.run.pods.workers() if pod.gone_at is None]

    def until(self, what: str, done: Callable[[], bool]) -> float:
        """Wait; return the seconds."""
        began = time.perf_counter()
        self.run.until_pod(what, done, PATIENCE_S)
        return time.perf_counter() - began

    def launcher(self) -> Process:
        return main_process(self.run.launcher(), "launcher")

    def are_running(self, number: int) -> bool:
        phases = [pod["status"].get("phase") for pod in self.workers()]
        return phases.count("Running") >= number

    def requests_since(self, moment: float) -> Counter[str]:
        return Counter(kind(what) for at, what in self.proxy.times if at >= moment)


def measure(number: int, size: Size) -> tuple[Measured, dict[str, Any]]:
    """Measure one run; return also the manifest of a pod of it."""
    run = Run(number)
    try:
        run.start()
        run.until("the first pod", lambda: bool(run.workers()))
        launcher = run.launcher().identity.pid
        used, memory = cpu.seconds(launcher), cpu.memory_mib(launcher)["own"]
        created = run.until("all pods", lambda: len(run.workers()) >= number)
        running = created + run.until("all run", lambda: run.are_running(number))
        used = cpu.seconds(launcher) - used
        template = run.workers()[0]
        in_all = run.requests_since(0.0)
        idle_a_minute, idle_cpus = _idle(run, launcher, size.idle_s)
        memory = cpu.memory_mib(launcher)["own"] - memory
        replaced = _lose(run, min(size.lost, number))
        again = _break_watch(run)
        deleted = _end(run)
    finally:
        run.close()
    measured = Measured(
        created_s=created,
        running_s=running,
        requests=in_all,
        idle_a_minute=idle_a_minute,
        idle_cpus=idle_cpus,
        cpu_s=used,
        kib_a_pod=memory * 1024 / number,
        replaced_s=replaced,
        watch_again_s=again,
        deleted_s=deleted,
    )
    return measured, _bare_manifest(template)


def _idle(run: Run, launcher: int, seconds: float) -> tuple[float, float]:
    """Return requests a minute and CPUs of a launcher with nothing to do."""
    began, used = time.time(), cpu.seconds(launcher)
    time.sleep(seconds)
    requests = sum(run.requests_since(began).values())
    return requests * 60 / seconds, (cpu.seconds(launcher) - used) / seconds


def _lose(run: Run, number: int) -> float:
    """Delete so many pods at once; return the seconds until others are there in their place."""
    lost = [pod["metadata"]["name"] for pod in run.workers()[:number]]
    cluster = run.run.cluster
    with ThreadPoolExecutor(CREATORS) as deleters:
        for name in lost:
            deleters.submit(cluster.delete, f"{run.run.base}/pods/{name}", gracePeriodSeconds=0)

    def are_replaced() -> bool:
        names = {pod["metadata"]["name"] for pod in run.workers()}
        return not names.intersection(lost) and len(names) >= run.number

    return run.until("pods in place of the lost ones", are_replaced)


def _break_watch(run: Run) -> float:
    """Have the launcher's watch expire; return the seconds until it has listed all pods again."""
    began = time.time()
    run.proxy.add(Fault(lambda *_: False, times=1, event=GONE))
    # The proxy sends it before the next event of a pod.
    first = run.workers()[0]["metadata"]["name"]
    label = {"metadata": {"annotations": {"benchmark": str(began)}}}
    run.run.cluster.patch(f"{run.run.base}/pods/{first}", label)

    def watches_again() -> bool:
        seen = run.requests_since(began)
        return seen["GET pods"] > 0 and seen["GET pods, watch"] > 0

    return run.until("another list and watch", watches_again)


def _end(run: Run) -> float:
    """Uninstall the release; return the seconds until no worker pod is left."""
    began = time.perf_counter()
    run.run.uninstall()
    run.until("no pod", lambda: not run.workers())
    return time.perf_counter() - began


def _bare_manifest(pod: dict[str, Any]) -> dict[str, Any]:
    """Return what the launcher sent for a pod, without what the API server added."""
    added = {"nodeName", "serviceAccount", "priority", "preemptionPolicy"}
    spec = {key: value for key, value in pod["spec"].items() if key not in added}
    spec.pop("serviceAccountName", None)
    # Of another namespace: its Secrets and ConfigMaps are not there, and no kubelet looks for them.
    labels = pod["metadata"]["labels"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": labels}, "spec": spec}


def bench(size_name: str) -> Result:
    """Measure each number of pods beside the bare loop."""
    size = SIZES[size_name]
    cluster = Cluster()
    figures, rows = [], []
    requests: dict[str, tuple[tuple[float, float], ...]] = {}
    with kwok.started(2 * size.pods[-1]):
        for number in size.pods:
            rounds = [_pair(cluster, number, size) for _ in range(size.rounds)]
            speeds = tuple((number / one.created_s, number / alone) for one, alone in rounds)
            name = f"{number:,} pods"
            figures.append(
                Figure(f"pods/s, {name}", "launcher", "bare loop", "pods/s", "higher", speeds, 0.9)
            )
            counts = tuple((float(sum(one.requests.values())), float(number)) for one, _ in rounds)
            figures.append(
                Figure(
                    f"requests, {name}", "launcher", "one a pod", "requests", "lower", counts, 1.1
                )
            )
            rows += [_row(number, one, alone) for one, alone in rounds]
            requests[name] = tuple((float(i), one.created_s) for i, (one, _) in enumerate(rounds))
    return Result(
        figures=tuple(figures),
        tables=(Table("Each run", COLUMNS, tuple(rows)),),
        plots=(Plot("Seconds until all pods are created", "run", "s", requests),),
        notes=("Seconds are those of a watch beside the launcher, from the first pod on.",),
    )


def _pair(cluster: Cluster, number: int, size: Size) -> tuple[Measured, float]:
    ours, manifest = measure(number, size)
    return ours, bare(cluster, number, manifest)


COLUMNS = (
    "pods",
    "created, s",
    "bare loop, s",
    "all run, s",
    "launcher's CPU, s",
    "KiB a pod",
    "idle requests a minute",
    "idle CPUs",
    "lost ones replaced, s",
    "watch again, s",
    "all deleted, s",
)


def _row(number: int, one: Measured, alone: float) -> tuple[float, ...]:
    values = (
        one.created_s,
        alone,
        one.running_s,
        one.cpu_s,
        one.kib_a_pod,
        one.idle_a_minute,
        one.idle_cpus,
        one.replaced_s,
        one.watch_again_s,
        one.deleted_s,
    )
    return (number, *(round(value, 3) for value in values))


@click.command(help=__doc__)
@click.option("--size", type=click.Choice(list(SIZES)), default="small", show_default=True)
def main(size: str) -> None:
    if not Testbed().running():
        raise SystemExit("needs the testbed: make cluster")
    for row in bench(size).tables[0].rows:
        click.echo(row)


if __name__ == "__main__":
    main()
