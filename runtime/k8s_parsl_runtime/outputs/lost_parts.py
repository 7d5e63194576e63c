"""The parts that no target gets: of tries that failed or were lost, and what a merge has copied.

They are removed at the good end of a run. Where they are is known from the tries that have come
back, and from the registers of the workers (`temporaries`). A sweep removes these registers, so the
folders are noted before it, for the attempt or the run that goes on.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from json import JSONDecoder, JSONEncoder
from pathlib import Path

from k8s_parsl_runtime.outputs.parts import PART
from k8s_parsl_runtime.outputs.temporaries import REGISTER_BYTES, SUFFIX
from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.attempts import volume

# In the run's folder: the keys of the runs whose parts may be left, and the folders.
NAME = "part-folders.json"
_KEY = re.compile(r"[0-9a-f]{12}")
_to_json = JSONEncoder().encode
_from_json = JSONDecoder().decode


def remove(keys: Collection[str], folders: Collection[str]) -> None:
    """Remove the parts of some runs from some folders."""
    ours = tuple(f"{PART}{key}-" for key in keys)
    for folder in folders:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for path in [entry.path for entry in entries if entry.name.startswith(ours)]:
                with contextlib.suppress(OSError):
                    Path(path).unlink()


def known(folder: Path) -> tuple[set[str], set[str]]:
    """Return the keys and folders that are noted, with the folders that registers name.

    What cannot be read is left out: it costs no more than a hidden file that stays.

    Args:
        folder: of the registers.
    """
    root = volume(folder.parent)
    keys, folders = _noted(folder, root)
    try:
        names = files.names(folder, root)
    except (OSError, files.Refused):
        return keys, folders
    for name in names:
        if name.endswith(SUFFIX):
            folders.update(_named(folder / name, root))
    return keys, folders


def note(folder: Path, keys: Collection[str], folders: Collection[str]) -> None:
    """Note keys and folders with those that are noted; a volume that is full keeps the old ones.

    Args:
        folder: of the registers.
        keys: of runs.
        folders: absolute paths.
    """
    root = volume(folder.parent)
    before_keys, before_folders = known(folder)
    both = [sorted(before_keys | set(keys)), sorted(before_folders | set(folders))]
    if not both[1]:
        return
    with contextlib.suppress(OSError, files.Refused):
        files.make_folder(folder, root)
        files.write(folder / NAME, root, _to_json(both).encode())


def _noted(folder: Path, root: Path) -> tuple[set[str], set[str]]:
    try:
        keys, folders = _from_json(files.read(folder / NAME, root, REGISTER_BYTES).decode())
        return {key for key in keys if _KEY.fullmatch(key)}, set(filter(_is_absolute, folders))
    except (OSError, files.Refused, ValueError, TypeError, RecursionError):
        return set(), set()


def _named(register: Path, root: Path) -> Iterator[str]:
    """Yield the folders that a register names."""
    try:
        content = files.read(register, root, REGISTER_BYTES)
    except (OSError, files.Refused):
        return
    for line in content.splitlines():
        # The last line may be cut off.
        with contextlib.suppress(ValueError, RecursionError):
            found = _from_json(line.decode())
            if _is_absolute(found):
                yield found


def _is_absolute(found: object) -> bool:
    return isinstance(found, str) and found.startswith("/")
