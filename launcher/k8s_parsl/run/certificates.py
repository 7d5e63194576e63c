"""The CurveZMQ keys of a run: created by the launcher, given to the workers in one Secret.

The files are those of zmq.auth, which Parsl reads (parsl/curvezmq.py). A worker never gets the
server's secret key.
"""

from __future__ import annotations

import base64
import re
import tempfile
from pathlib import Path
from typing import Any

from k8s_parsl_runtime.shared.keys import CLIENT, SERVER

# A Z85 key has 40 characters. Parsl's loader insists on a secret key in the server's file, but a
# client never uses it (tried).
_NO_KEY = "0" * 40


def create() -> dict[str, str]:
    """Return new key files for server and client, by name, as the workflow's side needs them."""
    from zmq import auth

    with tempfile.TemporaryDirectory() as folder:
        for name in (CLIENT, SERVER):
            auth.create_certificates(folder, name.partition(".")[0])
        return {file.name: file.read_text("utf-8") for file in sorted(Path(folder).iterdir())}


def for_workers(files: dict[str, str]) -> dict[str, str]:
    """Return what a worker needs: its own key pair and the server's *public* key, by file name."""
    hidden, found = re.subn(r'secret-key = ".*"', f'secret-key = "{_NO_KEY}"', files[SERVER])
    if found != 1:
        raise RuntimeError(f"{SERVER} holds {found} secret keys where one was expected")
    return {CLIENT: files[CLIENT], SERVER: hidden}


def secret(
    name: str, labels: dict[str, str], owner: dict[str, Any], files: dict[str, str]
) -> dict[str, Any]:
    """Return the Secret's manifest.

    Args:
        name: its name.
        labels: its labels.
        owner: an ownerReference, so that the keys go when the launcher pod goes.
        files: the content, by file name.
    """
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
        "type": "Opaque",
        "data": {
            file: base64.b64encode(content.encode()).decode() for file, content in files.items()
        },
    }
