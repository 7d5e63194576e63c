"""The CurveZMQ keys of a run as files.

Parsl wants a directory of mode exactly 0700 (parsl/curvezmq.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from k8s_parsl_runtime.shared.errors import ConfigurationError

# In memory, in each container that needs keys.
PRIVATE = Path("/run/k8s-parsl")
# Where a worker pod mounts the run's Secret.
MOUNTED = Path("/etc/k8s-parsl-certificates")
CLIENT = "client.key_secret"
SERVER = "server.key_secret"


def install(files: Mapping[str, str], parent: Path) -> Path:
    """Write the key files into the new folder ``parent/certificates``, mode 0700.

    Args:
        files: content by name. A server also needs the client's public key, `client.key`: it
            accepts no other client.
        parent: a folder in memory.

    Returns:
        The new folder.
    """
    folder = parent / "certificates"
    folder.mkdir(mode=0o700)
    for name, content in files.items():
        file = folder / Path(name).name
        file.touch(mode=0o600)
        file.write_text(content, "utf-8")
    return folder


def mounted(folder: Path = MOUNTED) -> dict[str, str]:
    """Return the key files of a mounted Secret, content by name.

    A Secret volume never has mode 0700, and without fsGroup its user cannot change that. So
    `install` makes a copy.

    Raises:
        ConfigurationError: a file is missing.
    """
    files = {}
    for name in (CLIENT, SERVER):
        try:
            files[name] = (folder / name).read_text("utf-8")
        except OSError as error:
            raise ConfigurationError(f"certificates: {folder / name}: {error.strerror}") from None
    return files
