"""A release to install, look at and remove, on a real cluster.

pytest-helm-charts knows the cluster.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from browser import opened  # noqa: F401
from cluster import restricted
from pykube import Job, Pod

from testbed import images, layout, tools

ROOT = Path(__file__).parent.parent.parent
# Longest wait for anything here; a test that needs more has found a fault.
PATIENCE_S = 180

# Several tests' pods share two small nodes; what a pod asks for there is no matter here, but where
# a test says so.
_ASKED = "resources.requests.cpu=100m"
SMALL = ["--set", f"launcher.pod.{_ASKED},worker.pod.{_ASKED}"]


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(item.fspath).is_relative_to(Path(__file__).parent):
            item.add_marker("cluster")


# Of a cluster that was given; the others are the testbed's alone.
GIVEN = {"k8s-parsl": "TEST_IMAGE", "k8s-parsl-tiles": "TEST_TILES_IMAGE"}


def image(name):
    """The image to test: that of the given cluster, or of the testbed; a full name is kept."""
    if "/" in name:
        return name
    return os.environ.get(GIVEN.get(name, "")) or images.known()[name]


def image_values(workflow=None):
    """Values of the launcher's image, and of the workflow's where that is another one."""
    repository, _, tag = image("k8s-parsl").rpartition(":")
    values = {"launcher": {"image": {"repository": repository, "tag": tag}}}
    if workflow:
        repository, _, tag = image(workflow).rpartition(":")
        values |= {"image": {"repository": repository, "tag": tag}}
    return values


def images_of(workflow=None):
    """Helm's arguments for the launcher's image, and for the workflow's where that is another one."""
    repository, _, tag = image("k8s-parsl").rpartition(":")
    arguments = ["--set", f"launcher.image.repository={repository},launcher.image.tag={tag}"]
    if workflow:
        repository, _, tag = image(workflow).rpartition(":")
        arguments += ["--set", f"image.repository={repository},image.tag={tag}"]
    return arguments


@dataclass
class Ended:
    """A command that has ended."""

    code: int
    out: str


@dataclass
class Release:
    """One release of the chart in its own namespace."""

    cluster: object
    namespace: str
    name: str = "pdgrun"
    values: list[str] = field(default_factory=list)
    program: str = "helm"

    def helm(self, *args, check=True):
        return self._run(self.program, *args, check=check)

    def kubectl(self, *args, check=True, input=None):
        return self._run("kubectl", *args, check=check, input=input).out

    def _run(self, program, *args, check, input=None):
        """Both programs are on PATH by the fixture `programs`."""
        done = subprocess.run(
            [program, "--namespace", self.namespace, *args],
            cwd=ROOT,
            text=True,
            input=input,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_S,
        )
        assert not check or done.returncode == 0, done.stdout
        return Ended(done.returncode, done.stdout)

    def install(self, *args):
        self.helm("install", self.name, "./chart", *self.values, *args)
        return self.job()

    def upgrade(self, *args):
        self.helm("upgrade", self.name, "./chart", *self.values, *args)
        return self.job()

    def uninstall(self):
        self.helm("uninstall", self.name, "--wait", "--timeout", f"{PATIENCE_S}s")

    def jobs(self):
        """Launcher Jobs of the release, newest last."""
        selector = {
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/component": "launcher",
        }
        found = Job.objects(self.cluster.kube_client, self.namespace).filter(selector=selector)
        return sorted(found, key=lambda job: job.metadata["creationTimestamp"])

    def job(self):
        return self.jobs()[-1]

    def wait_for_end(self, job=None, seconds=PATIENCE_S):
        """Return "Complete" or "Failed".

        It watches all conditions: newer controllers put others before these.
        """
        name = (job or self.job()).name
        query = Job.objects(self.cluster.kube_client, self.namespace).filter(
            field_selector={"metadata.name": name}
        )
        for event in _watch(query, seconds):
            for condition in event.object.obj.get("status", {}).get("conditions", []):
                if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
                    return condition["type"]
        raise AssertionError(f"Job {name} did not end within {seconds} s:\n{self.describe()}")

    def wait_for_pods(self, done, seconds=PATIENCE_S, **labels):
        """Wait until ``done(pods by name)``; those pods."""
        selector = {"app.kubernetes.io/instance": self.name} | {
            key.replace("component", "app.kubernetes.io/component"): value
            for key, value in labels.items()
        }
        pods = {}
        query = Pod.objects(self.cluster.kube_client, self.namespace).filter(selector=selector)
        if done(pods := {pod.name: pod.obj for pod in query}):
            return pods
        for event in _watch(query, seconds):
            if event.type == "DELETED":
                pods.pop(event.object.name, None)
            else:
                pods[event.object.name] = event.object.obj
            if done(pods):
                return pods
        raise AssertionError(
            f"the pods never came to that state within {seconds} s:\n{self.describe()}"
        )

    def pods(self, component=None):
        selector = {"app.kubernetes.io/instance": self.name}
        if component:
            selector["app.kubernetes.io/component"] = component
        return list(Pod.objects(self.cluster.kube_client, self.namespace).filter(selector=selector))

    def log(self, job=None):
        """The log of launcher and workflow, by the one command that shows both."""
        return self.kubectl(
            "logs", f"job/{(job or self.job()).name}", "--all-containers", "--tail=-1", check=False
        )

    def end_of_launcher(self, job=None):
        """Exit code and termination message of the (last) launcher pod."""
        return self.end_of("launcher", job)

    def end_of(self, container, job=None):
        """Exit code and termination message of a container of the (last) launcher pod."""
        selector = {"job-name": (job or self.job()).name}
        pods = Pod.objects(self.cluster.kube_client, self.namespace).filter(selector=selector)
        pod = max(pods, key=lambda pod: pod.metadata["creationTimestamp"])
        (status,) = [
            one for one in pod.obj["status"]["containerStatuses"] if one["name"] == container
        ]
        state = status["state"]["terminated"]
        return state["exitCode"], state.get("message", "")

    def describe(self):
        """What a developer needs to find the fault."""
        return "\n".join(
            [
                self.kubectl("get", "all,pvc", "-o", "wide", check=False),
                self.kubectl("get", "events", "--sort-by=.lastTimestamp", check=False)[-4000:],
                self.log()[-4000:] if self.jobs() else "no job",
            ]
        )

    def python(
        self, code, claim=None, mount="/mnt/k8s-dev-pdg", name="k8s-parsl-tiles", labels=None
    ):
        """What ``code`` prints in a pod of the workflow's image with the claim mounted."""
        used, name = image(name), f"look-{uuid.uuid4().hex[:6]}"
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels or {}},
            "spec": {
                "restartPolicy": "Never",
                "securityContext": restricted.POD,
                "containers": [
                    {
                        "name": "look",
                        "securityContext": restricted.CONTAINER,
                        "image": used,
                        "command": ["python", "-c", code],
                        "env": [{"name": "PYTHONPATH", "value": "/opt/workflow"}],
                        "volumeMounts": [{"name": "data", "mountPath": mount}] if claim else [],
                    }
                ],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
                if claim
                else [],
            },
        }
        self.kubectl("apply", "-f", "-", input=json.dumps(pod))
        query = Pod.objects(self.cluster.kube_client, self.namespace).filter(
            field_selector={"metadata.name": name}
        )
        phase = ""
        for event in _watch(query, PATIENCE_S):
            phase = event.object.obj["status"].get("phase", "")
            if phase in ("Succeeded", "Failed"):
                break
        out = self.kubectl("logs", name, check=False)
        assert phase == "Succeeded", f"{phase}: {out}"
        self.kubectl("delete", "pod", name, "--wait=false")
        return out


