"""Named pipes: a process reports that it has begun, and waits until the test lets it go on."""

from __future__ import annotations

import os
import select


class Pipes:
    """Two named pipes: the process writes lines to `begun`, and reads one from `go`."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("begun", "go"):
            os.mkfifo(folder / name)
        # For reading and writing: opening does not wait for the other end, and reading has no end.
        self.begun, self.go = [
            os.fdopen(os.open(folder / name, os.O_RDWR), "rb+", 0) for name in ("begun", "go")
        ]

    def next_begun(self):
        """The next line: where a task begins, its pod's name."""
        return self.begun.readline().decode().strip()

    def nothing_begun(self):
        return not select.select([self.begun], [], [], 0)[0]

    def go_on(self):
        self.go.write(b"\n")

    def close(self):
        self.begun.close()
        self.go.close()
