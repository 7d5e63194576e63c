"""What a finished task leaves at its outputs, by which a later call of it sees that they are whole.

It is an extended attribute of the file, which goes with it when it is renamed, and is lost when it
is replaced or copied. Where there is no room for one, it is a hidden file beside the output.

https://man7.org/linux/man-pages/man7/xattr.7.html
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from json import JSONDecoder, JSONEncoder
from pathlib import Path
from typing import NamedTuple

from k8s_parsl_runtime.outputs.temporaries import PREFIX

ATTRIBUTE = "user.k8s-parsl"
VERSION = 1
# ext4 has room for 4 KiB, with what else is there.
ATTRIBUTE_BYTES = 3000
# A longer result is not kept with the outputs.
MARK_BYTES = 1 << 20
_to_json = JSONEncoder().encode
_from_json = JSONDecoder().decode


class Mark(NamedTuple):
    """The task that made an output, and what the output is."""

    # Of function, arguments and inputs.
    key: str
    kind: str
    size: int
    sha256: str
    # What the task returned, as JSON (`plain_values`); at its first output only.
    result: str


def write(target: Path, mark: Mark) -> None:
    """Leave a mark at an output.

    Raises:
        OSError: it cannot be written.
    """
    content = _to_json([VERSION, *mark]).encode()
    beside = _beside(target)
    if len(content) <= ATTRIBUTE_BYTES:
        with contextlib.suppress(OSError):
            os.setxattr(target, ATTRIBUTE, content)
            beside.unlink(missing_ok=True)
            return
    remove(target)
    new = beside.with_name(f"{beside.name}-{secrets.token_hex(4)}")
    try:
        new.write_bytes(content)
        new.rename(beside)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def read(target: Path) -> Mark | None:
    """Return the mark of an output; None where it has none that can be read."""
    for content in (_attribute(target), _file(target)):
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            version, *fields = _from_json(content.decode())
            mark = Mark(*fields)
            if version == VERSION and list(map(type, mark)) == [str, str, int, str, str]:
                return mark
    return None


def remove(target: Path) -> None:
    """Remove the mark of an output."""
    with contextlib.suppress(OSError):
        os.removexattr(target, ATTRIBUTE)
    with contextlib.suppress(OSError):
        _beside(target).unlink(missing_ok=True)


def _attribute(target: Path) -> bytes:
    try:
        return os.getxattr(target, ATTRIBUTE)
    except OSError:
        return b""


def _file(target: Path) -> bytes:
    try:
        with _beside(target).open("rb") as file:
            return file.read(2 * MARK_BYTES)
    except OSError:
        return b""


def _beside(target: Path) -> Path:
    # By a hash, as the output's own name may be as long as a name can be.
    name = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    return target.parent / f"{PREFIX}made-{name}"
