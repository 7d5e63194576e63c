"""A file from a web or FTP server, fetched in a worker process."""

from __future__ import annotations

import shutil
import urllib.request
import uuid
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

SCHEMES = ("http", "https", "ftp")
# For the connection, and for each read.
TIMEOUT_S = 60.0


def fetch(url: str, path: str) -> None:
    """Write what is at ``url`` to the file ``path``, whole or not at all.

    Raises:
        OSError: it cannot be fetched; names the address without its user and password.
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
    if isinstance(error, URLError):
        return str(error.reason)
    return str(error)


def _shown(url: str) -> str:
    """Return an address without the user and password in it."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host).geturl()
