"""`output`: a file or folder that is written beside its target, and takes its place when whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from k8s_parsl_runtime.outputs import current, open_files, replacing, sqlite_files, temporaries
from k8s_parsl_runtime.outputs.errors import OutputError
from k8s_parsl_runtime.shared.noted import Noted, measured, synced_folder


class Output:
    """The temporary paths of some targets, for the time of a `with` block.

    Args:
        paths: of the targets.
        of: the task that makes them, where that is not the one of this process.
        before: gets what is to be noted, when all is on the disk and nothing in its place yet.

    Raises:
        TypeError: there is none, or one is no path.
    """

    def __init__(
        self,
        *paths: str | os.PathLike[str],
        of: current.Task | None = None,
        before: Callable[[list[Noted]], object] = len,
    ) -> None:
        if not paths:
            raise TypeError("output() needs at least one path")
        self._paths = [os.fspath(path) for path in paths]
        # A text for a text: what takes only texts goes on to do so.
        self._are_paths = [isinstance(path, Path) for path in paths]
        self._ones: list[_One] = []
        self._process = 0
        self._of = of
        self._task = of
        self._before = before

    def __fspath__(self) -> str:
        """Refuse to be a path: that of the `with` statement is one."""
        raise OutputError(
            f"output {self._paths[0]}: is no path by itself; write"
            " `with output(path) as temporary:`, and open `temporary` in that block"
        )

    def __enter__(self) -> Any:
        """Return the temporary path, or several as a tuple.

        Raises:
            OutputError: the target's folder does not exist, or cannot be written.
        """
        if self._ones:
            raise OutputError(
                f"output {self._paths[0]}: this object is in use: call output() again"
            )
        targets = [target_of(path) for path in self._paths]
        for target in targets:
            if targets.count(target) > 1:
                raise OutputError(f"output {target}: the same output is named twice")
        self._process = os.getpid()
        self._task = self._of or current.names()
        try:
            for target in targets:
                self._ones.append(_One(target, made_beside(target, self._task)))
        except BaseException:
            self._discard()
            raise
        given = tuple(
            one.new if is_path else str(one.new)
            for one, is_path in zip(self._ones, self._are_paths, strict=True)
        )
        return given[0] if len(given) == 1 else given

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the outputs into their places; after an exception, remove the temporaries.

        Raises:
            OutputError: one was not written, or is not whole.
            OSError: one cannot be put there.
        """
        # A child that comes back from the block has a copy of it: the output is its parent's.
        if os.getpid() != self._process:
            return
        try:
            if kind is None:
                self._commit()
        finally:
            self._discard()

    def _commit(self) -> None:
        """Put all outputs into their places, once each is on the disk."""
        for one in self._ones:
            one.check_written()
        self._check_closed()
        for one in self._ones:
            one.check()
        finished = [(one, list(one.finished())) for one in self._ones]
        self._before([made for _, noted in finished for made in noted])
        for one, noted in finished:
            one.put()
            current.note(self._task, *noted)

    def _check_closed(self) -> None:
        """Check that this process no longer writes to them, or to what is beside them.

        Raises:
            OutputError: it may do so.
        """
        for opened in open_files.below(*(one.temporary for one in self._ones)):
            (one,) = (one for one in self._ones if one.temporary in Path(opened).parents)
            raise OutputError(
                f"output {one.target}: {Path(opened).relative_to(one.temporary)} is still open for"
                " writing, so it may not be whole: close every file, dataset and connection (in"
                " Python, by close() or its own with block) before the with block of output() ends"
            )

    def _discard(self) -> None:
        for one in self._ones:
            temporaries.remove(one.temporary)
        self._ones.clear()


