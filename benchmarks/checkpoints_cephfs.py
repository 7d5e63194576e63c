"""What keeping results costs on CephFS: see `checkpoints.py`.

    PYTHONPATH=tests:benchmarks python benchmarks/checkpoints_cephfs.py [--size full]

It mounts the CephFS of the testbed (`make cluster`) by ceph-fuse, so it needs root.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import checkpoints
import click
from checkpoints import SIZES
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


@click.command(help=__doc__)
@click.option("--size", type=click.Choice(list(SIZES)), default="small", show_default=True)
def main(size: str) -> None:
    for figure in bench(size).figures:
        click.echo(f"{figure.name}: {figure.median:.2f} {figure.pairs}")


if __name__ == "__main__":
    main()
