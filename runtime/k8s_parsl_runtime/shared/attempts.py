"""Attempts of a run: which tasks each of them began, and which may run twice.

An attempt is what one launcher does for a run; if it dies, the Job's next launcher makes another
attempt. Each keeps a list in the run's folder that is ahead of its work: a task is in it before a
worker gets it. The workflow's side writes the list (`workflow.begun`), and both sides read what
earlier attempts left.

A line is a JSON list: `["begun", app]`, with the hash of the call as a third entry if the app has
`cache=True`. At the task's end `["done", app]` or `["failed", app]` follows, or `["kept", app]`
where a checkpoint has the result.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from json import JSONDecoder
from pathlib import Path
from typing import Any

from k8s_parsl_runtime.shared import files

# The list of one attempt, in the run's folder for Parsl.
PREFIX = "begun-"
SUFFIX = ".jsonl"
# Beyond one of these limits, a list was not written by k8s-parsl.
LINE_BYTES = 4096
LIST_BYTES = 1 << 30
APPS = 100_000
ATTEMPTS = 10**6
# The app that fetches a file before a task (workflow.staging): it may always run twice.
FETCHING = "_stage_in"
CACHED = "cached"

# Bound now: the user's code may replace the functions of `json`.
_from_json = JSONDecoder().decode


def may_run_twice(lost_tasks: str | Collection[str], app: str, *, cached: bool) -> bool:
    """Return whether a task of ``app`` that was begun may be run again.

    Args:
        lost_tasks: `parsl.retryLostTasks`: `cached`, `all`, `none` or the names of apps.
        app: its name.
        cached: whether it has `cache=True`.
    """
    if app == FETCHING or lost_tasks == "all":
        return True
    if lost_tasks == CACHED:
        return cached
    return lost_tasks != "none" and app in lost_tasks


def why_not(lost_tasks: str | Collection[str]) -> str:
    """Return why an app may not run twice, as a part of a sentence about it."""
    if lost_tasks == CACHED:
        return "no cache=True, and parsl.retryLostTasks does not name it"
    return "parsl.retryLostTasks leaves it out"


@dataclass
class Tally:
    """What earlier attempts did with the tasks of one app."""

    begun: int = 0
    done: int = 0
    failed: int = 0
    # The done ones whose result a checkpoint has.
    kept: int = 0
    # Begun without `cache=True`: no hash distinguishes one call from another.
    uncached: int = 0

    @property
    def open(self) -> int:
        """How many tasks were begun and have no result in a checkpoint."""
        return max(self.begun - self.kept, 0)

    def add(self, other: Tally) -> None:
        """Add what another attempt did."""
        for name, number in vars(other).items():
            setattr(self, name, getattr(self, name) + number)


@dataclass
class Begun:
    """What lists of begun tasks say."""

    apps: dict[str, Tally] = field(default_factory=dict)
    # Calls of apps with `cache=True`, by their hash.
    calls: set[str] = field(default_factory=set)
    # Why a part of them cannot be read; empty where all could be.
    damage: str = ""
    # False where only the launcher reads: the calls of a long run take much memory.
    with_calls: bool = True

    def add(self, other: Begun) -> None:
        """Add what another list says."""
        for app, tally in other.apps.items():
            self.apps.setdefault(app, Tally()).add(tally)
        self.calls |= other.calls
        self.damage = self.damage or other.damage

    def take(self, kind: str, app: str, call: str = "") -> None:
        """Count one line.

        Args:
            kind: `begun`, `kept`, `done` or `failed`.
            app: the app's name.
            call: the hash of the call; empty without `cache=True`.

        Raises:
            TypeError: a name or hash is no text.
            ValueError: there is no such kind, or there are too many apps.
        """
        if not isinstance(app, str) or not isinstance(call, str):
            raise TypeError(app)
        tally = self.apps.setdefault(app, Tally())
        if len(self.apps) > APPS:
            raise ValueError(app)
        match kind:
            case "begun" if call:
                tally.begun += 1
                if self.with_calls:
                    self.calls.add(call)
            case "begun":
                tally.begun += 1
                tally.uncached += 1
            case "kept":
                tally.done += 1
                tally.kept += 1
            case "done":
                tally.done += 1
            case "failed":
                tally.failed += 1
            case _:
                raise ValueError(kind)


def path(folder: Path, attempt: int) -> Path:
    """Return where an attempt's list is."""
    return folder / f"{PREFIX}{attempt}{SUFFIX}"


