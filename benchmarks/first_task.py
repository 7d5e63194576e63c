"""Seconds from `helm install` to the first task: two versions of this project, and a floor.

    PYTHONPATH=tests python benchmarks/first_task.py --runs 5 [--old FOLDER --old-image IMAGE]

On the testbed (`make cluster`), with images that are on the nodes. The workflow is that of
examples/product: 25 tasks of some seconds on 2 worker pods of 2 workers. The floor, which no
version can beat: two bare pods one after the other, each of which imports Parsl; the second is
created when the watch shows the end of the first.

FOLDER is a checkout of another version, and IMAGE its image in the testbed's registry; its runs and
ours alternate, so that the machine is as busy for both. A pod's times are those of a watch; a
task's start is the time on its own clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from cluster import restricted
from cluster.conftest import SMALL, Release, images_of
from pykube import HTTPClient, KubeConfig, Pod

from bench.figures import Cell, Figure, Plot, Result, Table, in_turns
from testbed import Testbed, images, layout, tools

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = """
import json, time
from parsl import python_app

@python_app
def product(x, y, seconds):
    import time
    began = time.time()
    time.sleep(seconds)
    return x * y, began

def main(seconds):
    futures = [product(x, y, seconds) for x in range(5) for y in range(5)]
    first = min(began for _, began in [future.result() for future in futures])
    print("BEGAN", json.dumps({"first": first, "end": time.time()}), flush=True)
"""
SCALE = {"initBlocks": 2, "maxBlocks": 2, "maxWorkersPerNode": 2, "coresPerWorker": 0.5}


@dataclass(frozen=True)
class Version:
    """A chart, and Helm's arguments for its images."""

    name: str
    folder: Path
    images: list[str]


@dataclass
class Cluster:
    """The part of pytest-helm-charts' cluster that a Release uses."""

    kube_client: HTTPClient


@contextlib.contextmanager
def namespace(release: Release) -> Iterator[None]:
    release.kubectl("create", "-f", "-", input=json.dumps(restricted.namespace(release.namespace)))
    try:
        yield
    finally:
        release.kubectl("delete", "namespace", release.namespace, "--wait=true", check=False)


def one_run(cluster: Cluster, version: Version, seconds: float) -> dict[str, float]:
    """Return the seconds from `helm install` to each step."""
    release = Release(cluster, f"first-{uuid.uuid4().hex[:6]}", name="first")
    with namespace(release), tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "flow.py")
        file.write_text(WORKFLOW)
        arguments = [*version.images, *SMALL]
        for key, value in SCALE.items():
            arguments += ["--set-json", f"executors.workers.{key}={value}"]
        arguments += ["--set", "workflow.call=flow:main"]
        arguments += ["--set-json", f"workflow.kwargs.seconds={seconds}"]
        arguments += ["--set-file", f"workflow.files.flow\\.py={file}"]
        began = time.time()
        release.helm("install", release.name, str(version.folder / "chart"), *arguments)
        steps = watched(release, began)
        if release.wait_for_end() != "Complete":
            raise SystemExit(release.describe())
        found = re.search(r"BEGAN (.*)", release.log())
        if found is None:
            raise SystemExit("the workflow printed no times")
        said = json.loads(found[1])
        release.uninstall()
    return steps | {
        "first task begins": said["first"] - began,
        "all tasks done": said["end"] - began,
    }


def watched(release: Release, began: float) -> dict[str, float]:
    """Return the seconds until the watch showed each pod created, and each container running."""
    steps: dict[str, float] = {}
    selector = {"app.kubernetes.io/instance": release.name}
    cluster: Any = release.cluster
    query = Pod.objects(cluster.kube_client, release.namespace).filter(selector=selector)
    for event in query.watch(params={"timeoutSeconds": 120}):
        pod = event.object.obj
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        steps.setdefault(f"{component} pod made", time.time() - began)
        statuses = pod["status"].get("containerStatuses", [])
        if statuses and all("running" in status["state"] for status in statuses):
            steps.setdefault(f"{component} pod runs", time.time() - began)
        if "worker pod runs" in steps:
            return steps
    raise SystemExit("no worker pod came")


def floor(cluster: Cluster) -> float:
    """Return the seconds from the first pod's creation to the end of the second."""
    release = Release(cluster, f"floor-{uuid.uuid4().hex[:6]}")
    with namespace(release):
        began = time.time()
        for number in (1, 2):
            name = f"floor-{number}"
            release.kubectl("create", "-f", "-", input=json.dumps(bare_pod(name)))
            pods = Pod.objects(cluster.kube_client, release.namespace)
            until_terminated(pods.filter(field_selector={"metadata.name": name}))
        return time.time() - began


