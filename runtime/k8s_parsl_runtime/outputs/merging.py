"""Merges the parts that tasks have written by `append`, each once, in the workflow's process.

What counts is in a list in the run's folder: a line for each task whose result has arrived, on the
disk before the result counts. A part that is not in the list is that of a lost try.

A merged file is a function of what was there before the run, and of the parts that count, in the
order of their tasks' numbers. Which bytes of it are whose is in a file in the run's folder, which
is written before the merged file takes its place: whenever a merge is cut off, the next one finds
the old file or the new one, and knows what is in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from json import JSONDecoder, JSONEncoder
from pathlib import Path
from typing import IO, Any, NamedTuple

from k8s_parsl_runtime.outputs import current
from k8s_parsl_runtime.outputs.current import OfRun, Task
from k8s_parsl_runtime.outputs.errors import OutputError
from k8s_parsl_runtime.outputs.parts import PART
from k8s_parsl_runtime.outputs.whole import Output, target_of
from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.attempts import volume
from k8s_parsl_runtime.shared.noted import PART_BYTES, Noted, Part, synced_folder

log = logging.getLogger("k8s_parsl_runtime")

# Begin the names of the lists: of an attempt, and of an older run (`older_run`).
PREFIX = "parts-"
INHERITED = "inherited-"
SUFFIX = ".jsonl"
# Begins the name of what is known of a target.
MERGED = "merged-"
# The lists of an older run come before those of any attempt.
OLDER = -(10**7)
STATE_BYTES = 1 << 30
LIST_BYTES = 1 << 30
# In place of a task's number, in the name of the temporary folder of a merge.
OF_MERGE = 10**17
_to_json = JSONEncoder().encode
_from_json = JSONDecoder().decode
# What to do where it cannot be known what a file has.
AGAIN = (
    "start from the beginning: a new run (run.id) without run.resumeFrom, or on a laptop --fresh"
)
EMPTY = hashlib.sha256().hexdigest()


class Counted(NamedTuple):
    """A part that counts, and its place in the order."""

    task: int
    attempt: int
    place: int
    part: Part


class Segment(NamedTuple):
    """Where a part is in a merged file."""

    part: str
    begin: int
    size: int


@dataclass(frozen=True)
class Version:
    """A content of a target: its size and SHA-256, and which bytes are whose."""

    size: int
    sha256: str
    segments: tuple[Segment, ...] = ()

    @classmethod
    def parse(cls, value: Any) -> Version:
        """Return a version from JSON.

        Raises:
            ValueError, TypeError: it is none.
        """
        size, digest, segments = value
        return cls(int(size), str(digest), tuple(Segment(*one) for one in segments))


class Merger:
    """The parts of a run; any thread may use it.

    Args:
        run: what the workers know about the run, too.
        folder: in the run's folder; None where no launcher can follow this one.
    """

    def __init__(self, run: OfRun, folder: Path | None) -> None:
        self._run = run
        self._folder = folder
        self._lock = threading.RLock()
        self._file = -1
        # By attempt: the parts of each task, with the call by which another attempt knows it.
        self._arrived: dict[int, list[tuple[str, list[Counted]]]] = {run.attempt: []}
        # What a merge has left in the target, where no file has it.
        self._versions: dict[Path, list[Version]] = {}
        self._base: dict[Path, int] = {}
        if folder is not None:
            self._read_earlier(folder)

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
            self._arrived[self._run.attempt].append((call, self._counted(task, parts)))

    def _counted(self, task: int, parts: list[Part], attempt: int | None = None) -> list[Counted]:
        of = self._run.attempt if attempt is None else attempt
        return [Counted(task, of, place, part) for place, part in enumerate(parts)]

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

    # Merging.

    def merge(self, path: str | os.PathLike[str]) -> Noted | None:
        """Merge the parts of a file that count by now; None where there is nothing to do.

        Raises:
            OutputError: the file was changed by others, or a part is missing.
            OSError: it cannot be read or written.
        """
        target = target_of(os.fspath(path))
        with self._lock:
            counted = [one.part for one in self.counting() if one.part.target == str(target)]
            state = _State(target, self._state_file(target), self._versions, self._base)
            if not counted and not state.exists():
                return None
            return self._merge(target, counted, state)

    def merge_all(self) -> list[Noted]:
        """Merge the parts of all files, and remove those of tries that were lost.

        Raises:
            OutputError, OSError: one cannot be merged.
        """
        with self._lock:
            targets = sorted({one.part.target for one in self.counting()})
            merged = [self._merge_one(target) for target in targets]
            self._remove_lost({Path(target).parent for target in targets})
            return [one for one in merged if one]

    def _merge_one(self, target: str) -> Noted | None:
        try:
            return self.merge(target)
        except OSError as error:
            # A full volume is an error of no file.
            error.filename = error.filename or target
            raise

    def _merge(self, target: Path, counted: list[Part], state: _State) -> Noted | None:
        now = state.now()
        wanted = [part.part for part in counted]
        if [one.part for one in now.segments] == wanted:
            state.write([now])
            _remove(wanted)
            return None
        new: list[Version] = []

        def before(noted: list[Noted]) -> None:
            (one,) = noted
            new.append(Version(one.size, one.sha256, tuple(segments)))
            # First where it is known what the new file has, then the file.
            state.write([now, *new])

        output = Output(target, of=Task(self._run, OF_MERGE, 0), before=before)
        with output as temporary, temporary.open("wb") as file:
            segments = _write_all(file, target, now, state.base(), counted)
        state.write(new)
        _remove(wanted)
        return Noted(str(target), "file", new[0].size, new[0].sha256)

    def _remove_lost(self, folders: set[Path]) -> None:
        counted = {one.part.part for one in self.counting()}
        ours = tuple(f"{PART}{key}-" for key in self._keys())
        for folder in folders:
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                lost = [entry.path for entry in entries if entry.name.startswith(ours)]
                _remove([path for path in lost if path not in counted])

    def _keys(self) -> set[str]:
        """Return the keys of this run, and of those whose parts it has."""
        rows = [row for rows in self._arrived.values() for row in rows]
        names = [Path(one.part.part).name for _, parts in rows for one in parts]
        return {self._run.key, *(name.removeprefix(PART).partition("-")[0] for name in names)}

    # The files in the run's folder.

    def _state_file(self, target: Path) -> Path | None:
        if self._folder is None:
            return None
        name = hashlib.sha256(os.fsencode(target)).hexdigest()[:32]
        return self._folder / f"{MERGED}{name}.json"

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

    def _read(self, path: Path, root: Path, attempt: int) -> Iterator[tuple[str, list[Counted]]]:
        lines = files.read(path, root, LIST_BYTES).split(b"\n")
        # The last one is empty, or was cut off: its task's result never counted.
        for number, line in enumerate(lines[:-1], 1):
            try:
                task, call, rows = _from_json(line.decode())
                parts = [Part(*row) for row in rows]
                yield str(call), self._counted(int(task), parts, attempt)
            except (ValueError, TypeError, RecursionError):
                raise OutputError(
                    f"{path}, line {number}: what tasks have added cannot be read: look at their"
                    f" files, then {AGAIN}"
                ) from None


def lists(names: list[str], prefix: str) -> list[tuple[int, str]]:
    """Return the number and the name of each list whose name begins so, in their order."""
    numbers = [name.removeprefix(prefix).removesuffix(SUFFIX) for name in names]
    found = zip(numbers, names, strict=True)
    return sorted(
        (int(number), name)
        for number, name in found
        if name == f"{prefix}{number}{SUFFIX}" and number.isdigit()
    )


class _State:
    """What is known of a target: how long it was before the run, and which contents it may have."""

    def __init__(
        self,
        target: Path,
        file: Path | None,
        versions: dict[Path, list[Version]],
        bases: dict[Path, int],
    ) -> None:
        self._target = target
        self._file = file
        self._versions = versions
        self._bases = bases
        if file is not None and target not in versions:
            self._read(file)

    def exists(self) -> bool:
        """Return whether a merge of this run has begun."""
        return self._target in self._versions

    def base(self) -> int:
        """Return how many bytes it had before the run."""
        return self._bases[self._target]

    def now(self) -> Version:
        """Return the content that the target has.

        Raises:
            OutputError: another program has changed it.
        """
        size, digest = _content(self._target)
        if not self.exists():
            self._bases[self._target] = size
            self.write([Version(size, digest)])
        for version in self._versions[self._target]:
            if (version.size, version.sha256) == (size, digest):
                return version
        raise OutputError(
            f"output {self._target}: another program has changed it since this run added to it, or"
            " the run that it goes on from, so nothing more is added; the parts are beside it"
            f" ({PART}*)"
        )

    def write(self, versions: list[Version]) -> None:
        """Note which contents the target may have; return when that is on the disk."""
        self._versions[self._target] = versions
        if self._file is None:
            return
        rows = [[one.size, one.sha256, [list(part) for part in one.segments]] for one in versions]
        document = {"target": str(self._target), "base": self.base(), "versions": rows}
        root = volume(self._file.parent.parent)
        files.make_folder(self._file.parent, root)
        files.write(self._file, root, _to_json(document).encode())
        with self._file.open("rb") as written:
            os.fsync(written.fileno())
        synced_folder(self._file.parent)

    def _read(self, file: Path) -> None:
        try:
            document = _from_json(
                files.read(file, volume(file.parent.parent), STATE_BYTES).decode()
            )
            self._versions[self._target] = [Version.parse(one) for one in document["versions"]]
            self._bases[self._target] = int(document["base"])
        except FileNotFoundError:
            return
        except (ValueError, TypeError, KeyError, RecursionError):
            raise OutputError(
                f"{file}: what was added to {self._target} cannot be read: look at that file, then"
                f" {AGAIN}"
            ) from None


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
            raise OutputError(
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


def _content(target: Path) -> tuple[int, str]:
    """Return a file's size and SHA-256; those of an empty one where there is none."""
    try:
        size = target.stat().st_size
        with target.open("rb") as file:
            return size, hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return 0, EMPTY


def _remove(paths: list[str]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            Path(path).unlink()


class _Ours:
    """The merger of the workflow's process."""

    merger: Merger | None = None


def install(merger: Merger | None) -> None:
    """Have `merged` use this one; None as in plain Python."""
    _Ours.merger = merger


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
