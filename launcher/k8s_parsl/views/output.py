"""What a task printed, and how its worker pod's output ended: from the run's kept logs."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from k8s_parsl.views.history import Run
from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.errors import bounded
from k8s_parsl_runtime.shared.kept import END_SUFFIX, SUFFIX
from k8s_parsl_runtime.shared.tries import Outcome, Try, tag

# Lines that are shown of a task, and of the pod of a task that failed.
SHOWN_LINES = 200
SHOWN_POD_LINES = 20
LINE_CHARACTERS = 2000
# A longer line is read in parts, and no more of a file: another pod may have made it.
LINE_BYTES = 256 << 10
FILE_BYTES = 1 << 30
# After these, the end of the pod's output may say more.
BAD_ENDS = (Outcome.FAILED, Outcome.LOST, Outcome.RETRIED)


@dataclass
class Output:
    """What is kept of a try's output; each line is printable."""

    # The pod that has it: what the journal says, or where it was found.
    pod: str = ""
    printed: list[str] = field(default_factory=list)
    pod_end: list[str] = field(default_factory=list)
    # Why a file could not be read.
    unread: list[str] = field(default_factory=list)


def of_try(run: Run, attempt: int, one: Try) -> Output:
    """Return the output of a try.

    Of a try that ended with its worker the journal may not know the pod: all of the attempt's are
    looked at.
    """
    logs = _Logs(run)
    start = tag(one.id, one.number).encode()
    output = Output()
    for pod in _pods(run, attempt, one, logs):
        lines = logs.lines(pod)
        output.printed = _shown((line for line in lines if line.startswith(start)), SHOWN_LINES)
        if output.printed or pod == one.pod:
            output.pod = pod
            break
    if output.pod and one.outcome in BAD_ENDS:
        output.pod_end = _shown(logs.lines(output.pod), SHOWN_POD_LINES)
    output.printed = [line.removeprefix(start.decode()) for line in output.printed]
    output.unread = list(logs.unread)
    return output


def _pods(run: Run, attempt: int, one: Try, logs: _Logs) -> Iterable[str]:
    """Return the pods whose logs may have the output of a try."""
    if one.outcome == Outcome.KEPT:
        return ()
    if one.pod and logs.has(one.pod):
        return (one.pod,)
    of_attempt = (str(event.get("pod", "")) for event in run.events(attempt))
    return [pod for pod in dict.fromkeys(of_attempt) if logs.has(pod)]


def _shown(lines: Iterable[bytes], number: int) -> list[str]:
    last = deque(lines, maxlen=number)
    return [bounded(line.decode(errors="replace"), LINE_CHARACTERS) for line in last]


class _Logs:
    """The folder of a run's logs; nothing in it that is a link is followed."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._folder = run.folder.logs
        # In their order, each once.
        self.unread: dict[str, None] = {}
        self._names = self._listed()

    def has(self, pod: str) -> bool:
        """Return whether a pod has a log."""
        return f"{pod}{SUFFIX}" in self._names

    def lines(self, pod: str) -> Iterator[bytes]:
        """Yield the lines of a pod, without their ends."""
        for name in (f"{pod}{SUFFIX}", f"{pod}{END_SUFFIX}"):
            if name in self._names:
                yield from self._lines_of(self._folder / name)

    def _listed(self) -> frozenset[str]:
        try:
            return frozenset(files.names(self._folder, self._run.folder.volume))
        except FileNotFoundError:
            return frozenset()
        except (OSError, files.Refused) as error:
            self._note(error)
            return frozenset()

    def _lines_of(self, path: Path) -> Iterator[bytes]:
        try:
            with os.fdopen(files.opened(path, self._run.folder.volume, os.O_RDONLY), "rb") as file:
                while file.tell() < FILE_BYTES and (line := file.readline(LINE_BYTES)):
                    yield line.rstrip(b"\n")
        except (OSError, files.Refused) as error:
            self._note(error)

    def _note(self, error: OSError | files.Refused) -> None:
        self.unread[bounded(str(error), LINE_CHARACTERS)] = None
