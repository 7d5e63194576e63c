"""Parsl's HTEX interchange with a control socket, for what only the provider knows
(docs/dev/architecture.md, "The interchange").

A process beside the launcher, started by `executor`. Upstream learns of a dead worker pod by a
heartbeat that does not come, after `heartbeat_threshold` seconds; here the pod watch says so (12 ms
from kill to retry, measured). And it gives a task that may have ended its pod a manager of its own
(`losses`). It reaches into Parsl's insides in three methods, which
tests/runtime/test_parsl_contract.py pins.
"""

from __future__ import annotations

import enum
import os
import pickle
import sys
import time
from collections.abc import Sequence
from typing import Any

import zmq
from parsl.app.errors import RemoteExceptionWrapper
from parsl.executors.high_throughput.errors import ManagerLost
from parsl.executors.high_throughput.interchange import PKL_SHUTDOWN_CODE, Interchange
from parsl.serialize import serialize
from parsl.utils import setproctitle

# Results that a lost pod sent before its end are taken first, but its tasks never wait longer than
# this for it.
LAST_RESULTS_S = 0.5
# In a task's context: no other task may be with its manager.
ALONE = "k8s_parsl_alone"


class PodEnded(ManagerLost):
    """The task's pod has ended, as its owner said; a plain ManagerLost is one whose heartbeat did
    not come.
    """


class Command(enum.StrEnum):
    """What may be said on the control socket, as JSON `[command, block]`; most answers are a number
    of managers.
    """

    LOST = "lost"
    """The block's pod is gone: its tasks fail with ManagerLost now, and so are run again."""
    DRAIN = "drain"
    """The block gets no more tasks; its manager ends when those that it has are done."""
    STOP = "stop"
    """Every manager ends now, whatever it does."""
    PING = "ping"
    """Are you there?"""
    RUNNING = "running"
    """In the place of a block: seconds. The answer is a list of tasks that run for longer, each
    with its own.
    """


