"""The futures of tasks: less memory than Python's own, and the same behaviour."""

from __future__ import annotations

import concurrent.futures
import threading
import tracemalloc
from concurrent.futures import Future

import pytest

from k8s_parsl_runtime.workflow.lean_futures import LeanCondition


class Lean(Future):
    def __init__(self):
        super().__init__()
        self._condition = LeanCondition()


def cost(kind):
    """Bytes of one future of a kind."""
    kept = [None] * 1000
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for place in range(1000):
            kept[place] = kind()
        return (tracemalloc.get_traced_memory()[0] - before) / 1000
    finally:
        tracemalloc.stop()


def test_it_takes_less_than_half_of_the_memory():
    """A pending task has two of them."""
    assert cost(Lean) < cost(Future) / 2


def test_threads_that_wait_get_the_result():
    """Several at once, before and after it is set."""
    future = Lean()
    got = []
    threads = [threading.Thread(target=lambda: got.append(future.result(30))) for _ in range(5)]
    [one.start() for one in threads]
    future.set_result(7)
    [one.join(30) for one in threads]
    assert [*got, future.result()] == [7] * 6


def test_a_wait_may_time_out_and_be_tried_again():
    """As with Python's own."""
    future = Lean()
    with pytest.raises(TimeoutError):
        future.result(0.01)
    future.set_exception(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        future.result()


def test_the_functions_of_concurrent_futures_take_it():
    """`wait` and `as_completed` hold the conditions of many futures at once."""
    futures = [Lean() for _ in range(10)]
    timer = threading.Timer(
        0.05, lambda: [one.set_result(place) for place, one in enumerate(futures)]
    )
    timer.start()
    done = [one.result() for one in concurrent.futures.as_completed(futures, timeout=30)]
    assert sorted(done) == list(range(10))
    assert not concurrent.futures.wait(futures, timeout=30).not_done
    timer.join()
