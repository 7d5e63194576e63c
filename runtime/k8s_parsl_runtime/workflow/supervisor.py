"""The first process of the workflow container: it starts the workflow's process, and outlives it.

It knows neither Parsl nor the user's code, so nothing that they do can keep it from telling the
launcher how the workflow's process ended, with its last lines. When the launcher is gone it ends
the process.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from k8s_parsl_runtime.shared import programs, userpath
from k8s_parsl_runtime.shared.deadlines import left
from k8s_parsl_runtime.shared.errors import ExitCode
from k8s_parsl_runtime.shared.kept import Kept
from k8s_parsl_runtime.shared.memory import oom_kills
from k8s_parsl_runtime.shared.protocol import PROTOCOL, Channel, Message, connect
from k8s_parsl_runtime.shared.versions import misfit, versions
from k8s_parsl_runtime.workflow import preparation

# The launcher's container starts after this one; its image may have to be pulled first.
LAUNCHER_S = 600.0
CONNECT_PAUSE_S = 0.02
# A socket that refuses for so long is that of a launcher that has ended.
REFUSED_S = 2.0
# What a process of ours gets between SIGTERM and SIGKILL where the launcher does not say.
STOP_S = 5.0
# What is left of the workflow's children at its end: Parsl's interchange still stops its workers.
ORPHANS_S = 3.0
# One that waits for a device, or for a file system without a server, outlives even SIGKILL.
KILLED_S = 3.0
# Output that a child of the workflow's holds open is waited for so long.
OUTPUT_S = 1.0
READER_S = 30.0
LAST_LINES, LINE_CHARACTERS = 20, 500


@dataclass
class Ended:
    """How the workflow's process ended."""

    # As a shell shows it: the exit code, or 128 and the signal's number.
    status: int
    # The signal that ended it, by name; empty where it ended by itself.
    signal: str
    # Whether it was asked to end: by this container's SIGTERM, or by the launcher.
    asked: bool
    # Whether the kernel killed a process of this container for memory meanwhile.
    out_of_memory: bool
    # Its last lines, of standard output and standard error.
    lines: list[str]


def main(arguments: Sequence[str]) -> int:
    """Run the workflow container; return the workflow's own exit status."""
    parser = argparse.ArgumentParser(prog="workflow", allow_abbrev=False)
    parser.add_argument("--socket", required=True)
    options = parser.parse_args(arguments)
    return Supervisor(options.socket).run()


