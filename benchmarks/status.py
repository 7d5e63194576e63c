"""How long `status()` of many blocks takes: here, and in Parsl's own KubernetesProvider.

    PYTHONPATH=tests python benchmarks/status.py [--blocks 1000]

Parsl's one scaling thread waits for it. Here `status()` reads what the launcher reported; the
launcher watches the pods, and its memory for each of them is measured, too. Both providers ask the
same small API server (tests/launcher/api_server.py), in a separate process on this machine: the
best case for a caller that asks often, as a real server is a network away and limits its clients.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
import tracemalloc
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click

# The library looks at KUBECONFIG when it is imported.
FOLDER = tempfile.TemporaryDirectory()
CONFIG = Path(FOLDER.name) / "kubeconfig"
os.environ["KUBECONFIG"] = str(CONFIG)

from launcher.api_server import ApiServer  # noqa: E402
from parsl.jobs.states import JobState, JobStatus  # noqa: E402
from parsl.providers import KubernetesProvider  # noqa: E402

from bench.figures import Figure, Result, Table, in_turns  # noqa: E402
from k8s_parsl.config.settings import Executor  # noqa: E402
from k8s_parsl.identity import Identity  # noqa: E402
from k8s_parsl.kube.api import Api  # noqa: E402
from k8s_parsl.kube.connection import InPod  # noqa: E402
from k8s_parsl.kube.watch import PodWatch  # noqa: E402
from k8s_parsl.run.block import State  # noqa: E402
from k8s_parsl.run.worker_pods import Tell, WorkerPods  # noqa: E402
from k8s_parsl_runtime.shared.protocol import Message  # noqa: E402
from k8s_parsl_runtime.workflow.provider import LauncherProvider  # noqa: E402

SPAWN = multiprocessing.get_context("spawn")
CALLS = {"LauncherProvider": 500, "KubernetesProvider": 5}
LABELS = {"app.kubernetes.io/instance": "run", "app.kubernetes.io/component": "worker"}
WORKER = {"name": "worker", "image": "registry.example/k8s-parsl:1", "args": ["worker"]}
TEMPLATE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"labels": LABELS},
    "spec": {"containers": [WORKER]},
}
# What `worker_arguments` gives for a usual run.
ARGUMENTS = [
    "--expect",
    "py3.11/parsl2026.10.26",
    "--work",
    "/data/runs/0a1b2c3d-4e5f6a7b/work",
    "--",
    *["-x"] * 24,
]


def serve(pipe: Connection) -> None:
    """Run the API server.

    At each message it sets all its pods to Running, and answers with the number of calls since the
    last message.
    """
    server = ApiServer()
    pipe.send(server.url)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            pipe.recv()
            calls = len(server.calls)
            for name in list(server.pods):
                if server.pods[name]["status"]["phase"] != "Running":
                    server.set_status(name, **running(name))
            server.calls.clear()
            pipe.send(calls)


def running(name: str) -> dict[str, Any]:
    """Return the status of a pod that runs, as kubelet writes it."""
    now = "2026-01-01T00:00:00Z"
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    container = {
        "name": "worker",
        "image": WORKER["image"],
        "imageID": f"sha256:{'0' * 64}",
        "ready": True,
    }
    container |= {"restartCount": 0, "started": True, "state": {"running": {"startedAt": now}}}
    return {
        "phase": "Running",
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": now} for kind in kinds
        ],
        "containerStatuses": [container | {"containerID": f"containerd://{name}"}],
        "hostIP": "192.0.2.1",
        "podIP": "192.0.2.2",
        "qosClass": "Burstable",
        "startTime": now,
    }


class Launcher:
    """The launcher's side of one run."""

    def __init__(self, url: str, release: str, blocks: int, tell: Tell = lambda _: None) -> None:
        with tempfile.TemporaryDirectory() as account:
            Path(account, "token").write_text("t")
            api = Api("science", connection=InPod(Path(account), url=url))
        self.watch = PodWatch(api, f"app.kubernetes.io/instance={release}")
        self.watch.start(10)
        words = dict.fromkeys(
            ("namespace", "pod_name", "run", "installation", "certificates"), "run"
        )
        identity = Identity(release=release, pod_uid="aaaaaaaa-0000", pod_ip="127.0.0.1", **words)
        labels = LABELS | {"app.kubernetes.io/instance": release}
        self.pods = WorkerPods(
            "cpu",
            Executor(max_blocks=blocks),
            TEMPLATE | {"metadata": {"labels": labels}},
            identity,
            api,
            self.watch,
            arguments=lambda number: [*ARGUMENTS, f"--block_id={number}"],
            on_fault=click.echo,
            tell=tell,
        )

    def until_there(self, blocks: int) -> None:
        """Wait until the server has made all pods."""
        if not self.watch.wait_for(lambda pods: len(pods) == blocks, 120):
            raise SystemExit(
                f"the launcher: only {len(self.watch.pods())} of {blocks} pods are there"
            )


def ours(url: str, blocks: int) -> tuple[LauncherProvider, list[str]]:
    """Return our provider with its blocks.

    Parsl's side and the launcher's are in one process here; on a cluster a socket is between them.
    """
    executor = Executor(max_blocks=blocks).model_dump()
    provider = LauncherProvider(
        "cpu", executor, lambda message: launcher.pods.submit(message["block"])
    )
    launcher = Launcher(url, "run", blocks, provider.take)
    numbers = [
        provider.submit("worker", 1, f"parsl.cpu.block-{number}") for number in range(blocks)
    ]
    launcher.until_there(blocks)
    return provider, numbers


