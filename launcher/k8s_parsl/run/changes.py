"""Whether the workflow's code on a volume is another than the one that a run has had.

Of code in an image, a ConfigMap or a git repository the values say so themselves: they make another
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
# Not code of the user's, or not as he wrote it.
LEFT_OUT = ("__pycache__", "node_modules", "runs")


def newer(code: Path, script: str, started: str) -> Path | None:
    """Return the Python file that was changed last, where that was after a run's start; as far as
    it is seen soon.

    Args:
        code: folder of the code; one that this container does not have holds nothing.
        script: a script in it, of whatever name.
        started: when the run began, as its record has it.
    """
    begun = datetime.fromisoformat(started).timestamp()
    found = [(path.lstat().st_mtime, path) for path in _files(code, script)]
    changed, path = max(found, default=(0.0, code))
    return path if changed > begun else None


def _files(code: Path, script: str) -> Iterator[Path]:
    if script and (code / script).is_file():
        yield code / script
    yield from (path for path in itertools.islice(_all(code), LOOKED_AT) if path.suffix == ".py")


def _all(code: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(code):
        folders[:] = [name for name in folders if name not in LEFT_OUT and not name.startswith(".")]
        yield from (Path(folder, name) for name in files)
