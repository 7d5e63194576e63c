"""What `output` costs: files written with and without it, in CPU time and by the clock.

python benchmarks/outputs.py --folder FOLDER-ON-THE-VOLUME --number 1000 --bytes 100000
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from k8s_parsl.outputs import output


def plain(path: Path, content: bytes) -> None:
    """Write a file as a task does without us."""
    path.write_bytes(content)


def synced(path: Path, content: bytes) -> None:
    """Write a file and wait for the disk, which is most of what `output` waits for."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def whole(path: Path, content: bytes) -> None:
    """Write a file by `output`."""
    with output(path) as temporary:
        temporary.write_bytes(content)


def main() -> None:
    """Write so many files each way, in turn, and print what one costs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--number", type=int, default=500)
    parser.add_argument("--bytes", type=int, default=100_000)
    options = parser.parse_args()
    content = os.urandom(options.bytes)
    ways: dict[str, Callable[[Path, bytes], None]] = {
        "plain": plain,
        "with fsync": synced,
        "output": whole,
    }
    for name, write in ways.items():
        folder = Path(tempfile.mkdtemp(prefix="outputs-", dir=options.folder))
        clock = time.monotonic()
        cpu = time.process_time()
        for number in range(options.number):
            write(folder / f"{number}.bin", content)
        cpu_us = (time.process_time() - cpu) / options.number * 1e6
        clock_us = (time.monotonic() - clock) / options.number * 1e6
        print(f"{name}: {cpu_us:.0f} us of CPU a file, {clock_us:.0f} us by the clock")
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
