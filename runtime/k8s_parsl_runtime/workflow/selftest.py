"""The workflow of `helm test`: two tasks in worker pods; the second reads the first one's file."""

from __future__ import annotations

import logging
import shutil
import tempfile
import uuid
from pathlib import Path

from parsl import python_app

log = logging.getLogger(__name__)


@python_app(cache=True)  # type: ignore[untyped-decorator]
def leave(text: str, file: str) -> str:
    """Write ``text`` to ``file``, where there is one, in a worker pod; return it."""
    if file:
        Path(file).write_text(text, "utf-8")
    return text


@python_app(cache=True)  # type: ignore[untyped-decorator]
def find(text: str, file: str) -> str:
    """Return what another task left in ``file``, or ``text`` itself."""
    return Path(file).read_text("utf-8") if file else text


def main(folder: str = "") -> str:
    """Pass a text through two tasks, and through a volume; return it.

    Args:
        folder: where the volume is mounted; empty for none. The test makes a folder there, and
            removes it.

    Raises:
        RuntimeError: a worker, or this pod, saw another text on the volume than the one that was
            written.
        OSError: the volume cannot be written.
    """
    text = uuid.uuid4().hex
    if not folder:
        log.info("no run.volume is set: tested without a volume")
        return _through_tasks(text, "")
    own = tempfile.mkdtemp(prefix=".helm-test-", dir=folder)
    try:
        file = f"{own}/text"
        result = _through_tasks(text, file)
        if Path(file).read_text("utf-8") != text:
            raise RuntimeError(f"{file}: this pod does not see what a worker pod wrote")
        return result
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _through_tasks(text: str, file: str) -> str:
    found: str = find(leave(text, file), file).result()
    if found != text:
        raise RuntimeError(
            f"{file or 'the second task'}: holds {found!r} where the first task left {text!r}"
        )
    way = f", by way of {file}" if file else ""
    log.info("two tasks in a worker pod%s: well", way)
    return found
