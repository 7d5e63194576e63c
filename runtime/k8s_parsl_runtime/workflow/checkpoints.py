"""Results of tasks: remembered in a run, and kept for the run's next launcher.

This is a memoizer of Parsl's whose failures cost a result its place here and never the task: an
argument that cannot be compared, a result that cannot be pickled, a volume that is full. A kept
result is unpickled when a task asks for it, as a script defines its classes only then.

It knows Parsl's insides: tests/runtime/test_parsl_contract.py pins what it uses of them.
"""

from __future__ import annotations

import functools
import logging
import pickle
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from parsl.dataflow import memoization
from parsl.utils import get_all_checkpoints

from k8s_parsl_runtime.outputs.made import is_made
from k8s_parsl_runtime.shared.errors import describe
from k8s_parsl_runtime.shared.sources import Sources
from k8s_parsl_runtime.workflow import call_keys, causes, checkpoint_file, inherited
from k8s_parsl_runtime.workflow.call_keys import NotComparable
from k8s_parsl_runtime.workflow.function_keys import FunctionKeys
from k8s_parsl_runtime.workflow.resumption import Resumption
from k8s_parsl_runtime.workflow.store import Store

log = logging.getLogger(__name__)

# `parsl.cache` and `parsl.cacheKey`.
ALL = "all"
NONE = "none"
SOURCE = "source"
# Beginnings of the modules whose apps are no part of the workflow: they fetch files, for example.
NOT_THEIRS = ("parsl.", "k8s_parsl_runtime.")
CALL_CHARACTERS = 200
# How long a workflow's own call of `checkpoint` waits for the volume.
CHECKPOINT_S = 60.0
# In a task's record: the future that its look-up found, for the second look-up of the same try; the
# digest of its app's source; and that the older run has no result for it.
_FOUND = "k8s_parsl_found"
_SOURCE = "k8s_parsl_source"
_MISSED = "k8s_parsl_missed"


