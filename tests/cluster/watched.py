"""examples/tiles, as a workflow that waits at its beginning and at its end until a file is there.

So a test opens the page before the first task, and reads its last state after the last one.
"""

import time
from pathlib import Path

import tiles

BEGIN = "begin"
END = "end"


def main(output, gates, **options):
    """Make the pyramid between the two files."""
    pass_by(Path(gates, BEGIN))
    made = tiles.main(output, **options)
    pass_by(Path(gates, END))
    return made


def pass_by(gate):
    """Wait for a file."""
    while not gate.exists():
        time.sleep(0.1)
