"""The store of a run's results: a file for each attempt, `results-<attempt>.store`.

An attempt appends to its own file, and reads those of earlier ones, and those of an older run that
it goes on from (`inherited`). In memory there is only where the results are: they stay in the files
until a task asks for them.

Another pod may write to the volume, too: nothing here follows a link, and a result is unpickled
only by the workflow, whose code is from the same user.
"""

from __future__ import annotations

import fcntl
import functools
import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import parsl

from k8s_parsl_runtime.shared import attempts, files, frames
from k8s_parsl_runtime.shared.errors import ConfigurationError, Temporary
from k8s_parsl_runtime.shared.frames import Damage, Frame, Kind
from k8s_parsl_runtime.shared.store_files import (
    APP_CHARACTERS,
    INHERITED,
    KEY_BYTES,
    PREFIX,
    SUFFIX,
    app_and_source,
    paths,
)
from k8s_parsl_runtime.workflow.store_writer import Pending, Writer

log = logging.getLogger(__name__)

# Of a key, what the index in memory has; the rest is compared in the file.
_FINGERPRINT_BYTES = 8
# In an entry of the index: the bits of the place in the file; above them is the file's number.
_PLACE_BITS = 48
_PLACE = (1 << _PLACE_BITS) - 1
# Files that are open for reading at a time.
OPEN_FILES = 32
# Digests of one app's sources that are looked at.
SOURCES = 1000


class Kept(NamedTuple):
    """A result of the store."""

    # The pickle.
    body: bytes
    # The digest of the app's source that made it; empty where that is not known.
    source: str
    # Whether it is an older run's.
    is_inherited: bool


