"""What the kernel says of this container's memory."""

from __future__ import annotations

import contextlib
from pathlib import Path

# cgroup v2 and v1, as a container sees its own.
_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
# What cgroup v1 says where there is no limit is a little less than 2^63.
_NONE = 2**62


def limit() -> int | None:
    """Return the bytes that this container may use; None where nothing limits it, or the kernel
    does not tell.
    """
    for file in _LIMITS:
        with contextlib.suppress(OSError, ValueError):
            found = int(file.read_text())
            return found if found < _NONE else None
    return None


def oom_kills() -> int:
    """Return how many processes of this container the kernel has killed for memory; 0 where it does
    not tell.
    """
    for counters in _COUNTERS:
        with contextlib.suppress(OSError):
            counts = dict(line.split() for line in counters.read_text().splitlines())
            return int(counts.get("oom_kill", 0))
    return 0
