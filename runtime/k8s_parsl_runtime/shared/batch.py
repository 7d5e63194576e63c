"""Several calls of one app that travel as one task: packed, called one after the other, unpacked.

Each call gets what it would get alone: its own copy of its arguments, and its own end. So values
are pickled one by one, except numbers, texts and the like, which nothing can change: these are
pickled together, which costs a call a microsecond.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from parsl.app.errors import RemoteExceptionWrapper
from parsl.serialize import deserialize, serialize

from k8s_parsl_runtime.shared.clocks import clock
from k8s_parsl_runtime.shared.errors import describe
from k8s_parsl_runtime.shared.task_errors import TaskExited, TaskFailed

# A batch whose calls took longer so far begins no further one.
STOP_S = 1.0
# Nor one whose results have so many bytes.
STOP_BYTES = 4 << 20
# Parsl only warns of more.
BUFFER_BYTES = 1 << 30
# Items of a list or a dictionary that are looked at.
LOOKED_AT = 32
SIMPLE = frozenset((int, float, bool, str, bytes, type(None)))

# How a worker's process packs what a call raised; takes the exception, when the call began in
# seconds since the epoch, and how long it took.
keeper: Callable[[BaseException, float, float], bytes] | None = None
# Called in a worker's process when a call begins.
begin_call: Callable[[], None] | None = None


class Packed(NamedTuple):
    """A value that was pickled by itself."""

    pickled: bytes


def pack(value: Any) -> Any:
    """Return a value as a list of them may have it: itself where it is simple, or Packed.

    Raises:
        Exception: any error of the value's own pickling.
    """
    kind = type(value)
    if kind in SIMPLE or (kind is tuple and SIMPLE.issuperset(map(type, value))):
        return value
    if (kind is list or kind is dict) and _is_flat(value):
        # dill takes ten times as long.
        return Packed(pickle.dumps(value))
    return Packed(serialize(value, buffer_threshold=BUFFER_BYTES))


def unpack(packed: Any) -> Any:
    """Return the value.

    Raises:
        Exception: any error of the value's own unpickling.
    """
    if type(packed) is not Packed:
        return packed
    # So begins every pickle, and nothing of Parsl's serializer.
    if packed.pickled.startswith(b"\x80"):
        return pickle.loads(packed.pickled)  # noqa: S301 (of this run's own processes)
    return deserialize(packed.pickled)


def size(packed: Any) -> int:
    """Return about how many bytes a packed value has."""
    if type(packed) is Packed:
        return len(packed.pickled)
    if isinstance(packed, tuple):
        return sum(map(size, packed))
    return len(packed) if isinstance(packed, str | bytes) else 8


def _is_flat(value: Any) -> bool:
    if len(value) > LOOKED_AT:
        return False
    if type(value) is dict:
        return SIMPLE.issuperset(map(type, value.values())) and SIMPLE.issuperset(map(type, value))
    return SIMPLE.issuperset(map(type, value))


class Calls(NamedTuple):
    """The calls of a batch, as it travels."""

    number: int
    # A list with the packed arguments of each.
    arguments: bytes
    # By the name of the argument, what is the same in all calls.
    constants: bytes
    # Whether it may come back before all its calls were made.
    may_stop: bool

    def __repr__(self) -> str:
        """Return what a line about the task shows of its arguments."""
        return f"<{self.number} calls>"


def calls(packed: Sequence[Any], constants: dict[str, Any], *, may_stop: bool) -> Calls:
    """Return calls as they travel; their arguments are packed already."""
    return Calls(len(packed), pickle.dumps(packed), pickle.dumps(constants), may_stop)


class Outcomes(NamedTuple):
    """What the calls of a batch came to, as it travels."""

    # How many of them were made: the others were not begun.
    made: int
    # A list with the packed result of each; None for one that failed.
    results: bytes
    # By the place of the call in the batch, what it raised, as the worker packs it.
    failed: dict[int, bytes]
    # How long the calls took, and those that failed.
    seconds: float
    failed_seconds: float


class Timed(NamedTuple):
    """The result of a call that was made alone."""

    value: Any
    seconds: float


class _OfApp:
    """What a worker calls for an app; it has the app's name.

    Args:
        function: the app's, which returns what it raises.
        name: the app's.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function = function
        self.__name__ = name


