"""The journal of the attempt that this launcher makes: its file, and the state so far."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from k8s_parsl.journal import events
from k8s_parsl.journal.events import Event
from k8s_parsl.journal.groups import Group
from k8s_parsl.journal.state import State
from k8s_parsl.journal.writer import Writer, path_of
from k8s_parsl_runtime.shared.grouped import MS

# Digits of a second that are kept.
DIGITS = 3


class Journal:
    """What happened in this attempt; any thread may add to it and look at its state."""

    def __init__(self) -> None:
        # Seconds since the epoch.
        self.started = time.time()
        self._clock = time.monotonic()
        self._state = State()
        self._lock = threading.Lock()
        self._writer = Writer()
        # The run's folder and the number of the attempt, once it is written.
        self.place: tuple[Path, int] | None = None
        # Whether it has its first event, and its last one.
        self.begun = False
        self.ended = False

    def begin(self, **facts: Any) -> None:
        """Note the first event, with what is known of the run."""
        self.begun = True
        first = {"event": "run", "version": events.VERSION, "t": 0.0, "at": round(self.started, 3)}
        event = first | facts
        with self._lock:
            self._state.take(event)
            self._writer.put_first(event)

    def open(self, folder: Path, attempt: int, volume: Path) -> None:
        """Begin to write the file of this attempt, into the run's folder."""
        self._writer.open(path_of(folder, attempt), volume)
        self.place = (folder, attempt)

    def note(self, kind: str, **facts: Any) -> None:
        """Note an event of now."""
        with self._lock:
            self._add({"event": kind, "t": self._now(), **facts})

    def take_tasks(self, told: Iterable[Sequence[Any]]) -> None:
        """Note what tasks did, as the workflow's process reports it (`run.messages.Tasks`)."""
        with self._lock:
            now = self._now()
            self._state.reach(now)
            for kind, app, what in told:
                if kind == "tries":
                    self._add_tries(now, app, what)
                else:
                    self._add({"event": kind, "t": now, "app": app, **self._of(kind, what)})

    @contextmanager
    def locked(self) -> Iterator[State]:
        """Hold the state still while the block reads it; nothing is noted meanwhile."""
        with self._lock:
            self._state.reach(self._now())
            yield self._state

    def end(self, **facts: Any) -> None:
        """Note the last event, with how the attempt ended."""
        with self._lock:
            event = {"event": "end", "t": self._now(), **facts}
            self._state.take(event)
            self.ended = True
            self._writer.put(event, always=True)

    def counts(self) -> tuple[int, int, int]:
        """Return how many tasks were submitted, done and failed so far."""
        with self._lock:
            return self._state.tasks.counts()

    def held(self) -> str:
        """Return which tasks wait in the workflow, and why; empty where none does."""
        with self._lock:
            return "; ".join(one.text for one in self._state.held())

    def finish(self) -> None:
        """Write what is left; wait for the volume only for a moment."""
        self._writer.finish()

    def _now(self) -> float:
        return round(time.monotonic() - self._clock, DIGITS)

    def _since_start(self, moment: float) -> float:
        return round(moment - self.started, DIGITS)

    def _add(self, event: Event) -> None:
        self._state.take(event)
        self._writer.put(event)

    def _add_tries(self, now: float, app: str, what: Any) -> None:
        """Add the ends of some tries: there is one for each task, so no event is read for it."""
        each = what["each"]
        same = what["same"]
        since = what["since"] - round(self.started * MS)
        self._state.take_group(app, Group(since, each, same))
        # `each` first, as `groups.names` expects it.
        event = {"event": "tries", "each": each, "since": since, "same": same}
        self._writer.put({**event, "t": now, "app": app})

    def _of(self, kind: str, what: Any) -> Event:
        """Return the fields of an event by what the workflow's process says of it."""
        match kind:
            case "submitted":
                return {"ids": what}
            case "running":
                task, number, executor, pod, since = what
                return {
                    "task": task,
                    "try": number,
                    "executor": executor,
                    "pod": pod,
                    "since": self._since_start(since),
                }
            case "waiting":
                permit, retry = what
                return {"permit": permit, "retry": retry}
            case "made":
                task, number, outputs = what
                return {"task": task, "try": number, "outputs": outputs}
            case _:
                return {"text": what}
