"""Functions of Parsl that the workflow's process replaces, as a script may call them itself.

A script that has run elsewhere loads its own Config, which may name clusters, networks and
libraries that are not here. Its Config is set aside, and its tasks run on the chart's executors.

It knows Parsl's insides: tests/runtime/test_parsl_contract.py pins what it uses of them.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import parsl
import parsl.executors
import parsl.providers
from parsl import addresses
from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel, DataFlowKernelLoader
from parsl.monitoring import MonitoringHub

from k8s_parsl_runtime.shared import walltime
from k8s_parsl_runtime.workflow import failed_tasks, lean_futures
from k8s_parsl_runtime.workflow.app_options import without_internal
from k8s_parsl_runtime.workflow.failed_tasks import FailedTasks
from k8s_parsl_runtime.workflow.kernel import Kernel

log = logging.getLogger(__name__)

# Functions of `parsl.addresses` that fail without a certain network.
ADDRESSES = ("address_by_interface", "address_by_query", "address_by_route")
# Attributes of a provider that its executor reads when it is made.
READ_OF_PROVIDERS = ("cores_per_node", "mem_per_node")


def install() -> None:
    """Replace them; call this before any module of the user's is imported.

    A module that says `from parsl import load` at its top keeps what it finds then.
    """
    loader: Any = DataFlowKernelLoader
    loader.load = functools.partial(_load, loader.load)
    loader.clear = functools.partial(_clear, loader.clear)
    parsl.load = loader.load
    parsl.clear = loader.clear
    walltime.take_the_place_of_parsls()
    plain: Any = DataFlowKernel
    plain.__init__ = _with_warning(plain.__init__)
    for name in ADDRESSES:
        setattr(addresses, name, _tolerant_address(getattr(addresses, name)))
    failed_tasks.note_receipts(_failed_tasks)
    lean_futures.install()
    for kind in _parts_of_configs():
        kind.__init__ = _tolerant_init(kind.__init__)  # type: ignore[misc]


def load(kernel: Kernel) -> None:
    """Have apps use ``kernel``, and `parsl.load` return it to the workflow."""
    DataFlowKernelLoader._dfk = kernel  # noqa: SLF001 (Parsl's own `load` would make a plain kernel)


def _loaded() -> Kernel | None:
    kernel = DataFlowKernelLoader._dfk  # noqa: SLF001 (`dfk` raises where there is none)
    return kernel if isinstance(kernel, Kernel) else None


def _failed_tasks(kernel: Any) -> FailedTasks | None:
    return kernel.failed_tasks if isinstance(kernel, Kernel) else None


def _load(parsls: Callable[..., DataFlowKernel], config: Config | None = None) -> DataFlowKernel:
    """Stand in for `parsl.load`: return the loaded kernel; where none is, do as Parsl does."""
    kernel = _loaded()
    if kernel is None:
        return parsls(config)
    if config is not None:
        kernel.exit_mode = config.exit_mode
        _log_what_is_set_aside(kernel, config)
    return kernel


def _log_what_is_set_aside(kernel: Kernel, config: Config) -> None:
    ours = sorted(without_internal(kernel.executors))
    theirs = [f"{executor.label} ({_describe(executor)})" for executor in config.executors]
    log.info(
        "parsl.load: the chart's Config is used (executors %s); set aside from the workflow's own:"
        " executors %s, retries %s, strategy %s, run_dir %s",
        ", ".join(ours),
        ", ".join(theirs),
        config.retries,
        config.strategy,
        config.run_dir,
    )


def _describe(executor: Any) -> str:
    kind = type(executor).__name__
    provider = getattr(executor, "provider", None)
    if provider:
        return f"{kind} on {type(provider).__name__}"
    return kind


def _clear(parsls: Callable[[], None]) -> None:
    """Stand in for `parsl.clear`: the launcher's kernel stays."""
    if _loaded() is None:
        parsls()


def _with_warning(init: Any) -> Any:
    """Warn of a kernel that a script makes without `parsl.load`: it works, but not on workers."""

    @functools.wraps(init)
    def warning(self: DataFlowKernel, *args: Any, **kwargs: Any) -> None:
        if not isinstance(self, Kernel):
            log.warning(
                "a DataFlowKernel of the workflow's own: its tasks do not run on workers;"
                " use parsl.load"
            )
        init(self, *args, **kwargs)

    return warning


def _tolerant_address(parsls: Any) -> Any:
    """Let a script make a Config that names a network which is not here."""

    @functools.wraps(parsls)
    def tolerant(*args: Any, **kwargs: Any) -> Any:
        try:
            return parsls(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 (of a part that is set aside anyway)
            log.info("%s: not here, and not needed: %s", parsls.__name__, error)
            return "127.0.0.1"

    return tolerant


def _parts_of_configs() -> Iterator[type]:
    """Yield Parsl's executors and providers, and what else a script's own Config may have."""
    yield MonitoringHub
    for module in (parsl.executors, parsl.providers):
        for name in module.__all__:
            if name != "HighThroughputExecutor":
                yield getattr(module, name)
    with suppress(ImportError):
        from parsl.executors.taskvine import TaskVineExecutor

        yield TaskVineExecutor


def _tolerant_init(init: Any) -> Any:
    """Let a script make a Config whose parts cannot work here.

    One needs a kubeconfig, another a library that is missing. `parsl.load` sets the Config aside
    anyway; a script that uses such a part itself gets an error then.
    """

    @functools.wraps(init)
    def tolerant(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            init(self, *args, **kwargs)
        except TypeError:
            raise  # a misspelt argument, as anywhere
        except Exception as error:  # noqa: BLE001 (of a part that is set aside anyway)
            log.info(
                "%s of the workflow's own cannot be used here, and is not needed: %s",
                type(self).__name__,
                error,
            )
            _set_attributes(self, init, args, kwargs)

    return tolerant


def _set_attributes(part: Any, init: Any, args: Any, kwargs: Any) -> None:
    """Set what `__init__` was called with as attributes, as another part may read them."""
    bound = inspect.signature(init).bind(part, *args, **kwargs)
    bound.apply_defaults()
    without_self = list(bound.arguments.items())[1:]
    for name, value in without_self:
        with suppress(AttributeError):
            setattr(part, name, value)
    for name in READ_OF_PROVIDERS:
        if not hasattr(part, name):
            setattr(part, name, None)