def volume(folder: Path) -> Path:
    """Return the volume of ``folder``, `<run.volume>/runs/<run>/parsl`.

    Below it nothing may be a link.
    """
    return folder.parents[2]


def lists(folder: Path) -> dict[int, Path]:
    """Return the lists in a folder, by the number of their attempt.

    Raises:
        Refused: the folder, or one that leads there from the volume, is a link.
        OSError: the folder cannot be read.
    """
    return {number: file for number, file in _candidates(folder) if number}


def read_all(folder: Path, *, with_calls: bool = True) -> Begun:
    """Return what all lists in a folder say together, up to the first damage.

    Raises:
        Refused: the folder, or one that leads there from the volume, is a link.
    """
    begun = Begun(with_calls=with_calls)
    try:
        candidates = _candidates(folder)
    except OSError as error:
        return Begun(damage=f"{folder}: {error.strerror}")
    for number, file in candidates:
        if number:
            begun.add(read(file, with_calls=with_calls))
        else:
            begun.damage = f"{file}: no attempt has this number"
        if begun.damage:
            break
    return begun


def _candidates(folder: Path) -> list[tuple[int, Path]]:
    """Return the files that are named as a list, each with its attempt's number.

    The number is 0 where no attempt can have it.
    """
    try:
        names = files.names(folder, volume(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for name in names:
        text = name.removeprefix(PREFIX).removesuffix(SUFFIX)
        is_named_so = name == f"{PREFIX}{text}{SUFFIX}"
        if is_named_so and text.isascii() and text.isdigit():
            found.append((_number(text), folder / name))
    return sorted(found)


def _number(text: str) -> int:
    """Return the number of an attempt as `path` writes it; 0 for any other."""
    number = int(text)
    if number > ATTEMPTS or str(number) != text:
        return 0
    return number


def read(file: Path, *, with_calls: bool = True) -> Begun:
    """Return what a list says, up to its first damage, which is in `damage`.

    The list may end with half a line: that task was not handed over, as it waits for the whole
    line.
    """
    begun = Begun(with_calls=with_calls)
    try:
        begun.damage = _read_into(begun, file)
    except OSError as error:
        begun.damage = f"{file}: {error.strerror}"
    except files.Refused as refused:
        begun.damage = str(refused)
    return begun


def _read_into(begun: Begun, file: Path) -> str:
    """Count the lines of a list; return why the rest cannot be read, empty where it can."""
    with os.fdopen(files.opened(file, volume(file.parent), os.O_RDONLY), "rb") as stream:
        if os.fstat(stream.fileno()).st_size > LIST_BYTES:
            return f"{file}: it is larger than {LIST_BYTES >> 20} MiB"
        lines = iter(lambda: stream.readline(LINE_BYTES), b"")
        for number, line in enumerate(lines, 1):
            if line.endswith(b"\n"):
                is_fine = _count(begun, line)
            else:
                # Half a line at the end is fine. A node that dies may leave zeros there, though.
                is_fine = b"\0" not in line and not stream.peek(1)
            if not is_fine:
                return f"{file}, line {number}: this is no line of a list of begun tasks"
    return ""


def _count(begun: Begun, line: bytes) -> bool:
    """Count a line; return whether it could be read."""
    try:
        words: Any = _from_json(line.decode())
        begun.take(*words)
    except (ValueError, TypeError, RecursionError):
        return False
    return True
