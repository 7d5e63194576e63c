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
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from k8s_parsl_runtime.outputs import lost_parts, temporaries
from k8s_parsl_runtime.shared import programs, userpath
from k8s_parsl_runtime.shared.deadlines import left, within
from k8s_parsl_runtime.shared.errors import ExitCode
from k8s_parsl_runtime.shared.kept import Kept, Limits
from k8s_parsl_runtime.shared.memory import oom_kills
from k8s_parsl_runtime.shared.protocol import PROTOCOL, Channel, Message, connect
from k8s_parsl_runtime.shared.versions import misfit, versions
from k8s_parsl_runtime.workflow import digest, orphans, preparation
from k8s_parsl_runtime.workflow.output import Output

# The launcher's container starts after this one; its image may have to be pulled first.
LAUNCHER_S = 600.0
CONNECT_PAUSE_S = 0.02
# A socket that refuses for so long belongs to a launcher that has ended.
REFUSED_S = 2.0
# The time between SIGTERM and SIGKILL where the launcher does not set one.
STOP_S = 5.0
# How long workers may take to end after the workflow: they watch its connection.
WORKERS_END_S = 8.0
# How long the volume may take to remove what they have left over.
SWEEP_S = 10.0


@dataclass
class Ended:
    """How the workflow's process ended."""

    # As a shell shows it: the exit code, or 128 and the signal's number.
    status: int
    # The name of the signal that ended it; empty where it exited.
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
    launcher = os.getppid()
    status = Supervisor(options.socket).run()
    if os.getppid() != launcher:
        # On a laptop, that would have removed it.
        programs.remove_scratch()
    return status


