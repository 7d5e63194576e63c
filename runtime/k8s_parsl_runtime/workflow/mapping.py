"""Calls an app for each item of an iterable of any length, and yields the results.

What is held has a bound, whatever the length: calls that are not yielded yet. The calls go to the
workers in batches, by `batching`; this decides how large they are, and when.
"""

from __future__ import annotations

import functools
import inspect
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from k8s_parsl_runtime.shared import batch
from k8s_parsl_runtime.shared.batch import Outcomes, Timed
from k8s_parsl_runtime.shared.clocks import clock
from k8s_parsl_runtime.shared.errors import describe
from k8s_parsl_runtime.shared.task_errors import TaskCancelled, TaskFailed
from k8s_parsl_runtime.workflow.batching import Calls

# How long a batch should take in its worker. A task costs about a millisecond on its way.
TARGET_S = 0.25
# More calls would not be much faster, and a lost worker would take them all with it.
MOST_CALLS = 256
MOST_BYTES = 1 << 20
# How much the latest batch counts in what a call is expected to take.
LATEST = 0.3
# Tasks that a worker may have or that wait for it, and tasks in all.
PER_WORKER = 2
MOST_TASKS = 2000
# Calls that may be held for one that others have overtaken, in tasks for each that may run.
AHEAD = 2
# How long the iterable is asked for items while a result is there.
TAKE_S = 0.02

Args = Sequence[Any]
# Its number, its arguments, and these packed.
Call = tuple[int, Args, Any]


class Options(NamedTuple):
    """What `k8s_parsl.tasks.map` was asked for; see there."""

    ordered: bool = True
    timeout: float | None = None
    chunksize: int | None = None
    buffersize: int | None = None
    executors: Sequence[str] | str | None = None
    return_exceptions: bool = False


def mapped(
    app: Callable[..., Any],
    calls: Iterable[Iterable[Any]],
    constants: dict[str, Any],
    options: Options,
) -> Mapping:
    """Return the results of an app's calls.

    Args:
        app: the app, or any function that returns a future.
        calls: the positional arguments of each call.
        constants: the keyword arguments of all calls.
        options: all else.

    Raises:
        TypeError: the app is none, or an option may be meant for it.
        ValueError: an option is out of its bounds.
    """
    _check(app, options)
    return Mapping(Calls(app, constants, options.executors), map(tuple, calls), options)


def _check(app: Any, options: Options) -> None:
    """Refuse options that are out of their bounds, or that may be meant for the app."""
    for name in ("chunksize", "buffersize"):
        number = getattr(options, name)
        if number is None:
            continue
        if not isinstance(number, int):
            raise TypeError(f"map: {name} is {number!r}: give a whole number")
        if number < 1:
            raise ValueError(f"map: {name} is {number}: give 1 or more")
    try:
        parameters = inspect.signature(getattr(app, "func", app)).parameters
    except (TypeError, ValueError):
        return
    for name, given, default in zip(Options._fields, options, Options(), strict=True):
        if given != default and name in parameters:
            called = getattr(app, "__name__", repr(app))
            raise TypeError(
                f"map: {name} is an option of map and a parameter of {called}: give the app's by"
                " position, as in map(app, items, itertools.repeat(value))"
            )


class _Size:
    """How many calls a batch should have, by what they took so far.

    Args:
        fixed: the number that the user chose.
        most: the largest.
    """

    def __init__(self, fixed: int | None, most: int) -> None:
        self._most = most
        self.calls = min(fixed or 1, most)
        self._is_fixed = fixed is not None
        self._seconds: float | None = None
        self._bytes = 0.0

    def learn(self, calls: int, seconds: float, size: int) -> None:
        """Take what so many calls took, and the bytes of their results."""
        if self._is_fixed or calls == 0:
            return
        each = seconds / calls
        if self._seconds is None:
            self._seconds = each
        # The latest ones are most like the next.
        self._seconds += (each - self._seconds) * LATEST
        self._bytes += (size / calls - self._bytes) * LATEST
        wanted = min(TARGET_S / max(self._seconds, 1e-9), MOST_BYTES / max(self._bytes, 1.0))
        self.calls = max(min(int(wanted), self._most, MOST_CALLS), 1)


