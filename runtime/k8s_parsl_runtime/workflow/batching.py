"""Hands calls of an app to Parsl: each alone, or several as one task, a batch.

A call that fails in a batch gets its own task, whose first try has failed: Parsl counts that
try, and tries again as the run's `retries` have it. So do all calls of a batch that failed as a
whole, as when its worker is lost.

It works with any DataFlowKernel, and knows Parsl's insides: tests/runtime/test_parsl_contract.py
pins what it uses of them.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any
from weakref import WeakKeyDictionary

from parsl.app.errors import RemoteExceptionWrapper
from parsl.app.python import PythonApp
from parsl.data_provider.files import File
from parsl.dataflow.dflow import DataFlowKernelLoader
from parsl.executors import HighThroughputExecutor, MPIExecutor
from parsl.serialize import deserialize

from k8s_parsl_runtime.shared import batch
from k8s_parsl_runtime.shared.came import unpacked
from k8s_parsl_runtime.shared.measures import Measures
from k8s_parsl_runtime.workflow.losses import SHARED

# Arguments by which Parsl does more for a task than to call the app. A call that has one is its own
# task.
PARSLS = ("walltime", "inputs", "outputs", "stdout", "stderr", "parsl_resource_specification")
ONE_OF = "it was one of {number} calls of one batch, any of which may be the cause: see chunksize"
_functions: WeakKeyDictionary[PythonApp, tuple[batch.One, batch.Batch]] = WeakKeyDictionary()
# Workers where nothing says how many there may be.
WORKERS = 4


class Calls:
    """The calls of one app, with the same keyword arguments.

    Args:
        app: the app, or any function that returns a future.
        constants: the keyword arguments.
        executors: the labels of the executors that run them; None as the app has it.

    Raises:
        TypeError: it is no app, or none that may run on these executors.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        constants: dict[str, Any],
        executors: Sequence[str] | str | None,
    ) -> None:
        if not callable(app):
            raise TypeError(f"map needs an app, and got {app!r}")
        if executors is not None:
            app = _on(app, executors)
        self._app: Any = app
        self._constants = constants
        self._kernel: Any = getattr(app, "data_flow_kernel", None) or DataFlowKernelLoader.dfk()
        self._resolver: Any = self._kernel.dependency_resolver
        # Whether several may be one task.
        self.together = isinstance(app, PythonApp) and self._prepare(app)

    def _prepare(self, app: PythonApp) -> bool:
        """Return whether several calls may be one task; prepare that."""
        if app.cache or app.join or not self._may_travel_together(app):
            return False
        self._kwargs = {**app.kwargs, **self._constants}
        if any(self._kwargs.get(name) for name in PARSLS):
            return False
        if not all(self._travels(value) for value in self._kwargs.values()):
            return False
        if not all(map(_pickles, _executors(self._kernel, app.executors))):
            return False
        self._one, self._batch = _functions_of(app)
        try:
            self._packed_constants = batch.packed_constants(self._kwargs)
        except Exception:  # noqa: BLE001 (of the user's own pickling: each call says it)
            return False
        return True

    def _may_travel_together(self, app: PythonApp) -> bool:
        # Parsl's own kernel, of a script that runs without k8s-parsl, has no values.
        may_batch: Callable[[str], bool] = getattr(self._kernel, "may_batch", lambda _: True)
        return may_batch(app.func.__name__)

    def pack(self, args: Sequence[Any]) -> Any:
        """Return the arguments of one call for a batch.

        Returns:
            None where the call has to be its own task.
        """
        if batch.simple(args):
            return args
        if not all(map(self._travels, args)):
            return None
        try:
            return batch.pack(args)
        except Exception:  # noqa: BLE001 (of the user's own pickling: the call's own task says it)
            return None

    def _travels(self, value: Any) -> bool:
        """Return whether a value is nothing that Parsl waits for, or copies to a worker."""
        if isinstance(value, File):
            return False
        try:
            return not self._resolver.traverse_to_gather(value)
        except Exception:  # noqa: BLE001 (of a resolver of the user's)
            return False

    def workers(self) -> int:
        """Return how many workers there may be for these calls."""
        labels = getattr(self._app, "executors", "all")
        executors = _executors(self._kernel, labels)
        return sum(map(_most_workers, executors)) or WORKERS

    def alone(self, args: Sequence[Any]) -> Future[Any]:
        """Make one call.

        Raises:
            TypeError: what was given for an app returns no future.
        """
        future: Any = self._app(*args, **self._constants)
        if not isinstance(future, Future):
            name = getattr(self._app, "__name__", repr(self._app))
            raise TypeError(
                f"map needs an app, or a function that returns a future: {name} is neither"
                " (is @python_app missing above it?)"
            )
        of_call: Future[Any] = future
        return of_call

    def timed(self, args: Sequence[Any]) -> Future[Any]:
        """Make one call; its result is Timed."""
        return self._submit(self._one, args, dict(self._kwargs))

    def batch(self, packed: Sequence[Any], *, may_stop: bool) -> Future[Any]:
        """Make several calls; the result is batch.Outcomes."""
        calls = batch.calls(packed, self._packed_constants, may_stop=may_stop)
        future = self._submit(self._batch, [calls], {})
        # Parsl must not try all of them again: each has its own tries.
        _record(future)["fail_cost"] = self._kernel.config.retries + 1
        return future

    def _submit(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Future[Any]:
        app = self._app
        future: Future[Any] = self._kernel.submit(
            function,
            app_args=args,
            executors=app.executors,
            cache=False,
            ignore_for_cache=app.ignore_for_cache,
            app_kwargs=kwargs,
        )
        return future

    def failed(self, args: Sequence[Any], packed: bytes, of: Future[Any]) -> Future[Any]:
        """Go on with a call that failed in a batch.

        Args:
            args: its arguments.
            packed: what it raised, as the worker sent it.
            of: the batch's future.

        Returns:
            The future of its task, whose first try this was.
        """
        came = unpacked(packed)
        wrapper = came.value if came else deserialize(packed)
        return self._tried(args, wrapper, of, came.measures if came else None)

    def shared(
        self, args: Sequence[Any], error: BaseException, of: Future[Any], number: int
    ) -> Future[Any]:
        """Go on with a call of a batch of this ``number`` that failed as a whole; see `failed`."""
        own = _copied(error)
        # Python would make it look as if another call of the batch were the cause.
        own.__cause__ = error.__cause__
        if number > 1 and own is not error:
            own.add_note(ONE_OF.format(number=number))
        return self._tried(args, own, of, None)

    def _tried(
        self, args: Sequence[Any], end: Any, of: Future[Any], measures: Measures | None
    ) -> Future[Any]:
        # Parsl does not begin a task whose dependency is open: so its first try can be ended.
        gate: Future[None] = Future()
        future = self._submit(self._one, [gate], dict(self._kwargs))
        record = _record(future)
        record["args"] = args
        tried: Any = Future()
        if measures is not None:
            tried.measures = measures
        elif not isinstance(end, RemoteExceptionWrapper):
            record[SHARED] = True
        if isinstance(end, BaseException):
            tried.set_exception(end)
        else:
            tried.set_result(end)
        for moment in ("time_invoked", "try_time_launched"):
            record[moment] = _record(of)[moment]
        self._kernel.handle_exec_update(record, tried)
        gate.set_result(None)
        return future

    def receive(self, error: BaseException) -> None:
        """Note that the workflow has this exception, where our kernel asks for that."""
        failed_tasks = getattr(self._kernel, "failed_tasks", None)
        if failed_tasks is not None:
            failed_tasks.received(error)


def _functions_of(app: PythonApp) -> tuple[batch.One, batch.Batch]:
    """Return what runs an app's calls; always the same, as Parsl pickles a function only once."""
    if app not in _functions:
        _functions[app] = (batch.One(app.func, app.__name__), batch.Batch(app.func, app.__name__))
    return _functions[app]


def _record(future: Any) -> Any:
    """Return Parsl's record of the task of a future."""
    return future.task_record


def _on(app: Any, executors: Sequence[str] | str) -> Any:
    """Return an app that runs on these executors."""
    if not hasattr(app, "executors") or getattr(app, "join", False):
        name = getattr(app, "__name__", repr(app))
        raise TypeError(f"map: {name} is no python_app or bash_app, so it takes no executors")
    app = copy.copy(app)
    app.executors = executors if executors == "all" else _labels(executors)
    return app


def _labels(executors: Sequence[str] | str) -> list[str]:
    return [executors] if isinstance(executors, str) else list(executors)


def _executors(kernel: Any, labels: Sequence[str] | str) -> list[Any]:
    """Return the executors of these labels; all where none of them is there, as on a laptop."""
    ours = {label: one for label, one in kernel.executors.items() if label != "_parsl_internal"}
    named = [] if labels == "all" else [ours[label] for label in labels if label in ours]
    return named or list(ours.values())


def _pickles(executor: Any) -> bool:
    """Return whether an executor sends any call to another process.

    In a thread of this one, a call can change its arguments.
    """
    return isinstance(executor, HighThroughputExecutor) and not isinstance(executor, MPIExecutor)


def _most_workers(executor: Any) -> int:
    """Return how many workers an executor may have; 0 where nothing says it."""
    provider = getattr(executor, "provider", None)
    blocks = getattr(provider, "max_blocks", None)
    workers = getattr(executor, "workers_per_node", None)
    if blocks is None or workers is None:
        return int(getattr(executor, "max_threads", 0))
    nodes = getattr(provider, "nodes_per_block", 1)
    most = blocks * workers * nodes
    return int(most) if math.isfinite(most) else 0


def _copied(error: BaseException) -> BaseException:
    """Return a copy of an exception: each task has its own, with its own notes."""
    with contextlib.suppress(Exception):
        copied = copy.copy(error)
        if type(copied) is type(error):
            # Of some exceptions a copy has the very same dictionary.
            copied.__dict__ = vars(error) | {"__notes__": list(getattr(error, "__notes__", ()))}
            return copied.with_traceback(error.__traceback__)
    return error
