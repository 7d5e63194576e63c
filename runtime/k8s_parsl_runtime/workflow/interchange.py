"""Parsl's interchange with a control socket, for what only the provider knows.

(docs/dev/architecture.md, "The interchange")

`executor` starts it as a process. Parsl's own learns of a dead worker pod by a heartbeat that does
not come, after `heartbeat_threshold` seconds; this one gets it from the pod watch (12 ms from kill
to retry, measured). And it gives a task that may have ended its pod a manager to itself (`losses`).

It knows Parsl's insides: tests/runtime/test_parsl_contract.py pins what it uses of them.
"""

from __future__ import annotations

import enum
import math
import os
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import zmq
from parsl.app.errors import RemoteExceptionWrapper
from parsl.executors.high_throughput.errors import ManagerLost
from parsl.executors.high_throughput.interchange import PKL_SHUTDOWN_CODE, Interchange
from parsl.serialize import serialize
from parsl.utils import setproctitle

from k8s_parsl_runtime.shared import handed_back
from k8s_parsl_runtime.workflow.ahead import Ahead

# How long the tasks of a lost pod may wait for results that it sent before its end.
LAST_RESULTS_S = 0.5
# Seconds between two looks at the heartbeats of all managers. Parsl looks at each manager twice
# for each message: with 250 managers that is a good part of a task's CPU time
# (benchmarks/managers.py).
LOOK_S = 1.0
# In a task's context: no other task may be with its manager at the same time.
ALONE = "k8s_parsl_alone"
# In a task's context: its app has `maxRunning`, so the task must not wait in a pod behind others.
CAPPED = "k8s_parsl_capped"


class PodEnded(ManagerLost):
    """The launcher reported the end of the pod; a plain ManagerLost missed its heartbeat."""


class Command(enum.StrEnum):
    """A command on the control socket, as JSON `[command, block]`.

    The answer is a number of managers, but for `RUNNING` and `WORKERS`.
    """

    LOST = "lost"
    """The block's pod is gone: fail its tasks with ManagerLost now, so that they are run again."""
    DRAIN = "drain"
    """The block gets no more tasks; its manager ends when those that it has are done."""
    STOP = "stop"
    """Every manager ends now, also one with tasks."""
    PING = "ping"
    """Are you there?"""
    RUNNING = "running"
    """The tasks that run for longer than the seconds that are given in place of a block.

    The answer is a list of [task, seconds, block].
    """
    WORKERS = "workers"
    """The workers that are there: the answer is a list of [block, number]."""
    SHORT = "short"
    """The tasks of this app, which is given in place of a block, are short: send them ahead."""
    LONG = "long"
    """The tasks of this app are not short any more."""