class ControlledInterchange(Interchange):
    """The interchange, which looks at its control socket once per turn of its loop (at most
    `poll_period` apart).

    What is said of a block also holds for a manager of it that registers later: a pod may be lost
    with its registration still on the way. It stops its managers and ends when the launcher's
    process is gone, which on a laptop nobody else would do.
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
        # Tasks that are to run alone and whose turn has come, and those that do, by their managers.
        self._suspects: list[Any] = []
        self._alone: dict[bytes, int] = {}
        # Since when those run that did at the last look.
        self._running: dict[int, float] = {}
        self._parent = os.getppid()

    def expire_bad_managers(self, interesting_managers: set[bytes], monitoring_radio: Any) -> None:
        """Take commands, apply them, then do what upstream does."""
        while self._control.poll(0):
            request: Any = self._control.recv_json()
            command, words = request
            if command == Command.RUNNING:
                self._control.send_json(self._longer_than(float(words)))
            else:
                self._control.send_json(self._take(Command(command), words))
        if os.getppid() != self._parent:
            self._stop(interesting_managers)
            # Sent already: the sockets linger until they are empty, as long as anybody reads.
            self.zmq_context.destroy(linger=1000)
            os._exit(0)
        if self._stopping:
            self._stop(interesting_managers)
        elif self._lost or self._draining:
            self._apply(interesting_managers)
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

    def _longer_than(self, seconds: float) -> list[tuple[int, float]]:
        """Return the tasks that have run for so many seconds; a manager begins with those first
        that it has first.
        """
        now = time.monotonic()
        managers = self._ready_managers.values()
        running = [
            task for manager in managers for task in manager["tasks"][: manager["worker_count"]]
        ]
        self._running = {task: self._running.get(task, now) for task in running}
        return [
            (task, now - since) for task, since in self._running.items() if now - since >= seconds
        ]

    def _apply(self, interesting_managers: set[bytes]) -> None:
        more_to_read = bool(self.manager_sock.poll(0))
        for name, manager in list(self._ready_managers.items()):
            block = manager["block_id"]
            if block in self._lost:
                manager["active"] = False
                if not more_to_read or time.monotonic() - self._lost[block] > LAST_RESULTS_S:
                    # A lost node's worker may well be alive and cut off from Kubernetes only:
                    # nothing may run twice.
                    self.manager_sock.send_multipart([name, PKL_SHUTDOWN_CODE])
                    self._fail_tasks(name, manager)
                    self._forget(name, interesting_managers)
            elif block in self._draining:
                # Upstream then shuts it down as soon as it has no task (`expire_drained_managers`).
                manager["draining"] = True

    def _stop(self, interesting_managers: set[bytes]) -> None:
        for name in list(self._ready_managers):
            self.manager_sock.send_multipart([name, PKL_SHUTDOWN_CODE])
            self._forget(name, interesting_managers)

    def _forget(self, name: bytes, interesting_managers: set[bytes]) -> None:
        self._ready_managers.pop(name)
        interesting_managers.discard(name)

    def _fail_tasks(self, name: bytes, manager: Any) -> None:
        error = PodEnded(name, manager["hostname"])
        exception = serialize(RemoteExceptionWrapper(type(error), error, None))
        for task in manager["tasks"]:
            self.results_outgoing.send(
                pickle.dumps({"type": "result", "task_id": task, "exception": exception})
            )

    # A task that may have ended its pod runs alone: no other is with its manager.

    def get_tasks(self, count: int) -> list[Any]:
        """Take tasks from the queue in its order; those that are to run alone are set aside."""
        tasks: list[Any] = []
        while len(tasks) < count and self.pending_task_queue:
            for task in super().get_tasks(count - len(tasks)):
                chosen = self._suspects if _is_suspect(task) else tasks
                chosen.append(task)
        return tasks

    def process_tasks_to_send(
        self, interesting_managers: set[bytes], monitoring_radio: Any
    ) -> None:
        """Send tasks, as upstream, but none to a manager that one has for itself, or is to have."""
        while self.pending_task_queue and _is_suspect(self.pending_task_queue[-1][-1]):
            self._suspects += super().get_tasks(1)
        closed = self._give_suspects() if self._suspects or self._alone else set()
        aside = interesting_managers & closed
        interesting_managers -= aside
        super().process_tasks_to_send(interesting_managers, monitoring_radio)
        interesting_managers |= aside

    def _give_suspects(self) -> set[bytes]:
        """Give tasks that run alone to managers without a task; return all managers that may get no
        other.

        Where too few are empty, those with the fewest tasks get no more, so that they become empty.
        One manager is left to the other tasks, if there are two.
        """
        managers = self._ready_managers
        self._alone = {
            name: task
            for name, task in self._alone.items()
            if name in managers and task in managers[name]["tasks"]
        }
        usable = [
            name
            for name, manager in managers.items()
            if manager["active"] and not manager["draining"]
        ]
        spared = 1 if self.pending_task_queue else 0
        places = max(len(usable) - spared, 1) - len(self._alone.keys() & set(usable))
        free = sorted(
            set(usable) - self._alone.keys(),
            key=lambda name: (len(managers[name]["tasks"]), usable.index(name)),
        )
        chosen = free[: max(min(places, len(self._suspects)), 0)]
        for name in chosen:
            if not managers[name]["tasks"]:
                self._send_alone(name, managers[name], self._suspects.pop(0))
        return {*chosen, *self._alone}

    def _send_alone(self, name: bytes, manager: Any, task: Any) -> None:
        self.manager_sock.send_multipart([name, pickle.dumps([task])])
        self.count += 1
        manager["tasks"].append(task["task_id"])
        manager["idle_since"] = None
        self._alone[name] = task["task_id"]


def _is_suspect(task: Any) -> bool:
    return bool(task["context"].get(ALONE))


def main(arguments: Sequence[str]) -> None:
    """Run it with the configuration that HighThroughputExecutor pickles to standard input."""
    setproctitle("k8s-parsl: interchange")
    ControlledInterchange(arguments[0], **pickle.load(sys.stdin.buffer)).start()  # noqa: S301 (from our own parent)
