"""A run of the workload on one of the two systems, from its installation to the row that it makes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from cluster import restricted

from testbed import images, layout, tools
from testbed.processes import POLL

from . import ledger
from .kube import MAIN, Cluster, Late, Pod, PodWatch, Refused, Watch
from .ledger import Execution

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
OURS, THEIRS = "k8s-parsl", "KubernetesProvider"
# After this the row says what the run still does.
PATIENCE_S = {OURS: 180.0, THEIRS: 210.0}
READY_S = 120.0
# Pods have this long to be gone after the run's end: upstream's have a grace period of 30 s.
LEFT_S = 60.0
WORKER_MEMORY = "512Mi"

Json = dict[str, Any]


@dataclass
class Row:
    """What one fault did to one system."""

    fault: str
    system: str
    confirmed: str
    outcome: str
    # From the API showing the worker container's end, and from the task's own death, to the start
    # of its next try.
    retry_s: list[float] = field(default_factory=list)
    retry_since_death_s: list[float] = field(default_factory=list)
    # None: no task could begin, or the release was uninstalled.
    lost: int | None = 0
    begun_again: int = 0
    ended_twice: int = 0
    at_the_same_time: int = 0
    overlap_s: float = 0.0
    left: int = 0
    left_gone_s: float | None = None
    message: str = ""
    note: str = ""
    seconds: float = 0.0
    # Another pod of the pool had a free slot: the retry waits for nothing but the news.
    spare_slot: bool = True
    # Pods that there were from first to last: one more than the fault explains is a finding too.
    launchers: int = 0
    workers: int = 0

    def say(self) -> str:
        retry = f"{statistics.median(self.retry_s):.2f} s" if self.retry_s else "-"
        return (
            f"{self.fault} | {self.system} | {self.outcome} | retry {retry} | lost {self.lost} again "
            f"{self.begun_again} twice {self.ended_twice} together {self.at_the_same_time} ({self.overlap_s:.1f} s) | "
            f"left {self.left} of {self.launchers}+{self.workers} | {self.confirmed} | {self.message} | {self.note}"
        )


class Run:
    """One run in its own namespace; counts by the files of its tasks."""

    system: ClassVar[str]
    # Of Pod Security, which the namespace enforces.
    profile: ClassVar[str] = "restricted"

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.namespace = f"fault-{name[:30]}-{uuid.uuid4().hex[:5]}"
        self.base = f"/api/v1/namespaces/{self.namespace}"
        self.data = layout.data_dir() / self.namespace
        self.ledger = self.data / "tasks"
        self.kwargs: Json = {"folder": "/data/tasks", "tasks": 12, "seconds": 3.0}
        self.began = time.monotonic()
        cluster.post("/api/v1/namespaces", restricted.namespace(self.namespace, self.profile))
        self.data.mkdir(parents=True)
        self.data.chmod(0o777)
        self.pods = PodWatch(cluster, self.namespace)
        self.jobs = Watch(cluster, f"/apis/batch/v1/namespaces/{self.namespace}/jobs")

    def start(self, **kwargs: Any) -> None:
        """Install it."""
        raise NotImplementedError

    def uninstall(self) -> None:
        """Uninstall it as a user does; the namespace's deletion removes the rest."""

    def close(self) -> None:
        """Leave nothing behind, but for the logs where FAULTS_LOGS names a folder for them."""
        if folder := os.environ.get("FAULTS_LOGS"):
            with contextlib.suppress(OSError, AssertionError):
                Path(folder, f"{self.namespace}-{self.system}.log").write_text(self.describe())
                shutil.copytree(
                    self.data, Path(folder, self.namespace), ignore=shutil.ignore_patterns("task-*")
                )
        with contextlib.suppress(AssertionError):
            self.uninstall()
        self.pods.stop()
        self.jobs.stop()
        for pod in [pod for pod in self.pods.ever.values() if pod.gone_at is None]:
            self.cluster.delete(f"{self.base}/pods/{pod.name}", gracePeriodSeconds=0)
        self.cluster.delete(f"/api/v1/namespaces/{self.namespace}")
        shutil.rmtree(self.data, ignore_errors=True)

    # What the run does

    def executions(self) -> list[Execution]:
        return ledger.read(self.ledger) if self.ledger.is_dir() else []

    def until(self, what: str, done: Callable[[], Any], seconds: float = READY_S) -> Any:
        """Wait for something that the tasks' files show; the end of the run ends the wait too."""
        end = time.monotonic() + seconds
        while not (answer := done()):
            if over := self.outcome():
                raise Late(f"{what}: the run ended {over} before\n{self.describe()}")
            if time.monotonic() > end:
                raise Late(f"{what}: not within {seconds:.0f} s\n{self.describe()}")
            time.sleep(POLL)
        return answer

    def until_busy(self, *, at_once: int = 2) -> None:
        """Until two tasks are done and the next ones are about in the middle."""

        def busy() -> bool:
            executions = self.executions()
            now = time.time()
            running = [e for e in ledger.in_progress(executions) if now - e.began > 1]
            return sum(e.ended is not None for e in executions) >= 2 and len(running) >= at_once

        self.until("tasks in progress", busy)

    def victim(self) -> Pod:
        """The worker pod with the most tasks in progress."""
        names = [execution.pod for execution in ledger.in_progress(self.executions())]
        return self.pods.named(max(set(names), key=names.count))

    def workers(self) -> list[Pod]:
        """Those that run."""
        return [pod for pod in self.pods.workers() if pod.running]

    def launcher(self) -> Pod:
        """The newest."""
        return self.pods.launchers()[-1]

    def delete(self, pod: Pod, grace: int | None = None) -> None:
        options = {} if grace is None else {"gracePeriodSeconds": grace}
        self.cluster.delete(f"{self.base}/pods/{pod.name}", **options)

    def evict(self, pod: Pod) -> None:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod.name}}
        self.cluster.post(f"{self.base}/pods/{pod.name}/eviction", body)

    def until_pod(self, what: str, done: Callable[[], Any], seconds: float = READY_S) -> Any:
        return self.pods.wait(what, done, seconds)

    def until_gone(self, pod: Pod, seconds: float = 90.0) -> str:
        """What confirms that this pod is no more."""
        self.until_pod(f"{pod.name} gone", lambda: pod.gone_at, seconds)
        return f"uid of {'launcher' if pod.launcher else 'worker'} pod gone"

    # What it came to

    def job(self) -> Json:
        jobs = sorted(
            self.jobs.objects.values(), key=lambda job: job["metadata"]["creationTimestamp"]
        )
        return jobs[-1] if jobs else {}

    def outcome(self) -> str:
        """Complete, Failed, or nothing yet."""
        conditions = self.job().get("status", {}).get("conditions", [])
        ends = [
            c["type"]
            for c in conditions
            if c["type"] in ("Complete", "Failed") and c["status"] == "True"
        ]
        return ends[0] if ends else ""

    def log(self, pod: Pod) -> str:
        """Of all its containers, the main one's first."""
        containers = [container["name"] for container in pod.last["spec"]["containers"]]
        containers.sort(key=lambda name: name not in MAIN)
        return "\n".join(self._log(pod, container) for container in containers)

    def _log(self, pod: Pod, container: str) -> str:
        try:
            return str(self.cluster.get(f"{self.base}/pods/{pod.name}/log", container=container))
        except Refused as error:
            return f"(no log: {error.code})"

    def logs(self) -> list[str]:
        """Lines of all launchers that can still be read."""
        there = [pod for pod in self.pods.launchers() if pod.gone_at is None]
        return [line for pod in there for line in self.log(pod).splitlines()]

    def describe(self) -> str:
        pods = [
            f"{pod.name}: {pod.last['status'].get('phase')} {pod.state}"
            for pod in self.pods.ever.values()
        ]
        tasks = [str(execution) for execution in self.executions()]
        return "\n".join([*tasks, *pods, *self.logs()[-200:]])

    def live_workers(self) -> list[Pod]:
        return [pod for pod in self.pods.workers() if pod.alive]

    def finish(
        self,
        fault: str,
        *,
        confirmed: str,
        about: Sequence[str] = (),
        spare_slot: bool = True,
        note: str = "",
        uninstalled: bool = False,
    ) -> Row:
        """Wait for the end and count.

        ``about``: texts of the line to show, the first that is found.
        """
        patience = PATIENCE_S[self.system]
        outcome = "uninstalled" if uninstalled else ""
        if not uninstalled:
            try:
                outcome = self.jobs.wait("the run's end", self.outcome, patience)
            except Late:
                outcome = self._stuck(patience)
        assert self.data.is_dir(), "the testbed was taken down meanwhile: this row says nothing"
        left_gone = None
        if outcome in ("Complete", "Failed"):
            began = time.monotonic()
            with contextlib.suppress(Late):
                self.until_pod("no worker pod", lambda: not self.live_workers(), LEFT_S)
                left_gone = round(time.monotonic() - began, 1)
        count = ledger.count(self.executions(), self.kwargs["tasks"])
        ends = {pod.name: pod.ended_at for pod in self.pods.ever.values()}
        shown = [
            r.began - end for r in count.retries if (end := ends.get(r.pod)) and end < r.began + 1
        ]
        return Row(
            fault,
            self.system,
            confirmed,
            outcome,
            retry_s=[round(seconds, 3) for seconds in shown],
            retry_since_death_s=[round(r.began - r.died, 3) for r in count.retries],
            lost=count.lost,
            begun_again=count.begun_again,
            ended_twice=count.ended_twice,
            at_the_same_time=count.at_the_same_time,
            overlap_s=round(count.overlap, 2),
            left=len(self.live_workers()),
            left_gone_s=left_gone,
            message=self._message(about),
            note=note,
            seconds=round(time.monotonic() - self.began, 1),
            spare_slot=spare_slot,
            launchers=len(self.pods.launchers()),
            workers=len(self.pods.workers()),
        )

    def _stuck(self, patience: float) -> str:
        done = len({e.task for e in self.executions() if e.ended})
        return f"still running {patience:.0f} s later, {done} of {self.kwargs['tasks']} tasks done"

    def _message(self, about: Sequence[str]) -> str:
        said = [pod.said.splitlines()[-1] for pod in self.pods.launchers() if pod.said]
        lines = self.logs() + said
        for text in about:
            for line in lines:
                if text in line:
                    return line
        return said[-1] if said and self.system == OURS else ""


