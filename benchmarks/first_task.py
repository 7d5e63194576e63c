"""From `helm install` to the first task: two versions of this project in turn, and the floor that
no version can beat.

    PYTHONPATH=tests python benchmarks/first_task.py --runs 5 [--old FOLDER --old-image IMAGE]

On the testbed (`make cluster`), with images that are on the nodes. The workflow is that of
examples/product: 25 tasks of some seconds on 2 worker pods of 2 workers. The floor: two bare pods
one after the other, each of which imports Parsl, made as soon as the watch shows the end of the one
before.

FOLDER is a checkout of another version, and IMAGE its image in the testbed's registry; its run and
ours alternate, so that the machine's mood is the same for both. A pod's times are those of a watch,
a task's begin is its own clock's.
"""

from __future__ import annotations

import contextlib
import json
import re
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from cluster import restricted
from cluster.conftest import SMALL, Release, images_of
from pykube import HTTPClient, KubeConfig, Pod

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
    rows = [future.result() for future in [product(x, y, seconds) for x in range(5) for y in range(5)]]
    print("BEGAN", json.dumps({"first": min(began for _, began in rows), "end": time.time()}), flush=True)
"""


@dataclass(frozen=True)
class Version:
    """A chart, and Helm's arguments for its images."""

    name: str
    folder: Path
    images: list[str]


@dataclass
class Cluster:
    """What Release wants of pytest-helm-charts."""

    kube_client: HTTPClient


@contextlib.contextmanager
def namespace(release: Release) -> Iterator[None]:
    release.kubectl("create", "-f", "-", input=json.dumps(restricted.namespace(release.namespace)))
    try:
        yield
    finally:
        release.kubectl("delete", "namespace", release.namespace, "--wait=true", check=False)


def one_run(cluster: Cluster, version: Version, seconds: float) -> dict[str, float]:
    """Seconds from `helm install` to each step."""
    release = Release(cluster, f"first-{uuid.uuid4().hex[:6]}", name="first")
    with namespace(release), tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "flow.py")
        file.write_text(WORKFLOW)
        executor = "executors.workers.maxBlocks=2,executors.workers.initBlocks=2,executors.workers.maxWorkersPerNode=2"
        arguments = [
            *(
                *version.images,
                *SMALL,
                "--set",
                executor,
                "--set-json",
                "executors.workers.coresPerWorker=0.5",
            ),
            *(
                "--set",
                "workflow.call=flow:main",
                "--set-json",
                f"workflow.kwargs.seconds={seconds}",
            ),
            *("--set-file", f"workflow.files.flow\\.py={file}"),
        ]
        began = time.time()
        release.helm("install", release.name, str(version.folder / "chart"), *arguments)
        steps = watched(release, began)
        if release.wait_for_end() != "Complete":
            raise SystemExit(release.describe())
        said = json.loads(re.search(r"BEGAN (.*)", release.log())[1])
        release.uninstall()
    return steps | {
        "first task begins": said["first"] - began,
        "all tasks done": said["end"] - began,
    }


def watched(release: Release, began: float) -> dict[str, float]:
    """When the watch showed that the launcher runs, the first worker pod was made, and its
    container runs.
    """
    steps: dict[str, float] = {}
    selector = {"app.kubernetes.io/instance": release.name}
    query = Pod.objects(release.cluster.kube_client, release.namespace).filter(selector=selector)
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
    """Seconds from the first pod's creation to the end of the second, as the watch shows it."""
    release = Release(cluster, f"floor-{uuid.uuid4().hex[:6]}")
    with namespace(release):
        began = time.time()
        for number in (1, 2):
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
            manifest = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"floor-{number}"},
                "spec": spec,
            }
            release.kubectl("create", "-f", "-", input=json.dumps(manifest))
            query = Pod.objects(cluster.kube_client, release.namespace).filter(
                field_selector={"metadata.name": f"floor-{number}"}
            )
            for event in query.watch(params={"timeoutSeconds": 60}):
                statuses = event.object.obj["status"].get("containerStatuses", [])
                if statuses and "terminated" in statuses[0]["state"]:
                    break
        return time.time() - began


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
    import os

    os.environ["PATH"] = f"{tools.ensure()}:{os.environ['PATH']}"
    os.environ["KUBECONFIG"] = str(layout.kubeconfig())
    cluster = Cluster(HTTPClient(KubeConfig.from_file(str(layout.kubeconfig()))))
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
    print(
        f"floor: two bare pods that import Parsl: {' '.join(f'{one:.1f}' for one in floors)}; median {least:.2f} s"
    )
    for name, rows in found.items():
        print(f"{name}, medians of {runs} (x the floor):")
        for step in rows[0]:
            values = [row[step] for row in rows]
            middle = statistics.median(values)
            print(
                f"  {step:<20} {middle:6.2f} s  {middle / least:5.2f}   {' '.join(f'{one:.1f}' for one in values)}"
            )


if __name__ == "__main__":
    main()
