"""The picture files that a workflow's result names, sent to the launcher for its report."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.errors import Failure, printable
from k8s_parsl_runtime.shared.protocol import (
    PICTURE_BYTES,
    PICTURE_MEDIA,
    TEXT_CHARACTERS,
    Message,
)

log = logging.getLogger(__name__)

PART_BYTES = 300_000


def messages(picture: Path, places: Sequence[Path]) -> Iterator[Message]:
    """Yield the messages that send a picture, a part each.

    A picture that is too large is sent by its name alone. One that is empty, that cannot be read or
    that a link puts outside of the places is left out.

    Args:
        picture: the file.
        places: folders of the workflow's, its volumes and its working directory.
    """
    name = printable(str(picture))[:TEXT_CHARACTERS]
    try:
        content = files.read_inside(picture, places, PICTURE_BYTES)
    except OSError:
        return
    except Failure as refused:
        log.warning("not in the report: %s", refused)
        return
    if content is None:
        parts = [b""]
    elif content == b"":
        log.warning("not in the report: %s: it is empty", name)
        return
    else:
        parts = _parts(content)
    for number, part in enumerate(parts, 1):
        yield {
            "type": "picture",
            "name": name,
            "media": PICTURE_MEDIA[picture.suffix.lower()],
            "data": base64.b64encode(part).decode(),
            "last": number == len(parts),
        }


def _parts(content: bytes) -> list[bytes]:
    starts = range(0, len(content), PART_BYTES)
    return [content[start : start + PART_BYTES] for start in starts]
