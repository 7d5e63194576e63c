"""Which tasks may wait in a worker pod: short ones alone, so that none waits for long.

A short task takes longer on its way than it runs. Each worker has a task already when another one
is sent ahead, so that none waits in one pod while another pod is idle. Where a task of an app
takes long after all, the pod hands back what waits behind it (`worker.handing_back`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# In a task's context: the name of its app; empty if the task must not wait in a pod, as it would be
# lost with the pod and may not run twice.
APP = "k8s_parsl_app"
# Tasks that may wait in a pod, for each of its workers.
AHEAD = 10
# Tasks whose app is known, or more if managers have more.
KNOWN = 20_000


class Ahead:
    """What one interchange knows about short tasks.

    Args:
        managers: Parsl's records, by name.
    """

    def __init__(self, managers: Mapping[bytes, Any]) -> None:
        self._managers = managers
        self._short: set[str] = set()
        # By task that was sent since there is a short app, its app.
        self._apps: dict[int, str] = {}
        # How many of these there may be before those that have ended are forgotten.
        self._most = KNOWN
        # Managers that may take more.
        self._with_room: set[bytes] = set()

    def note_app(self, app: str, *, is_short: bool) -> None:
        """Note that the tasks of an app are short from now on, or are not."""
        if is_short:
            self._short.add(app)
        else:
            self._short.discard(app)

    def is_short(self, task: Any) -> bool:
        """Return whether a task may wait in a pod."""
        return task["context"].get(APP) in self._short

    def note_sent(self, task: Any) -> None:
        """Note a task that is sent to a manager."""
        if self._short:
            self._apps[task["task_id"]] = task["context"].get(APP, "")
        if len(self._apps) > self._most:
            there = {task for manager in self._managers.values() for task in manager["tasks"]}
            self._apps = {task: app for task, app in self._apps.items() if task in there}
            # Not with each task where managers have that many.
            self._most = max(KNOWN, 2 * len(self._apps))

    def note_handed_back(self, name: bytes) -> None:
        """Note that a manager's tasks take long: it gets no more until they have ended."""
        manager = self._managers.get(name)
        if manager:
            self._apps.update(dict.fromkeys(manager["tasks"], ""))

    def note_changed(self, names: set[bytes]) -> None:
        """Note managers of which tasks have ended, or that are new."""
        if self._short:
            self._with_room |= names

    def fill(self, but: set[bytes], send: Callable[[bytes, int], int]) -> None:
        """Send tasks ahead to each manager with room.

        Args:
            but: managers that get none.
            send: sends up to so many tasks to a manager, and returns how many there were.
        """
        still = set()
        for name in self._with_room:
            room = 0 if name in but else self._room(name)
            if room and send(name, room) < room:
                still.add(name)
        self._with_room = still

    def _room(self, name: bytes) -> int:
        """Return how many tasks a manager may get ahead; 0 while it has enough of them."""
        manager = self._managers.get(name)
        if manager is None or not self._has_short_alone(manager):
            return 0
        workers = manager["worker_count"]
        most = AHEAD * workers
        room = most - max(len(manager["tasks"]) - workers, 0)
        # Several at once: each message costs.
        return room if room >= most // 2 else 0

    def _has_short_alone(self, manager: Any) -> bool:
        """Return whether each worker has a task, and all tasks there are short."""
        tasks = manager["tasks"]
        return len(tasks) >= manager["worker_count"] and all(
            self._apps.get(task) in self._short for task in tasks
        )
