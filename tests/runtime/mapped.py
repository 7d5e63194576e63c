"""A script that maps apps, and calls them one by one: both must come to the same.

As `python mapped.py FOLDER` it runs with plain Parsl, as `main(out)` with k8s-parsl.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
import traceback
from concurrent.futures import Future
from pathlib import Path

import parsl
from parsl import bash_app, join_app, python_app

from k8s_parsl import tasks


class Tile:
    def __init__(self, number):
        self.number = number


class Odd(Exception):
    """An exception that cannot be made again from its arguments."""

    def __init__(self, one, two):
        super().__init__(f"{one}-{two}")


class OnlyThere:
    def __reduce__(self):
        return _only_there, ()


def _only_there():
    raise RuntimeError("not here")


@python_app
def plus(x, y=0, *, z=0):
    return x + y + z


@python_app
def picky(x):
    if x % 10 == 3:
        raise ValueError(f"bad tile {x}")
    return x


@python_app
def half(tile):
    # Parsl alone does not send a script's classes.
    from mapped import Tile

    return Tile(tile.number / 2)


@python_app
def odd(x):
    from mapped import Odd

    if x == 5:
        raise Odd(x, x)
    return x


@python_app
def leaves(x):
    if x == 7:
        raise SystemExit(4)
    return x


@python_app
def not_sendable(x):
    return (n for n in ()) if x == 4 else x


@python_app
def only_there(x):
    from mapped import OnlyThere

    return OnlyThere() if x == 4 else x


@python_app
def adds(items, x):
    items.append(x)
    return items


@python_app
def takes(x):
    return str(type(x))


@python_app(cache=True)
def counted(x, folder):
    from pathlib import Path

    with (Path(folder) / f"cached-{x}").open("a") as file:
        file.write("x")
    return x


@python_app
def counted_tries(x, folder):
    from pathlib import Path

    with (Path(folder) / f"tries-{x}").open("a") as file:
        file.write("x")
    if x % 10 == 3:
        raise ValueError(x)
    return x


@python_app
def fails_once(x, folder):
    from pathlib import Path

    mark = Path(folder) / f"once-{x}"
    if x % 10 == 3 and not mark.exists():
        mark.write_text("x")
        raise ValueError(x)
    return x


@python_app
def limited(x, walltime=1):
    import time

    # Parsl's own walltime interrupts no sleep.
    for _ in range(600 if x == 2 else 0):
        time.sleep(0.1)
    return x


@python_app
def forks(x):
    import os

    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return x


@python_app
def sleeps(seconds):
    import time

    time.sleep(seconds)
    return seconds


@python_app
def batch_of(x):
    """Return what tells one task of a worker from the next."""
    import sys

    from k8s_parsl_runtime.shared.batch import Batch

    frame = sys._getframe()
    while frame:
        if isinstance(frame.f_locals.get("self"), Batch):
            return len(frame.f_locals["arguments"])
        frame = frame.f_back
    return 1


@python_app
def large(x):
    return bytes(1 << 20)


@join_app
def joined(x):
    return plus(x, 1)


@bash_app
def shell(x):
    return f"exit {x}"


def not_an_app(x):
    return x


def end(get):
    """Return what a call came to: its result, or its exception with the lines that it has."""
    try:
        return get()
    except StopIteration:
        raise
    except BaseException as error:  # noqa: BLE001 (it is what a case comes to)
        # Not pytest's, nor those of the code that waits.
        lines = [
            frame.line
            for frame in traceback.extract_tb(error.__traceback__)
            if "mapped.py" in frame.filename and frame.name not in ("end", "<lambda>", "main")
        ]
        said = str(error).replace(hex(id(error)), "")
        return type(error).__name__, said, lines[-1:]


def ends(iterator):
    found = []
    while True:
        try:
            found.append(end(lambda: next(iterator)))
        except StopIteration:
            return found


def both(app, *iterables, **kwargs):
    """Return what a map came to, and what one call each does."""
    listed = [list(one) for one in iterables]
    mapped = ends(tasks.map(app, *listed, **kwargs))
    futures = [app(*args, **kwargs) for args in zip(*listed, strict=False)]
    each = [end(future.result) for future in futures]
    return mapped, each


def known(value):
    future = Future()
    future.set_result(value)
    return future


SAME = {
    "short calls": lambda _: both(plus, range(500)),
    "keyword arguments": lambda _: both(plus, range(100), z=3),
    "two iterables, one shorter": lambda _: both(plus, range(100), range(50)),
    "calls that raise": lambda _: both(picky, range(60)),
    "classes of the script": lambda _: both(half, [Tile(n) for n in range(60)]),
    "an odd exception": lambda _: both(odd, range(40)),
    "sys.exit": lambda _: both(leaves, range(40)),
    "a list that each call changes": lambda _: both(adds, itertools.repeat([], 60), range(60)),
    "numbers of many kinds": lambda _: both(
        takes, [1, 1.5, True, None, "a", b"a", (1,), [1], {1: 2}, {3}] * 9
    ),
    "a call that forks": lambda _: both(forks, range(30)),
    "futures": lambda _: both(plus, [known(n) if n % 3 else n for n in range(60)]),
    "results of other tasks": lambda _: both(plus, [plus(n) for n in range(20)]),
    "a future as keyword argument": lambda _: both(plus, range(20), y=known(5)),
    "join_app": lambda _: both(joined, range(10)),
    "bash_app": lambda _: both(shell, [0, 1, 0]),
    "walltime": lambda _: both(limited, range(4)),
    "an argument that cannot be sent": lambda _: both(takes, [1, (n for n in ()), 2] + [3] * 20),
    "a result that cannot be sent": lambda _: both(not_sendable, range(20)),
    "wrong arguments": lambda _: both(plus, range(30), wrong=1),
}


# One call each ends Parsl's own worker, or its thread that takes results.
ENDS_PARSLS_WORKER = (
    "a result that cannot be sent",
    "an odd exception",
    "sys.exit",
    "a call that forks",
)


def first(number, iterator):
    return list(itertools.islice(iterator, number))


def consumed(**options):
    """Return how many items a map takes, at most, beyond those that it has yielded."""
    taken = itertools.count()
    results = tasks.map(plus, taken, **options)
    return max(
        int(repr(taken)[6:-1]) - yielded
        for yielded, _ in zip(range(1, 3000), results, strict=False)
    )


def raising():
    yield from range(30)
    raise OSError("no more tiles")


def _raising(_):
    iterator = tasks.map(plus, raising())
    return first(30, iterator), end(lambda: next(iterator)), next(iterator, "the end")


def _break(_):
    last = None
    for last in tasks.map(plus, itertools.count()):
        if last == 700:
            break
    return last


def _goes_on(_):
    iterator = tasks.map(picky, range(6))
    return ends(iterator)


def _timeout(_):
    iterator = tasks.map(sleeps, [0, 3], timeout=1.0)
    return [next(iterator), end(lambda: next(iterator))]


def _unordered(_):
    return list(tasks.map(sleeps, [3, 0, 0], ordered=False, chunksize=1))


def _cached(folder):
    for _ in range(2):
        list(tasks.map(counted, range(20), folder=folder))
    return [(Path(folder) / f"cached-{x}").read_text() for x in range(20)]


def _tries(folder):
    found = list(tasks.map(counted_tries, range(40), folder=folder, return_exceptions=True))
    failed = [x for x, one in enumerate(found) if isinstance(one, ValueError)]
    return failed, [len((Path(folder) / f"tries-{x}").read_text()) for x in range(40)]


def _once(folder):
    return ends(tasks.map(fails_once, range(40), folder=folder))


def _tail(_):
    """Map calls of which the first are short, and the rest are not."""
    warm = list(tasks.map(sleeps, [0] * 400 + [0.4] * 12))
    return len(warm)


def _threads(_):
    found = []

    def run(offset):
        found.extend(tasks.map(plus, range(300), y=offset))

    threads = [threading.Thread(target=run, args=(n * 1000,)) for n in range(4)]
    [one.start() for one in threads]
    [one.join() for one in threads]
    return sorted(found) == sorted(n * 1000 + x for n in range(4) for x in range(300))


@join_app
def mapping_join(n):
    results = list(tasks.map(plus, range(n)))
    return [plus(sum(results))]


FOUND = {
    "the iterable raises": _raising,
    "break": _break,
    "goes on after an exception": _goes_on,
    "timeout": _timeout,
    "unordered": _unordered,
    "cached": _cached,
    "tries": _tries,
    "fails once": _once,
    "long calls after short ones": _tail,
    "threads": _threads,
    "in a join_app": lambda _: mapping_join(50).result(),
    "taken ahead": lambda _: consumed(),
    "taken ahead of 10": lambda _: consumed(buffersize=10),
    "chunks": lambda _: max(tasks.map(batch_of, range(300), chunksize=50)),
    "batches": lambda _: max(tasks.map(batch_of, range(3000))),
    "starmap": lambda _: list(tasks.starmap(plus, ((n, n) for n in range(30)), z=1)),
    "no items": lambda _: list(tasks.map(plus, [])),
    "not an app": lambda _: end(lambda: list(tasks.map(not_an_app, [1]))),
    "no iterable": lambda _: end(lambda: tasks.map(plus)),
    "chunksize 0": lambda _: end(lambda: tasks.map(plus, [1], chunksize=0)),
    "a parameter named timeout": lambda _: end(lambda: tasks.map(timed_out, [1], timeout=3)),
    "an unreadable result": lambda _: ends(tasks.map(only_there, range(6), chunksize=6)),
    "executors": lambda _: list(tasks.map(plus, range(30), executors=["workers"])),
    "chained": lambda _: list(tasks.map(plus, tasks.map(plus, range(500), y=1), y=1)),
    "large results": lambda _: sum(map(len, tasks.map(large, range(60)))),
    "a lambda": lambda _: list(tasks.map(lambda x: plus(x, x), range(20))),
}


@python_app
def timed_out(x, timeout=1):
    return x


def main(out):
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, case in (SAME | FOUND).items():
        if name in ENDS_PARSLS_WORKER and __name__ == "__main__":
            continue
        began = time.monotonic()
        found[name] = end(lambda case=case: case(str(folder)))
        print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
    (folder / "found.json").write_text(
        json.dumps(
            found, default=lambda one: [type(one).__name__, repr(getattr(one, "__dict__", one))]
        )
    )


def config(retries):
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    executor = HighThroughputExecutor(
        label="workers",
        address="127.0.0.1",
        cores_per_worker=0.1,
        max_workers_per_node=2,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )
    return Config(
        [executor],
        retries=retries,
        strategy="none",
        run_dir=f"{sys.argv[1]}/parsl",
        initialize_logging=False,
    )


if __name__ == "__main__":
    with parsl.load(config(retries=2)):
        main(sys.argv[1])
