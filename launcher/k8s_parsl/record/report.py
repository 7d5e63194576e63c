"""What a run leaves for programs: its record."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from k8s_parsl.journal.apps import App
from k8s_parsl.journal.state import State
from k8s_parsl.record import stored
from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.attempts import Begun

log = logging.getLogger(__name__)

# The space that the record of a run takes from its start on, so that there is some for its end.
SMALL_BYTES = 4096
# A larger record is not ours: to read one takes many times its size in memory.
RECORD_BYTES = 8 << 20
LEFT_OUT = f"left out here: the record would be larger than {RECORD_BYTES >> 20} MiB"
# The status of a run that has no end yet, and of one whose launcher ended without a word.
RUNNING = "running"
DIED = "died"
# What a record says of its end until there is one; its reader may come long after the launcher has
# died.
NO_END = (
    "no end is known: if its launcher (pod, or k8s-parsl's process) is gone, it died;"
    " the next attempt says so"
)
# Integers beyond this are written as texts.
LARGEST_INT = 10**300


@dataclass(frozen=True)
class Picture:
    """A picture that the workflow's result names; without content where it is too large."""

    name: str
    media: str
    content: bytes


@dataclass
class Record:
    """One run, as `record.json` keeps it. Times are ISO 8601 in UTC."""

    run: str
    installation: str
    workflow: str
    versions: str
    started: str
    # Repository and commit of the workflow's code, or the digest of its files.
    code: str = ""
    # The image of the workflow container, as kubelet has it.
    image: str = ""
    status: str = RUNNING
    ended: str = ""
    seconds: float = 0.0
    exit_code: int | None = None
    message: str = NO_END
    tasks: list[dict[str, Any]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    # How many workers each executor's pods have, and why not more.
    workers: list[str] = field(default_factory=list)
    # Tasks that took many times as long as others of their app, as they were named while they ran.
    long_tasks: list[tuple[str, str]] = field(default_factory=list)
    # Why worker pods waited or ended (k8s_parsl.reasons), and how often.
    reasons: dict[str, int] = field(default_factory=dict)
    # What the workflow returned, as far as JSON takes it.
    result: Any = None
    # Exit status of the workflow's process, and its last lines where it did not end well.
    workflow_status: int | None = None
    last_lines: list[str] = field(default_factory=list)
    # Which attempt at the run this is, the pod that makes it, and what is kept of those before it.
    attempt: int = 1
    launcher: str = ""
    attempts: list[dict[str, Any]] = field(default_factory=list)
    # Whose tasks may run twice (`parsl.retryLostTasks`).
    retry_lost_tasks: str | Sequence[str] = "cached"
    # `<namespace>/<release>`; empty on a laptop.
    release: str = ""
    # The older run that this one goes on from, and the fields of `Resumed` for each app.
    resumed_from: str = ""
    # The older run whose working directory this one goes on in; empty where it has its own.
    work_of: str = ""
    # What distinguishes the arguments that the workflow is called with; empty in older records.
    arguments: str = ""
    resumed: list[dict[str, Any]] = field(default_factory=list)
    # For how long this attempt's worker pods ran, in total; None where it is not known.
    pod_seconds: float | None = None
    version: int = stored.VERSION

    @property
    def is_done(self) -> bool:
        """Whether the run need not run again."""
        return self.status.startswith("done") and self.exit_code == 0

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """Return the record at ``path``; None where there is none that can be read.

        A launcher may have died while it wrote.

        Raises:
            PermissionDenied: it, or a folder of the run's, is a link.
        """
        why: object
        try:
            return cls(**stored.read(files.read(path, volume_of(path), RECORD_BYTES)))
        except FileNotFoundError:
            return None
        except OSError as error:
            why = error.strerror
        except ValueError as error:
            why = error
        log.warning("%s: %s; taken as a run that did not end", path, why)
        return None

    def write(self, path: Path) -> None:
        """Write it whole.

        Where that fails, at least write how the run ended into the space that the file has already.

        Raises:
            OSError: it was not written whole.
        """
        try:
            _write(path, _json(self).ljust(SMALL_BYTES))
        except OSError as error:
            what = "there is no record"
            if path.exists():
                self._write_end(path)
                what = "the record has the end of the run, and no more"
            raise OSError(error.errno, f"{error.strerror}; {what}") from None

    def _write_end(self, path: Path) -> None:
        """Write over the record of the run's start, which needs no space on a full volume."""
        with os.fdopen(files.opened(path, volume_of(path), os.O_RDWR), "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            file.write(_json(_end(self)).encode().ljust(size))

    def pod_seconds_by_attempt(self) -> dict[int, float]:
        """Return for how long the worker pods of each attempt ran, as far as it is known."""
        own = {"attempt": self.attempt, "pod_seconds": self.pod_seconds}
        return {
            one["attempt"]: one["pod_seconds"]
            for one in (*self.attempts, own)
            if one["pod_seconds"] is not None
        }

    def add(self, state: State) -> None:
        """Take over what the tasks did."""
        self.tasks = [_row(name, app) for name, app in sorted(state.tasks.apps.items())]
        self.failures = state.tasks.failures.texts
        self.long_tasks = list(state.long)
        self.reasons = dict(state.pods.reasons.most_common())
        self.code = self.code or str(state.run.get("code", ""))
        self.image = str(state.run.get("image", ""))
        self.resumed = [one._asdict() for one in state.resumed.values()]


def rows_of(begun: Begun) -> list[dict[str, Any]]:
    """Return a list of begun tasks as the rows of a record, for an attempt that has left none."""
    rows = []
    for app, tally in sorted(begun.apps.items()):
        tasks = App(submitted=tally.begun, done=tally.done, failed=tally.failed)
        rows.append(_row(app, tasks))
    return rows


def _row(name: str, app: App) -> dict[str, Any]:
    seconds = app.seconds
    return {
        "app": name,
        "submitted": app.submitted,
        "done": app.done,
        "failed": app.failed,
        # Not ended when the run did.
        "cancelled": app.open,
        "retried": app.retried,
        "median_s": round(seconds.median, 3) if seconds.number else None,
        "longest_s": round(seconds.longest, 3) if seconds.number else None,
        "total_s": round(seconds.total, 3),
        "waited_s": round(app.waited, 3),
    }


def _end(record: Record) -> Record:
    """Return the record with how the run ended, and no more."""
    attempts = []
    if record.attempts:
        last = record.attempts[-1]
        attempts = [last | {"tasks": [], "message": last["message"][:100]}]
    return replace(
        record,
        tasks=[],
        failures=[],
        long_tasks=[],
        reasons={},
        pod_seconds=None,
        result=None,
        last_lines=[],
        message=record.message[:1000],
        attempts=attempts,
    )


def _json(record: Record) -> str:
    """Return the record as JSON that can be read again, without what would make it too large."""
    for indent in (1, None):
        text = _text_of(record, indent)
        if len(text) <= RECORD_BYTES:
            return text
    return _text_of(replace(_end(record), result=LEFT_OUT), 1)


def _text_of(record: Record, indent: int | None) -> str:
    # Not by `asdict`, which copies the whole result.
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return written(values, indent=indent) + "\n"


def written(value: Any, *, ensure_ascii: bool = True, indent: int | None = 1) -> str:
    """Return JSON that any reader takes, for any value that the workflow's side sent."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False, ensure_ascii=ensure_ascii)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; what JSON cannot hold, such as `NaN`, becomes a text."""
    match value:
        case dict():
            return {_text(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case None | bool():
            return value
        # Most readers do not take a longer number, and Python refuses to write it.
        case int() if abs(value) < LARGEST_INT:
            return value
        case float() if math.isfinite(value):
            return value
        case int():
            return hex(value)
        case _:
            return _text(value)


def _text(value: Any) -> str:
    return str(value).encode(errors="replace").decode()


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    files.write(path, volume_of(path), text.encode(errors="replace"))


def volume_of(path: Path) -> Path:
    """Return the folder below which nothing may be a link: that of the volume.

    ``path`` is `<run.volume>/runs/<run>/record.json`, or another file beside it.
    """
    return path.parents[2]