def _watch(query, seconds):
    """Events (the present state first) until ``seconds`` are over."""
    end = time.monotonic() + seconds
    while (left := int(end - time.monotonic())) > 0:
        # pykube gives up on a stream that is silent for ten seconds; a new one begins with the
        # present state.
        with contextlib.suppress(requests.exceptions.ConnectionError):
            yield from query.watch(params={"timeoutSeconds": left})


@pytest.fixture(scope="session", autouse=True)
def programs():
    """kubectl and helm on PATH, for pytest-helm-charts too."""
    os.environ["PATH"] = f"{tools.ensure()}:{os.environ['PATH']}"


@pytest.fixture
def namespace(kube_cluster):
    """One that takes no pod but those of Pod Security's "restricted" profile."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    kube_cluster.kubectl("create", std_input=json.dumps(restricted.namespace(name)))
    yield name
    kube_cluster.kubectl(f"delete namespace {name} --wait=false")


@pytest.fixture
def dev(kube_cluster, namespace):
    """`-f values/dev.yaml` with the testbed's volume and the image that was just built."""
    values = ["-f", "values/dev.yaml", *images_of("k8s-parsl-tiles"), *SMALL]
    if given := os.environ.get("TEST_VALUES"):
        values += ["-f", given]
    else:
        data = layout.data_dir() / namespace
        data.mkdir(parents=True)
        data.chmod(0o777)
        values += ["-f", "tests/testbed/values.yaml"]
        values += ["--set", f"storage.dev-0.persistentVolumeSource.hostPath.path={data}"]
    release = Release(kube_cluster, namespace, values=values)
    yield release
    release.helm("uninstall", release.name, check=False)


@pytest.fixture
def product(kube_cluster, namespace):
    """examples/product in a ConfigMap, with no volume, as the seed's first example."""
    values = [*images_of(), *SMALL]
    values += ["--set", "executors.workers.maxBlocks=2,executors.workers.initBlocks=2"]
    values += [
        "--set",
        "executors.workers.maxWorkersPerNode=2",
        "--set-json",
        "executors.workers.coresPerWorker=0.5",
    ]
    for file in ("product.py", "example-parsl.py", "parslexec.py"):
        values += [
            "--set-file",
            f"workflow.files.{file.replace('.', chr(92) + '.')}=examples/product/{file}",
        ]
    release = Release(kube_cluster, namespace, name="product", values=values)
    yield release
    with contextlib.suppress(AssertionError):
        release.helm("uninstall", release.name, check=False)
