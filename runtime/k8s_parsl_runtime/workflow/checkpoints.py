"""Results of apps with `cache=True`: remembered in a run, and kept for the run's next launcher.

This is Parsl's memoizer, whose failures cost a result its place here and never the task: a result
that cannot be pickled, a full volume, a file that a kill has cut short. A kept result is unpickled
when a task asks for it, as a script defines its classes only then.

It knows Parsl's insides: tests/runtime/test_parsl_contract.py pins what it uses of them.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from parsl.dataflow import memoization
from parsl.dataflow.memoization import BasicMemoizer, CheckpointCommand, id_for_memo

from k8s_parsl_runtime.shared.errors import describe
from k8s_parsl_runtime.workflow import checkpoint_file

log = logging.getLogger(__name__)


class NotCacheable(TypeError):
    """An app with `cache=True` got an argument that Parsl cannot compare."""


class Memoizer(BasicMemoizer):
    """Looks results up and keeps them; what goes wrong is logged once for each app."""

    def __init__(self, *, keep: bool) -> None:
        """Keep results in a file of the run's folder, or only in this process."""
        super().__init__(checkpoint_mode="task_exit" if keep else None)
        # App and reason of the warnings in the log.
        self._warned: set[tuple[str, str]] = set()
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
            # Each further try of the task asks again: it is still the same call.
            task["hashsum"] = task.get("hashsum") or memoization.make_hash(task)
        except Exception as error:  # noqa: BLE001 (of an argument of the user's)
            task["hashsum"] = None
            raise NotCacheable(_why_not(task, error)) from None
        found: Future[Any] | bytes | None = self.memo_lookup_table.get(task["hashsum"])
        if isinstance(found, bytes):
            return self._unpickled(task, found)
        return found

    def _unpickled(self, task: Any, pickled: bytes) -> Future[Any] | None:
        """Return the future of a kept result; None where it cannot be read any more."""
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

    def is_kept(self, task: Any) -> bool:
        """Return whether the task's result is in a file, for the next launcher."""
        return task["hashsum"] in self._kept

    def update_memo_result(self, task: Any, r: Any) -> None:
        """Remember a result; keep it if it can be kept."""
        self._try_to_keep(task, lambda: super(Memoizer, self).update_memo_result(task, r))

    def update_memo_exception(self, task: Any, e: BaseException) -> None:
        """Remember a failure, for this process alone."""
        self._try_to_keep(task, lambda: super(Memoizer, self).update_memo_exception(task, e))

    def _try_to_keep(self, task: Any, keep: Callable[[], None]) -> None:
        try:
            keep()
        except Exception as error:  # noqa: BLE001 (of the user's result, or of the volume)
            self._warn_once(task["func_name"], describe(error))

    def _warn_once(self, app: str, why: str) -> None:
        if (app, why) in self._warned:
            return
        self._warned.add((app, why))
        log.warning(
            "app %s (cache=True): a result is not kept, and another launcher makes it again: %s",
            app,
            why,
        )

    def close(self) -> None:
        """Do nothing: each result was written at once."""

    def load_checkpoints(self, checkpointDirs: Sequence[str] | None) -> dict[str, Any]:  # noqa: N803 (Parsl's interface)
        """Return the pickles of what earlier launchers of this run have kept, by hash."""
        kept: dict[str, Any] = {}
        for folder in checkpointDirs or ():
            kept |= checkpoint_file.read(Path(folder, checkpoint_file.FILE))
        return kept

    def _checkpoint_these_tasks(self, checkpoint_queue: list[CheckpointCommand]) -> None:
        """Add results to the file."""
        path = Path(self.run_dir, "checkpoint", checkpoint_file.FILE)
        for command in checkpoint_queue:
            hashsum = command.task_record["hashsum"]
            if command.exception is None and hashsum:
                checkpoint_file.append(path, hashsum, command.result)
                self._kept.add(hashsum)


def _why_not(task: Any, error: Exception) -> str:
    """Return which argument cannot be compared, and what to write."""
    app = task["func_name"]
    if isinstance(error, KeyError):
        return (
            f"app {app}: ignore_for_cache names {error}, which this call does not pass by its name:"
            f" write {error.args[0]}=... in the call"
        )
    given = {str(number): value for number, value in enumerate(task["args"], 1)}
    given |= task["kwargs"]
    for name, value in given.items():
        if name not in task["ignore_for_cache"] and not _is_comparable(value):
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            return (
                f"app {app} (cache=True): its argument {name} is a {kind}, which Parsl cannot"
                " compare with that of another call: pass numbers, texts, lists or dictionaries, or"
                " name it in ignore_for_cache=[...], or register it with"
                " parsl.dataflow.memoization.id_for_memo"
            )
    return f"app {app} (cache=True): its arguments cannot be compared: {describe(error)}"


def _is_comparable(value: Any) -> bool:
    try:
        id_for_memo(value)
    except Exception:  # noqa: BLE001 (it may hold anything)
        return False
    return True