class Supervisor:
    """The workflow's process, from its start to its end."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._events: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._kept = Kept("workflow", lambda line: sys.stderr.write(f"{line}\n"))
        self._output = Output(self._kept)
        self._launcher: Channel
        self._pid = 0
        # Whether the process was asked to end, and when it is killed.
        self._asked = False
        self._kill_at = math.inf
        # There was nothing to do.
        self._nothing = False

    def run(self) -> int:
        """Start, supervise and end the workflow's process; return its exit status.

        While the launcher looks at the code, the process below already imports Parsl.
        """
        programs.adopt_orphans()
        programs.name_the_user()
        for number in (signal.SIGTERM, signal.SIGHUP):
            # One that is ignored stays so: `nohup` means it.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(
                    number, lambda given, _: self._events.put({"type": "signal", "number": given})
                )
        # A terminal sends it to the workflow's process too, which does with it what it likes.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        fault = misfit()
        launcher = self._connect()
        if launcher is None:
            sys.stderr.write("k8s-parsl: no launcher answers on the socket\n")
            return ExitCode.TEMPORARY
        hello = {
            "type": "hello",
            "role": "supervisor",
            "protocol": PROTOCOL,
            "versions": versions(),
        }
        if fault:
            hello["fault"] = {"code": int(ExitCode.CONFIGURATION), "text": fault}
        launcher.send(hello)
        threading.Thread(
            target=self._listen, args=(launcher,), name="launcher", daemon=True
        ).start()
        if fault:
            return self._wait_for_launcher(ExitCode.CONFIGURATION)
        oom_before = oom_kills()
        self._launcher = launcher
        self._pid = self._start()
        ended = self._supervise(oom_before)
        if self._nothing:
            return ExitCode.DONE
        launcher.send({"type": "ended", **asdict(ended)})
        self._kept.finish()
        return ended.status

    def _connect(self) -> Channel | None:
        deadline = time.monotonic() + LAUNCHER_S
        refused = math.inf
        while time.monotonic() < min(deadline, refused + REFUSED_S):
            try:
                return connect(self._socket)
            except ConnectionRefusedError:
                refused = min(refused, time.monotonic())
            except OSError:
                refused = math.inf
            with contextlib.suppress(queue.Empty):
                self._events.get(timeout=CONNECT_PAUSE_S)
                return None
        return None

    def _listen(self, launcher: Channel) -> None:
        with contextlib.suppress(Exception):
            while (message := launcher.receive()) is not None:
                self._events.put(message)
        self._events.put({"type": "gone"})

    def _wait_for_launcher(self, code: int) -> int:
        """The launcher ends the run; this container must not end the pod before it has said why."""
        while self._events.get()["type"] not in ("gone", "nothing", "signal"):
            pass
        return code

    def _start(self) -> int:
        """Start the workflow's process; return its pid."""
        environment = userpath.clean(dict(os.environ), [])
        process = subprocess.Popen(  # noqa: S603 (our own command line)
            programs.command("kernel", "--socket", self._socket),
            env=environment,
            preexec_fn=_default_signals,  # noqa: PLW1509 (no thread of ours holds a lock that it needs)
            **self._output.pipes(),
        )
        self._output.start()
        threading.Thread(
            target=self._wait, args=(process.pid,), name="process", daemon=True
        ).start()
        return process.pid

    def _wait(self, pid: int) -> None:
        """Report each change of the process, and collect every orphan that comes to this one."""
        while True:
            try:
                found, status = os.waitpid(-1, os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return
            if found != pid:
                continue
            if os.WIFSTOPPED(status):
                self._events.put({"type": "stopped"})
            elif os.WIFCONTINUED(status):
                self._events.put({"type": "continued"})
            else:
                self._events.put({"type": "exit", "code": os.waitstatus_to_exitcode(status)})

    def _supervise(self, oom_before: int) -> Ended:
        """Do what the launcher and the signals ask for until the process has ended."""
        acts = {
            "prepare": self._prepare,
            "nothing": self._do_nothing,
            "stopped": self._launcher.send,
            "continued": self._launcher.send,
            "stop": self._stop,
            "signal": self._pass_on_signal,
            "gone": self._alone,
        }
        while (event := self._next())["type"] != "exit":
            acts[event["type"]](event)
        code = event["code"]
        end_orphans()
        self._output.finish()
        return Ended(
            status=code if code >= 0 else 128 - code,
            signal="" if code >= 0 else _name(-code),
            asked=self._asked,
            out_of_memory=oom_kills() > oom_before,
            lines=self._output.last_lines(),
        )

    def _next(self) -> Message:
        """Wait for the next event; kill the process when it is time."""
        while True:
            try:
                return self._events.get(timeout=left(self._kill_at))
            except queue.Empty:
                self._kill_at = math.inf
                _signal(self._pid, signal.SIGKILL)

    def _prepare(self, order: Message) -> None:
        self._launcher.send(preparation.look(order))
        self._kept.open(order["logs"])

    def _do_nothing(self, _: Message) -> None:
        self._nothing = True
        _signal(self._pid, signal.SIGKILL)

    def _stop(self, order: Message) -> None:
        self._end_within(float(order["seconds"]))

    def _alone(self, _: Message) -> None:
        """The launcher is gone."""
        self._end_within(STOP_S)

    def _end_within(self, seconds: float) -> None:
        self._kill_at = min(self._kill_at, time.monotonic() + seconds)
        # Once: a second one might interrupt what the user's own handler does.
        if not self._asked:
            self._asked = True
            _signal(self._pid, signal.SIGTERM)

    def _pass_on_signal(self, event: Message) -> None:
        """Kubelet's, which the launcher has got, too: it says when it is time for SIGKILL."""
        self._asked = True
        self._launcher.send({"type": "terminating"})
        _signal(self._pid, signal.Signals(event["number"]))


def _name(number: int) -> str:
    """Return a signal's name; those between SIGRTMIN and SIGRTMAX have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _default_signals() -> None:
    """In the new process: as it would be without us."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        # One that is stopped takes no other signal than SIGKILL.
        os.kill(pid, signal.SIGCONT)


def end_orphans(seconds: float = ORPHANS_S) -> None:
    """End what the workflow's process left behind; the interchange ends by itself once it has
    stopped its workers.
    """
    deadline = time.monotonic() + seconds
    # Of one that is killed the children come to this process, and are next.
    while (children := list(_children())) and time.monotonic() < deadline + KILLED_S:
        if time.monotonic() > deadline:
            for pid in children:
                _signal(pid, signal.SIGKILL)
        time.sleep(0.02)


def _children() -> Iterator[int]:
    """Yield this process's children that have not ended."""
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            yield from (
                int(pid) for pid in (task / "children").read_text().split() if not _ended(pid)
            )


def _ended(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class Output:
    """The workflow's standard output and error: passed on as they come and kept, the last lines
    apart.

    On a terminal the process has the terminal itself, as it would have without us.
    """

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._terminal = sys.stdout.isatty() or sys.stderr.isatty()
        self._lines = deque[str](maxlen=LAST_LINES)
        self._part = {1: b"", 2: b""}
        self._ends: dict[int, int] = {}
        self._theirs: list[int] = []
        self._writing = False
        self._thread = threading.Thread(target=self._pass_on, name="output", daemon=True)

    def pipes(self) -> dict[str, Any]:
        """Return what Popen needs."""
        if self._terminal:
            return {}
        for number in (1, 2):
            ours, theirs = os.pipe()
            self._ends[ours] = number
            self._theirs.append(theirs)
        return {"stdout": self._theirs[0], "stderr": self._theirs[1]}

    def start(self) -> None:
        """Begin to pass on, once the process has its ends."""
        if not self._terminal:
            for theirs in self._theirs:
                os.close(theirs)
            self._thread.start()

    def finish(self) -> None:
        """Wait for what is left; a child that outlives the workflow may hold its end open.

        Who reads our own output may be slow, and has more time.
        """
        if self._terminal:
            return
        deadline = time.monotonic() + READER_S
        self._thread.join(OUTPUT_S)
        while self._thread.is_alive() and self._writing and time.monotonic() < deadline:
            self._thread.join(OUTPUT_S)

    def last_lines(self) -> list[str]:
        """Return the last lines of both, in the order in which they came."""
        parts = [part.decode(errors="replace") for part in self._part.values() if part.strip()]
        return [line[-LINE_CHARACTERS:] for line in [*self._lines, *parts]][-LAST_LINES:]

    def _pass_on(self) -> None:
        with selectors.DefaultSelector() as selector:
            for ours in self._ends:
                selector.register(ours, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    chunk = os.read(key.fd, 65536)
                    if not chunk:
                        selector.unregister(key.fd)
                        continue
                    self._keep(self._ends[key.fd], chunk)
                    self._kept.add(chunk, self._ends[key.fd])
                    self._writing = True
                    _write(self._ends[key.fd], chunk)
                    self._writing = False

    def _keep(self, number: int, chunk: bytes) -> None:
        *lines, part = (self._part[number] + chunk).split(b"\n")
        self._lines.extend(
            line.decode(errors="replace") for line in lines[-LAST_LINES:] if line.strip()
        )
        self._part[number] = part[-4 * LINE_CHARACTERS :]


def _write(number: int, chunk: bytes) -> None:
    with contextlib.suppress(OSError):
        while chunk:
            chunk = chunk[os.write(number, chunk) :]
