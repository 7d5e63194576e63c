"""The CurveZMQ keys of a run as files: Parsl wants a directory of mode exactly 0700
(parsl/curvezmq.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from k8s_parsl_runtime.shared.errors import ConfigurationError

# In memory, in each container that needs keys.
PRIVATE = Path("/run/k8s-parsl")
# Where a worker pod mounts the run's Secret.
MOUNTED = Path("/etc/k8s-parsl-certificates")
CLIENT, SERVER = "client.key_secret", "server.key_secret"


def install(files: Mapping[str, str], parent: Path) -> Path:
    """Write the key files into the new folder ``parent/certificates``, mode 0700; return that
    folder.

    Args:
        files: content by name. A server also needs the client's public key, `client.key`: it takes
        no other client. parent: a folder in memory.
    """
    folder = parent / "certificates"
    folder.mkdir(mode=0o700)
    for name, content in files.items():
        file = folder / Path(name).name
        file.touch(mode=0o600)
        file.write_text(content, "utf-8")
    return folder


def mounted(folder: Path = MOUNTED) -> dict[str, str]:
    """Read the key files of a mounted Secret.

    A Secret volume is never of mode 0700, and its user without fsGroup cannot change it: hence the
    copy in `install`.

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
