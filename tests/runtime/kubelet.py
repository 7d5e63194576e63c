"""A kubelet of the test's API server: it runs worker pods as processes, and reports their state."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from k8s_parsl_runtime.shared.programs import SCRATCH, START
from runtime.expansion import expanded

TESTS = str(Path(__file__).parents[1])


class Kubelet:
    """A pod's worker is `python -I start.py <args>` in its own session; it has no other status."""

    def __init__(self, server):
        self.server = server
        self.processes = {}
        self.waits = []
        self.closing = False
        self.folder = tempfile.TemporaryDirectory()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def kill(self, name):
        """What `kubectl delete --grace-period=0 --force` does to the processes."""
        kill(self.processes[name].pid)

    def close(self):
        self.closing = True
        with self.server.changed:
            self.server.changed.notify_all()
        self.thread.join()
        for name, process in self.processes.items():
            if process.poll() is None:
                self.kill(name)
        for wait in self.waits:
            wait.join()
        self.folder.cleanup()

    def account(self):
        """Return each pod's name, its process's state and its output, for a test that fails."""
        return {
            name: (process.poll(), self._said(name)) for name, process in self.processes.items()
        }

    def _said(self, name):
        return Path(self.folder.name, name).read_text()

    def _run(self):
        while not self.closing:
            with self.server.changed:
                self.server.changed.wait_for(lambda: self.closing or self._new() or self._gone())
                new, gone = self._new(), self._gone()
            for name in [] if self.closing else new:
                self._start(name)
            for name in gone:
                self.processes[name].terminate()

    def _new(self):
        return [name for name in self.server.pods if name not in self.processes]

    def _gone(self):
        running = [name for name, process in self.processes.items() if process.poll() is None]
        return [name for name in running if name not in self.server.pods]

    def _start(self, name):
        (arguments,) = [
            c["args"] for c in self.server.pods[name]["spec"]["containers"] if c["name"] == "worker"
        ]
        environment = os.environ | {"K8S_PARSL_POD_NAME": name, "PYTHONPATH": TESTS}
        # A pod has its own /tmp; here other tests have pods of the same name at the same time.
        own = f"{self.folder.name}/{name}-tmp"
        words = [expanded(word, environment).replace(SCRATCH, own) for word in arguments]
        with Path(self.folder.name, name).open("w") as stderr:
            self.processes[name] = process = subprocess.Popen(
                [sys.executable, "-I", START, *words],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
        self._tell(name, {"running": {}})
        self.waits.append(threading.Thread(target=self._wait, args=(name, process), daemon=True))
        self.waits[-1].start()

    def _wait(self, name, process):
        code = process.wait()
        said = self._said(name)
        message = said.splitlines()[-1].removeprefix("k8s-parsl: ") if said else ""
        self._tell(
            name,
            {
                "terminated": {
                    "exitCode": code % 256 if code >= 0 else 128 - code,
                    "message": message,
                }
            },
        )

    def _tell(self, name, state):
        if name in self.server.pods and not self.closing:
            self.server.set_status(
                name, phase="Running", containerStatuses=[{"name": "worker", "state": state}]
            )


def kill(entry):
    """End a worker's entry and its pool, which has its own session.

    The entry first: a container's processes end at once, so it sees no pool that is gone before it.
    """
    for pid in [entry, *_children(entry)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            os.killpg(pid, signal.SIGKILL)


def _children(pid):
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
