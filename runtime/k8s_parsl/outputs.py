"""Outputs that are whole or not there: what an app writes files by.

    from k8s_parsl.outputs import output

    with output("tiles/3/1/2.tif") as temporary:
        write_geotiff(temporary)

See docs/user/outputs.md. All of it also works without k8s-parsl's launcher, in plain Python.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import IO, Any, TypeVar

from k8s_parsl_runtime.outputs import made, merging, whole, workflow_parts
from k8s_parsl_runtime.outputs.errors import OutputError

__all__ = ["OutputError", "append", "makes", "merged", "output"]

F = TypeVar("F", bound=Callable[..., Any])


def output(*paths: str | os.PathLike[str]) -> AbstractContextManager[Any]:
    """Return a context manager that gives a temporary path for each output.

    Write a file, or make a folder, at that path. When the block ends without an exception, it is
    put on the disk and takes the output's place; else what was there before is still there.

    Args:
        paths: of the outputs; relative ones begin at the working directory.

    Returns:
        What gives the temporary path, or several as a tuple: a text for a text, a Path for a Path.

    Raises:
        OutputError: nothing was written, it is still open for writing, or it cannot be put there;
            names the output.
    """
    return whole.Output(*paths)


def append(
    path: str | os.PathLike[str], mode: str = "a", **options: Any
) -> AbstractContextManager[IO[Any]]:
    """Return a context manager that gives a file whose content is added to the one at ``path``.

    It is added when the run ends well, or at `merged`: in the order of the tasks' numbers, and
    once, however often a task was tried. This also holds for a process that the task has started,
    if the task waits for it. What the workflow itself appends comes after what the tasks add that
    it has called before. In plain Python it is added at the end of the block.

    Args:
        path: of the file that is added to.
        mode: `a` for text, `ab` for bytes.
        options: `encoding`, `errors` and `newline`, as for `open`.

    Raises:
        OutputError: the file cannot be added to, or the task of this process has ended.
    """
    return workflow_parts.append(path, mode, **options)


def merged(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Add to a file now what the tasks that are done have appended; for the workflow itself.

    Returns:
        The path.

    Raises:
        OutputError: another program has changed the file, or a part is missing.
    """
    merging.merged(path)
    return path


def makes(*names: str) -> Callable[[F], F]:
    """Return a decorator for a function that makes outputs; it goes below `@python_app`.

    A call whose outputs are there, whole, and of the same function, arguments and input files
    returns what it returned then, and runs nothing.

    Args:
        names: the parameters that are the outputs' paths, or lists of them.

    Raises:
        TypeError: the function has no such parameter.
    """
    return made.makes(*names)
