"""What one process has made of outputs, and added to files, since its task began."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from k8s_parsl_runtime.outputs.part_file import PartFile
from k8s_parsl_runtime.shared.noted import OUTPUTS, Noted, Part


class Collected:
    """The outputs of a process, up to a bound for the journal, and its parts, without any."""

    def __init__(self) -> None:
        # By path: of an output that is written several times the last content counts.
        self._noted: dict[str, Noted] = {}
        self._parts: dict[Path, PartFile] = {}
        # Of the processes that the task has started. Whether they or the task have written an
        # output last is not known.
        self._handed_over: list[Noted | Part] = []
        # As it was when the last call of a batch began: the outputs that this one has changed, and
        # how much was handed over.
        self._before: dict[str, Noted | None] = {}
        self._handed_over_before = 0
        # Whether there are more outputs than the journal lists.
        self.more = False

    def note(self, one: Noted) -> bool:
        """Note an output; return whether there is room for it."""
        if one.path not in self._noted and len(self._noted) >= OUTPUTS:
            self.more = True
            return False
        self._before.setdefault(one.path, self._noted.get(one.path))
        self._noted[one.path] = one
        return True

    def noted(self, path: str) -> Noted | None:
        """Return what was noted of an output last."""
        return self._noted.get(path)

    def part_file(self, target: Path, path: Callable[[], Path]) -> PartFile:
        """Return the one file for what is added to a target; ``path`` names a new one."""
        if target not in self._parts:
            self._parts[target] = PartFile(target, path())
        return self._parts[target]

    def hand_over(self, made: list[Noted | Part]) -> None:
        """Take what a process that the task has started has made."""
        room = OUTPUTS - len(_noted(self._handed_over)) - len(self._noted)
        outputs = _noted(made)
        self.more = self.more or len(outputs) > room
        self._handed_over += outputs[: max(room, 0)]
        self._handed_over += _parts(made)

    def begin_call(self) -> None:
        """Note that a call of a batch begins."""
        self._before.clear()
        self._handed_over_before = len(self._handed_over)
        for file in self._parts.values():
            file.mark()

    def drop_call(self) -> None:
        """Drop what was made since the last call of a batch began."""
        for path, before in self._before.items():
            if before is None:
                del self._noted[path]
            else:
                self._noted[path] = before
        self._before.clear()
        for file in self._parts.values():
            file.back()
        del self._handed_over[self._handed_over_before :]

    def all(self) -> list[Noted | Part]:
        """Return all of it: the task's own parts before those of processes that it has started."""
        own = [file.end() for file in self._parts.values()]
        parts = [part for part in own if part]
        outputs = [*_noted(self._handed_over), *self._noted.values()]
        return [*outputs, *parts, *_parts(self._handed_over)]


def _noted(made: list[Noted | Part]) -> list[Noted]:
    return [one for one in made if isinstance(one, Noted)]


def _parts(made: list[Noted | Part]) -> list[Part]:
    return [one for one in made if isinstance(one, Part)]