class OurRun(Run):
    """The chart."""

    system = OURS
    name = "run"

    def start(self, *, values: Json | None = None, **kwargs: Any) -> None:
        self.kwargs |= kwargs
        self.values = merge(self._values(), values or {})
        self._helm("install", self.name, "./chart", "-f", self._file())

    def upgrade(self, values: Json) -> None:
        """Other values; `helm upgrade`."""
        self.values = merge(self.values, values)
        self._helm("upgrade", self.name, "./chart", "-f", self._file())

    def uninstall(self) -> None:
        self._helm("uninstall", self.name, "--ignore-not-found")

    def _values(self) -> Json:
        repository, _, tag = os.environ.get("TEST_IMAGE", images.known()["k8s-parsl"]).rpartition(
            ":"
        )
        source = {"hostPath": {"path": str(self.data), "type": "Directory"}}
        resources = {
            "requests": {"cpu": "50m", "memory": "128Mi"},
            "limits": {"memory": WORKER_MEMORY},
        }
        return {
            "workflow": {
                "call": "counted:main",
                "kwargs": self.kwargs,
                "files": {"counted.py": (HERE / "workload.py").read_text()},
            },
            "run": {"volume": "data"},
            # `warm` has no cache=True, and may run twice.
            "parsl": {"retryLostTasks": "all"},
            "storage": {"data": {"mountPath": "/data", "persistentVolumeSource": source}},
            "executors": {
                "workers": {
                    "initBlocks": 2,
                    "minBlocks": 2,
                    "maxBlocks": 2,
                    "maxWorkersPerNode": 2,
                    "coresPerWorker": 0.5,
                    "pod": {"resources": resources},
                }
            },
            "launcher": {
                "image": {"repository": repository, "tag": tag},
                "resources": {"requests": {"cpu": "50m"}},
                "pod": {"resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}},
            },
        }

    def _file(self) -> str:
        file = self.data / "values.json"
        file.write_text(json.dumps(self.values))
        return str(file)

    def _helm(self, *arguments: str) -> None:
        done = subprocess.run(
            [tools.ensure() / "helm", *arguments, "--namespace", self.namespace],
            cwd=Path(os.environ.get("FAULTS_ROOT", ROOT)),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"KUBECONFIG": str(layout.kubeconfig())},
            timeout=READY_S,
        )
        assert done.returncode == 0, done.stdout


