"""A workflow for test_two_programs.py: each function ends its process in another way."""

import ctypes
import os
import signal
import sys
import time

from parsl import python_app


@python_app
def work(x):
    """A task that is done."""
    return x


def _begin():
    print("a line of the workflow's", flush=True)
    assert work(3).result() == 3


def memory():
    """Take more and more memory."""
    _begin()
    held = []
    while True:
        held.append(b"x" * (8 << 20))


def segfault():
    """Read what cannot be read."""
    _begin()
    ctypes.string_at(0)


def leave():
    """End without any of Python's exit handlers."""
    _begin()
    print("about to leave", flush=True)
    os._exit(3)


def leave_well():
    """End without any of Python's exit handlers, and well."""
    _begin()
    os._exit(0)


def killed():
    """As a node that runs short of memory does it."""
    _begin()
    os.kill(os.getpid(), signal.SIGKILL)


def raises():
    """What most bugs do."""
    _begin()
    raise ValueError("no such tile")


def hangs():
    """Compute for ever."""
    _begin()
    while True:
        pass


def stopped():
    """Stop itself, as a debugger would."""
    _begin()
    os.kill(os.getpid(), signal.SIGSTOP)


def ignores():
    """Ignore SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _begin()
    while True:
        time.sleep(1)


@python_app
def wait(folder):
    """Say that it runs, and end when it may."""
    import pathlib
    import time

    pathlib.Path(folder, "begun").touch()
    while not pathlib.Path(folder, "go").exists():
        time.sleep(0.1)


def waits(folder):
    """Wait for one task."""
    print("waiting", file=sys.stderr, flush=True)
    wait(folder).result()
