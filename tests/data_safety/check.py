"""What a volume has in the end, compared with what should be there."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from data_safety.workload.content import ADDED, BYTES, FOLDER, content


@dataclass
class Found:
    """How many outputs and lines are not as they should be."""

    missing: int = 0
    truncated: int = 0
    # As long as they should be, with another content.
    wrong: int = 0
    lines_missing: int = 0
    lines_twice: int = 0
    # Lines that no task has added.
    lines_torn: int = 0
    # Files that are neither outputs nor the run's.
    left_over: int = 0

    @property
    def is_fine(self) -> bool:
        """Whether all is as it should be."""
        return not any(asdict(self).values())


def look(folder: Path, outputs: int, appends: int) -> Found:
    """Return what is wrong on a volume."""
    found = Found()
    for number in range(outputs):
        _look_at_output(folder / FOLDER / f"{number}.bin", number, found)
    added = folder / ADDED
    lines = added.read_text(errors="replace").splitlines() if added.exists() else []
    counts = Counter(lines)
    wanted = {str(number) for number in range(appends)}
    found.lines_missing = len(wanted - counts.keys())
    found.lines_twice = sum(counts[line] - 1 for line in wanted & counts.keys())
    found.lines_torn = sum(number for line, number in counts.items() if line not in wanted)
    known = {f"{number}.bin" for number in range(outputs)}
    left = [path for path in (folder / FOLDER).iterdir() if path.name not in known]
    left += [path for path in folder.iterdir() if path.name.startswith(".k8s-parsl")]
    found.left_over = len(left)
    return found


def _look_at_output(path: Path, number: int, found: Found) -> None:
    if not path.exists():
        found.missing += 1
        return
    there = path.read_bytes()
    if len(there) < BYTES:
        found.truncated += 1
    elif there != content(number):
        found.wrong += 1