class Supervisor:
    """The workflow's process, from its start to its end."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        # What the launcher, the process and signals ask for, each as a message.
        self._events: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._kept = Kept("workflow", lambda line: sys.stderr.write(f"{line}\n"))
        self._output = Output(self._kept)
        self._launcher: Channel
        self._pid = 0
        # The process was asked to end.
        self._asked = False
        # When it is killed.
        self._kill_at = math.inf
        # The launcher found that there is nothing to do.
        self._nothing = False
        # Where the workers note what they may leave over; None without `run.volume`.
        self._registers: Path | None = None

    def run(self) -> int:
        """Start, supervise and end the workflow's process; return its exit status.

        While the launcher looks at the code, the process below already imports Parsl.
        """
        programs.adopt_orphans()
        programs.name_the_user()
        self._take_signals()
        fault = misfit()
        launcher = self._connect()
        if launcher is None:
            sys.stderr.write("k8s-parsl: no launcher answers on the socket\n")
            return ExitCode.TEMPORARY
        launcher.send(_hello(fault))
        _in_background("launcher", self._listen, launcher)
        if fault:
            self._wait_for_launcher()
            return ExitCode.CONFIGURATION
        self._launcher = launcher
        oom_before = oom_kills()
        self._pid = self._start()
        code = self._supervise()
        ended = self._end(code, oom_before)
        if self._nothing:
            return ExitCode.DONE
        if ended.status:
            self._note_folders()
        self._sweep(0.0)
        launcher.send({"type": "ended", **asdict(ended)})
        # Workers in other pods may still be about to end.
        self._sweep(WORKERS_END_S)
        self._kept.finish()
        return ended.status

    def _take_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            # One that is ignored stays so: `nohup` means it.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._put_signal)
        # A terminal sends SIGINT to the workflow's process, too, which decides what to do.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _put_signal(self, number: int, _: FrameType | None) -> None:
        self._events.put({"type": "signal", "number": number})

    # The launcher.

    def _connect(self) -> Channel | None:
        """Wait for the launcher; return None where it does not come, or a signal comes first."""
        deadline = time.monotonic() + LAUNCHER_S
        refused_since = math.inf
        while time.monotonic() < min(deadline, refused_since + REFUSED_S):
            try:
                return connect(self._socket)
            except ConnectionRefusedError:
                refused_since = min(refused_since, time.monotonic())
            except OSError:
                refused_since = math.inf
            with contextlib.suppress(queue.Empty):
                self._events.get(timeout=CONNECT_PAUSE_S)
                return None
        return None

    def _listen(self, launcher: Channel) -> None:
        with contextlib.suppress(Exception):
            while (message := launcher.receive()) is not None:
                self._events.put(message)
        self._events.put({"type": "gone"})

    def _wait_for_launcher(self) -> None:
        """Wait until the launcher ends the run.

        This container must not end the pod before the launcher has reported why.
        """
        while self._events.get()["type"] not in ("gone", "nothing", "signal"):
            pass

    # The process.

    def _start(self) -> int:
        """Start the workflow's process; return its pid."""
        process = subprocess.Popen(  # noqa: S603 (our own command line)
            programs.command("kernel", "--socket", self._socket),
            env=userpath.clean(dict(os.environ), []),
            preexec_fn=_default_signals,  # noqa: PLW1509 (no thread of ours holds a lock that it needs)
            **self._output.pipes(),
        )
        self._output.start()
        _in_background("process", self._wait, process.pid)
        return process.pid

    def _wait(self, pid: int) -> None:
        """Report each change of the process, and collect every orphan that comes to this one."""
        while True:
            try:
                found, status = os.waitpid(-1, os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return
            if found == pid:
                self._events.put(_change(status))

    def _supervise(self) -> int:
        """Do what the launcher and the signals ask for until the process has ended.

        Returns:
            Its exit code; negative for a signal.
        """
        acts: dict[str, Callable[[Message], object]] = {
            "prepare": self._prepare,
            "nothing": self._do_nothing,
            "stopped": self._launcher.send,
            "continued": self._launcher.send,
            "stop": self._stop,
            "signal": self._pass_on_signal,
            "gone": self._end_without_launcher,
        }
        while (event := self._next_event())["type"] != "exit":
            acts[event["type"]](event)
        code: int = event["code"]
        return code

    def _end(self, code: int, oom_before: int) -> Ended:
        """End the orphans and wait for the output; return how the process ended.

        Args:
            code: its exit code; negative for a signal.
            oom_before: the kernel's count of OOM kills before its start.
        """
        orphans.end()
        self._output.finish()
        status = code
        signal_name = ""
        if code < 0:
            number = -code
            status = 128 + number
            signal_name = _name(number)
        return Ended(
            status=status,
            signal=signal_name,
            asked=self._asked,
            out_of_memory=oom_kills() > oom_before,
            lines=self._output.last_lines(),
        )

    def _note_folders(self) -> None:
        """Note where parts are, for the run that goes on: a sweep removes what says so."""
        registers = self._registers
        if registers is not None:
            within(SWEEP_S, "note the folders of parts", lambda: lost_parts.note(registers, [], []))

    def _sweep(self, seconds: float) -> None:
        """Remove the temporaries of outputs that are left over, once their workers have ended."""
        registers = self._registers
        if registers is not None:
            # A volume may have stopped answering.
            within(
                seconds + SWEEP_S,
                "remove left-over outputs",
                lambda: temporaries.sweep_within(registers, seconds),
            )

    def _next_event(self) -> Message:
        """Wait for the next event; kill the process when it is time."""
        while True:
            try:
                return self._events.get(timeout=left(self._kill_at))
            except queue.Empty:
                self._kill_at = math.inf
                orphans.send(self._pid, signal.SIGKILL)

    # What is done at each event.

    def _prepare(self, order: Message) -> None:
        self._launcher.send(preparation.look(order))
        if order.get("run_dir"):
            self._registers = Path(order["run_dir"], temporaries.REGISTERS)
        self._kept.open(order["logs"], Limits(*order["keep"]))
        # Not before the answer: the first worker pods wait for it.
        _in_background("digest", self._send_digest, order)

    def _send_digest(self, order: Message) -> None:
        """Tell the launcher which code this is."""
        own, *_ = userpath.of_code(**order["code"])
        beside = [order["work"], order["logs"], *(path for path, *_ in order["mounts"])]
        try:
            found = digest.of_code(Path(own), [Path(path) for path in beside if path])
        except OSError:
            # A file that cannot be read, or that has just gone: there is no digest.
            return
        if found:
            self._launcher.send({"type": "code", "digest": str(found)})

    def _do_nothing(self, _: Message) -> None:
        self._nothing = True
        orphans.send(self._pid, signal.SIGKILL)

    def _stop(self, order: Message) -> None:
        self._end_within(float(order["seconds"]))

    def _end_without_launcher(self, _: Message) -> None:
        self._end_within(STOP_S)

    def _end_within(self, seconds: float) -> None:
        self._kill_at = min(self._kill_at, time.monotonic() + seconds)
        # A second SIGTERM might interrupt what the user's own handler does.
        if not self._asked:
            self._asked = True
            orphans.send(self._pid, signal.SIGTERM)

    def _pass_on_signal(self, event: Message) -> None:
        """Pass on kubelet's signal; the launcher has it, too, and decides when to kill."""
        self._asked = True
        self._launcher.send({"type": "terminating"})
        orphans.send(self._pid, signal.Signals(event["number"]))


def _hello(fault: str) -> Message:
    """Return the greeting for the launcher, with why this environment cannot be used, if so."""
    hello: Message = {
        "type": "hello",
        "role": "supervisor",
        "protocol": PROTOCOL,
        "versions": versions(),
    }
    if fault:
        hello["fault"] = {"code": int(ExitCode.CONFIGURATION), "text": fault}
    return hello


def _change(status: int) -> Message:
    """Return the event for a status of `waitpid`."""
    if os.WIFSTOPPED(status):
        return {"type": "stopped"}
    if os.WIFCONTINUED(status):
        return {"type": "continued"}
    return {"type": "exit", "code": os.waitstatus_to_exitcode(status)}


def _name(number: int) -> str:
    """Return a signal's name; those between SIGRTMIN and SIGRTMAX have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _default_signals() -> None:
    """Let the new process take SIGINT as it would without us."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _in_background(name: str, run: Callable[..., None], *args: object) -> None:
    threading.Thread(target=run, args=args, name=name, daemon=True).start()
