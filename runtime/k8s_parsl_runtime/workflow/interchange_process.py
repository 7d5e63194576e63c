"""The interchange's process, watched: Parsl hangs for ever when it dies or stops answering.

https://github.com/Parsl/parsl/issues/3374
"""

from __future__ import annotations

import logging
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import zmq

from k8s_parsl_runtime.shared import programs
from k8s_parsl_runtime.workflow.interchange import Command

log = logging.getLogger(__name__)

# The interchange answers a command within one turn of its loop, so in milliseconds. One that has
# not answered for this long hangs.
SILENT_S = 60.0
# How often it is pinged while there is nothing else to say.
PING_S = 10.0
# How long one command waits for its answer.
ASK_S = 5.0
# How long the end of the run waits for the interchange to stop the workers.
STOP_S = 2.0

PING = (Command.PING, "")


class ControlClient:
    """The launcher's end of the interchange's control socket; any thread may call it.

    It opens a socket for each command, as one whose answer did not come cannot be used again
    (https://zguide.zeromq.org/docs/chapter4/#Client-Side-Reliability-Lazy-Pirate-Pattern).
    """

    def __init__(self) -> None:
        # Any user who may enter the folder (mode 0700) may command the interchange.
        self._folder = programs.scratch("control-")
        self.endpoint = f"ipc://{self._folder}/control"

    def close(self) -> None:
        """Remove the socket's file."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def ask(self, command: Command, block: str = "", timeout_s: float = ASK_S) -> Any:
        """Return the answer (see `Command`); None where none came within ``timeout_s``."""
        socket: zmq.Socket[bytes]
        with zmq.Context.instance().socket(zmq.REQ) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(self.endpoint)
            socket.send_json([command, block])
            if not socket.poll(timeout_s * 1000):
                return None
            answer: Any = socket.recv_json()
            return answer


class InterchangeProcess:
    """The interchange of one executor, which Parsl starts: its end is noticed, and so is a hang.

    Args:
        name: names the executor in log lines, as `executors.cpu`.
        on_end: gets the exit code of a process that ended before `expect_end`; a thread of this
            object calls it.
    """

    def __init__(self, name: str, on_end: Callable[[int], None]) -> None:
        self._name = name
        self._on_end = on_end
        self._client = ControlClient()
        self._orders: queue.SimpleQueue[tuple[Command, str]] = queue.SimpleQueue()
        self._end_expected = threading.Event()
        self.popen: subprocess.Popen[bytes] | None = None

    @property
    def launch_command(self) -> list[str]:
        """The command line that Parsl starts it with."""
        return programs.command("interchange", self._client.endpoint)

    def watch(self, popen: subprocess.Popen[bytes]) -> None:
        """Wait for the end of this process, from now on."""
        self.popen = popen
        _in_background("interchange", self._wait, popen)

    def talk(self) -> None:
        """Begin to send orders, and to notice a hang."""
        _in_background("control", self._send_orders, self.popen)

    def order(self, command: Command, block: str) -> None:
        """Send a command soon, again and again until it is answered; return at once."""
        self._orders.put((command, block))

    def ask(self, command: Command, argument: str) -> Any:
        """Send a command now; return its answer, or None where none came in time."""
        return self._client.ask(command, argument)

    def stop_managers(self) -> None:
        """End every manager now, also one with tasks; this needs no access to the API."""
        if not self._runs():
            return
        if self._client.ask(Command.STOP, timeout_s=STOP_S) is None:
            log.warning(
                "%s: the interchange did not acknowledge STOP within %.0f s; workers may run on",
                self._name,
                STOP_S,
            )

    def kill_hung(self) -> None:
        """Kill an interchange that does not answer; then `on_end` is called as for a dead one."""
        if self.popen is None or self._end_expected.is_set() or not self._runs():
            return
        log.error(
            "%s: the interchange did not answer for %.0f s and is killed", self._name, SILENT_S
        )
        self.popen.kill()

    def expect_end(self) -> None:
        """From now on its end is no fault."""
        self._end_expected.set()

    def close(self) -> None:
        """Remove the control socket."""
        self._client.close()

    def _runs(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def _wait(self, popen: subprocess.Popen[bytes]) -> None:
        code = popen.wait()
        if not self._end_expected.is_set():
            self._on_end(code)

    def _send_orders(self, popen: subprocess.Popen[bytes]) -> None:
        """Send each order until it is answered: it may arrive twice."""
        answered_at = time.monotonic()
        order = PING
        while not self._end_expected.is_set() and popen.poll() is None:
            if self._client.ask(*order) is not None:
                answered_at = time.monotonic()
                order = self._next_order()
            elif time.monotonic() - answered_at > SILENT_S:
                self.kill_hung()
                return

    def _next_order(self) -> tuple[Command, str]:
        try:
            return self._orders.get(timeout=PING_S)
        except queue.Empty:
            return PING


def _in_background(name: str, run: Callable[..., None], *args: Any) -> None:
    threading.Thread(target=run, args=args, name=name, daemon=True).start()