class TheirRun(Run):
    """Parsl's own KubernetesProvider in a Job, as the tutorial has it."""

    system = THEIRS
    # Its provider sets user, group and runAsNonRoot alone (V1SecurityContext in
    # parsl/providers/kubernetes/kube.py): "restricted" would refuse every worker pod without
    # seccompProfile, allowPrivilegeEscalation and capabilities.
    profile = "baseline"

    def start(self, *, image: str = "", memory: str = WORKER_MEMORY, **kwargs: Any) -> None:
        self.kwargs |= kwargs
        ours = os.environ.get("TEST_IMAGE", images.known()["k8s-parsl"])
        code = self.data / "code"
        code.mkdir()
        shutil.copy(HERE / "workload.py", code / "counted.py")
        shutil.copy(HERE / "upstream.py", code / "upstream.py")
        (self.data / "parsl").mkdir(mode=0o777)
        (self.data / "parsl").chmod(0o777)
        self.ledger.mkdir()
        self.ledger.chmod(0o777)
        settings = {
            "namespace": self.namespace,
            "image": image or ours,
            "memory": memory,
            "kwargs": self.kwargs,
        }
        for path, body in self._objects(ours, json.dumps(settings)):
            self.cluster.post(path, body)

    def close(self) -> None:
        super().close()
        self.cluster.delete(f"/api/v1/persistentvolumes/{self.namespace}")

    def _objects(self, image: str, settings: str) -> list[tuple[str, Json]]:
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.namespace}"
        name = {"metadata": {"name": "run"}}
        rules = [
            {"apiGroups": [""], "resources": ["pods", "pods/log", "pods/status"], "verbs": ["*"]}
        ]
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "run"}
        subject = {"kind": "ServiceAccount", "name": "run", "namespace": self.namespace}
        room = {"storageClassName": "", "accessModes": ["ReadWriteMany"]}
        container = {
            "name": "launcher",
            "image": image,
            "command": ["python", "/data/code/upstream.py"],
            "env": [
                {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "SETTINGS", "value": settings},
                {"name": "PYTHONPATH", "value": "/data/code"},
            ],
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        }
        template = {
            "metadata": {"labels": {"app.kubernetes.io/component": "launcher"}},
            "spec": {
                "serviceAccountName": "run",
                "restartPolicy": "Never",
                "containers": [container],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            },
        }
        return [
            (
                "/api/v1/persistentvolumes",
                {
                    "metadata": {"name": self.namespace},
                    "spec": room
                    | {
                        "capacity": {"storage": "1Gi"},
                        "hostPath": {"path": str(self.data)},
                        "claimRef": {"namespace": self.namespace, "name": "data"},
                        "persistentVolumeReclaimPolicy": "Retain",
                    },
                },
            ),
            (
                f"{self.base}/persistentvolumeclaims",
                {
                    "metadata": {"name": "data"},
                    "spec": room
                    | {"volumeName": self.namespace, "resources": {"requests": {"storage": "1Gi"}}},
                },
            ),
            (f"{self.base}/serviceaccounts", name),
            (f"{rbac}/roles", name | {"rules": rules}),
            (f"{rbac}/rolebindings", name | {"roleRef": role, "subjects": [subject]}),
            (
                f"/apis/batch/v1/namespaces/{self.namespace}/jobs",
                name | {"spec": {"backoffLimit": 3, "template": template}},
            ),
        ]


def worker_pod(**fields: Any) -> Json:
    """Values of the workers' pods."""
    return {"executors": {"workers": {"pod": fields}}}


def merge(under: Json, over: Json) -> Json:
    """Merge ``over`` over ``under`` as Helm does: maps merge, all else is replaced."""
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def as_json(row: Row) -> Json:
    return asdict(row)
