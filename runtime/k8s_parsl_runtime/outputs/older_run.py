"""What the tasks of an older run have added to files, in a run that goes on from it.

A result that is taken over adds nothing again, so its part has to count: the lists and states of
the older run's merger are copied before this run's merger reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from k8s_parsl_runtime.outputs.merging import INHERITED, LIST_BYTES, MERGED, PREFIX, SUFFIX
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


def _named(names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the name of each file that is taken, with its new one."""
    lists = [name for prefix in (INHERITED, PREFIX) for name in _lists(names, prefix)]
    for number, name in enumerate(lists, 1):
        yield name, f"{INHERITED}{number}{SUFFIX}"
    for name in names:
        if name.startswith(MERGED):
            yield name, name


def _lists(names: list[str], prefix: str) -> list[str]:
    """Return the lists whose names begin so, in the order of their numbers."""
    numbers = [name.removeprefix(prefix).removesuffix(SUFFIX) for name in names]
    found = [int(number) for number in numbers if number.isascii() and number.isdigit()]
    return [f"{prefix}{number}{SUFFIX}" for number in sorted(found)]