@dataclass(frozen=True)
class _One:
    """A target, and the temporary folder in which it is written."""

    target: Path
    temporary: Path

    @property
    def new(self) -> Path:
        """Where it is written."""
        return self.temporary / self.target.name

    def check_written(self) -> None:
        """Check that it was written.

        Raises:
            OutputError: it was not.
        """
        if not os.path.lexists(self.new):
            raise OutputError(f"output {self.target}: nothing was written {self._to_do()}")

    def check(self) -> None:
        """Check that it may take its target's place.

        Raises:
            OutputError: it may not, or is not whole.
        """
        replacing.check(self.new, self.target)
        if sqlite_files.is_database(self.new):
            sqlite_files.put_in(self.new, self.target)
            sqlite_files.put_in(self.target, self.target)

    def _to_do(self) -> str:
        """Return where nothing was written, and what to do instead."""
        beside = sorted(entry.name for entry in self.temporary.iterdir())
        if not beside:
            return (
                f'to the path that "with output(...)" gave ({self.new}); write to that one, and not'
                " to the output's own, and close what you write before the with block ends"
            )
        others = f" and {len(beside) - 1} more" if len(beside) > 1 else ""
        path = self.target.parent / beside[0]
        return (
            f"to {self.new}, but to {beside[0]} beside it{others}: some libraries change the name"
            f" that they get; give output() the path that is written, {path}"
        )

    def finished(self) -> Iterator[Noted]:
        """Write all of it to the disk, and yield what is to be noted."""
        for new, target in self._moves():
            replacing.check(new, target)
            replacing.keep_mode(new, target)
            yield measured(new, sync=True)._replace(path=str(target))

    def put(self) -> None:
        """Put it into its place: what a library wrote beside it comes first."""
        is_database = sqlite_files.is_database(self.new)
        try:
            for new, target in self._moves():
                replacing.replace(new, target, self.temporary)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.target)) from None
        if is_database:
            sqlite_files.remove_empty(self.target)
        synced_folder(self.target.parent)

    def _moves(self) -> list[tuple[Path, Path]]:
        """Return what is moved where."""
        beside = sorted(
            entry
            for entry in self.temporary.iterdir()
            if entry.name not in (self.target.name, temporaries.OLD)
            and not sqlite_files.is_log_of(entry, self.target)
        )
        return [(new, self.target.parent / new.name) for new in (*beside, self.new)]


def target_of(path: str) -> Path:
    """Return where an output is to be: absolute, and where a link leads.

    Raises:
        OutputError: it cannot be the path of an output.
    """
    if not isinstance(path, str):
        raise TypeError(f"an output's path is a text or a Path, and not {type(path).__name__}")
    if not path or os.path.basename(path.rstrip("/")) in ("", ".", ".."):  # noqa: PTH119
        raise OutputError(f"output {path!r}: this is no path of a file or folder")
    first = path.partition("/")[0]
    if path.startswith("~") and path != first and not os.path.isdir(first):  # noqa: PTH112
        # As `open` does, it takes this for a folder with that name.
        raise OutputError(
            f"output {path}: there is no folder {first} here, and it is not expanded to a home:"
            " write os.path.expanduser(path)"
        )
    # As `open` does: the link stays, and leads to the new file.
    real = Path(os.path.realpath(path))
    if real.is_symlink():
        raise OutputError(f"output {path}: its links lead in a circle")
    return real


def made_beside(target: Path, task: current.Task | None) -> Path:
    """Make the temporary folder of a target.

    Raises:
        OutputError: its folder does not exist, or cannot be written.
    """
    parent = target.parent
    try:
        if not stat.S_ISDIR(parent.stat().st_mode):
            raise OutputError(f"output {target}: {parent} is no folder")
        return temporaries.make(parent, task)
    except FileNotFoundError:
        raise no_folder(target) from None
    except OSError as error:
        raise OutputError(
            f"output {target}: {parent} cannot be written as uid {os.getuid()} gid {os.getgid()}:"
            f" {error.strerror}"
        ) from None


def no_folder(target: Path) -> OutputError:
    """Return the error for a target in whose folder there can be no file."""
    parent = target.parent
    if parent.is_dir():
        return OutputError(f"output {target}: no file can be made in {parent}: write elsewhere")
    return OutputError(
        f"output {target}: there is no folder {parent}: make it first, by"
        " os.makedirs(folder, exist_ok=True)"
    )