class One(_OfApp):
    """Makes one call, and measures it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return its result with its time, or Parsl's wrapper of what it raised."""
        began = time.perf_counter()
        result = self.function(*args, **kwargs)
        if isinstance(result, RemoteExceptionWrapper):
            return result
        return Timed(result, time.perf_counter() - began)


class Batch(_OfApp):
    """Makes the calls of a batch, each whatever the others come to."""

    def __call__(self, calls: Calls) -> Any:
        """Return the outcomes."""
        constants = pickle.loads(calls.constants)  # noqa: S301 (of the workflow's own process)
        arguments = pickle.loads(calls.arguments)  # noqa: S301
        home = os.getpid()
        results: list[Any] = []
        failed: dict[int, bytes] = {}
        failed_seconds = 0.0
        held = 0
        since = began = time.perf_counter()
        for place, packed in enumerate(arguments):
            if begin_call:
                begin_call()
            result, error = _call(self.function, packed, constants)
            if os.getpid() != home:
                return _of_fork(result, error)
            now = time.perf_counter()
            if error is None:
                result, error = _packed(result)
            if error is not None:
                failed[place] = _failure(error, now - began)
                failed_seconds += now - began
                held += len(failed[place])
            results.append(result)
            held += size(result)
            began = time.perf_counter()
            if calls.may_stop and (began - since > STOP_S or held > STOP_BYTES):
                break
        seconds = time.perf_counter() - since
        return Outcomes(len(results), pickle.dumps(results), failed, seconds, failed_seconds)


def _call(
    function: Callable[..., Any], packed: Any, constants: dict[str, Any]
) -> tuple[Any, BaseException | None]:
    """Make one call; return its result, or None and what it raised."""
    try:
        args = unpack(packed)
        kwargs = {name: unpack(value) for name, value in constants.items()}
        result = function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 (the other calls go on)
        return None, error
    if isinstance(result, RemoteExceptionWrapper):
        return None, result.e_value
    return result, None


def _packed(result: Any) -> tuple[Any, BaseException | None]:
    """Return a result packed; or None, and why it cannot be."""
    try:
        return pack(result), None
    except BaseException as error:  # noqa: BLE001 (the user's own pickling)
        kind = type(result).__qualname__
        error.add_note(f"the app returned a {kind} that cannot be sent to the workflow")
        return None, error


def _of_fork(result: Any, error: BaseException | None) -> Any:
    """Return the end of a process that a call has forked, and that is no worker."""
    if error is None:
        return result
    if isinstance(error, Exception):
        return RemoteExceptionWrapper(type(error), error, error.__traceback__)
    raise error


def _failure(error: BaseException, seconds: float) -> bytes:
    if keeper:
        return keeper(error, clock.time() - seconds, seconds)
    if not isinstance(error, Exception):
        error = TaskExited(describe(error)).with_traceback(error.__traceback__)
    try:
        packed: bytes = serialize(_wrapped(error), buffer_threshold=BUFFER_BYTES)
        deserialize(packed).get_exception()
    except Exception:  # noqa: BLE001 (of a class of the user's)
        text = TaskFailed(describe(error)).with_traceback(error.__traceback__)
        packed = serialize(_wrapped(text))
    return packed


def _wrapped(error: BaseException) -> RemoteExceptionWrapper:
    return RemoteExceptionWrapper(type(error), error, error.__traceback__)


def packed_constants(constants: dict[str, Any]) -> dict[str, Any]:
    """Return what is the same in all calls, packed.

    Raises:
        Exception: any error of a value's own pickling.
    """
    return {name: pack(value) for name, value in constants.items()}


def results_of(outcomes: Outcomes) -> list[Any]:
    """Return the packed results of the calls that were made."""
    found: list[Any] = pickle.loads(outcomes.results)  # noqa: S301 (of this run's own workers)
    return found


def simple(values: Iterable[Any]) -> bool:
    """Return whether none of these values can be changed or needs Parsl's care."""
    return SIMPLE.issuperset(map(type, values))
