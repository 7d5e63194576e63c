"""The workflow container as a process of this machine, with the launcher's part played by the test."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from k8s_parsl_runtime.shared.kept import LIMITS
from k8s_parsl_runtime.shared.programs import START
from k8s_parsl_runtime.shared.protocol import Channel

PATIENCE_S = 60


class Container:
    """Its two connections by their roles, and its output.

    Without executors: nothing but the workflow's process.
    """

    def __init__(self, folder, python=sys.executable, **more):
        self.folder = Path(folder)
        # A socket's path has to be short.
        self._socket = tempfile.TemporaryDirectory()
        path = f"{self._socket.name}/socket"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.listener.settimeout(PATIENCE_S)
        self.channels, self.hellos, self.heard = {}, {}, {}
        words = [python, "-I", START, "workflow", "--socket", path]
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        self.process = subprocess.Popen(words, env=environment | more.pop("env", {}), **more)

    def greet(self):
        """Take the two connections, and say hello to both."""
        while len(self.channels) < 2:
            self.accept()
        return self

    def accept(self):
        connection, _ = self.listener.accept()
        connection.settimeout(None)
        channel = Channel(connection)
        hello = channel.receive()
        role = hello["role"]
        self.hellos[role], self.channels[role], self.heard[role] = (
            hello,
            channel,
            queue.SimpleQueue(),
        )
        threading.Thread(target=self._listen, args=(role,), daemon=True).start()
        return hello

    def _listen(self, role):
        while (message := self.channels[role].receive()) is not None:
            self.heard[role].put(message)
        self.heard[role].put(None)

    def send(self, role, **message):
        assert self.channels[role].send(message)

    def next(self, role, *kinds):
        """The next message of one of these kinds; None once the connection has ended."""
        while (message := self.heard[role].get(timeout=PATIENCE_S)) is not None:
            if not kinds or message["type"] in kinds:
                return message
        return None

    def prepare(self, call="", script="", mounts=()):
        code = {"call": call, "script": script, "path": str(self.folder)}
        self.send(
            "supervisor",
            type="prepare",
            mounts=list(mounts),
            code=code,
            work=str(self.folder / "work"),
            logs=str(self.folder / "logs"),
            keep=list(LIMITS),
        )
        return self.next("supervisor", "ready")

    def start(self, text="", call="", args=(), **kwargs):
        """Run a script of this text, or a function; its working directory is there."""
        code = {"call": call, "script": "" if call else "script.py", "path": str(self.folder)}
        if not call:
            (self.folder / "script.py").write_text(text)
        (self.folder / "work").mkdir(exist_ok=True)
        parsl = {
            "strategy": "none",
            "strategy_period": 1,
            "max_idletime": 120,
            "retries": 0,
            "loss_retries": 3,
            "max_pending": 0,
            "monitoring": {"enabled": False},
            "cache": "declared",
            "cache_key": "arguments",
            "checkpoint_delay": 1.0,
        }
        self.send(
            *("kernel",),
            type="start",
            code=code,
            kwargs=kwargs,
            args=list(args),
            work=str(self.folder / "work"),
            volumes=[str(self.folder)],
            run_dir=str(self.folder / "runs"),
            logs=str(self.folder / "logs"),
            keep=list(LIMITS),
            attempt=1,
            address="",
            keys={},
            executors={},
            parsl=parsl | {"retry_lost_tasks": "all", "encrypted": False},
            checkpoint=False,
            keep_results=False,
            resume="",
            log_level="INFO",
        )
        return self

    def ended(self):
        """What the supervisor says of the end of the workflow's process."""
        return self.next("supervisor", "ended")

    def line(self):
        """The workflow's next line of standard output."""
        return self.process.stdout.readline().decode().rstrip("\n")

    def close(self):
        for channel in self.channels.values():
            channel.close()
        self.listener.close()
        try:
            self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        self._socket.cleanup()