def theirs(_: str, blocks: int) -> tuple[KubernetesProvider, list[str]]:
    """Return Parsl's own provider with its blocks."""
    provider = KubernetesProvider(image=WORKER["image"], namespace="science")
    return provider, [provider.submit("true", 1, f"block-{number}") for number in range(blocks)]


def memory(url: str, blocks: int, pipe: Connection) -> None:
    """Run the launcher's side alone, and send the bytes that Python has allocated for each pod."""
    logging.disable(logging.CRITICAL)
    running = set()

    def tell(message: Message) -> None:
        if message["type"] == "block" and message["state"] == State.RUNNING.value:
            running.add(message["block"])

    launcher = Launcher(url, "memory", blocks, tell)
    # Threads and connections are there once, however many pods there are.
    launcher.pods.submit("0")
    launcher.until_there(1)
    tracemalloc.start()
    for number in range(1, blocks):
        launcher.pods.submit(str(number))
    launcher.until_there(blocks)
    pipe.send("run")
    pipe.recv()
    end = time.monotonic() + 60
    while len(running) < blocks:
        if time.monotonic() > end:
            raise SystemExit("the launcher: not all pods run")
        time.sleep(0.1)
    gc.collect()
    pipe.send(tracemalloc.get_traced_memory()[0] / (blocks - 1))


def until_running(provider: LauncherProvider | KubernetesProvider, names: list[str]) -> None:
    """Wait until all blocks run, as it would measure something else before."""
    end = time.monotonic() + 60
    while blocks := not_running(provider, names):
        if time.monotonic() > end:
            missing = f"{len(blocks)} of {len(names)} blocks do not run: {blocks[0]}"
            raise SystemExit(f"{type(provider).__name__}: {missing}")
        time.sleep(0.1)


def not_running(
    provider: LauncherProvider | KubernetesProvider, names: list[str]
) -> list[JobStatus]:
    """Return the status of each block that does not run."""
    statuses = provider.status(names)
    return [status for status in statuses if status.state is not JobState.RUNNING]


def measure(
    provider: LauncherProvider | KubernetesProvider, names: list[str], calls: int
) -> list[float]:
    """Return the seconds of each call, the shortest first."""
    taken = []
    for _ in range(calls):
        began = time.perf_counter()
        provider.status(names)
        taken.append(time.perf_counter() - began)
    return sorted(taken)


class Server:
    """The API server in its own process, and a kubeconfig for it."""

    def __init__(self) -> None:
        self._pipe, there = SPAWN.Pipe()
        SPAWN.Process(target=serve, args=(there,), daemon=True).start()
        self.url: str = self._pipe.recv()
        user = {
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {}}],
        }
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        CONFIG.write_text(json.dumps(user | {"contexts": [context], "current-context": "x"}))

    def run_all(self) -> int:
        """Set all pods to Running; return the number of calls since the last time."""
        self._pipe.send("run")
        calls: int = self._pipe.recv()
        return calls


def bytes_a_pod(server: Server, blocks: int) -> float:
    """Return the memory of the launcher for each pod."""
    here, there = SPAWN.Pipe()
    SPAWN.Process(target=memory, args=(server.url, blocks, there), daemon=True).start()
    here.recv()
    server.run_all()
    here.send("they run")
    found: float = here.recv()
    return found


# Blocks, and rounds.
SIZES = {"small": (100, 2), "full": (1000, 5)}


def bench(size: str) -> Result:
    """Measure both providers in turns."""
    logging.disable(logging.CRITICAL)
    blocks, rounds = SIZES[size]
    server = Server()
    made = {}
    for make in (ours, theirs):
        made[make] = make(server.url, blocks)
        server.run_all()
        until_running(*made[make])

    def median(make: Any) -> float:
        provider, names = made[make]
        return statistics.median(measure(provider, names, CALLS[type(provider).__name__])) * 1000

    found = in_turns(rounds, lambda: median(ours), lambda: median(theirs))
    name = f"status() of {blocks:,} blocks"
    rows = (("KiB of the launcher's for each pod", round(bytes_a_pod(server, blocks) / 1024, 1)),)
    return Result(
        figures=(
            Figure(name, "k8s-parsl", "KubernetesProvider", "ms", "lower", tuple(found), 0.1),
        ),
        tables=(Table("Memory", ("what", "is"), rows),),
    )


@click.command(help=__doc__)
@click.option("--blocks", default=1000, show_default=True)
def main(blocks: int) -> None:
    logging.disable(logging.CRITICAL)
    server = Server()
    print(
        f"status() of {blocks} blocks           median         p99     calls  requests a call",
        flush=True,
    )
    for make in (ours, theirs):
        provider, names = make(server.url, blocks)
        server.run_all()
        until_running(provider, names)
        server.run_all()
        name = type(provider).__name__
        taken = measure(provider, names, CALLS[name])
        requests = server.run_all() / len(taken)
        middle = f"{statistics.median(taken) * 1000:8.2f} ms"
        last = f"{taken[min(len(taken) - 1, round(len(taken) * 0.99))] * 1000:8.2f} ms"
        print(f"{name:<28} {middle} {last} {len(taken):8}  {requests:8.0f}", flush=True)
    print(f"the launcher's memory for each pod: {bytes_a_pod(server, blocks) / 1024:.1f} KiB")


if __name__ == "__main__":
    main()
