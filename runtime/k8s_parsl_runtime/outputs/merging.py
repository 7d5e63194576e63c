"""Merges the parts that were written by `append`, each once, in the workflow's process.

What counts is in a list in the run's folder: a line for each task whose result has arrived, on the
disk before the result counts. A part that is not in the list is that of a lost try.

A merged file is a function of what was there before the run, and of the parts that count, in the
order of their tasks' numbers (`target_state` says which bytes of it are whose). The parts stay
until the run ends well, so a file that was removed after a run that failed is made again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from json import JSONDecoder, JSONEncoder
from pathlib import Path
from typing import IO, Any, NamedTuple

from k8s_parsl_runtime.outputs import current, lost_parts
from k8s_parsl_runtime.outputs.current import OfRun, Task
from k8s_parsl_runtime.outputs.errors import OutputError
from k8s_parsl_runtime.outputs.parts import PART
from k8s_parsl_runtime.outputs.target_state import AGAIN, Segment, TargetState, Version
from k8s_parsl_runtime.outputs.whole import Output, target_of
from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.attempts import volume
from k8s_parsl_runtime.shared.noted import PART_BYTES, Noted, Part, synced_folder

log = logging.getLogger("k8s_parsl_runtime")

# Begin the names of the lists: of an attempt, and of an older run (`older_run`).
PREFIX = "parts-"
INHERITED = "inherited-"
SUFFIX = ".jsonl"
# The lists of an older run come before those of any attempt.
OLDER = -(10**7)
LIST_BYTES = 1 << 30
# In place of a task's number, in the name of the temporary folder of a merge.
OF_MERGE = 10**17
# Begins what stands for the call where the workflow itself appends.
BY_WORKFLOW = "workflow "
# Its parts come after all of the task that it has called last.
AFTER_TASK = 10**9
# Files that one line names.
NAMED = 10
_to_json = JSONEncoder().encode
_from_json = JSONDecoder().decode


class NotMerged(OutputError):
    """A file cannot be merged, and the text says where its parts are and what to do."""


class Counted(NamedTuple):
    """A part that counts, and its place in the order."""

    task: int
    attempt: int
    place: int
    part: Part
    # The same in each attempt for the same call.
    call: str


class Merger:
    """The parts of a run; any thread may use it.

    Args:
        run: what the workers know about the run, too.
        folder: in the run's folder; None where no launcher can follow this one.

    Raises:
        OutputError: what earlier attempts have noted cannot be read.
    """

    def __init__(self, run: OfRun, folder: Path | None) -> None:
        self._run = run
        self._folder = folder
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._file = -1
        # By attempt: the parts of each task, with the call by which another attempt knows it.
        self._arrived: dict[int, list[tuple[str, list[Counted]]]] = {run.attempt: []}
        self._states: dict[Path, TargetState] = {}
        # Where parts are, whether they count or not.
        self._folders: set[str] = set()
        self._keys = {run.key}
        self._texts: Counter[tuple[str, str]] = Counter()
        # By call: a target that lacks what it has added.
        self._gone: dict[str, str] = {}
        # Returns the number of the task that the workflow has called last; -1 for none.
        self.last_called: Callable[[], int] = lambda: -1
        if folder is not None:
            self._read_earlier(folder)

    def refuse_fork(self, target: Path) -> None:
        """Refuse to work for a child of the workflow's process, whose parts would be in no list.

        Raises:
            OutputError: this is such a process.
        """
        if os.getpid() != self._process:
            raise OutputError(
                f"output {target}: append() and merged() do not work in a process that the workflow"
                " has forked: call them in the workflow's own process, or in a task"
            )

    # What counts.

    def arrived(self, task: int, call: str, parts: list[Part]) -> None:
        """Note the parts of a task whose result has arrived; return when that is on the disk.

        Args:
            task: its number.
            call: the same in each attempt for the same call; empty where that is not known.
            parts: what it adds.

        Raises:
            OSError: it cannot be noted.
        """
        with self._lock:
            if self._folder is not None:
                self._write([task, call, [list(part) for part in parts]])
            rows = self._arrived[self._run.attempt]
            rows.append((call, _counted(task, self._run.attempt, len(rows), call, parts)))
            self.seen(parts)

    def appended(self, part: Part) -> None:
        """Note what the workflow itself appends; return when that is on the disk.

        The same text takes the place of that of an earlier attempt. What an earlier attempt alone
        has appended stays, as the workflow may have seen that it is there.

        Raises:
            OSError: it cannot be noted.
        """
        with self._lock:
            text = (part.target, part.sha256)
            self._texts[text] += 1
            call = f"{BY_WORKFLOW}{part.sha256} {self._texts[text]} {part.target}"
            self.arrived(self.last_called(), call, [part])

    def seen(self, parts: list[Part]) -> None:
        """Note where the parts of a try are, also of one that has failed."""
        with self._lock:
            self._folders.update(str(Path(one.part).parent) for one in parts)

    def counting(self) -> list[Counted]:
        """Return the parts that count, in their order.

        Of a call that several attempts have made, the latest counts. Of an earlier attempt's call
        that nothing compares, none does: this attempt makes it again.
        """
        latest: dict[str, list[Counted]] = {}
        found: list[Counted] = []
        for attempt, rows in sorted(self._arrived.items()):
            is_last = attempt == self._run.attempt
            of_attempt: dict[str, list[Counted]] = {}
            for call, parts in rows:
                if call:
                    of_attempt.setdefault(call, []).extend(parts)
                elif is_last:
                    found += parts
            latest |= of_attempt
        found += [part for parts in latest.values() for part in parts]
        return sorted(found, key=lambda one: one[:3])

    def check(self) -> list[str]:
        """Return which files cannot be merged as they are, one line for each, before a task runs.

        Of a file that was removed with its parts, the log says so: its tasks may run again.
        """
        with self._lock:
            found = (self._fault_of(Path(path), of) for path, of in self._by_target().items())
            return list(filter(None, found))

    def _fault_of(self, target: Path, counted: list[Counted]) -> str:
        try:
            state = self._state(target)
            now = state.now()
            gone = [one for one in counted if not _is_there(one.part, now)]
        except (OutputError, OSError) as error:
            return _not_merged(str(target), error)
        if now is None:
            return _changed(target, [one.part for one in counted])
        if gone:
            self._gone |= {one.call: str(target) for one in gone}
            log.warning(
                "output %s: was removed, or is as it was before the run, and so are parts of it"
                " (%d): a task whose result is kept will fail, as what it has added is gone; one"
                " that runs again adds again",
                target,
                len(gone),
            )
        return ""

    def refuse_gone(self, call: str) -> None:
        """Refuse a result that is kept where what its task has added to a file is gone.

        Raises:
            OutputError: it is.
        """
        if target := self._gone.get(call):
            raise OutputError(
                f"output {target}: the result of this task is kept, but what it has added to the"
                f" file is gone: put the file back as it was, or {AGAIN}"
            )

    def has_gone(self) -> bool:
        """Return whether a result that is kept may have to be refused."""
        return bool(self._gone)

    # Merging.

    def merge(self, path: str | os.PathLike[str]) -> Noted | None:
        """Merge the parts of a file that count by now; None where there is nothing to do.

        Raises:
            OutputError: the file was changed by others, or a part is missing.
            OSError: it cannot be read or written.
        """
        target = target_of(os.fspath(path))
        self.refuse_fork(target)
        with self._lock:
            return self._merge_counted(target, self._by_target().get(str(target), []))

    def _merge_counted(self, target: Path, counted: list[Counted]) -> Noted | None:
        state = self._state(target)
        if not counted and not state.exists():
            return None
        merged = self._merge(target, [one.part for one in counted], state)
        state.is_merged = True
        return merged

    def merge_all(self) -> tuple[list[Noted], list[str]]:
        """Merge the parts of all files: what is wrong with one keeps no other from it.

        Returns:
            The files that were merged, and a line for each that cannot be.
        """
        merged: list[Noted] = []
        faults: list[str] = []
        with self._lock:
            for target, counted in self._by_target().items():
                try:
                    one = self._merge_counted(Path(target), counted)
                except (OutputError, OSError) as error:
                    faults.append(_not_merged(target, error))
                else:
                    merged += [one] if one else []
        return merged, faults

    def remove_parts(self) -> None:
        """Remove all parts, once every file has those that count and no task is left."""
        with self._lock:
            keys, folders = lost_parts.known(self._folder) if self._folder else (set(), set())
            lost_parts.remove(self._keys | keys, self._folders | folders)

    def _by_target(self) -> dict[str, list[Counted]]:
        """Return the files that parts were written for, each with the parts that count."""
        rows = [row for rows in self._arrived.values() for row in rows]
        targets = sorted({one.part.target for _, parts in rows for one in parts})
        found: dict[str, list[Counted]] = {target: [] for target in targets}
        for one in self.counting():
            found[one.part.target].append(one)
        return found

    def _state(self, target: Path) -> TargetState:
        if target not in self._states:
            self._states[target] = TargetState(target, self._folder)
        return self._states[target]

    def _merge(self, target: Path, counted: list[Part], state: TargetState) -> Noted | None:
        wanted = [part.part for part in counted]
        if state.is_merged and state.has(wanted):
            # What the workflow does with the file after that is its own affair.
            return None
        state.begin()
        now = state.now()
        if now is None:
            raise NotMerged(_changed(target, counted))
        if now.parts == wanted:
            state.write([now])
            return None
        new: list[Version] = []

        def before(noted: list[Noted]) -> None:
            (one,) = noted
            new.append(Version(one.size, one.sha256, tuple(segments)))
            # First where it is known what the new file has, then the file.
            state.write([now, *new])

        output = Output(target, of=Task(self._run, OF_MERGE, 0), before=before)
        with output as temporary, temporary.open("wb") as file:
            segments = _write_all(file, target, now, state.base.size, counted)
        state.write(new)
        return Noted(str(target), "file", new[0].size, new[0].sha256)

    # The lists in the run's folder.

    def _write(self, row: list[Any]) -> None:
        folder = self._folder or Path()
        if self._file < 0:
            root = volume(folder.parent)
            files.make_folder(folder, root)
            path = folder / f"{PREFIX}{self._run.attempt}{SUFFIX}"
            self._file = files.opened(path, root, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            synced_folder(folder)
        before = os.fstat(self._file).st_size
        try:
            files.write_all(self._file, _to_json(row).encode() + b"\n")
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, before)
            raise

    def _read_earlier(self, folder: Path) -> None:
        """Read what an older run and earlier attempts have noted.

        Raises:
            OutputError: that cannot be read.
        """
        root = volume(folder.parent)
        try:
            names = files.names(folder, root)
        except FileNotFoundError:
            return
        for prefix, before in ((INHERITED, OLDER), (PREFIX, 0)):
            for number, name in lists(names, prefix):
                attempt = before + number
                if attempt < self._run.attempt:
                    self._arrived[attempt] = list(self._read(folder / name, root, attempt))
        for rows in self._arrived.values():
            for _, counted in rows:
                parts = [one.part for one in counted]
                self.seen(parts)
                self._keys |= {_key_of(part) for part in parts}

    def _read(self, path: Path, root: Path, attempt: int) -> Iterator[tuple[str, list[Counted]]]:
        lines = files.read(path, root, LIST_BYTES).split(b"\n")
        # The last one is empty, or was cut off: its task's result never counted.
        for number, line in enumerate(lines[:-1], 1):
            try:
                task, call, rows = _from_json(line.decode())
                parts = [Part(*row) for row in rows]
                yield str(call), _counted(int(task), attempt, number - 1, str(call), parts)
            except (ValueError, TypeError, RecursionError):
                raise OutputError(
                    f"{path}, line {number}: what tasks have added cannot be read: look at their"
                    f" files, then {AGAIN}"
                ) from None


def together(faults: list[str]) -> str:
    """Return what is wrong with some files as one line."""
    if len(faults) == 1:
        return faults[0]
    rest = len(faults) - NAMED
    more = [f"and {rest} more"] if rest > 0 else []
    return f"{len(faults)} files cannot be merged: {'; '.join([*faults[:NAMED], *more])}"


def lists(names: list[str], prefix: str) -> list[tuple[int, str]]:
    """Return the number and the name of each list whose name begins so, in their order."""
    numbers = [name.removeprefix(prefix).removesuffix(SUFFIX) for name in names]
    found = zip(numbers, names, strict=True)
    return sorted(
        (int(number), name)
        for number, name in found
        if name == f"{prefix}{number}{SUFFIX}" and number.isdigit()
    )


def _counted(task: int, attempt: int, row: int, call: str, parts: list[Part]) -> list[Counted]:
    """Return the parts of a row of a list, with their places."""
    first = AFTER_TASK + row if call.startswith(BY_WORKFLOW) else 0
    return [Counted(task, attempt, first + place, part, call) for place, part in enumerate(parts)]


def _key_of(part: Part) -> str:
    """Return the key of the run that has written a part."""
    return Path(part.part).name.removeprefix(PART).partition("-")[0]


def _is_there(part: Part, now: Version | None) -> bool:
    return (now is not None and part.part in now.parts) or Path(part.part).exists()


def _changed(target: Path, counted: list[Part]) -> str:
    """Say that a file was changed, where the parts are, and what to do."""
    what = (
        f"output {target}: another program has changed it since this run added to it, or"
        " the run that it goes on from, so nothing more is added: "
    )
    if not all(Path(part.part).exists() for part in counted):
        return f"{what}put it back as it was, or {AGAIN}"
    return (
        f"{what}move it away, and the run that goes on from this one makes it again of the parts"
        f" beside it ({target.parent}/{PART}*); or {AGAIN}"
    )


def _not_merged(target: str, error: OutputError | OSError) -> str:
    """Say why a file is not merged, where the parts are, and what to do."""
    if isinstance(error, NotMerged):
        return str(error)
    what = str(error)
    if isinstance(error, OSError):
        # A full volume is an error of no file.
        where = error.filename or target
        what = f"output {target}: what was added cannot be merged: {error.strerror}: {where}"
    return (
        f"{what}; correct that, and the run that goes on from this one merges the parts beside it"
        f" ({Path(target).parent}/{PART}*)"
    )


def _write_all(
    file: IO[bytes], target: Path, now: Version, base: int, counted: list[Part]
) -> list[Segment]:
    """Write what was there before the run, then each part; return where each is."""
    if base:
        _copy(target, 0, base, file)
    merged = {one.part: one for one in now.segments}
    segments = []
    for part in counted:
        begin = file.tell()
        digest = _copy_part(part, merged.get(part.part), target, file)
        if digest != part.sha256:
            raise NotMerged(
                f"output {target}: its part {part.part} is missing, or is not as its task made it:"
                f" nothing is added; {AGAIN}"
            )
        segments.append(Segment(part.part, begin, part.size))
    return segments


def _copy_part(part: Part, merged: Segment | None, target: Path, file: IO[bytes]) -> str:
    """Copy a part from its own file, or from the merged one; return its SHA-256."""
    if merged is not None:
        return _copy(target, merged.begin, merged.size, file)
    try:
        return _copy(Path(part.part), 0, part.size, file)
    except FileNotFoundError:
        return ""


def _copy(source: Path, begin: int, size: int, file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    with source.open("rb") as content:
        content.seek(begin)
        while size and (piece := content.read(min(size, PART_BYTES))):
            digest.update(piece)
            file.write(piece)
            size -= len(piece)
    return digest.hexdigest()


class _Ours:
    """The merger of the workflow's process."""

    merger: Merger | None = None


def install(merger: Merger | None) -> None:
    """Have `append` and `merged` use this one; None as in plain Python."""
    _Ours.merger = merger


def installed() -> Merger | None:
    """Return the merger of the workflow's process; None in plain Python and in tasks."""
    return _Ours.merger


def merged(path: str | os.PathLike[str]) -> None:
    """Merge the parts of a file; in plain Python it has them already.

    Raises:
        OutputError: a task asks for that, or they cannot be merged.
    """
    if current.task() is not None:
        raise OutputError(
            f"output {os.fspath(path)}: a task cannot merge it, as other tasks may still add to it:"
            " call merged() in the workflow"
        )
    if _Ours.merger is not None:
        _Ours.merger.merge(path)
