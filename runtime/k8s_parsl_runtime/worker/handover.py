"""What a pool and its worker processes hand each other: tasks, results, and who is ready.

Parsl's pool uses `multiprocessing`'s queues and counter for it, whose locks are semaphores. A
process that SIGKILL ends while it has one keeps it for ever, and one of the idle workers always has
the queue's: it waits there for the next task. Here the kernel releases each lock with its process.

A process that dies in the middle of a task's or a result's bytes leaves the rest in the pipe. No
one can read that pipe any more: the pool ends, and its tasks count as lost.

tests/runtime/test_parsl_contract.py pins what this uses of Parsl.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import context, current_process, get_context, parent_process, queues
from multiprocessing.reduction import ForkingPickler
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from queue import Empty
from typing import Any, NoReturn, Self

from k8s_parsl_runtime.shared import programs
from k8s_parsl_runtime.shared.clocks import clock

# A pool has no more worker processes.
MOST_WORKERS = 4096
HALF_READ = "worker process {worker} of this pool was killed while it received a task"
HALF_SENT = "worker process {worker} of this pool was killed while it sent a result"
# What a worker has, in place of a task's number.
_NOTHING = 0
_RECEIVING = -1

# In memory that the pool's worker processes inherit; each word is written by its worker, and by the
# pool once that has ended. A number that is written half does not exist.
_tasks = RawArray(ctypes.c_int64, MOST_WORKERS)
_sending = RawArray(ctypes.c_uint8, MOST_WORKERS)
_ready = RawArray(ctypes.c_uint8, MOST_WORKERS)


class Lock:
    """A lock between processes, which the kernel releases when its owner ends.

    It is a record lock of POSIX: a process that a task forks does not inherit it.
    """

    def __init__(self, path: str) -> None:
        # A record lock belongs to the process, so it keeps no thread out.
        self._threads = threading.Lock()
        # Now, as a task may use up all that this process may open.
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        self._threads.acquire()
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        return self

    def __exit__(self, *error: object) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN)
        self._threads.release()

    @contextlib.contextmanager
    def if_free(self) -> Iterator[bool]:
        """Take the lock, if no other process has it; yield whether it was free."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)


class Queue(queues.Queue):  # type: ignore[type-arg]
    """A queue from which, or into which, worker processes hand tasks or results.

    In a worker process `put` returns when the item is written. The plain one leaves that to a
    thread, which a task that ends its process would end in the middle of it.
    """

    def __init__(self) -> None:
        super().__init__(ctx=get_context("spawn"))
        folder = Path(programs.scratch("queue-"))
        self._paths = [str(folder / "get"), str(folder / "put")]
        for path in self._paths:
            Path(path).touch(0o600)

    def __getstate__(self) -> Any:
        """Pickle, for a worker process."""
        return self._paths, super().__getstate__()

    def __setstate__(self, state: Any) -> None:
        """Unpickle, which happens in a worker process only."""
        self._paths, rest = state
        super().__setstate__(rest)
        self._getting, self._putting = map(Lock, self._paths)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002
        """Get an item; see `multiprocessing.Queue`.

        A worker process gets a task, and has it from then on.

        Raises:
            queue.Empty: none came within ``timeout`` seconds.
        """
        if not _is_worker():
            return super().get(block, timeout)
        deadline = None if timeout is None else clock.monotonic() + timeout
        worker = _this_worker()
        with self._getting:
            if not self._poll(_left(deadline) if block else 0):  # type: ignore[attr-defined]
                raise Empty
            _tasks[worker] = _RECEIVING
            data = self._recv_bytes()  # type: ignore[attr-defined]
            self._sem.release()  # type: ignore[attr-defined]
        item = ForkingPickler.loads(data)
        in_progress[worker] = item
        return item

    def take_back(self) -> list[Any]:
        """Return what no worker process has begun to receive; only one thread of the pool calls it.

        Nothing while a worker process waits for an item: it gets the next one.
        """
        items: list[Any] = []
        with self._pools_lock.if_free() as is_free:
            while is_free and self._poll(0):  # type: ignore[attr-defined]
                items.append(ForkingPickler.loads(self._recv_bytes()))  # type: ignore[attr-defined]
                self._sem.release()  # type: ignore[attr-defined]
        return items

    @functools.cached_property
    def _pools_lock(self) -> Lock:
        # Once: the kernel releases a process' locks of a file with any of its descriptors.
        return Lock(self._paths[0])

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002
        """Put an item; see `multiprocessing.Queue`."""
        if not _is_worker():
            super().put(obj, block, timeout)
            return
        data = ForkingPickler.dumps(obj)
        worker = _this_worker()
        self._sem.acquire()  # type: ignore[attr-defined]
        with self._putting:
            _sending[worker] = 1
            self._writer.send_bytes(data)  # type: ignore[attr-defined]
            _sending[worker] = 0


