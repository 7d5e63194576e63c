"""How long Parsl's one scaling thread waits for `status()` of many blocks: here, and in Parsl's own KubernetesProvider.

    PYTHONPATH=tests python benchmarks/status.py [--blocks 1000]

Both ask one and the same small API server (tests/launcher/api_server.py), in a process of its own on this machine: the
best case for whoever asks it often, since a real one is a network away and limits its clients.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import click

# The library looks at KUBECONFIG when it is imported.
FOLDER = tempfile.TemporaryDirectory()
CONFIG = Path(FOLDER.name) / "kubeconfig"
os.environ["KUBECONFIG"] = str(CONFIG)

from launcher.api_server import ApiServer  # noqa: E402
from parsl.jobs.states import JobState  # noqa: E402
from parsl.providers import KubernetesProvider  # noqa: E402

from k8s_parsl.identity import Identity  # noqa: E402
from k8s_parsl.pods import Api, PodWatch  # noqa: E402
from k8s_parsl.provider import PodProvider  # noqa: E402
from k8s_parsl.settings import Executor  # noqa: E402

CALLS = {"PodProvider": 500, "KubernetesProvider": 5}
LABELS = {"app.kubernetes.io/instance": "run", "app.kubernetes.io/component": "worker"}
WORKER = {"name": "worker", "image": "registry.example/k8s-parsl:1", "args": ["worker"]}
TEMPLATE = {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": LABELS}, "spec": {"containers": [WORKER]}}


def serve(pipe: Connection) -> None:
    """The API server; for each message all its pods run, and it answers with its calls since the last."""
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


def running(name: str) -> dict:
    """The status of a pod that runs, as kubelet writes it."""
    now = "2026-01-01T00:00:00Z"
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    container = {"name": "worker", "image": WORKER["image"], "imageID": f"sha256:{'0' * 64}", "ready": True}
    container |= {"restartCount": 0, "started": True, "state": {"running": {"startedAt": now}}}
    return {
        "phase": "Running",
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in kinds],
        "containerStatuses": [container | {"containerID": f"containerd://{name}"}],
        "hostIP": "192.0.2.1",
        "podIP": "192.0.2.2",
        "qosClass": "Burstable",
        "startTime": now,
    }


def ours(blocks: int) -> tuple[PodProvider, list[str]]:
    api = Api("science", kubeconfig=True)
    watch = PodWatch(api, "app.kubernetes.io/instance=run")
    watch.start(10)
    words = dict.fromkeys(("namespace", "pod_name", "run", "installation", "certificates"), "run")
    identity = Identity(release="run", pod_uid="aaaaaaaa-0000", pod_ip="127.0.0.1", **words)
    provider = PodProvider("cpu", Executor(), TEMPLATE, identity, api, watch, on_fault=click.echo)
    names = [provider.submit("--block_id=0", 1, f"parsl.cpu.block-{number}") for number in range(blocks)]
    if not watch.wait_for(lambda pods: len(pods) == blocks, 120):
        raise SystemExit(f"PodProvider: only {len(watch.pods())} of {blocks} pods are there")
    return provider, names


def theirs(blocks: int) -> tuple[KubernetesProvider, list[str]]:
    provider = KubernetesProvider(image=WORKER["image"], namespace="science")
    return provider, [provider.submit("true", 1, f"block-{number}") for number in range(blocks)]


def until_running(provider: PodProvider | KubernetesProvider, names: list[str]) -> None:
    """All blocks have to run, or it would measure something else."""
    end = time.monotonic() + 60
    while blocks := [status for status in provider.status(names) if status.state is not JobState.RUNNING]:
        if time.monotonic() > end:
            raise SystemExit(f"{type(provider).__name__}: {len(blocks)} of {len(names)} blocks do not run: {blocks[0]}")
        time.sleep(0.1)


def measure(provider: PodProvider | KubernetesProvider, names: list[str], calls: int) -> list[float]:
    """Seconds of each call."""
    taken = []
    for _ in range(calls):
        began = time.perf_counter()
        provider.status(names)
        taken.append(time.perf_counter() - began)
    return sorted(taken)


@click.command(help=__doc__)
@click.option("--blocks", default=1000, show_default=True)
def main(blocks: int) -> None:
    logging.disable(logging.CRITICAL)
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    process.start()
    user = {"clusters": [{"name": "c", "cluster": {"server": here.recv()}}], "users": [{"name": "u", "user": {}}]}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    CONFIG.write_text(json.dumps(user | {"contexts": [context], "current-context": "x"}))
    print(f"status() of {blocks} blocks           median         p99     calls  requests a call", flush=True)
    for make in (ours, theirs):
        provider, names = make(blocks)
        here.send("run")
        here.recv()
        until_running(provider, names)
        here.send("count from now")
        here.recv()
        name = type(provider).__name__
        taken = measure(provider, names, CALLS[name])
        here.send("count")
        requests = here.recv() / len(taken)
        middle, last = statistics.median(taken), taken[min(len(taken) - 1, round(len(taken) * 0.99))]
        print(f"{name:<28} {middle * 1000:8.1f} ms {last * 1000:8.1f} ms {len(taken):8}  {requests:8.0f}", flush=True)


if __name__ == "__main__":
    main()