class ControlledInterchange(Interchange):
    """The interchange, which reads its control socket in each turn of its loop.

    Turns are at most `poll_period` apart. A command for a block also holds for a manager of it that
    registers later: a pod may be lost with its registration still on the way. When the launcher's
    process is gone it stops its managers and ends, which nothing else would do on a laptop.
    """

    results_outgoing: Any

    def __init__(self, endpoint: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._control: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.REP)
        self._control.setsockopt(zmq.LINGER, 0)
        self._control.bind(endpoint)
        # By block, when it was lost.
        self._lost: dict[str, float] = {}
        self._draining: set[str] = set()
        self._stopping = False
        # Tasks that have to run alone and whose turn has come.
        self._suspects: list[Any] = []
        # Tasks of apps with `maxRunning` whose turn has come.
        self._capped: list[Any] = []
        # By manager, the task that runs alone there.
        self._alone: dict[bytes, int] = {}
        # By task, since when it runs; as of the last `RUNNING`.
        self._running: dict[int, float] = {}
        self._ahead = Ahead(self._ready_managers)
        self.results_outgoing = _Results(self.results_outgoing, self._take_back)
        self._parent = os.getppid()
        self._looks_at = 0.0

    def expire_bad_managers(self, interesting_managers: set[bytes], monitoring_radio: Any) -> None:
        """Take commands, apply them, then do what Parsl does."""
        while self._control.poll(0):
            request: Any = self._control.recv_json()
            self._control.send_json(self._answer(*request))
        if os.getppid() != self._parent:
            self._stop(interesting_managers)
            # Send what is still in the sockets, as long as a manager reads it.
            self.zmq_context.destroy(linger=1000)
            os._exit(0)
        if self._stopping:
            self._stop(interesting_managers)
        elif self._lost or self._draining:
            self._apply(interesting_managers)
        if self._is_time_to_look():
            super().expire_bad_managers(interesting_managers, monitoring_radio)

    def expire_drained_managers(
        self, interesting_managers: set[bytes], monitoring_radio: Any
    ) -> None:
        """End drained managers without a task; look for one only where a block is drained."""
        if self._draining or self._is_time_to_look():
            super().expire_drained_managers(interesting_managers, monitoring_radio)
            # The second of the two looks of a turn.
            self._looked()

    def _is_time_to_look(self) -> bool:
        return time.monotonic() >= self._looks_at

    def _looked(self) -> None:
        if self._is_time_to_look():
            self._looks_at = time.monotonic() + LOOK_S

    def _answer(self, command: str, block: str) -> Any:
        match Command(command):
            case Command.RUNNING:
                return self._longer_than(float(block))
            case Command.WORKERS:
                managers = self._ready_managers.values()
                return [(manager["block_id"], manager["worker_count"]) for manager in managers]
            case Command.LOST:
                self._lost.setdefault(block, time.monotonic())
                return self._managers_of(block)
            case Command.DRAIN:
                self._draining.add(block)
                return self._managers_of(block)
            case Command.STOP:
                self._stopping = True
            case Command.SHORT:
                self._ahead.note_app(block, is_short=True)
            case Command.LONG:
                self._ahead.note_app(block, is_short=False)
        return len(self._ready_managers)

    def _managers_of(self, block: str) -> int:
        return sum(manager["block_id"] == block for manager in self._ready_managers.values())

    def _longer_than(self, seconds: float) -> list[tuple[int, float, str]]:
        """Return the tasks that have run for so many seconds, each with how long, and its block."""
        now = time.monotonic()
        running = self._running_now()
        self._running = {task: self._running.get(task, now) for task in running}
        long: list[tuple[int, float, str]] = []
        for task, since in self._running.items():
            age = now - since
            if age >= seconds:
                long.append((task, age, running[task]))
        return long

    def _running_now(self) -> dict[int, str]:
        """Return the tasks that run, each with its block."""
        running: dict[int, str] = {}
        for manager in self._ready_managers.values():
            # A manager runs its tasks in their order, one per worker.
            for task in manager["tasks"][: manager["worker_count"]]:
                running[task] = manager["block_id"]
        return running

    def _apply(self, interesting_managers: set[bytes]) -> None:
        """Fail the tasks of lost blocks, and drain those that are to be drained."""
        more_to_read = bool(self.manager_sock.poll(0))
        for name, manager in list(self._ready_managers.items()):
            block = manager["block_id"]
            if block in self._lost:
                # It gets no more tasks while its last results are read.
                manager["active"] = False
                waited = time.monotonic() - self._lost[block]
                if not more_to_read or waited > LAST_RESULTS_S:
                    self._end_lost(name, manager, interesting_managers)
            elif block in self._draining:
                # Parsl then shuts it down as soon as it has no task (`expire_drained_managers`).
                manager["draining"] = True

    def _end_lost(self, name: bytes, manager: Any, interesting_managers: set[bytes]) -> None:
        """End the manager of a lost pod, and fail its tasks.

        The manager may still run, on a node that is cut off from Kubernetes only: it gets the order
        to end, so that no task runs twice.
        """
        self._shut_down(name)
        self._fail_tasks(name, manager)
        self._forget(name, interesting_managers)

    def _stop(self, interesting_managers: set[bytes]) -> None:
        for name in list(self._ready_managers):
            self._shut_down(name)
            self._forget(name, interesting_managers)

    def _shut_down(self, name: bytes) -> None:
        self.manager_sock.send_multipart([name, PKL_SHUTDOWN_CODE])

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
        """Take tasks from the queue in its order.

        Those are set aside that have to run alone, or must not wait in a pod.
        """
        tasks: list[Any] = []
        while len(tasks) < count and self.pending_task_queue:
            for task in super().get_tasks(count - len(tasks)):
                if _is_special(task):
                    self._set_aside(task)
                else:
                    self._note_sent(task)
                    tasks.append(task)
        return tasks

    def _set_aside(self, task: Any) -> None:
        of_its_kind = self._suspects if _is_suspect(task) else self._capped
        of_its_kind.append(task)

    def _note_sent(self, task: Any) -> None:
        _stamp(task)
        self._ahead.note_sent(task)

    def process_tasks_to_send(
        self, interesting_managers: set[bytes], monitoring_radio: Any
    ) -> None:
        """Send tasks, as Parsl does, but none to a manager that a task has to itself."""
        while self.pending_task_queue and _is_special(self.pending_task_queue[-1][-1]):
            self._set_aside(super().get_tasks(1)[0])
        taken: set[bytes] = set()
        if self._suspects or self._alone:
            taken = self._give_suspects()
        if self._capped:
            taken = taken | self._give_capped(taken)
        aside = interesting_managers & taken
        interesting_managers -= aside
        self._ahead.note_changed(interesting_managers)
        super().process_tasks_to_send(interesting_managers, monitoring_radio)
        if self._next_is_short():
            self._ahead.fill(taken, self._send_ahead)
        interesting_managers |= aside

    def _send_ahead(self, name: bytes, most: int) -> int:
        """Send short tasks that wait in the pod; return how many there were."""
        manager = self._ready_managers[name]
        tasks: list[Any] = []
        while len(tasks) < most and _is_usable(manager) and self._next_is_short():
            tasks += self.get_tasks(1)
        if tasks:
            self._send(name, manager, tasks)
        return len(tasks)

    def _send(self, name: bytes, manager: Any, tasks: list[Any]) -> None:
        self.manager_sock.send_multipart([name, pickle.dumps(tasks)])
        self.count += len(tasks)
        manager["tasks"].extend(task["task_id"] for task in tasks)
        manager["idle_since"] = None

    def _take_back(self, message: bytes) -> None:
        """Put a task into the queue again, at its place, that a manager has handed back."""
        manager, task = handed_back.unpack(message)
        self._ahead.note_handed_back(manager)
        priority = task["context"].get("resource_spec", {}).get("priority", math.inf)
        self.pending_task_queue.add((-priority, -task["task_id"], task))

    def _next_is_short(self) -> bool:
        if not self.pending_task_queue:
            return False
        task = self.pending_task_queue[-1][-1]
        return not _is_special(task) and self._ahead.is_short(task)

    def _give_capped(self, taken: set[bytes]) -> set[bytes]:
        """Give each task that must not wait in a pod to a manager with an idle worker.

        Args:
            taken: managers that get none.

        Returns:
            The managers that get no other task either: while one of these tasks is left, none gets
            more than its workers can run, so that a worker becomes idle.
        """
        managers = self._ready_managers
        usable = {name for name in managers if _is_usable(managers[name])} - taken
        # The last one first, as Parsl takes them.
        for name in reversed(self.manager_selector.sort_managers(managers, usable)):
            room = _idle_workers(managers[name])
            tasks, self._capped = self._capped[:room], self._capped[room:]
            if tasks:
                for task in tasks:
                    self._note_sent(task)
                self._send(name, managers[name], tasks)
        if not self._capped:
            return set()
        return {name for name in usable if not _idle_workers(managers[name])}

    def _give_suspects(self) -> set[bytes]:
        """Give each task that has to run alone to a manager without a task.

        If too few managers are empty, those with the fewest tasks get no more, so that they become
        empty. While other tasks wait, one of two or more managers is left to them.

        Returns:
            The managers that get no other task.
        """
        self._forget_ended_suspects()
        managers = self._ready_managers
        usable = [name for name in managers if _is_usable(managers[name])]
        free = [name for name in usable if name not in self._alone]
        # The sort is stable: among equals, the manager that came first.
        free.sort(key=lambda name: len(managers[name]["tasks"]))
        number = min(self._places_alone(len(usable), len(free)), len(self._suspects))
        chosen = free[:number]
        for name in chosen:
            if not managers[name]["tasks"]:
                self._send_alone(name, managers[name], self._suspects.pop(0))
        return {*chosen, *self._alone}

    def _places_alone(self, usable: int, free: int) -> int:
        """Return how many more managers a task may have to itself.

        Args:
            usable: the number of managers that get tasks.
            free: the number of those that no task has to itself yet.
        """
        left_to_others = 1 if self.pending_task_queue else 0
        most = max(usable - left_to_others, 1)
        taken = usable - free
        return max(most - taken, 0)

    def _forget_ended_suspects(self) -> None:
        for name, task in list(self._alone.items()):
            manager = self._ready_managers.get(name)
            if manager is None or task not in manager["tasks"]:
                del self._alone[name]

    def _send_alone(self, name: bytes, manager: Any, task: Any) -> None:
        _stamp(task)
        self._send(name, manager, [task])
        self._alone[name] = task["task_id"]