class Memoizer(memoization.Memoizer):
    """Looks results up and keeps them; what goes wrong is logged once for each app.

    Args:
        attempt: the number of this attempt, which keeps its results in its own file; 0 where
            no launcher can follow this one, and nothing is kept.
        cache: `parsl.cache`.
        cache_key: `parsl.cacheKey`.
        delay: `parsl.checkpointDelay`, in seconds.
        folders: where the user's modules are.
        resume: Parsl's folder of the older run that this one goes on from; None where there is
            none.
    """

    def __init__(
        self,
        *,
        attempt: int,
        cache: str = "declared",
        cache_key: str = "arguments",
        delay: float = 1.0,
        folders: Iterable[str] = (),
        resume: Path | None = None,
    ) -> None:
        self._attempt = attempt
        self._cache = cache
        self._by_source = cache_key == SOURCE
        self._sources = Sources(folders)
        self._functions = FunctionKeys(self._sources.digest)
        self._delay = delay
        self._resume = resume
        self._store: Store | None = None
        # What is taken over of the older run; None where there is nothing of one.
        self.resumption: Resumption | None = None
        # Pickles from the files of earlier versions, by key.
        self._old: dict[str, bytes] = {}
        # Results of this process that are not in the store, and failures.
        self._here: dict[str, Future[Any]] = {}
        # Those that are in the store, while the workflow has them as well.
        self._alive: WeakValueDictionary[str, Future[Any]] = WeakValueDictionary()
        # How often a call was made whose app does not declare `cache=True`.
        self._calls: Counter[str] = Counter()
        # App and subject of the warnings in the log.
        self._warned: set[tuple[str, str]] = set()
        # Gets each task that is done: its number, its app, and `kept` or `done`.
        self.on_end: Callable[[int, str, str], None] = lambda _number, _app, _how: None

    def start(self, *, run_dir: str, config_run_dir: str) -> None:
        """Read what earlier launchers of this run have kept.

        Raises:
            Failure: see `Store`.
        """
        del run_dir
        if not self._attempt or self._cache == NONE:
            return
        folder = Path(config_run_dir)
        if self._resume:
            inherited.take(self._resume, folder)
        self._store = Store(folder, self._attempt, self._delay)
        if self._resume:
            run = self._resume.parent.name
            self.resumption = Resumption(self._store.inherited)
            log.info("run.resumeFrom: run %s has %d results", run, self._store.inherited_results)
        for old in get_all_checkpoints(config_run_dir):
            self._old |= checkpoint_file.read(Path(old, checkpoint_file.FILE))
        kept = self._store.results + len(self._old)
        if kept and self._attempt > 1:
            log.info("%d results of earlier launchers of this run are there", kept)

    # Look-up.

    def check_memo(self, task: Any) -> Future[Any] | None:
        """Return the future of an earlier call with the same key; None where there is none.

        Each try is looked up twice: for the list of what has begun, and by Parsl.
        """
        if _FOUND in task:
            found: Future[Any] = task.pop(_FOUND)
            return found
        # Each further try of the task is still the same call.
        task["hashsum"] = task.get("hashsum") or self._key(task)
        result = self._earlier(task) if task["hashsum"] else None
        if result is not None:
            task[_FOUND] = result
        return result

    def _earlier(self, task: Any) -> Future[Any] | None:
        for known in (self._here, self._alive):
            future = known.get(task["hashsum"])
            if future is not None:
                return future
        return self._kept(task)

    def _key(self, task: Any) -> str | None:
        """Return the key of a call; None where its result is not to be kept."""
        if self._cache == NONE or not (task["memoize"] or self._is_undeclared(task)):
            return None
        app = task["func_name"]
        try:
            key = call = call_keys.of_call(task, self._functions)
        except NotComparable as why:
            self._warn_once(app, "arguments", f"{why}; its results are not kept")
            return None
        source = self._source(task) if self._store else ""
        if self._by_source:
            if not source:
                return None
            key = call_keys.with_more(key, source)
        task[call_keys.CALL] = call
        if task["memoize"]:
            return key
        # Two calls with the same arguments both run: the app does not say that one stands for the
        # other. The next launcher has the first one's result for the first one, and so on.
        self._calls[key] += 1
        number = str(self._calls[key])
        task[call_keys.CALL] = call_keys.with_more(call, number)
        return call_keys.with_more(key, number)

    def _source(self, task: Any) -> str:
        """Return the digest of a task's source; empty where it cannot be compared."""
        try:
            digest = self._sources.digest(task["func"])
        except Exception as error:  # noqa: BLE001 (of the user's code, which may be anything)
            effect = "are not kept" if self._by_source else "are of no use to a later run"
            text = f"its source cannot be compared, so its results {effect}: {describe(error)}"
            self._warn_once(task["func_name"], "source", text)
            return ""
        task[_SOURCE] = digest
        return digest

    @property
    def keeps_all(self) -> bool:
        """Whether results of apps without `cache=True` are kept, too: each call has its own."""
        return self._cache == ALL

    def _is_undeclared(self, task: Any) -> bool:
        module = getattr(task["func"], "__module__", None) or ""
        is_theirs = not f"{module}.".startswith(NOT_THEIRS) or task["func_name"][0] != "_"
        return self._cache == ALL and is_theirs

    def _kept(self, task: Any) -> Future[Any] | None:
        """Return a result from the files; None where there is none, or it cannot be read."""
        if is_made(task["func"]):
            # `makes` looks at the outputs themselves, on the worker: they may have changed since.
            return None
        key = task["hashsum"]
        kept = self._store.get(bytes.fromhex(key)) if self._store else None
        if kept and kept.is_inherited and kept.source != task.get(_SOURCE):
            self._miss(task, has_other=True)
            return None
        pickled = kept.body if kept else self._old.get(key)
        if pickled is None:
            self._miss(task)
            return None
        future: Future[Any] = Future()
        try:
            future.set_result(pickle.loads(pickled))  # noqa: S301 (written by this run)
        except BaseException as error:  # noqa: BLE001 (the code has changed since, say)
            self._forget(key)
            log.warning(
                "app %s: a kept result cannot be read, so the task runs again: %s",
                task["func_name"],
                describe(error),
            )
            return None
        self._alive[key] = future
        if self.resumption and kept and kept.is_inherited:
            self.resumption.took(task["func_name"])
        return future

    def _miss(self, task: Any, *, has_other: bool = False) -> None:
        """Note that the older run has no result for a task, once for each task."""
        if self.resumption is None or _MISSED in task:
            return
        task[_MISSED] = True
        call = _call(task)
        self.resumption.missed(task["func_name"], task.get(_SOURCE, ""), call, has_other=has_other)

    def _forget(self, key: str) -> None:
        self._old.pop(key, None)
        if self._store:
            self._store.forget(bytes.fromhex(key))

    # New results.

    def update_memo_result(self, task: Any, r: Any) -> None:
        """Remember a result; keep it if it can be kept."""
        if task["from_memo"]:
            return
        key = task["hashsum"]
        if key and task["memoize"]:
            self._here[key] = task["app_fu"]
        if not (key and self._store and self._is_added(self._store, task, key, r)):
            self.on_end(task["id"], task["func_name"], "done")

    def _is_added(self, store: Store, task: Any, key: str, result: Any) -> bool:
        """Hand a result to the store; return whether it takes it."""
        app = task["func_name"]
        settled = functools.partial(self._settled, task["id"], app, key)
        try:
            body = pickle.dumps(result)
            return store.add(bytes.fromhex(key), app, body, settled, task.get(_SOURCE, ""))
        except BaseException as error:  # noqa: BLE001 (what pickles a user's class may raise any)
            self._warn_once(
                app,
                describe(error),
                f"a result is not kept, and another launcher makes it again: {describe(error)}"
                f" (first in {_call(task)})",
            )
            return False

    def _settled(self, number: int, app: str, key: str, is_kept: bool) -> None:  # noqa: FBT001 (a callback's)
        """Take that a result is on the disk, or will not be."""
        future = self._here.get(key) if is_kept else None
        if future is not None:
            self._alive[key] = future
            del self._here[key]
        self.on_end(number, app, "kept" if is_kept else "done")

    def update_memo_exception(self, task: Any, e: BaseException) -> None:
        """Remember a failure, for this process alone."""
        del e
        if task["hashsum"] and task["memoize"]:
            self._here[task["hashsum"]] = task["app_fu"]

    def _warn_once(self, app: str, subject: str, text: str) -> None:
        if (app, subject) not in self._warned:
            self._warned.add((app, subject))
            log.warning("app %s: %s", app, text)

    # To the disk.

    def hurry(self) -> None:
        """Bring what is there to the disk without delay; do not wait for it."""
        if self._store:
            self._store.hurry()

    def checkpoint(self) -> None:
        """Bring what is there to the disk: for a workflow that calls this itself, as Parsl's."""
        if self._store:
            self._store.flush(CHECKPOINT_S)

    def close(self) -> None:
        """Bring what is there to the disk, if the volume answers."""
        if self._store:
            self._store.close()


def _call(task: Any) -> str:
    """Return a task's call, for the log."""
    text: str = causes.call(task["func_name"], task["args"], task["kwargs"])
    return text[:CALL_CHARACTERS]
