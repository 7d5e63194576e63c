"""What keeping results costs on CephFS: see `checkpoints.py`.

    make bench ONLY=checkpoints_cephfs

It mounts the CephFS of the testbed (`make cluster`) by ceph-fuse, so it needs root.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import checkpoints
from data_safety.volumes import CephFs

from bench.figures import Result


def bench(size: str) -> Result:
    """Measure in a folder of CephFS."""
    with tempfile.TemporaryDirectory() as folder:
        volume = CephFs(Path(folder, "volume"))
        try:
            return checkpoints.bench(size, volume.place, "CephFS")
        finally:
            volume.close()
