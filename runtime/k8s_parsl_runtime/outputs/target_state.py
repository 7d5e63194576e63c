"""What is known of a file that parts are merged into: which contents it may have, and whose.

It is in a file in the run's folder, which is written before the merged file takes its place:
whenever a merge is cut off, the next one finds the old file or the new one, and knows what is in
it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from json import JSONDecoder, JSONEncoder
from pathlib import Path
from typing import Any, NamedTuple

from k8s_parsl_runtime.outputs.errors import OutputError
from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.attempts import volume
from k8s_parsl_runtime.shared.noted import synced_folder

# Begins the name of what is known of a target.
MERGED = "merged-"
STATE_BYTES = 1 << 30
# What to do where it cannot be known what a file has.
AGAIN = (
    "start from the beginning: a new run (run.id) without run.resumeFrom, or on a laptop --fresh"
)
_to_json = JSONEncoder().encode
_from_json = JSONDecoder().decode


class Segment(NamedTuple):
    """Where a part is in a merged file."""

    part: str
    begin: int
    size: int


@dataclass(frozen=True)
class Version:
    """A content of a target: its size and SHA-256, and which bytes are whose."""

    size: int
    sha256: str
    segments: tuple[Segment, ...] = ()

    @classmethod
    def parse(cls, value: Any) -> Version:
        """Return a version from JSON.

        Raises:
            ValueError, TypeError: it is none.
        """
        size, digest, segments = value
        return cls(int(size), str(digest), tuple(Segment(*one) for one in segments))

    @property
    def parts(self) -> list[str]:
        """The parts that are in it, in their order."""
        return [one.part for one in self.segments]

    def is_same(self, other: Version) -> bool:
        """Return whether another version has the same bytes."""
        return (self.size, self.sha256) == (other.size, other.sha256)

    def as_json(self) -> list[Any]:
        """Return what `parse` makes the version of."""
        return [self.size, self.sha256, [list(part) for part in self.segments]]


EMPTY = Version(0, hashlib.sha256().hexdigest())


class TargetState:
    """The contents that a target may have.

    Args:
        target: the file.
        folder: in the run's folder; None where no launcher can follow this one.

    Raises:
        OutputError: what an earlier attempt has noted cannot be read.
    """

    def __init__(self, target: Path, folder: Path | None) -> None:
        self._target = target
        self._file: Path | None = None
        # What it was before the run, and what it may be now.
        self.base = EMPTY
        self.versions: list[Version] = []
        # Whether this attempt has merged it.
        self.is_merged = False
        if folder is not None:
            name = hashlib.sha256(os.fsencode(target)).hexdigest()[:32]
            self._file = folder / f"{MERGED}{name}.json"
            self._read(self._file)

    def exists(self) -> bool:
        """Return whether a merge of this run, or of one that it goes on from, has begun."""
        return bool(self.versions)

    def begin(self) -> None:
        """Note what the target is before the run, unless that is known."""
        if not self.exists():
            self.base = content_of(self._target)
            self.write([self.base])

    def now(self) -> Version | None:
        """Return the content that the target has; None where another program has changed it.

        Where this attempt has not merged it yet, it may be again as it was before the run, or have
        been removed: then all parts are to be merged once more.
        """
        found = content_of(self._target)
        if not self.exists():
            return found
        for version in self.versions:
            if version.is_same(found):
                return version
        if self.is_merged:
            return None
        if found.is_same(EMPTY):
            self.base = EMPTY
        return self.base if self.base.is_same(found) else None

    def has(self, parts: list[str]) -> bool:
        """Return whether the merged file had these parts, and no others, when it was written."""
        return len(self.versions) == 1 and self.versions[0].parts == parts

    def write(self, versions: list[Version]) -> None:
        """Note which contents the target may have; return when that is on the disk.

        Raises:
            OSError: it cannot be noted.
        """
        self.versions = versions
        if self._file is None:
            return
        rows = [one.as_json() for one in versions]
        base = self.base.as_json()
        document = {"target": str(self._target), "base": base, "versions": rows}
        root = volume(self._file.parent.parent)
        files.make_folder(self._file.parent, root)
        files.write(self._file, root, _to_json(document).encode())
        with self._file.open("rb") as written:
            os.fsync(written.fileno())
        synced_folder(self._file.parent)

    def _read(self, file: Path) -> None:
        try:
            content = files.read(file, volume(file.parent.parent), STATE_BYTES)
            document = _from_json(content.decode())
            self.versions = [Version.parse(one) for one in document["versions"]]
            self.base = Version.parse(document["base"])
        except FileNotFoundError:
            return
        except (ValueError, TypeError, KeyError, RecursionError):
            raise OutputError(
                f"{file}: what was added to {self._target} cannot be read: look at that file, then"
                f" {AGAIN}"
            ) from None


def content_of(target: Path) -> Version:
    """Return a file's size and SHA-256; those of an empty one where there is none.

    Raises:
        OutputError: there is something else, such as a folder or a pipe.
        OSError: it cannot be read.
    """
    try:
        found = target.stat()
        if not stat.S_ISREG(found.st_mode):
            raise OutputError(f"output {target}: only a file can be added to")
        size = found.st_size
        with target.open("rb") as file:
            return Version(size, hashlib.file_digest(file, "sha256").hexdigest())
    except FileNotFoundError:
        return EMPTY
