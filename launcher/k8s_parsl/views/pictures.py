"""The pictures that a run's result names, read from its volume long after its end.

The record may be anyone's who could write to the volume. So a picture is read from there alone, and
no link leads out.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from k8s_parsl.journal.state import State
from k8s_parsl.record.report import Picture, Record
from k8s_parsl.views.history import Run
from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.errors import Failure
from k8s_parsl_runtime.shared.protocol import PICTURE_BYTES, PICTURE_MEDIA, PICTURES

# So many values of a result are searched.
LOOKED_AT = 100_000


def pictures(run: Run, record: Record, state: State) -> Iterator[Picture]:
    """Yield the pictures that are still there, in the order of the result.

    One that is too large has no content.
    """
    mounted = _mounted(run, state)
    volume = run.folder.volume
    found = 0
    for name in dict.fromkeys(_names(record.result)):
        path = _here(Path(name), mounted, run)
        if not path.is_relative_to(volume):
            continue
        with contextlib.suppress(OSError, ValueError, Failure):
            content = files.read_inside(path, [volume], PICTURE_BYTES)
            if content != b"":
                media = PICTURE_MEDIA[path.suffix.lower()]
                yield Picture(name, media, content or b"")
                found += 1
        if found >= PICTURES:
            return


def _names(result: Any) -> Iterator[str]:
    """Yield the texts of a result that are named like pictures."""
    waiting = [result]
    for _ in range(LOOKED_AT):
        if not waiting:
            return
        value = waiting.pop()
        if isinstance(value, str):
            if Path(value).suffix.lower() in PICTURE_MEDIA:
                yield value
        elif isinstance(value, dict):
            waiting += reversed(list(value.values()))
        elif isinstance(value, list):
            waiting += reversed(value)


def _mounted(run: Run, state: State) -> Path:
    """Return where the run had the volume on which it is kept."""
    settings = state.run.get("settings", {})
    volume = _of(_of(settings, "storage"), str(_of(settings, "run").get("volume")))
    path = volume.get("mountPath")
    if isinstance(path, str) and path.startswith("/"):
        return Path(path)
    return run.folder.volume


def _of(values: Any, key: str) -> Mapping[str, Any]:
    value = values.get(key) if isinstance(values, dict) else None
    return value if isinstance(value, dict) else {}


def _here(path: Path, mounted: Path, run: Run) -> Path:
    """Return where a file of the run's is now, without `..`."""
    plain = Path(os.path.normpath(run.folder.work / path))
    volume = run.folder.volume
    if plain.is_relative_to(mounted) and not plain.is_relative_to(volume):
        return volume / plain.relative_to(mounted)
    return plain
