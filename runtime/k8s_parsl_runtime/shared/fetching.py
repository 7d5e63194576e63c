"""Fetches a file from a web or FTP server, in a worker process."""

from __future__ import annotations

import shutil
import urllib.request
import uuid
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

SCHEMES = ("http", "https", "ftp")
# Of the connection, and of each read.
TIMEOUT_S = 60.0


def fetch(url: str, path: str) -> None:
    """Put what is at ``url`` into the file ``path``, whole or not at all.

    Raises:
        OSError: it cannot be fetched; names the address, without a password in it.
    """
    part = Path(f"{path}.{uuid.uuid4().hex}")
    try:
        _write(url, part)
        part.replace(path)
    except OSError as error:
        raise OSError(f"{_shown(url)} cannot be fetched: {_why(error)}") from None
    finally:
        part.unlink(missing_ok=True)


def _write(url: str, part: Path) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as source, part.open("xb") as file:  # noqa: S310 (see SCHEMES)
        shutil.copyfileobj(source, file)
        promised = source.headers.get("Content-Length", "")
        if promised.isdigit() and file.tell() < int(promised):
            raise OSError(f"the connection ended after {file.tell()} of {promised} bytes")


def _why(error: OSError) -> str:
    if isinstance(error, HTTPError):
        # It holds the connection.
        error.close()
        return str(error)
    return str(error.reason if isinstance(error, URLError) else error)


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
