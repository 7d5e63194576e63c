"""A process that copies what a worker prints: to the pod's output, and into the run's folder.

It reads from all of the worker's processes, and none of them waits for the volume (`shared.kept`).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import time
from dataclasses import dataclass
from typing import NoReturn

from k8s_parsl_runtime.shared.kept import FINISH_S, Kept

# Names the running copy to the program that this process becomes.
HANDED_ON = "K8S_PARSL_TEE"
# File descriptors of standard output and error.
STREAMS = (1, 2)
# They come from a terminal, or for the worker's whole process group; it still prints something.
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class _Tee:
    """A running process that copies; a byte in the pipe ``stop`` ends it."""

    process: int
    stop: int


_running: _Tee | None = None


def begin(folder: str, name: str) -> None:
    """Copy all that this process and those below it print; call it before any thread starts.

    Args:
        folder: of the run's logs; empty: nothing is kept.
        name: of the file there, without its suffix.
    """
    global _running  # noqa: PLW0603 (a process has one standard output)
    if handed_on := os.environ.pop(HANDED_ON, ""):
        process, stop = map(int, handed_on.split())
        _running = _Tee(process, stop)
    elif folder:
        _running = _start(folder, name)


def hand_on() -> None:
    """Prepare for `exec`: the program that this process becomes calls `begin`, too."""
    if _running:
        os.set_inheritable(_running.stop, True)
        os.environ[HANDED_ON] = f"{_running.process} {_running.stop}"


def end() -> None:
    """Wait until what was printed is copied; for a volume no longer than `FINISH_S`."""
    global _running  # noqa: PLW0603 (see `begin`)
    if _running is None:
        return
    tee = _running
    _running = None
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    deadline = time.monotonic() + 2 * FINISH_S
    with contextlib.suppress(OSError):
        os.write(tee.stop, b"!")
        while time.monotonic() < deadline:
            ended, _ = os.waitpid(tee.process, os.WNOHANG)
            if ended:
                return
            time.sleep(0.01)


def _start(folder: str, name: str) -> _Tee:
    """Put a new process between this one and its standard output and error."""
    pipes = {stream: os.pipe() for stream in STREAMS}
    stopped, stop = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    # A signal that comes before the new process ignores it waits until then.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
    process = os.fork()
    if process == 0:
        os.close(stop)
        for _, theirs in pipes.values():
            os.close(theirs)
        ends = {ours: stream for stream, (ours, _) in pipes.items()}
        _copy(ends, stopped, folder, name)
    signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    os.close(stopped)
    for stream, (ours, theirs) in pipes.items():
        os.dup2(theirs, stream)
        os.close(theirs)
        os.close(ours)
    return _Tee(process, stop)


def _copy(ends: dict[int, int], stopped: int, folder: str, name: str) -> NoReturn:
    """Copy, until every other process has closed its end or `end` is called; then end this one.

    Args:
        ends: the pipes to read from, each with the stream that its content goes to.
        stopped: the pipe that `end` writes to.
        folder: of the run's logs.
        name: of the file there, without its suffix.
    """
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
        # 0 once it has to end: then only what is there already is read.
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
