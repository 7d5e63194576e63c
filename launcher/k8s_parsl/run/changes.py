"""Whether the workflow's code on a volume has changed since a run.

Code in an image, a ConfigMap or a git repository only changes with the values, which make another
run.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

# A folder of code may hold data, and much of it.
LOOKED_AT = 5000
# Folders that do not hold the user's own code.
LEFT_OUT = ("__pycache__", "node_modules", "runs")


def newer(code: Path, script: str, started: str) -> Path | None:
    """Return the Python file that changed last, where that was after a run's start.

    Of a large folder only a part is looked at.

    Args:
        code: folder of the code; one that this container does not have holds nothing.
        script: a script in it, with any name.
        started: when the run began, as its record has it.
    """
    begun = datetime.fromisoformat(started).timestamp()
    found = [(path.lstat().st_mtime, path) for path in _files(code, script)]
    if not found:
        return None
    changed, path = max(found)
    return path if changed > begun else None


def _files(code: Path, script: str) -> Iterator[Path]:
    if script and (code / script).is_file():
        yield code / script
    for path in itertools.islice(_all(code), LOOKED_AT):
        if path.suffix == ".py":
            yield path


def _all(code: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(code):
        folders[:] = [name for name in folders if name not in LEFT_OUT and not name.startswith(".")]
        for name in files:
            yield Path(folder, name)
