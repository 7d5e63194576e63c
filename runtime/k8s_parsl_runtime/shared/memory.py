"""What the kernel says of this container's memory."""

from __future__ import annotations

import contextlib
from pathlib import Path

# cgroup v2 and v1, as a container sees its own.
_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))


def oom_kills() -> int:
    """Return how many processes of this container the kernel has killed for memory; 0 where it does not tell."""
    for counters in _COUNTERS:
        with contextlib.suppress(OSError):
            counts = dict(line.split() for line in counters.read_text().splitlines())
            return int(counts.get("oom_kill", 0))
    return 0
