"""Pods that fail in a row: how long the next one waits."""

from __future__ import annotations

import pytest

from k8s_parsl.run.failures import BURST_S, Failures


@pytest.mark.parametrize(
    ("ends", "seconds"),
    [
        ([], 0),
        ([0], 0),
        ([0, 10], 1),
        ([0, 10, 20], 3),
        ([0, 10, 20, 30], 7),
        (range(0, 1000, 10), 60),
        ([0, BURST_S / 2, BURST_S], 0),
        ([0, BURST_S / 2, 2 * BURST_S], 1),
    ],
)
def test_the_next_pod_waits_longer_after_each_failure_but_one_cause_counts_once(ends, seconds):
    failures = Failures()
    for moment in ends:
        failures.add(moment, own=False)
    assert failures.hold_off() == seconds
    assert failures.own == 0


def test_a_pod_that_ran_for_long_ends_the_row_but_workers_own_ends_are_counted_on():
    failures = Failures()
    for moment in (0, 10, 20):
        failures.add(moment, own=True)
    failures.settled()
    assert (failures.hold_off(), failures.own) == (0, 3)
