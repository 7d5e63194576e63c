"""Calls an app for each item of an iterable of any length.

    from k8s_parsl import tasks

    for area in tasks.map(area_of, paths, resolution=30):
        ...

The results come while calls are still being made, and only a bounded number of calls and results is
held, so the iterable may have any length, or no end. Short calls travel together, which makes them
many times as fast. It works with any Parsl, with k8s-parsl and without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from k8s_parsl_runtime.workflow.mapping import Options, mapped

__all__ = ["map", "starmap"]


def map(  # noqa: A001 (as `concurrent.futures` and others name it)
    app: Callable[..., Any],
    /,
    *iterables: Iterable[Any],
    ordered: bool = True,
    timeout: float | None = None,
    chunksize: int | None = None,
    buffersize: int | None = None,
    executors: list[str] | str | None = None,
    return_exceptions: bool = False,
    **constants: Any,
) -> Iterator[Any]:
    """Call an app with an item of each iterable, as the built-in `map` does; yield the results.

    It ends with the shortest iterable. A call that raises does so when its result is asked for, and
    `next` goes on with the one after it.

    Args:
        app: a python_app, bash_app or join_app, or any function that returns a future.
        iterables: what the app gets by position.
        ordered: False yields each result as soon as it is there.
        timeout: in seconds from this call on; a result that is not there by then raises
            TimeoutError.
        chunksize: how many calls are one task; by default as many as take a quarter of a second.
        buffersize: how many calls may have begun whose results were not yielded; by default enough
            to keep all workers busy.
        executors: labels of the executors that run the calls, instead of the app's own.
        return_exceptions: yield what a call raised, as `asyncio.gather` does.
        constants: keyword arguments that all calls get.

    Returns:
        An iterator. If it is not read to its end, no further calls begin.

    Raises:
        TypeError: the app is none, or has a parameter of its own that is named as an option here.
        ValueError: an option is out of its bounds.
    """
    if not iterables:
        raise TypeError("map needs an iterable after the app")
    return starmap(
        app,
        zip(*iterables, strict=False),
        ordered=ordered,
        timeout=timeout,
        chunksize=chunksize,
        buffersize=buffersize,
        executors=executors,
        return_exceptions=return_exceptions,
        **constants,
    )


def starmap(
    app: Callable[..., Any],
    /,
    calls: Iterable[Iterable[Any]],
    *,
    ordered: bool = True,
    timeout: float | None = None,
    chunksize: int | None = None,
    buffersize: int | None = None,
    executors: list[str] | str | None = None,
    return_exceptions: bool = False,
    **constants: Any,
) -> Iterator[Any]:
    """Call an app with each tuple of arguments, as `itertools.starmap` does; see `map`."""
    options = Options(ordered, timeout, chunksize, buffersize, executors, return_exceptions)
    return mapped(app, calls, constants, options)