class _Results:
    """The socket on which results go to the workflow, past tasks that managers hand back.

    To Parsl's interchange these are results, too: it takes the task from its manager's list.
    """

    def __init__(self, socket: Any, take_back: Callable[[bytes], None]) -> None:
        self._socket = socket
        self._take_back = take_back

    def send(self, message: bytes) -> None:
        """Send a result, or take a task back."""
        if handed_back.is_task(message):
            self._take_back(message)
        else:
            self._socket.send(message)


def _is_usable(manager: Any) -> bool:
    return manager["active"] and not manager["draining"]


def _stamp(task: Any) -> None:
    """Have a task's worker know when it was sent: that travels with what it measures."""
    arguments = task["context"]["task_executor"]["a"]
    arguments[0] = time.time()


def _is_suspect(task: Any) -> bool:
    return bool(task["context"].get(ALONE))


def _idle_workers(manager: Any) -> int:
    workers: int = manager["worker_count"]
    return max(workers - len(manager["tasks"]), 0)


def _is_capped(task: Any) -> bool:
    return bool(task["context"].get(CAPPED))


def _is_special(task: Any) -> bool:
    """Return whether a task is set aside as soon as its turn comes."""
    return _is_suspect(task) or _is_capped(task)


def main(arguments: Sequence[str]) -> None:
    """Run the interchange; HighThroughputExecutor pickles its configuration to standard input."""
    setproctitle("k8s-parsl: interchange")
    configuration = pickle.load(sys.stdin.buffer)  # noqa: S301 (from our own parent)
    ControlledInterchange(arguments[0], **configuration).start()
