"""Parsl's File staging: which files are fetched, where, and which are refused.

Parsl's own providers would save the page of a 404 as the file. And its default ones fetch in a
separate task, which may be in another pod, where each pod has its own working directory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import parsl
from parsl.app.futures import DataFuture
from parsl.data_provider.data_manager import DataManager
from parsl.data_provider.file_noop import NoOpFileStaging
from parsl.data_provider.files import File
from parsl.data_provider.staging import Staging

from k8s_parsl_runtime.shared.fetching import SCHEMES, fetch


def providers(*, shared: bool) -> list[Staging]:
    """Return how files come to the tasks of an executor.

    Args:
        shared: all of them have the same working directory.
    """
    fetched = Apart() if shared else InTask()
    return [NoOpFileStaging(), fetched, Refused()]


class Fetched(Staging):
    """Files of web and FTP servers, by their own names in the working directory."""

    def can_stage_in(self, file: File) -> bool:
        """Return whether a file is on such a server."""
        return file.scheme in SCHEMES


class Apart(Fetched):
    """Fetches a file in a separate task, as Parsl does by default."""

    def stage_in(
        self, dm: DataManager, executor: str, file: File, parent_fut: Future[Any] | None
    ) -> DataFuture:
        """Return the future of the fetched file."""
        file.local_path = file.filename
        app = parsl.python_app(executors=[executor], data_flow_kernel=dm.dfk)(_stage_in)
        outputs: list[DataFuture] = app(  # noqa: SLF001
            outputs=[file], _parsl_staging_inhibit=True, parent_fut=parent_fut
        )._outputs
        return outputs[0]


class InTask(Fetched):
    """Fetches a file in the task itself, before the user's function."""

    def stage_in(
        self,
        dm: DataManager,  # noqa: ARG002 (Parsl's interface)
        executor: str,  # noqa: ARG002
        file: File,
        parent_fut: Future[Any] | None,  # noqa: ARG002
    ) -> None:
        """Set where the task will find a file."""
        file.local_path = file.filename

    def replace_task(
        self,
        dm: DataManager,  # noqa: ARG002 (Parsl's interface)
        executor: str,  # noqa: ARG002
        file: File,
        func: Callable[..., Any],
    ) -> Callable[..., Any]:
        """Return the task's function with the file fetched before it."""
        return functools.partial(after_fetching, func, file.url, file.filename)


class Refused(Staging):
    """Refuses what nothing here can fetch or send: Globus, and schemes that no provider knows."""

    def can_stage_in(self, file: File) -> bool:  # noqa: ARG002
        """Return True, as Parsl asks this one last."""
        return True

    can_stage_out = can_stage_in

    def stage_in(
        self,
        dm: DataManager,  # noqa: ARG002 (Parsl's interface)
        executor: str,  # noqa: ARG002
        file: File,
        parent_fut: Future[Any] | None,  # noqa: ARG002
    ) -> None:
        """Refuse an input.

        Raises:
            ValueError: always; names the file.
        """
        raise ValueError(
            f"the file {file.url} cannot be fetched: files come by {', '.join(SCHEMES)} or from a"
            f" path, not by {file.scheme}; transfer it to a volume (storage) first, and name its"
            " path"
        )

    def stage_out(self, dm: DataManager, executor: str, file: File, app_fu: Future[Any]) -> None:  # noqa: ARG002
        """Refuse an output.

        Raises:
            ValueError: always; names the file.
        """
        raise ValueError(
            f"the file {file.url} cannot be sent: a task's outputs are paths, best on a volume"
            f" (storage), and go nowhere by {file.scheme}"
        )


def _stage_in(parent_fut: object = None, outputs: list[File] | None = None, **_: object) -> None:  # noqa: ARG001
    """Fetch a file, as the task that others wait for."""
    for file in outputs or []:
        fetch(file.url, str(file.local_path))


def after_fetching(
    func: Callable[..., Any], url: str, path: str, *arguments: Any, **more: Any
) -> Any:
    """Fetch a file, then run the task."""
    fetch(url, path)
    return func(*arguments, **more)
