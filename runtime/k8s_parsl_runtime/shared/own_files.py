"""Which files are the user's own code: those that are in no installed package."""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
from pathlib import Path

from k8s_parsl_runtime.shared import userpath

# Packages that are never the user's, also where they are installed to be edited.
OURS = ("k8s_parsl", "k8s_parsl_runtime", "parsl")


@functools.lru_cache(maxsize=10_000)
def is_own(name: str) -> bool:
    """Return whether a file of Python is the user's own code."""
    if name.startswith("<"):
        return False
    path = Path(os.path.realpath(name))
    if any(part in userpath.LIBRARIES for part in path.parts):
        return False
    return not any(path.is_relative_to(folder) for folder in _installed())


def is_own_or_made(name: str) -> bool:
    """Return whether code is the user's own: also typed in, or made while the program runs."""
    # Of Python's own modules some are frozen.
    is_made = name.startswith("<") and not name.startswith("<frozen")
    return is_made or is_own(name)


def folders() -> list[Path]:
    """Return where Python looks for the user's own modules now."""
    return list(_own_folders(tuple(sys.path), str(Path.cwd()) if "" in sys.path else ""))


@functools.lru_cache(maxsize=100)
def _own_folders(paths: tuple[str, ...], here: str) -> tuple[Path, ...]:
    found = dict.fromkeys(Path(path or here) for path in paths if isinstance(path, str))
    return tuple(path for path in found if is_own(str(path)) and path.is_dir())


@functools.cache
def _installed() -> tuple[Path, ...]:
    """Return the folders of Python, of its packages, and of this program."""
    paths = sysconfig.get_paths()
    places = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    places += [str(Path(__file__).parents[2] / name) for name in OURS]
    return tuple(Path(os.path.realpath(place)) for place in places)
