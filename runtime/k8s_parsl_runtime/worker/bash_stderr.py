"""What the command of a bash app wrote to its standard error before it failed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from parsl.app.errors import BashExitFailure
from parsl.serialize import unpack_apply_message
from parsl.utils import get_std_fname_mode

# Its last lines are noted: no more than so many, and no more bytes than so many.
LINES = 5
BYTES = 2000
# Parsl writes the command itself into the file, before the output of the command.
PARSLS_LAST = "--> end executable <--"


def note(error: BashExitFailure, buffer: bytes) -> None:
    """Note on the error of a bash app how its standard error ends, and where that is.

    Args:
        error: what the app failed with.
        buffer: its task as Parsl's executor has packed it.
    """
    try:
        _, _, named = unpack_apply_message(buffer)
        given = named.get("stderr")
        if given is None:
            error.add_note(
                "what it wrote to its standard error is in the worker's log; "
                "stderr= keeps it in a file"
            )
            return
        path = _path(given)
        lines = _last_lines(path)
    except Exception as failure:  # noqa: BLE001 (the app's own failure is the one that counts)
        error.add_note(f"its standard error cannot be read: {failure}")
        return
    said = " | ".join(lines) if lines else "nothing"
    error.add_note(f"its standard error ({path.absolute()}) ends with: {said}")


def _path(given: Any) -> Path:
    if isinstance(given, str | tuple):
        name, _ = get_std_fname_mode("stderr", given)
        return Path(name)
    return Path(given)


def _last_lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - BYTES, 0))
        text = file.read().decode(errors="replace")
    own = text.rpartition(PARSLS_LAST)[2]
    lines = [line.strip() for line in own.splitlines()]
    return list(filter(None, lines))[-LINES:]