class Mapping(Iterator[Any]):
    """The results of an app's calls; one thread at a time asks for them.

    One class, as each method changes the same few counts.

    Args:
        calls: the app.
        items: the positional arguments of each call.
        options: all else.
    """

    def __init__(self, calls: Calls, items: Iterable[Args], options: Options) -> None:
        self._calls = calls
        self._items = iter(items)
        self._ordered = options.ordered
        self._deadline: float | None = None
        if options.timeout is not None:
            self._deadline = clock.monotonic() + options.timeout
        self._return_exceptions = options.return_exceptions
        chunk = options.chunksize
        self._may_stop = chunk is None
        self._most_tasks = min(max(calls.workers(), 1) * PER_WORKER, MOST_TASKS)
        self._ahead = ahead = options.buffersize
        largest = MOST_CALLS if chunk is None else chunk
        if ahead is not None:
            largest = min(largest, max(ahead // self._most_tasks, 1))
        self._together = calls.together and largest > 1
        self._size = _Size(chunk, largest if self._together else 1)
        # What the iterable raised; it is raised after the results of what it gave before.
        self._raised: Exception | None = None
        self._is_exhausted = False
        # Numbers of calls: taken from the iterable, and yielded.
        self._taken = 0
        self._yielded = 0
        self._tasks = 0
        # Calls that came back unmade, as their batch took long; they go first.
        self._again: deque[Call] = deque()
        # Results by the number of their call, or in the order in which they came.
        self._results: dict[int, Any] = {}
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def __next__(self) -> Any:
        """Return the next result; wait for it."""
        while True:
            while not self._events.empty():
                self._take(self._events.get())
            self._fill()
            place = self._next_place()
            if place in self._results:
                self._yielded += 1
                return self._given(self._results.pop(place))
            if self._yielded == self._taken and self._is_exhausted:
                raise self._end()
            self._wait()

    def _next_place(self) -> int | None:
        if self._ordered:
            return self._yielded
        return next(iter(self._results), None)

    def _end(self) -> Exception:
        raised = self._raised or StopIteration()
        self._raised = None
        return raised

    def _wait(self) -> None:
        if self._deadline is None:
            self._take(self._events.get())
            return
        try:
            left = max(self._deadline - clock.monotonic(), 0.0)
            self._take(self._events.get(timeout=left))
        except queue.Empty:
            raise TimeoutError("map: the next result is not there within its timeout") from None

    def _given(self, result: Any) -> Any:
        """Return a result to the workflow, or raise what its call raised."""
        if isinstance(result, Future):
            error = result.exception()
            value = None if error else result.result()
        else:
            error, value = _read(result)
        if error is None:
            return value.value if type(value) is Timed else value
        self._calls.receive(error)
        if self._return_exceptions:
            return error
        if isinstance(error, StopIteration):
            # Raised here, it would be the end of the results (PEP 479 says so of generators).
            raise RuntimeError(f"map: a call raised {describe(error)}") from error  # noqa: TRY004
        raise error

    # What comes back.

    def _take(self, event: tuple[Any, ...]) -> None:
        """Take what one task came to."""
        self._tasks -= 1
        calls, came, following = event
        if following is not None:
            self._take_batch(calls, came, following)
            return
        place, _, _ = calls[0]
        self._results[place] = came
        value = getattr(came, "_result", None)
        if type(value) is Timed:
            self._size.learn(1, value.seconds, 0)

    def _take_batch(self, calls: list[Call], came: Any, following: dict[int, Any]) -> None:
        # What failed is its own task now, which comes back as one.
        self._tasks += len(following)
        if not isinstance(came, Outcomes):
            return
        results = batch.results_of(came)
        for place, ((number, _, _), result) in enumerate(zip(calls, results, strict=False)):
            if place not in following:
                self._results[number] = result
        self._again.extend(calls[came.made :])
        self._size.learn(came.made, came.seconds, len(came.results))

    # What goes out.

    def _fill(self) -> None:
        """Hand over calls, as long as there is room for them."""
        until = None
        while self._tasks < self._most_tasks:
            if self._again:
                size = self._next_size(len(self._again))
                self._send([self._again.popleft() for _ in range(size)])
                continue
            room = self._room()
            if self._is_exhausted or room <= 0:
                return
            if self._results:
                until = until or clock.monotonic() + TAKE_S
                if clock.monotonic() > until:
                    return
            self._send_next(self._next_size(room))

    def _next_size(self, most: int) -> int:
        return min(self._size.calls, most)

    def _room(self) -> int:
        held = self._taken - self._yielded
        if self._ahead is not None:
            return self._ahead - held
        size = self._size.calls
        room = AHEAD * self._most_tasks * size - held
        # Not one call at a time, as each is yielded.
        return room if room >= size else 0

    def _send_next(self, size: int) -> None:
        """Take so many items, and hand over their calls; fewer where the iterable is slow."""
        together: list[Call] = []
        try:
            self._collect(together, size)
        finally:
            # Also what was taken before Ctrl-C.
            if together:
                self._send(together)

    def _collect(self, together: list[Call], size: int) -> None:
        until = clock.monotonic() + TARGET_S
        held = 0
        for _ in range(size):
            try:
                args = next(self._items)
            except StopIteration:
                self._is_exhausted = True
                return
            except Exception as error:  # noqa: BLE001 (the iterable is the user's)
                self._is_exhausted = True
                self._raised = error
                return
            number = self._taken
            self._taken += 1
            packed = self._calls.pack(args) if self._together else None
            if packed is None:
                self._send_alone(number, args)
            else:
                together.append((number, args, packed))
                held += batch.size(packed)
            if held > MOST_BYTES or clock.monotonic() > until:
                return

    def _send_alone(self, number: int, args: Args) -> None:
        self._follow(lambda: self._calls.alone(args), [(number, args, None)], self._came)

    def _send(self, calls: list[Call]) -> None:
        if len(calls) == 1:
            _, args, _ = calls[0]
            self._follow(lambda: self._calls.timed(args), calls, self._came)
            return
        packed = [packed for _, _, packed in calls]
        self._follow(
            lambda: self._calls.batch(packed, may_stop=self._may_stop), calls, self._batch_came
        )

    def _follow(
        self,
        submit: Callable[[], Future[Any]],
        calls: list[Call],
        came: Callable[[list[Call], Future[Any]], None],
    ) -> None:
        """Hand over a task of these calls; where Parsl does not take it, each has failed."""
        try:
            future = submit()
        except Exception as error:  # noqa: BLE001 (of Parsl, or of the user's function)
            self._tasks += len(calls)
            for call in calls:
                self._came([call], _failed(error))
            return
        self._tasks += 1
        future.add_done_callback(functools.partial(came, calls))

    # In the thread that ends the task.

    def _came(self, calls: list[Call], future: Future[Any]) -> None:
        self._events.put((calls, future, None))

    def _batch_came(self, calls: list[Call], future: Future[Any]) -> None:
        """Take the end of a batch: a call that failed goes on at once, also if the map was left."""
        outcomes: Outcomes | None = None
        error = future.exception()
        if error is None:
            outcomes = future.result()
            failed = outcomes.failed.items()
            following = {
                place: functools.partial(self._calls.failed, calls[place][1], packed, future)
                for place, packed in failed
            }
        elif isinstance(error, TaskCancelled):
            # The run ends: no call goes on.
            following = {place: functools.partial(_failed, error) for place, _ in enumerate(calls)}
        else:
            following = {
                place: functools.partial(self._calls.shared, args, error, future, len(calls))
                for place, (_, args, _) in enumerate(calls)
            }
        self._events.put((calls, outcomes, following))
        for place, go_on in following.items():
            self._follow_one(calls[place], go_on)

    def _follow_one(self, call: Call, go_on: Any) -> None:
        try:
            future = go_on()
        except Exception as error:  # noqa: BLE001 (Parsl has ended, say)
            future = _failed(error)
        future.add_done_callback(functools.partial(self._came, [call]))


def _failed(error: BaseException) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def _read(packed: Any) -> tuple[BaseException | None, Any]:
    """Return a result of a batch; where it cannot be read, an exception that says so."""
    try:
        return None, batch.unpack(packed)
    except BaseException as error:  # noqa: BLE001 (unpickling runs the user's code)
        why = f"the workflow cannot read what the task returned: {describe(error)}"
        return TaskFailed(why), None
