"""The clocks of this process, as they were when it began: a user's code may replace them in `time`.

A frozen clock, or one without an end to its test, would otherwise fail the task that it measures.
They are attributes of a class, as freezegun replaces what modules have imported from `time`.
"""

from __future__ import annotations

import resource
import time as times


class clock:  # noqa: N801 (it is used as a module is)
    """The functions of `time`, and what a process has used."""

    time = staticmethod(times.time)
    monotonic = staticmethod(times.monotonic)
    monotonic_ns = staticmethod(times.monotonic_ns)
    process_time = staticmethod(times.process_time)
    getrusage = staticmethod(resource.getrusage)
