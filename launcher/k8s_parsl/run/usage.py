"""What the launcher itself uses, noted in the journal every few seconds."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from k8s_parsl.journal.journal import Journal
from k8s_parsl.periodic import every
from k8s_parsl_runtime.shared.programs import kib_in_memory

PERIOD_S = 5.0


@contextmanager
def noted(journal: Journal) -> Iterator[None]:
    """Note the launcher's CPU time and memory until the block ends, and once at its end."""
    _note(journal)
    with every(PERIOD_S, lambda: _note(journal), "usage"):
        yield


def _note(journal: Journal) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = round(used.ru_utime + used.ru_stime, 3)
    journal.note("used", of="launcher", cpu=cpu, memory=kib_in_memory() * 1024)
