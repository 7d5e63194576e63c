"""This container's memory limit and OOM kills, as the kernel counts them."""

from __future__ import annotations

import contextlib
from pathlib import Path

# cgroup v2 and v1, as a container sees its own.
_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
# What cgroup v1 says where there is no limit is a little less than 2^63.
_NONE = 2**62


def limit() -> int | None:
    """Return the bytes that this container may use; None where there is no known limit."""
    for file in _LIMITS:
        with contextlib.suppress(OSError, ValueError):
            found = int(file.read_text())
            if found >= _NONE:
                return None
            return found
    return None


def oom_kills() -> int:
    """Return how many processes of this container the kernel has killed for memory.

    It is 0 where the kernel does not say.
    """
    for counters in _COUNTERS:
        with contextlib.suppress(OSError):
            counts = dict(line.split() for line in counters.read_text().splitlines())
            return int(counts.get("oom_kill", 0))
    return 0
