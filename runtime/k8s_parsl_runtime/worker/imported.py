"""`parsl.load` in a module that a task imports, as workers import what the workflow imports.

In the workflow it gets the launcher's kernel. Here it gets one that does nothing: Parsl's own
would start executors on each worker, and make a folder `runinfo` beside those of the others. A
task that calls `parsl.load` itself gets Parsl's own.

It knows Parsl's insides: tests/runtime/test_parsl_contract.py pins what it uses of them.
"""

from __future__ import annotations

import functools
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any, NoReturn, Self

import parsl
from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel, DataFlowKernelLoader
from parsl.errors import NoDataFlowKernelError

from k8s_parsl_runtime.shared import own_config

# The file that a frame of an import has.
IMPORT = "<frozen importlib._bootstrap>"


def install() -> None:
    """Replace what a module may call; call this before any module of the user's is imported."""
    own_config.tolerate()
    loader: Any = DataFlowKernelLoader
    loader.load = functools.partial(_load, loader.load)
    loader.dfk = functools.partial(_dfk, loader.dfk)
    parsl.load = loader.load
    parsl.dfk = loader.dfk


class OfAnImport:
    """Stands for the kernel of the workflow's process in a module that is imported on a worker."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def cleanup(self) -> None:
        """Do nothing: nothing was started."""

    def wait_for_current_tasks(self) -> None:
        """Do nothing: it has no tasks."""

    def submit(self, *_: object, **__: object) -> NoReturn:
        """Refuse a task.

        Raises:
            NoDataFlowKernelError: always.
        """
        raise NoDataFlowKernelError


def _load(
    parsls: Callable[..., DataFlowKernel], config: Config | None = None
) -> DataFlowKernel | OfAnImport:
    """Stand in for `parsl.load`; outside an import do as Parsl does."""
    return OfAnImport(config) if _is_importing() else parsls(config)


def _dfk(parsls: Callable[[], DataFlowKernel]) -> DataFlowKernel | OfAnImport:
    """Stand in for `parsl.dfk`, which apps call, too."""
    return OfAnImport() if _is_importing() else parsls()


def is_of_import(trace: types.TracebackType | None) -> bool:
    """Return whether a module's own lines raised what has this traceback."""
    return any(frame.f_code.co_name == "<module>" for frame, _ in traceback.walk_tb(trace))


def _is_importing() -> bool:
    """Return whether a module is being imported by what calls this, in this thread."""
    frame = sys._getframe()  # noqa: SLF001 (the documented way to the stack)
    while frame := frame.f_back:  # type: ignore[assignment]
        if frame.f_code.co_filename == IMPORT:
            return True
    return False
