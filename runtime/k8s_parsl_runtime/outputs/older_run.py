"""What the tasks of an older run have added to files, in a run that goes on from it.

A result that is taken over adds nothing again, so its part has to count: the lists and states of
the older run's merger are copied before this run's merger reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from k8s_parsl_runtime.outputs import lost_parts
from k8s_parsl_runtime.outputs.merging import INHERITED, LIST_BYTES, PREFIX, SUFFIX, lists
from k8s_parsl_runtime.outputs.target_state import MERGED
from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.attempts import volume


def take(older: Path, own: Path) -> None:
    """Copy the lists and states of an older run; what is there already is newer, and stays.

    Args:
        older: the older run's folder of them.
        own: this run's.

    Raises:
        Refused: a file, or a folder on the way there, is a link.
        OSError: one cannot be copied.
    """
    root = volume(older.parent)
    try:
        names = files.names(older, root)
    except FileNotFoundError:
        return
    files.make_folder(own, volume(own.parent))
    there = set(files.names(own, volume(own.parent)))
    for name, new in _named(names):
        if new not in there:
            content = files.read(older / name, root, LIST_BYTES)
            files.write(own / new, volume(own.parent), content)
    keys, folders = lost_parts.known(older)
    lost_parts.note(own, keys, folders)


def _named(names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the name of each file that is taken, with its new one."""
    taken = [name for prefix in (INHERITED, PREFIX) for _, name in lists(names, prefix)]
    for number, name in enumerate(taken, 1):
        yield name, f"{INHERITED}{number}{SUFFIX}"
    for name in names:
        if name.startswith(MERGED):
            yield name, name
