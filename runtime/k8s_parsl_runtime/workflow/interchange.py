"""Parsl's HTEX interchange with a control socket, for what only the provider knows (design D8).

A process beside the launcher, started by `executor`. Upstream learns of a dead worker pod by a heartbeat that does not
come, after `heartbeat_threshold` seconds; here the pod watch says so (12 ms from kill to retry, measured). It reaches
into Parsl's insides in one method, which tests/runtime/test_parsl_contract.py pins.
"""

from __future__ import annotations

import enum
import os
import pickle
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import zmq
from parsl.executors.high_throughput.interchange import PKL_SHUTDOWN_CODE, Interchange
from parsl.utils import setproctitle

# Results that a lost pod sent before its end are taken first, but its tasks never wait longer than this for it.
LAST_RESULTS_S = 0.5


class Command(enum.StrEnum):
    """What may be said on the control socket, as JSON `[command, block]`; the answer is a number of managers."""

    LOST = "lost"
    """The block's pod is gone: its tasks fail with ManagerLost now, and so are run again."""
    DRAIN = "drain"
    """The block gets no more tasks; its manager ends when those that it has are done."""
    STOP = "stop"
    """Every manager ends now, whatever it does."""
    PING = "ping"
    """Are you there?"""


class ControlledInterchange(Interchange):
    """The interchange, which looks at its control socket once per turn of its loop (at most `poll_period` apart).

    What is said of a block also holds for a manager of it that registers later: a pod may be lost with its
    registration still on the way. It stops its managers and ends when the launcher's process is gone, which on a
    laptop nobody else would do.
    """

    def __init__(self, endpoint: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._control: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.REP)
        self._control.setsockopt(zmq.LINGER, 0)
        self._control.bind(endpoint)
        # By block, when it was said.
        self._lost: dict[str, float] = {}
        self._draining: set[str] = set()
        self._stopping = False
        self._parent = os.getppid()

    def expire_bad_managers(self, interesting_managers: set[bytes], monitoring_radio: Any) -> None:
        """Take commands, apply them, then do what upstream does."""
        while self._control.poll(0):
            request: Any = self._control.recv_json()
            command, block = request
            self._control.send_json(self._take(Command(command), block))
        if os.getppid() != self._parent:
            self._stop(interesting_managers)
            # Sent already: the sockets linger until they are empty, as long as anybody reads.
            self.zmq_context.destroy(linger=1000)
            os._exit(0)
        if self._stopping:
            self._stop(interesting_managers)
        elif self._lost or self._draining:
            self._apply()
        super().expire_bad_managers(interesting_managers, monitoring_radio)

    def _take(self, command: Command, block: str) -> int:
        match command:
            case Command.LOST:
                self._lost.setdefault(block, time.monotonic())
            case Command.DRAIN:
                self._draining.add(block)
            case Command.STOP:
                self._stopping = True
                return len(self._ready_managers)
            case Command.PING:
                return len(self._ready_managers)
        return sum(manager["block_id"] == block for manager in self._ready_managers.values())

    def _apply(self) -> None:
        more_to_read = bool(self.manager_sock.poll(0))
        for name, manager in self._ready_managers.items():
            block = manager["block_id"]
            if block in self._lost:
                manager["active"] = False
                if not more_to_read or time.monotonic() - self._lost[block] > LAST_RESULTS_S:
                    # A lost node's worker may well be alive and cut off from Kubernetes only: nothing may run twice.
                    self.manager_sock.send_multipart([name, PKL_SHUTDOWN_CODE])
                    manager["last_heartbeat"] = 0.0
            elif block in self._draining:
                # Upstream then shuts it down as soon as it has no task (`expire_drained_managers`).
                manager["draining"] = True

    def _stop(self, interesting_managers: set[bytes]) -> None:
        for name in list(self._ready_managers):
            self.manager_sock.send_multipart([name, PKL_SHUTDOWN_CODE])
            self._ready_managers.pop(name)
            interesting_managers.discard(name)


def main(arguments: Sequence[str]) -> None:
    """Run it with the configuration that HighThroughputExecutor pickles to standard input."""
    # Ctrl-C on a terminal reaches the whole group; this process ends when its parent does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    setproctitle("k8s-parsl: interchange")
    ControlledInterchange(arguments[0], **pickle.load(sys.stdin.buffer)).start()  # noqa: S301 (from our own parent)