class Store:
    """The results of one run.

    Args:
        folder: the run's folder for Parsl.
        attempt: the number of this attempt.
        delay: seconds after which a result is on the disk.

    Raises:
        Refused: a file of it is a link, or no regular file.
        ConfigurationError: a newer version of k8s-parsl has written a file of it.
        Temporary: another process writes this attempt's file.
    """

    def __init__(self, folder: Path, attempt: int, delay: float) -> None:
        self._volume = attempts.volume(folder)
        self._path = folder / f"{PREFIX}{attempt}{SUFFIX}"
        # By fingerprint of the key: about 130 bytes for a result.
        self._index: dict[int, int] = {}
        self._paths: list[Path] = []
        # How many of these are an older run's: the first ones.
        self._inherited = 0
        # How many results that run has.
        self.inherited_results = 0
        # By app of that run, the digests of the sources that made its results.
        self.inherited: dict[str, set[str]] = {}
        # Files that are open for reading, by their number.
        self._open: dict[int, int] = {}
        self._reading = threading.Lock()
        # Files of which the log says that they could not be read.
        self._unread: set[Path] = set()
        self._salt = os.urandom(frames.SALT_BYTES)
        for path in paths(folder, self._volume):
            is_inherited = path.name.startswith(INHERITED)
            # Before it is read: what is noted of a result depends on whose it is.
            self._inherited += is_inherited
            self._load(self._path if path == self._path else path)
            if is_inherited:
                self.inherited_results = len(self._index)
        if self._path not in self._paths:
            self._paths.append(self._path)
        self._number = self._paths.index(self._path)
        self._writer = Writer(str(self._path), self._append, self._first_append(), delay)

    @property
    def results(self) -> int:
        """How many results there are."""
        return len(self._index)

    # Earlier attempts, and older runs.

    def _load(self, path: Path) -> None:
        """Add the results of a file to the index; log what is damaged."""
        self._paths.append(path)
        number = len(self._paths) - 1
        lost: list[Damage] = []
        try:
            file = files.opened(path, self._volume, os.O_RDONLY)
        except OSError as error:
            log.warning("%s: %s; the results kept there are made again", path, error.strerror)
            return
        try:
            for found in frames.scan(file):
                if isinstance(found, Damage):
                    lost.append(found)
                else:
                    self._take(path, number, found)
        except OSError as error:
            log.warning("%s: %s; a part of its results is made again", path, error.strerror)
        finally:
            os.close(file)
        if lost:
            log.warning(
                "%s: %d bytes in %s at byte %d are not whole results: left out;"
                " %d results are kept",
                path,
                sum(damage.length for damage in lost),
                "one place" if len(lost) == 1 else f"{len(lost)} places, the first",
                lost[0].at,
                len(self._index),
            )

    def _take(self, path: Path, number: int, frame: Frame) -> None:
        if path is self._path:
            # What this attempt appends has to be found among what is there.
            self._salt = frame.salt
        if frame.kind == Kind.OPENED:
            _check_version(path, frame.description)
        elif frame.kind == Kind.RESULT and len(frame.description) >= KEY_BYTES:
            self._index[_fingerprint(frame.description)] = number << _PLACE_BITS | frame.at
            if number < self._inherited:
                self._note_source(frame.description)

    def _note_source(self, description: bytes) -> None:
        app, source = app_and_source(description)
        sources = self.inherited.setdefault(app, set())
        if len(sources) < SOURCES:
            sources.add(source)

    # This attempt.

    def _first_append(self) -> int | None:
        """Open this attempt's file; None where that has to be tried again."""
        try:
            return self._append()
        except OSError as error:
            log.warning(
                "%s: %s; results are not kept until the volume takes them",
                self._path,
                error.strerror,
            )
            return None

    def _append(self) -> int:
        """Return the descriptor of this attempt's file, for appending."""
        files.make_folder(self._path.parent, self._volume)
        file = files.opened(self._path, self._volume, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            self._lock(file)
            opening = json.dumps({"format": frames.FORMAT, "parsl": parsl.__version__})
            files.write_all(file, frames.pack(self._salt, Kind.OPENED, opening.encode()))
            self._sync_folder()
        except BaseException:
            os.close(file)
            raise
        return file

    def _sync_folder(self) -> None:
        """Bring the file's name to the disk, which an fsync of the file may not do."""
        folder = files.entered(self._path.parent, self._volume)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _lock(self, file: int) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Temporary(
                f"{self._path}: another process writes the results of this attempt; find out which"
                " one, as two launchers of a run must not work at once"
            ) from None

    def add(
        self,
        key: bytes,
        app: str,
        body: bytes,
        on_kept: Callable[[bool], None],
        source: str = "",
    ) -> bool:
        """Keep a result.

        Args:
            key: of the call, `KEY_BYTES` long.
            app: its app.
            body: the pickled result.
            on_kept: is called by another thread, once the result is on the disk, with True, or with
                False where it will not be there.
            source: the digest of the app's source; empty where it is not known.

        Returns:
            False where there is no room for it; then ``on_kept`` is not called.

        Raises:
            ValueError: it is too large.
        """
        frame = frames.pack(self._salt, Kind.RESULT, key + _description(app, source), body)
        fingerprint = _fingerprint(key)

        def settled(at: int | None) -> None:
            if at is not None:
                self._index[fingerprint] = self._number << _PLACE_BITS | at
            on_kept(at is not None)

        return self._writer.add(Pending(frame, settled))

    def get(self, key: bytes) -> Kept | None:
        """Return a result; None where there is none, or it is damaged."""
        entry = self._index.get(_fingerprint(key))
        if entry is None:
            return None
        with self._reading:
            return self._read(key, entry)

    def _read(self, key: bytes, entry: int) -> Kept | None:
        number = entry >> _PLACE_BITS
        path = self._paths[number]
        try:
            found = frames.read_body(self._opened(number), entry & _PLACE)
        except OSError as error:
            self._say_unread(path, error.strerror or "")
            self._close(number)
            return None
        if found is None:
            self._say_unread(path, f"the result at byte {entry & _PLACE} is damaged")
            return None
        description, body = found
        if description[:KEY_BYTES] != key:
            return None
        _, source = app_and_source(description)
        return Kept(body, source, is_inherited=number < self._inherited)

    def _say_unread(self, path: Path, why: str) -> None:
        if path not in self._unread:
            self._unread.add(path)
            log.warning("%s: %s; its task runs again, and so for others like it", path, why)

    def forget(self, key: bytes) -> None:
        """Return no more the result of a call, as its content is of no use."""
        self._index.pop(_fingerprint(key), None)

    def _opened(self, number: int) -> int:
        if number not in self._open:
            if len(self._open) >= OPEN_FILES:
                self._close(next(iter(self._open)))
            path = self._paths[number]
            self._open[number] = files.opened(path, self._volume, os.O_RDONLY)
        return self._open[number]

    def _close(self, number: int) -> None:
        file = self._open.pop(number, None)
        if file is not None:
            os.close(file)

    def hurry(self) -> None:
        """Bring what is there to the disk without delay; do not wait for it."""
        self._writer.hurry()

    def flush(self, seconds: float) -> bool:
        """Bring what is there to the disk; return whether it is there in time."""
        return self._writer.flush(seconds)

    def close(self) -> None:
        """Bring what is there to the disk, if it answers, and close the files."""
        self._writer.close()
        for number in list(self._open):
            self._close(number)


@functools.lru_cache
def _description(app: str, source: str) -> bytes:
    """Return what a frame says of a result, behind its key."""
    return json.dumps({"app": app[:APP_CHARACTERS], "source": source}).encode()


def _fingerprint(key: bytes) -> int:
    return int.from_bytes(key[:_FINGERPRINT_BYTES], "little")


def _check_version(path: Path, description: bytes) -> None:
    """Refuse a file of a newer format; warn where another Parsl has made the keys of the calls.

    Raises:
        ConfigurationError: it is of a newer format.
    """
    try:
        opening = json.loads(description)
        number, made_by = int(opening["format"]), str(opening["parsl"])
    except (ValueError, TypeError, KeyError, RecursionError):
        log.warning("%s: it does not say which version has written it", path)
        return
    if number > frames.FORMAT:
        raise ConfigurationError(
            f"{path}: a newer version of k8s-parsl keeps results in format {number}, and this one"
            f" reads format {frames.FORMAT}: use that version, or start a new run (run.id)"
        )
    if made_by != parsl.__version__:
        log.warning(
            "%s: its results are from Parsl %s, and this is Parsl %s; a task runs again where the"
            " two compare its arguments differently",
            path,
            made_by[:50],
            parsl.__version__,
        )
