"""The files of a store of results, by their names, and what a frame says of its result."""

from __future__ import annotations

import functools
import json
import logging
import re
from pathlib import Path

from k8s_parsl_runtime.shared import files

log = logging.getLogger(__name__)

PREFIX = "results-"
# Of the files that are an older run's.
INHERITED = "inherited-"
SUFFIX = ".store"
# No attempt has a longer number (`attempts.ATTEMPTS`).
_NAME = re.compile(rf"({INHERITED}|{PREFIX})([1-9][0-9]{{0,6}}){SUFFIX}", re.ASCII)
# A frame's description begins with the key of the call.
KEY_BYTES = 16
APP_CHARACTERS = 1000


def paths(folder: Path, volume: Path) -> list[Path]:
    """Return the files of a store: those of older runs, then its own by their attempts.

    Args:
        folder: the run's folder for Parsl.
        volume: below it nothing may be a link.

    Raises:
        Refused: the folder, or one that leads there from the volume, is a link.
    """
    try:
        names = files.names(folder, volume)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        log.warning("%s: %s; the results kept there are made again", folder, error.strerror)
        return []
    found = [(match[1], int(match[2])) for name in names if (match := _NAME.fullmatch(name))]
    # By the alphabet, those of older runs come first.
    return [folder / f"{prefix}{number}{SUFFIX}" for prefix, number in sorted(found)]


def app_and_source(description: bytes) -> tuple[str, str]:
    """Return the app of a result, and the digest of its source; empty where it is not known.

    Args:
        description: of the frame, with the key of the call.
    """
    return _app_and_source(description[KEY_BYTES:])


@functools.lru_cache
def _app_and_source(text: bytes) -> tuple[str, str]:
    try:
        known = json.loads(text)
        return str(known["app"])[:APP_CHARACTERS], str(known.get("source", ""))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "", ""
