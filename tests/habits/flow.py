"""Mistakes and habits of ordinary workflows, a function each.

Every try of a task leaves a line in the ledger.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import parsl
from parsl import File, bash_app, join_app, python_app


def begun(folder, what):
    """Add a line to the ledger; from any pod, in one write."""
    with (Path(folder) / "ledger").open("a") as ledger:
        ledger.write(f"{what}\n")


@python_app
def task(folder, doing, number=0):
    import flow

    flow.begun(folder, f"{doing} {number}")
    return getattr(flow, f"do_{doing}")(number)


@python_app(cache=True)
def kept(folder, doing, number=0):
    import flow

    flow.begun(folder, f"{doing} {number}")
    return getattr(flow, f"do_{doing}")(number)


@python_app(cache=True)
def of_object(folder, settings):
    return settings.where


def tasks(folder, doing, count, app=task):
    return [app(folder, doing, number) for number in range(count)]


def results(futures):
    return [future.result() for future in futures]


def ends(futures):
    """Return the end of each future, as a word."""
    return [type(future.exception()).__name__ if future.exception() else "ok" for future in futures]


# What tasks do -------------------------------------------------------------------------------------------------------


class Mute(Exception):
    def __str__(self):
        return self.args[0].text


class Settings:
    where = "north"


class Slow:
    """Takes long to be handed over."""

    def __reduce__(self):
        time.sleep(0.3)
        return dict, ()


def do_square(number):
    return number * number


def do_fail(number):
    raise ValueError(f"tile {number} is empty")


def do_fail_first(number):
    if number == 0:
        raise ValueError("the one real failure")
    return number


def do_mute(number):
    raise Mute(number)


def do_exit(number):
    import sys

    if number == 1:
        sys.exit("no input file given")
    return number


def do_function(number):
    return lambda more: number + more


def do_file(number):
    return f"tile-{number:04d}.png"


def do_bytes(number):
    return bytes(300_000)


def do_fill_shared_memory(number):
    import resource
    from multiprocessing import shared_memory

    # As a full /dev/shm: a write beyond it is a bus error.
    del resource
    block = shared_memory.SharedMemory(create=True, size=100 << 20)
    try:
        block.buf[:] = bytes(100 << 20)
    finally:
        block.close()
        block.unlink()


def do_nap(number):
    time.sleep(5)
    return os.environ.get("K8S_PARSL_POD_NAME", "laptop")


def do_environment(number):
    return {name: os.environ.get(name) for name in ("TAG", "WHO", "PRICE", "BOTH")}


def do_where(number):
    return str(Path.cwd())


def do_hog(number):
    """The first needs more memory than a pod has; the others need time."""
    if number:
        time.sleep(10)
        return number
    hog = bytearray(3 << 30)
    for page in range(0, len(hog), 4096):
        hog[page] = 1
    return number


# Workflows -----------------------------------------------------------------------------------------------------------


def tuple_keys(folder):
    return {
        (number, "land"): result
        for number, result in enumerate(results(tasks(folder, "square", 4)))
    }


def futures(folder):
    return tasks(folder, "square", 3)


def long_text(folder):
    return {"tiles": ", ".join(results(tasks(folder, "file", 40)))}


def not_a_number(folder):
    results(tasks(folder, "square", 1))
    return {"mean": float("nan"), "most": float("inf")}


def set_of_bytes(folder):
    results(tasks(folder, "square", 1))
    return {b"\xff\x00", b"\x01"}


def nothing(folder):
    results(tasks(folder, "square", 0))


def mute(folder):
    return results(tasks(folder, "mute", 1))


def uncacheable_result(folder):
    return kept(folder, "function").result()(2)


def large_results(folder):
    return sum(map(len, results(tasks(folder, "bytes", 6, kept))))


def silent(folder):
    tasks(folder, "fail", 5)


def one_is_silent(folder):
    futures = tasks(folder, "fail", 3)
    return ends(futures[:2])


def looked_at(folder):
    return ends(tasks(folder, "fail", 3))


def exits(folder):
    return results(tasks(folder, "exit", 3))


def memo(folder):
    return of_object(folder, Settings()).result()


@python_app
def slow_argument(folder, number, slow):
    import flow

    flow.begun(folder, f"slow_argument {number}")
    return flow.do_fail_first(number)


def slow_arguments(folder):
    return results([slow_argument(folder, number, Slow()) for number in range(20)])


@python_app
def size(inputs=()):
    from pathlib import Path

    return Path(inputs[0].filepath).stat().st_size


def staged(url):
    return [size(inputs=[File(f"{url}/{name}")]).result() for name in ("a.txt", "b.txt")]


@bash_app
def echo(stdout="said.txt"):
    return "echo hello"


@bash_app
def fails(stderr=parsl.AUTO_LOGNAME):
    return "echo 'no such tile' >&2; exit 3"


def bash(folder):
    assert echo().result() == 0
    assert Path("said.txt").read_text() == "hello\n"
    fails().result()


def bash_in_silence(folder):
    fails()
    fails()
    time.sleep(0)


def environment(folder):
    return task(folder, "environment").result()


def where(folder):
    return {"workflow": str(Path.cwd()), "task": task(folder, "where").result()}


def poison(folder):
    return ends(tasks(folder, "hog", 4))


def shared_memory(folder):
    return task(folder, "fill_shared_memory").result()


def naps(folder):
    return len(set(results(tasks(folder, "nap", 8))))


@join_app
def both(folder):
    return tasks(folder, "fail_first", 2)


def joined(folder):
    return both(folder).result()


def dies_once(folder):
    """Its checkpoint is cut short where it dies; the next attempt goes on."""
    total = sum(results(tasks(folder, "square", 3, kept)))
    died = Path(folder, "died")
    if not died.exists():
        died.touch()
        parsl.dfk().memoizer.checkpoint()
        (checkpoint,) = Path(folder).glob("runs/*/parsl/results-1.store")
        os.truncate(checkpoint, checkpoint.stat().st_size - 5)
        os._exit(137)
    return total


def late_failure(folder):
    """Catches what a task raised, and logs it, as many do."""
    with contextlib.suppress(ValueError):
        tasks(folder, "fail", 1)[0].result()
    return results(tasks(folder, "square", 2))
