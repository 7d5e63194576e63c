"""A process between what a worker prints and where it goes: to its own output as before, and into
the run's folder.

It reads for all of the worker's processes, and none of them waits for the volume: see
`shared.kept`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import time
from typing import NoReturn

from k8s_parsl_runtime.shared.kept import FINISH_S, Kept

# Hands the process over to the program that this one becomes.
HANDED_ON = "K8S_PARSL_TEE"
STREAMS = (1, 2)
# From a terminal, or for the whole of the worker's process group: the worker still has something to
# say then.
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# Its process id, and the pipe that ends it.
_running: tuple[int, int] | None = None


def begin(folder: str, name: str) -> None:
    """Let all that this process and those below it print pass through; before any thread is
    started.

    Args:
        folder: of the run's logs; empty: nothing is kept.
        name: of the file there, without its suffix.
    """
    global _running  # noqa: PLW0603 (a process has one standard output)
    if handed_on := os.environ.pop(HANDED_ON, ""):
        process, stop = map(int, handed_on.split())
        _running = process, stop
    elif folder:
        _running = _start(folder, name)


def hand_on() -> None:
    """This process becomes another program, which begins, too."""
    if _running:
        os.set_inheritable(_running[1], True)
        os.environ[HANDED_ON] = " ".join(map(str, _running))


def end() -> None:
    """Let it pass on what is there, and wait for that; for a volume no longer than `FINISH_S`."""
    global _running
    if _running is None:
        return
    (process, stop), _running = _running, None
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    deadline = time.monotonic() + 2 * FINISH_S
    with contextlib.suppress(OSError):
        os.write(stop, b"!")
        while not os.waitpid(process, os.WNOHANG)[0] and time.monotonic() < deadline:
            time.sleep(0.01)


def _start(folder: str, name: str) -> tuple[int, int]:
    pipes = {stream: os.pipe() for stream in STREAMS}
    stopped, stop = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    # One that comes before the new process can ignore it waits until then.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
    process = os.fork()
    if process == 0:
        os.close(stop)
        for _, theirs in pipes.values():
            os.close(theirs)
        _be({ours: stream for stream, (ours, _) in pipes.items()}, stopped, folder, name)
    signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    os.close(stopped)
    for stream, (ours, theirs) in pipes.items():
        os.dup2(theirs, stream)
        os.close(theirs)
        os.close(ours)
    return process, stop


def _be(ends: dict[int, int], stopped: int, folder: str, name: str) -> NoReturn:
    """Be the process in between, until every other one has closed its end or `end` is called."""
    try:
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        kept = Kept(name, lambda line: _write(2, f"{line}\n".encode()))
        kept.open(folder)
        _pass_on(ends, stopped, kept)
        kept.finish()
    finally:
        os._exit(0)


def _pass_on(ends: dict[int, int], stopped: int, kept: Kept) -> None:
    with selectors.DefaultSelector() as selector:
        for end in (stopped, *ends):
            selector.register(end, selectors.EVENT_READ)
        # Once it is asked to end, what is there already is all that it waits for.
        timeout = None
        left = set(ends)
        while left and (ready := selector.select(timeout)):
            for key, _ in ready:
                chunk = os.read(key.fd, 65536)
                if key.fd == stopped:
                    timeout = 0
                elif chunk:
                    _write(ends[key.fd], chunk)
                    kept.add(chunk, ends[key.fd])
                    continue
                selector.unregister(key.fd)
                left.discard(key.fd)


def _write(stream: int, chunk: bytes) -> None:
    with contextlib.suppress(OSError):
        while chunk:
            chunk = chunk[os.write(stream, chunk) :]