def bare_pod(name: str) -> dict[str, Any]:
    """Return the manifest of a pod that imports Parsl, and nothing else."""
    container = {
        "name": "floor",
        "image": images.known()["k8s-parsl"],
        "command": ["python3", "-c", "import parsl"],
        "securityContext": restricted.CONTAINER,
    }
    spec = {
        "restartPolicy": "Never",
        "securityContext": restricted.POD,
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def until_terminated(pod: Any) -> None:
    """Wait until the watch of one pod shows the end of its container."""
    for event in pod.watch(params={"timeoutSeconds": 60}):
        statuses = event.object.obj["status"].get("containerStatuses", [])
        if statuses and "terminated" in statuses[0]["state"]:
            return


@click.command(help=__doc__)
@click.option("--runs", default=3, show_default=True)
@click.option("--seconds", default=5.0, show_default=True, help="Of each task.")
@click.option(
    "--old", type=click.Path(path_type=Path, exists=True), help="Checkout of the other version."
)
@click.option("--old-image", default="", help="Its image.")
@click.option(
    "--inject", is_flag=True, help="Also ours with a plain image, into which the runtime is copied."
)
def main(runs: int, seconds: float, old: Path | None, old_image: str, inject: bool) -> None:  # noqa: FBT001
    if not Testbed().running():
        raise SystemExit("needs the testbed: make cluster")
    cluster = _cluster()
    versions = [Version("this one", ROOT, images_of())]
    if inject:
        versions.append(
            Version("this one, plain image (copied)", ROOT, images_of("k8s-parsl-plain"))
        )
        mounted = [*images_of("k8s-parsl-plain"), "--set", "launcher.runtimeVolume=image"]
        versions.append(Version("this one, plain image (mounted)", ROOT, mounted))
    if old:
        repository, _, tag = old_image.rpartition(":")
        images_of_old = [
            "--set",
            f"image.repository={repository}",
            "--set-string",
            f"image.tag={tag}",
        ]
        versions.append(Version("the other", old, images_of_old))
    floors: list[float] = []
    found: dict[str, list[dict[str, float]]] = {version.name: [] for version in versions}
    for _ in range(runs):
        floors.append(floor(cluster))
        for version in versions:
            found[version.name].append(one_run(cluster, version, seconds))
    least = statistics.median(floors)
    print(f"floor: two bare pods that import Parsl: {listed(floors)}; median {least:.2f} s")
    for name, rows in found.items():
        print(f"{name}, medians of {runs} (x the floor):")
        for step in rows[0]:
            values = [row[step] for row in rows]
            middle = statistics.median(values)
            print(f"  {step:<20} {middle:6.2f} s  {middle / least:5.2f}   {listed(values)}")


# Runs, and seconds of each task.
SIZES = {"small": (2, 2.0), "full": (5, 5.0)}
TASKS_A_WORKER = 7


def bench(size: str) -> Result:
    """Measure the chart beside the floor, in turns."""
    runs, seconds = SIZES[size]
    cluster = _cluster()
    version = Version("k8s-parsl", ROOT, images_of())
    found = in_turns(
        runs, lambda: one_run(cluster, version, seconds), lambda: {"floor": floor(cluster)}
    )
    steps = [(steps, least["floor"]) for steps, least in found]
    ideal = TASKS_A_WORKER * seconds
    first = tuple((one["first task begins"], least) for one, least in steps)
    ends = tuple((one["all tasks done"], one["first task begins"] + ideal) for one, _ in steps)
    rows: list[tuple[Cell, ...]] = [
        (step, *(round(one[step], 2) for one, _ in steps)) for step in steps[0][0]
    ]
    columns = ("step", *(f"run {number}" for number in range(1, runs + 1)))
    return Result(
        figures=(
            Figure("first task begins", "install", "two bare pods", "s", "lower", first, 1.0),
            Figure("25 tasks done", "install", "first task + ideal", "s", "lower", ends, 1.1),
        ),
        tables=(Table("Seconds since `helm install`", columns, tuple(rows)),),
        plots=(_trace([one for one, _ in steps]),),
    )


def _trace(runs: list[dict[str, float]]) -> Plot:
    """Return when each step of a start was reached, in its usual order."""
    names = [name for name in runs[0] if name != "all tasks done"]
    names.sort(key=lambda name: statistics.median(one[name] for one in runs))
    lines = {
        f"run {number}": tuple((one[name], float(row)) for row, name in enumerate(names))
        for number, one in enumerate(runs, 1)
    }
    return Plot("A start", "seconds since helm install", "", lines, rows=tuple(names))


def _cluster() -> Cluster:
    os.environ["PATH"] = f"{tools.ensure()}:{os.environ['PATH']}"
    os.environ["KUBECONFIG"] = str(layout.kubeconfig())
    return Cluster(HTTPClient(KubeConfig.from_file(str(layout.kubeconfig()))))


def listed(seconds: list[float]) -> str:
    """Return all measured times in one line."""
    return " ".join(f"{one:.1f}" for one in seconds)


if __name__ == "__main__":
    main()
