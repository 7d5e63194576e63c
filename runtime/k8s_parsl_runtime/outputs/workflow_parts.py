"""`append` in the workflow's own process: a part, as in a task.

What the workflow appends would otherwise be added again by each attempt, and would change a file
that is merged. It comes after what the tasks add that the workflow has called before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from k8s_parsl_runtime.outputs import current, merging, parts, temporaries
from k8s_parsl_runtime.outputs.errors import OutputError
from k8s_parsl_runtime.outputs.merging import Merger
from k8s_parsl_runtime.outputs.whole import made_beside
from k8s_parsl_runtime.shared.noted import Part, measured, synced_folder


@contextmanager
def append(path: str | os.PathLike[str], mode: str = "a", **options: Any) -> Iterator[IO[Any]]:
    """Give a file whose content is added to the one at ``path``, wherever that is called.

    Args:
        path: of the file that is added to.
        mode: `a` for text, `ab` for bytes.
        options: `encoding`, `errors` and `newline`, as for `open`.

    Raises:
        ValueError: there is no such mode.
        OutputError: the file cannot be added to.
    """
    merger = merging.installed()
    if merger is None or current.task() is not None:
        with parts.append(path, mode, **options) as file:
            yield file
        return
    target = parts.file_of(path)
    merger.refuse_fork(target)
    process = os.getpid()
    temporary = made_beside(target, current.names())
    new = temporary / target.name
    try:
        # There it is added at once.
        with parts.append(new, mode, **options) as file:
            yield file
        # A child that comes back from the block has a copy of it: the part is its parent's.
        if os.getpid() == process:
            _keep(merger, new, target)
    finally:
        if os.getpid() == process:
            temporaries.remove(temporary)


def _keep(merger: Merger, new: Path, target: Path) -> None:
    if not new.exists():
        # Nothing was added.
        return
    noted = measured(new, sync=True)
    name = new.parent.name.removeprefix(temporaries.PREFIX)
    part = target.parent / f"{parts.PART}{name}"
    new.rename(part)
    synced_folder(part.parent)
    try:
        merger.appended(Part(str(target), str(part), noted.size, noted.sha256))
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            f"output {target}: what the workflow adds to it cannot be noted: {error.strerror}:"
            f" {error.filename or 'the volume of the run'}"
        ) from None
