"""The files that SQLite keeps beside a database, such as a GeoPackage: `-wal`, `-shm`, `-journal`.

A database whose log has content is whole only together with it, and two files cannot be replaced at
once. So what the log has is put into the database first.

https://www.sqlite.org/tempfiles.html
https://www.sqlite.org/fileformat2.html#the_rollback_journal
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from k8s_parsl_runtime.outputs.errors import OutputError

_JOURNAL = "-journal"
_LOGS = ("-wal", _JOURNAL)
_ALL = (*_LOGS, "-shm")
_MAGIC = b"SQLite format 3\0"
# Begins a journal with content; that of the mode `persist` stays, with zeros in place of it.
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
WAIT_S = 5.0


def is_database(path: Path) -> bool:
    """Return whether a file is a database of SQLite, by how it begins."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def put_in(database: Path, name: Path) -> None:
    """Put what SQLite's log of a file has into the file; do nothing about any other file.

    Args:
        database: the file.
        name: by which an error names it.

    Raises:
        OutputError: another connection to it is still open.
    """
    if not _logs(database):
        return
    # Not every Python has it.
    import sqlite3

    # Its closing removes the log, if it is the last connection.
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(database, timeout=WAIT_S)) as connection,
    ):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
    for log in _logs(database):
        raise OutputError(
            f"output {name}: {log.name} has changes that are not in the database yet: close every"
            " connection to it (in Python, by connection.close()) before its with block ends"
        )


def is_log_of(path: Path, database: Path) -> bool:
    """Return whether a file is one of those that SQLite keeps beside a database."""
    return path.name in {database.name + end for end in _ALL}


def remove_empty(database: Path) -> None:
    """Remove the files beside a database that is replaced: those of the old one have no content."""
    for end in _ALL:
        Path(f"{database}{end}").unlink(missing_ok=True)


def _logs(database: Path) -> list[Path]:
    """Return the logs of a database that have content."""
    found = [Path(f"{database}{end}") for end in _LOGS]
    return [log for log in found if log.is_file() and _has_content(log)]


def _has_content(log: Path) -> bool:
    if not log.name.endswith(_JOURNAL):
        return log.stat().st_size > 0
    with log.open("rb") as file:
        return file.read(len(_JOURNAL_MAGIC)) == _JOURNAL_MAGIC
