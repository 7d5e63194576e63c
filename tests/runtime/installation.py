"""One installation of the chart as processes of this machine, with launchers to kill."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from k8s_parsl_runtime.shared.programs import START
from runtime.kubelet import Kubelet
from runtime.pipes import Pipes

PATIENCE_S = 60
# What the first word of a line says of a task that has ended well (k8s_parsl_runtime.shared.attempts).
ENDS = ("done", "kept")
LAUNCHER = """
import os, sys
from pathlib import Path
from k8s_parsl.kube.api import Api
from k8s_parsl.kube.connection import InPod
from k8s_parsl.log import to_stderr
from k8s_parsl.run import pod
from k8s_parsl_runtime.shared import errors

url, account, mounted, path = sys.argv[1:]
pod.Api = lambda namespace: Api(namespace, connection=InPod(Path(account), url=url))
to_stderr()
try:
    pod.in_pod(os.environ, Path(mounted), Path(path))
    code = 0
except errors.Failure as failure:
    code = errors.last_word(str(failure), failure.exit_code)
os._exit(code)
"""
LABELS = {"name": "k8s-parsl", "instance": "pdgrun", "component": "worker"}
WORKER = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"labels": {f"app.kubernetes.io/{name}": value for name, value in LABELS.items()}},
    "spec": {"containers": [{"name": "worker", "args": ["worker"]}]},
}


class Installation:
    """Its volume and its values; `attempt` is a launcher's pod."""

    def __init__(self, folder, server, identity, token):
        self.server, self.identity, self.account = server, identity, token.parent
        self.volume, self.mounted, self.code = (
            folder / name for name in ("volume", "mounted", "code")
        )
        for made in (self.volume, self.mounted, self.code):
            made.mkdir()
        self.pipes = Pipes(self.volume)
        self.kubelet = Kubelet(server)
        self.attempts = []
        (self.mounted / "worker-cpu.yaml").write_text(yaml.safe_dump(WORKER))

    def attempt(
        self, flow, lost_tasks=None, *, call="main", level="INFO", count=5, keep=None, **more
    ):
        """Start a launcher's pod of this run; ``keep`` says which results it keeps, and how."""
        (self.code / "flow.py").write_text(flow)
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = found.getsockname()[1]
        parsl = {"encrypted": False, "workerPort": port, "strategyPeriod": 0.5} | (keep or {})
        values = {
            "workflow": {
                "call": f"flow:{call}",
                "path": str(self.code),
                "kwargs": {"folder": str(self.volume), "count": count},
            },
            "executors": {
                "cpu": {
                    "initBlocks": 1,
                    "maxBlocks": 1,
                    "maxWorkersPerNode": 2,
                    "coresPerWorker": 0.01,
                }
            },
            "parsl": parsl | ({} if lost_tasks is None else {"retryLostTasks": lost_tasks}),
            "storage": {"data": {"mountPath": str(self.volume)}},
            "run": {"volume": "data"},
            "logging": {"level": level},
        }
        (self.mounted / "settings.yaml").write_text(yaml.safe_dump(values | more))
        number = len(self.attempts) + 1
        identity = dataclasses.replace(
            self.identity,
            pod_ip="127.0.0.1",
            pod_uid=f"{'abcdef'[number] * 5}{number}-0000",
            pod_name=f"pdgrun-launcher-abc12345-{number}",
        )
        self.attempts.append(Attempt(self, identity))
        return self.attempts[-1]

    @property
    def folder(self):
        (folder,) = self.volume.glob("runs/*")
        return folder

    @property
    def record(self):
        return json.loads((self.folder / "record.json").read_text())

    @property
    def list(self):
        """The lines of each attempt's list of begun tasks."""
        files = sorted(self.folder.glob("parsl/begun-*.jsonl"))
        return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]

    def starts(self):
        """How often each task has begun."""
        return {
            int(file.stem): len(file.read_text().splitlines()) for file in self.volume.glob("*.txt")
        }

    def begun(self, number):
        """Wait until so many tasks more have begun; return their numbers."""
        found = []
        while len(found) < number:
            ready = select.select([self.pipes.begun], [], [], PATIENCE_S)[0]
            assert ready, (
                found,
                self.attempts[-1].lines,
                self.server.calls,
                self.kubelet.account(),
            )
            found.append(int(self.pipes.next_begun()))
        return sorted(found)

    def known(self, number):
        """Wait until this launcher's list, or one before it, says of so many tasks that they have ended."""
        until = time.monotonic() + PATIENCE_S
        while sum(line[0] in ENDS for lines in self.list for line in lines) < number:
            assert time.monotonic() < until, self.list
            time.sleep(0.05)

    def until(self, there):
        """Wait until something is there, and return it."""
        end = time.monotonic() + PATIENCE_S
        while not (found := there()):
            assert time.monotonic() < end
            time.sleep(0.05)
        return found

    def close(self):
        for attempt in self.attempts:
            attempt.kill()
            attempt.close()
        self.kubelet.close()
        self.pipes.close()


class Attempt:
    """A launcher's pod: two processes, the launcher and the workflow's supervisor."""

    def __init__(self, installation, identity):
        self._socket = tempfile.TemporaryDirectory()
        path = f"{self._socket.name}/socket"
        facts = {
            f"K8S_PARSL_{name.upper()}": str(value)
            for name, value in dataclasses.asdict(identity).items()
        }
        self.workflow = subprocess.Popen(
            [sys.executable, "-I", START, "workflow", "--socket", path],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        places = [
            installation.server.url,
            str(installation.account),
            str(installation.mounted),
            path,
        ]
        self.log = Path(self._socket.name, "log")
        with self.log.open("w") as log:
            words = [sys.executable, "-c", LAUNCHER, *places]
            self.launcher = subprocess.Popen(words, env=os.environ | facts, stdout=log, stderr=log)

    def ended(self):
        """Wait for the end; return the launcher's exit code."""
        code = self.launcher.wait(PATIENCE_S)
        self.workflow.wait(PATIENCE_S)
        return code

    @property
    def lines(self):
        return self.log.read_text().splitlines()

    def kernel(self):
        """The pid of the workflow's own process."""
        (task,) = (
            Path(f"/proc/{self.workflow.pid}/task/{self.workflow.pid}/children").read_text().split()
        )
        return int(task)

    def kill(self):
        """What the deletion of the pod with no grace period does."""
        for process in (self.launcher, self.workflow):
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()

    def close(self):
        self._socket.cleanup()