class InProgress:
    """The task that each worker process has, as Parsl's pool asks for it.

    Only its number is known, which is all that the pool uses.
    """

    def __setitem__(self, worker: int, task: dict[str, Any]) -> None:
        _tasks[worker] = task["task_id"] + 1

    def as_bytes(self) -> bytes:
        """Return all of them, which are other bytes once a worker has begun or ended a task."""
        return bytes(_tasks)

    def pop(self, worker: int) -> dict[str, int]:
        """Take the task of a worker process.

        Raises:
            KeyError: it has none.
        """
        task = _tasks[worker]
        _tasks[worker] = _NOTHING
        if task == _NOTHING:
            raise KeyError(worker)
        return {"task_id": task - 1}


in_progress = InProgress()


class Ready:
    """How many worker processes wait for a task, as Parsl's pool counts them.

    A worker process sees and sets only whether it does so itself.
    """

    def get_lock(self) -> contextlib.AbstractContextManager[None]:
        """Return no lock: each worker has its own word."""
        return contextlib.nullcontext()

    @property
    def value(self) -> int:
        """How many wait; in a worker process 1 or 0."""
        if _is_worker():
            return int(_ready[_this_worker()])
        return bytes(_ready).count(1)

    @value.setter
    def value(self, ready: int) -> None:
        if _is_worker():
            _ready[_this_worker()] = ready


class Shared:
    """What the pool and its worker processes share, in place of a `multiprocessing` manager."""

    def dict(self) -> InProgress:
        """Return where the pool looks up which task a worker has."""
        return in_progress

    def Queue(self) -> Queue:  # noqa: N802 (the name that Parsl's pool calls)
        """Return the way of monitoring messages to the pool."""
        return Queue()


class Context(context.SpawnContext):
    """Makes what is above, by the names that Parsl's pool calls."""

    def Manager(self) -> Shared:  # type: ignore[override] # noqa: N802
        """Return what is shared."""
        return Shared()

    def Queue(self, maxsize: int = 0) -> Queue:  # noqa: ARG002, N802
        """Return a queue without a limit."""
        return Queue()

    def Value(self, *_: Any, **__: Any) -> Ready:  # type: ignore[override] # noqa: N802
        """Return the number of workers that wait for a task."""
        return Ready()


def number_of(name: str) -> int:
    """Return the number of a worker process, from its name."""
    return int(name.rpartition("-")[2])


def ended(worker: int) -> None:
    """Take note that a worker process has ended.

    The pool ends with it where nothing can be handed over any more.
    """
    _ready[worker] = 0
    if _tasks[worker] == _RECEIVING:
        end_pool(HALF_READ.format(worker=worker))
    if _sending[worker]:
        end_pool(HALF_SENT.format(worker=worker))


def end_pool(why: str) -> NoReturn:
    """End this pool at once; its worker processes end with it."""
    # The process that reads this one's output may have been killed, too.
    with suppress(OSError):
        sys.stderr.write(f"{why}\n")
        sys.stderr.flush()
    os._exit(1)


def _left(deadline: float | None) -> float | None:
    """Return the seconds until a deadline; None where there is none."""
    if deadline is None:
        return None
    return max(deadline - clock.monotonic(), 0)


# The pool itself is no child of `multiprocessing`'s.
def _is_worker() -> bool:
    return parent_process() is not None


@functools.cache
def _this_worker() -> int:
    return number_of(current_process().name)
