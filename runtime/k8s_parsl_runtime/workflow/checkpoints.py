"""Results of apps with `cache=True`: remembered in a run, and kept for the run's next launcher.

Parsl's memoizer, whose failures cost a result its place here and never the task: a result that
cannot be pickled, a full volume, a file that a kill has cut short. A kept result is unpickled when
a task asks for it, as a script defines its classes only then.

One of the rooms that know Parsl's insides: what this uses of them is pinned by
tests/runtime/test_parsl_contract.py.
"""

from __future__ import annotations

import logging
import os
import pickle
import pickletools
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, BinaryIO

from parsl.dataflow import memoization
from parsl.dataflow.memoization import BasicMemoizer, CheckpointCommand, id_for_memo

from k8s_parsl_runtime.shared import attempts, files
from k8s_parsl_runtime.shared.errors import describe

log = logging.getLogger(__name__)

FILE = "tasks.pkl"
# A longer part of a record is none of ours, nor is a longer line: pickles as they are today have
# none.
RESULT_BYTES, LINE_BYTES = 1 << 30, 1 << 20


class NotCacheable(TypeError):
    """An app with `cache=True` got an argument that Parsl cannot compare."""


class Memoizer(BasicMemoizer):
    """Looks results up and keeps them; what goes wrong is one line, once for each app."""

    def __init__(self, *, keep: bool) -> None:
        """Keep results in a file of the run's folder, or only in this process."""
        super().__init__(checkpoint_mode="task_exit" if keep else None)
        self._told: set[tuple[str, str]] = set()
        # Hashes of the results that are in a file.
        self._kept: set[str] = set()

    def check_memo(self, task: Any) -> Future[Any] | None:
        """Return the future of an earlier call with the same arguments.

        Raises:
            NotCacheable: an argument cannot be compared; names the app and the argument.
        """
        if not task["memoize"]:
            task["hashsum"] = None
            return None
        try:
            # Asked for again, as before each try, it is still the same call.
            task["hashsum"] = task.get("hashsum") or memoization.make_hash(task)
        except Exception as error:  # noqa: BLE001 (of an argument of the user's)
            task["hashsum"] = None
            raise NotCacheable(_why_not(task, error)) from None
        found = self.memo_lookup_table.get(task["hashsum"])
        return self._read(task, found) if isinstance(found, bytes) else found

    def is_kept(self, task: Any) -> bool:
        """Return whether the task's result is in a file, for the next launcher."""
        return task["hashsum"] in self._kept

    def update_memo_result(self, task: Any, r: Any) -> None:
        """Remember a result; keep it if it can be kept."""
        self._careful(task, lambda: super(Memoizer, self).update_memo_result(task, r))

    def update_memo_exception(self, task: Any, e: BaseException) -> None:
        """Remember a failure, for this process alone."""
        self._careful(task, lambda: super(Memoizer, self).update_memo_exception(task, e))

    def close(self) -> None:
        """There is nothing left to write: each result was, at once."""

    def _careful(self, task: Any, keep: Callable[[], None]) -> None:
        try:
            keep()
        except Exception as error:  # noqa: BLE001 (of the user's result, or of the volume)
            self._tell(task["func_name"], describe(error))

    def _tell(self, app: str, why: str) -> None:
        if (app, why) not in self._told:
            self._told.add((app, why))
            log.warning(
                "app %s (cache=True): a result is not kept, and another launcher makes it again: %s",
                app,
                why,
            )

    def _read(self, task: Any, pickled: bytes) -> Future[Any] | None:
        """Unpickle a kept result; one that cannot be read any more is made again."""
        future: Future[Any] = Future()
        try:
            future.set_result(pickle.loads(pickled))  # noqa: S301 (written by this run)
        except Exception as error:  # noqa: BLE001 (the code has changed since, say)
            del self.memo_lookup_table[task["hashsum"]]
            log.warning(
                "app %s: a kept result cannot be read, so the task runs again: %s",
                task["func_name"],
                describe(error),
            )
            return None
        self.memo_lookup_table[task["hashsum"]] = future
        return future

    def load_checkpoints(self, checkpointDirs: Sequence[str] | None) -> dict[str, Any]:  # noqa: N803 (Parsl's interface)
        """Return what earlier launchers of this run have kept, by hash: each result as its pickle."""
        kept: dict[str, Any] = {}
        for folder in checkpointDirs or ():
            kept |= _records(Path(folder, FILE))
        return kept

    def _checkpoint_these_tasks(self, checkpoint_queue: list[CheckpointCommand]) -> None:
        """Add results to the file, each whole or not at all."""
        for command in checkpoint_queue:
            hashsum = command.task_record["hashsum"]
            if command.exception is None and hashsum:
                record = {
                    "hash": hashsum,
                    "exception": None,
                    "pickled": pickle.dumps(command.result),
                }
                _append(Path(self.run_dir, "checkpoint", FILE), pickle.dumps(record))
                self._kept.add(hashsum)


