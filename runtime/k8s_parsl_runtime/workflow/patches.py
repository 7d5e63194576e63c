"""Functions of Parsl that the workflow's process replaces, as a script may call them itself.

A script that has run elsewhere loads its own Config, which may name clusters, networks and
libraries that are not here. Its Config is set aside, and its tasks run on the chart's executors.

It knows Parsl's insides: tests/runtime/test_parsl_contract.py pins what it uses of them.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import parsl
from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel, DataFlowKernelLoader

from k8s_parsl_runtime.shared import own_config, walltime
from k8s_parsl_runtime.workflow import failed_tasks, lean_futures
from k8s_parsl_runtime.workflow.app_options import without_internal
from k8s_parsl_runtime.workflow.failed_tasks import FailedTasks
from k8s_parsl_runtime.workflow.kernel import Kernel

log = logging.getLogger(__name__)


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
    own_config.tolerate()
    failed_tasks.note_receipts(_failed_tasks)
    lean_futures.install()


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
