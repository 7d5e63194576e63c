"""The CurveZMQ keys of a run: made by the launcher, carried to the workers in one Secret (design D9).

Parsl wants a directory of mode exactly 0700 (parsl/curvezmq.py), which a Secret volume never is: a worker copies
the mounted files into a sub-directory of a memory volume (the volume's own root is 1777 and cannot be changed).
"""

from __future__ import annotations

import base64
import re
import shutil
from pathlib import Path
from typing import Any

from k8s_parsl.errors import ConfigurationError

MOUNTED = Path("/etc/k8s-parsl-certificates")
PRIVATE = Path("/run/k8s-parsl")
_CLIENT, _SERVER = "client.key_secret", "server.key_secret"
# A Z85 key has 40 characters; Parsl's loader insists on one in the server's file, a client never uses it (tried).
_NO_KEY = "0" * 40


def create(parent: Path) -> Path:
    """New keys for server and client in ``parent/certificates``, mode 0700; that folder."""
    # Here, as the workers' entry, which does without Parsl (see `contract`), imports this module too.
    from parsl.curvezmq import create_certificates

    return Path(create_certificates(str(parent)))


def for_workers(folder: Path) -> dict[str, bytes]:
    """What a worker needs: its own key pair and the server's *public* key, by file name."""
    server = (folder / _SERVER).read_text()
    hidden, found = re.subn(r'secret-key = ".*"', f'secret-key = "{_NO_KEY}"', server)
    if found != 1:
        raise RuntimeError(f"{_SERVER} holds {found} secret keys where one was expected")
    return {_CLIENT: (folder / _CLIENT).read_bytes(), _SERVER: hidden.encode()}


def secret(name: str, labels: dict[str, str], owner: dict[str, Any], files: dict[str, bytes]) -> dict[str, Any]:
    """The Secret's manifest; ``owner`` is an ownerReference, so that the keys go when the launcher pod goes."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
        "type": "Opaque",
        "data": {file: base64.b64encode(content).decode() for file, content in files.items()},
    }


def install(mounted: Path = MOUNTED, parent: Path = PRIVATE) -> Path:
    """Copy the mounted files into a new folder of mode 0700 below ``parent``; that folder.

    Raises:
        ConfigurationError: a file is missing.
    """
    folder = parent / "certificates"
    folder.mkdir(mode=0o700)
    for name in (_CLIENT, _SERVER):
        try:
            shutil.copyfile(mounted / name, folder / name)
        except OSError as error:
            raise ConfigurationError(f"certificates: {mounted / name}: {error.strerror}") from None
    return folder