def _append(path: Path, data: bytes) -> None:
    files.make_folder(path.parent, _volume(path))
    with os.fdopen(
        files.opened(path, _volume(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab", buffering=0
    ) as file:
        begin = file.seek(0, os.SEEK_END)
        try:
            files.write_all(file.fileno(), data)
        except OSError:
            file.truncate(begin)
            raise


def _volume(path: Path) -> Path:
    """Return the folder below which nothing may be a link: of `<run_dir>/000/checkpoint/tasks.pkl`,
    the volume's.
    """
    return attempts.volume(path.parents[2])


def _records(path: Path) -> dict[str, Any]:
    """Return the whole records of a file, up to where it is broken; what is left out is said."""
    kept: dict[str, Any] = {}
    try:
        with os.fdopen(files.opened(path, _volume(path), os.O_RDONLY), "rb") as file:
            read = _read(path, file, kept)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        log.warning("%s: %s; results kept there are made again", path, error.strerror)
        return kept
    if read < size:
        log.warning(
            "%s: its last %d bytes are no whole record (the launcher was killed while it wrote): left out; %d results "
            "are kept",
            *(path, size - read, len(kept)),
        )
    return kept


def _read(path: Path, file: BinaryIO, kept: dict[str, Any]) -> int:
    """Take the whole records of a file, one at a time; return where they end."""
    end = 0
    while record := _next(file, end):
        end += len(record)
        try:
            one = pickle.loads(record)  # noqa: S301 (written by this run)
            # Parsl's own records have the result itself.
            kept[one["hash"]] = one["pickled"] if "pickled" in one else pickle.dumps(one["result"])
        except Exception as error:  # noqa: BLE001 (of a record that is not ours)
            log.warning("%s: a record is left out: %s", path, describe(error))
    return end


def _next(file: BinaryIO, begin: int) -> bytes:
    """Return the pickle that begins here, if it is whole; else nothing."""
    file.seek(begin)
    parts: Any = _Bounded(file)
    try:
        for _ in pickletools.genops(parts):
            pass
    except Exception:  # noqa: BLE001 (whatever is broken: the rest cannot be read)
        return b""
    size = file.tell() - begin
    file.seek(begin)
    return file.read(size)


class _Bounded:
    """A file that is asked for no more at once than a result may have: one with holes may be of any
    size.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        """Return so many bytes.

        Raises:
            ValueError: they are too many.
        """
        if size > RESULT_BYTES:
            raise ValueError(size)
        return self._file.read(size)

    def readline(self) -> bytes:
        """Return a line; one that is too long comes without its end, which makes the record none."""
        return self._file.readline(LINE_BYTES)


def _why_not(task: Any, error: Exception) -> str:
    """Return which argument cannot be compared, and what to write."""
    app = task["func_name"]
    if isinstance(error, KeyError):
        return (
            f"app {app}: ignore_for_cache names {error}, which this call does not pass by its name: "
            f"write {error.args[0]}=... in the call"
        )
    given = {f"{number}": value for number, value in enumerate(task["args"], 1)} | dict(
        task["kwargs"]
    )
    for name, value in given.items():
        if name not in task["ignore_for_cache"] and not _comparable(value):
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            return (
                f"app {app} (cache=True): its argument {name} is a {kind}, which Parsl cannot compare with that of "
                f"another call: pass numbers, texts, lists or dictionaries, or name it in ignore_for_cache=[...], or "
                f"register it with parsl.dataflow.memoization.id_for_memo"
            )
    return f"app {app} (cache=True): its arguments cannot be compared: {describe(error)}"


def _comparable(value: Any) -> bool:
    try:
        id_for_memo(value)
    except Exception:  # noqa: BLE001 (whatever is in it)
        return False
    return True
