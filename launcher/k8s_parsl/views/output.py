"""What a task printed, and how its worker pod's output ended: from the run's kept logs."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
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
# A longer line is read in parts, and no more of all logs: another pod may have made them.
LINE_BYTES = 256 << 10
ALL_BYTES = 4 << 30
LEFT_OUT = "(earlier lines are left out here: k8s-parsl show has more)"
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


def of_try(run: Run, attempt: int, one: Try, logs: Logs) -> Output:
    """Return the output of a try.

    Of a try that ended with its worker the journal may not know the pod: all of the attempt's are
    looked at.

    Args:
        run: the run.
        attempt: the number of the attempt that had the task.
        one: the try.
        logs: the run's.
    """
    output = Output(pod=one.pod)
    for pod in _pods(run, attempt, one, logs):
        output.printed = logs.printed(pod, one.id, one.number)
        if output.printed or pod == one.pod:
            output.pod = pod
            break
    if output.pod and one.outcome in BAD_ENDS:
        output.pod_end = logs.end(output.pod)
    output.unread = list(logs.unread)
    return output


def _pods(run: Run, attempt: int, one: Try, logs: Logs) -> Iterable[str]:
    """Return the pods whose logs may have the output of a try."""
    if one.outcome == Outcome.KEPT:
        return ()
    if one.pod and logs.has(one.pod):
        return (one.pod,)
    of_attempt = (str(event.get("pod", "")) for event in run.events(attempt, _names_a_pod))
    return [pod for pod in dict.fromkeys(of_attempt) if logs.has(pod)]


def _names_a_pod(line: bytes) -> bool:
    """Return whether a line of a journal may be of an event about one pod."""
    return b'"pod"' in line and not line.startswith(b'{"event":"tries"')


def _shown(lines: Iterable[bytes], number: int) -> list[str]:
    last = deque(lines, maxlen=number)
    return [bounded(line.decode(errors="replace"), LINE_CHARACTERS) for line in last]


def ending(lines: Iterable[str], most: int) -> list[str]:
    """Return the last lines that have no more characters than this, with a note of the others."""
    kept = list(_ending(list(lines), most))
    return kept[::-1]


def _ending(lines: Sequence[str], most: int) -> Iterator[str]:
    left = most
    for line in reversed(lines):
        left -= len(line) + 1
        if left < 0:
            yield LEFT_OUT
            return
        yield line


class Logs:
    """The folder of a run's logs; nothing in it that is a link is followed."""

    def __init__(self, run: Run, most_bytes: int = ALL_BYTES) -> None:
        self._run = run
        self._folder = run.folder.logs
        # How much more is read.
        self._left = most_bytes
        self._most = most_bytes
        # The last lines of each pod that were asked for.
        self._ends: dict[str, list[str]] = {}
        # In their order, each once.
        self.unread: dict[str, None] = {}
        self._names = self._listed()

    def has(self, pod: str) -> bool:
        """Return whether a pod has a log."""
        return f"{pod}{SUFFIX}" in self._names

    def printed(self, pod: str, task: int, number: int, lines: int = SHOWN_LINES) -> list[str]:
        """Return the last lines that a try of a task printed.

        Args:
            pod: where it ran.
            task: the task's number.
            number: that of its try.
            lines: how many.
        """
        start = tag(task, number).encode()
        own = (line.removeprefix(start) for line in self.lines(pod) if line.startswith(start))
        return _shown(own, lines)

    def printed_by(
        self, pod: str, tries: Collection[tuple[int, int]], lines: int
    ) -> dict[tuple[int, int], list[str]]:
        """Return the last lines that each of some tries printed; the pod's log is read once.

        Args:
            pod: where they ran.
            tries: the number of the task and of the try of each.
            lines: how many of each.
        """
        tags = {tag(task, number).encode(): (task, number) for task, number in tries}
        kept = {one: deque[bytes](maxlen=lines) for one in tags.values()}
        end = deque[bytes](maxlen=SHOWN_POD_LINES)
        for line in self.lines(pod):
            end.append(line)
            start = line[: line.find(b"]") + 2]
            if start in tags:
                kept[tags[start]].append(line.removeprefix(start))
        self._ends[pod] = _shown(end, SHOWN_POD_LINES)
        return {one: _shown(own, lines) for one, own in kept.items()}

    def end(self, pod: str) -> list[str]:
        """Return the last lines of a pod."""
        if pod not in self._ends:
            self._ends[pod] = _shown(self.lines(pod), SHOWN_POD_LINES)
        return self._ends[pod]

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
                while self._left > 0 and (line := file.readline(LINE_BYTES)):
                    self._left -= len(line)
                    yield line.rstrip(b"\n")
            if self._left <= 0:
                self.unread[f"only the first {self._most >> 20} MiB of the logs were read"] = None
        except (OSError, files.Refused) as error:
            self._note(error)

    def _note(self, error: OSError | files.Refused) -> None:
        self.unread[bounded(str(error), LINE_CHARACTERS)] = None
