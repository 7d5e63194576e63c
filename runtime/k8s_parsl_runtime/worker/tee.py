"""A process that copies what a worker prints: to the pod's output, and into the run's folder.

It reads from all of the worker's processes, and none of them waits for the volume (`shared.kept`).
It says which task printed a line (`tags`), also where nothing is kept.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass

from k8s_parsl_runtime.shared import programs
from k8s_parsl_runtime.shared.kept import FINISH_S, LIMITS, Kept, Limits
from k8s_parsl_runtime.worker import tags
from k8s_parsl_runtime.worker.copying import Copy, write
from k8s_parsl_runtime.worker.places import Places

# Names the running copy to the program that this process becomes.
HANDED_ON = "K8S_PARSL_TEE"
# They come from a terminal, or for the worker's whole process group; it still prints something.
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class _Tee:
    """A running process that copies; a byte in the pipe ``stop`` ends it."""

    process: int
    stop: int


_running: _Tee | None = None


def begin(folder: str, name: str, limits: Limits = LIMITS, workers: int = 0) -> None:
    """Copy all that this process and those below it print; call it before any thread starts.

    Args:
        folder: of the run's logs; empty: nothing is kept.
        name: of the file there, without its suffix.
        limits: how much is kept.
        workers: the number of worker processes, each of which gets its own pipes.
    """
    global _running  # noqa: PLW0603 (a process has one standard output)
    if handed_on := os.environ.pop(HANDED_ON, ""):
        process, stop = map(int, handed_on.split())
        _running = _Tee(process, stop)
    else:
        _running = _start(folder, name, limits, workers)


def hand_on() -> None:
    """Prepare for `exec`: the program that this process becomes calls `begin`, too."""
    if _running:
        os.set_inheritable(_running.stop, True)
        os.environ[HANDED_ON] = f"{_running.process} {_running.stop}"


def let_go() -> None:
    """Have the copy end without this process, which is a fork of the one that prints."""
    global _running  # noqa: PLW0603 (see `begin`)
    if _running is not None:
        os.close(_running.stop)
        _running = None


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


def _start(folder: str, name: str, limits: Limits, workers: int) -> _Tee:
    """Put a new process between this one and its standard output and error."""
    pipes = {stream: os.pipe() for stream in tags.STREAMS}
    stopped, stop = os.pipe()
    ready, begun = os.pipe()
    of_workers = _make_pipes(workers)
    kept = Kept(name, lambda line: write(2, f"{line}\n".encode()))
    sys.stdout.flush()
    sys.stderr.flush()
    # A signal that comes before the new process ignores it waits until then.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
    process = os.fork()
    if process == 0:
        try:
            for end in (stop, ready, *(theirs for _, theirs in pipes.values())):
                os.close(end)
            _ignore_signals()
            copy = Copy(kept, {ours: stream for stream, (ours, _) in pipes.items()}, stopped)
            copy.add_workers(of_workers, workers)
            os.close(begun)
            kept.open(folder, limits)
            copy.run()
            kept.finish()
        finally:
            os._exit(0)
    signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    os.close(begun)
    # A worker process can open its named pipes only once they are read.
    os.read(ready, 1)
    for end in (ready, stopped):
        os.close(end)
    for stream, (ours, theirs) in pipes.items():
        os.dup2(theirs, stream)
        os.close(theirs)
        os.close(ours)
    return _Tee(process, stop)


def _make_pipes(workers: int) -> str:
    """Make the named pipes of the worker processes, and have these know their folder."""
    folder = programs.scratch("output-")
    Places.make(folder, workers)
    for worker in range(workers):
        for stream in tags.STREAMS:
            os.mkfifo(tags.Pipes(folder, worker).path(stream), 0o600)
    os.environ[tags.FOLDER] = folder
    return folder


def _ignore_signals() -> None:
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
