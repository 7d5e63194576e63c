"""A block is a value: what a look at its pod makes of it, without a server, a thread or a clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from k8s_parsl.kube.pod_state import PodState
from k8s_parsl.kube.reasons import ReasonClass, find
from k8s_parsl.run import block as block_module
from k8s_parsl.run.block import Blame, Block, State

ASKED_FOR = Block("0", "p")
RUNNING = replace(ASKED_FOR, seen=True, running_since=10.0)
CANCELLED = replace(RUNNING, cancelled=True)
RETIRED = replace(RUNNING, retired_at=15.0)
LIMITS = {ReasonClass.WAIT: 60.0, ReasonClass.CONFIGURATION: 30.0}


def pod(
    finding=None, *, phase="Running", running=False, exit_code=None, deleting=False, node_lost=False
):
    """As the watch shows it."""
    return PodState(
        "p", "u", "worker", "r", "o", phase, deleting, running, node_lost, exit_code, finding
    )


ALIVE = pod(running=True)
CREATING = pod(find("ContainerCreating"), phase="Pending")
GONE = None
WELL = pod(find("Completed"), phase="Succeeded", exit_code=0)
BAD = pod(find("Error", "exit code 1"), phase="Failed", exit_code=1)
EVICTED = pod(find("Evicted", "low on memory"), phase="Failed")
KILLED = pod(find("Killed", "exit code 137"), exit_code=137)
REFUSED = pod(find("WorkerConfiguration", "no such folder"), phase="Failed", exit_code=78)
DELETED = pod(running=True, deleting=True)
DRAINED = pod(find("Drained"), running=True)
FULL = pod(find("Unschedulable", "Insufficient cpu"), phase="Pending")
NO_IMAGE = pod(find("ErrImagePull", "not found"), phase="Pending")


@pytest.mark.parametrize(
    ("before", "seen", "state", "reason"),
    [
        (ASKED_FOR, CREATING, State.PENDING, "ContainerCreating"),
        (ASKED_FOR, FULL, State.PENDING, "Unschedulable"),
        (ASKED_FOR, NO_IMAGE, State.PENDING, "ErrImagePull"),
        (ASKED_FOR, ALIVE, State.RUNNING, None),
        (ASKED_FOR, GONE, State.TIMEOUT, "Deleted"),
        (RUNNING, WELL, State.COMPLETED, "Completed"),
        (RUNNING, BAD, State.FAILED, "Error"),
        (RUNNING, REFUSED, State.FAILED, "WorkerConfiguration"),
        (RUNNING, EVICTED, State.TIMEOUT, "Evicted"),
        (RUNNING, KILLED, State.TIMEOUT, "Killed"),
        (RUNNING, DELETED, State.TIMEOUT, "Deleted"),
        (RUNNING, DRAINED, State.TIMEOUT, "Drained"),
        (RUNNING, pod(phase="Failed"), State.FAILED, "Error"),
        (CANCELLED, GONE, State.CANCELLED, None),
        (CANCELLED, DELETED, State.RUNNING, None),
        (CANCELLED, EVICTED, State.TIMEOUT, None),
        (RETIRED, WELL, State.COMPLETED, None),
        (RETIRED, BAD, State.FAILED, None),
        (RETIRED, REFUSED, State.FAILED, "WorkerConfiguration"),
        (RETIRED, GONE, State.TIMEOUT, None),
    ],
)
def test_a_look_at_the_pod_says_what_became_of_the_block(before, seen, state, reason):
    """A requested end has no reason to report, except a fault in the values."""
    after = before.observe(seen, 20.0)
    assert (after.state, after.finding and after.finding.reason.name, after.seen) == (
        state,
        reason,
        True,
    )
    assert (after.final is None) is (state in (State.PENDING, State.RUNNING))


@pytest.mark.parametrize("end", [WELL, BAD, EVICTED, GONE, DELETED])
@pytest.mark.parametrize("later", [ALIVE, WELL, BAD, EVICTED, GONE, DELETED, FULL])
def test_an_end_is_final(end, later):
    ended = RUNNING.observe(end, 20.0)
    assert ended.observe(later, 30.0) == ended


@pytest.mark.parametrize(
    ("later", "reason", "explained"),
    [
        (pod(find("Killed", "exit code 137"), exit_code=137), "Killed", False),
        (pod(find("Evicted", "storage"), phase="Failed", exit_code=137), "Evicted", True),
        (pod(find("Killed", "exit code 137"), phase="Failed", exit_code=137), "Killed", True),
        (GONE, "Killed", False),
    ],
)
def test_a_mere_signal_is_explained_when_kubelet_has_said_why(later, reason, explained):
    """It reports the container's end first."""
    killed = RUNNING.observe(KILLED, 20.0)
    assert (killed.vague, killed.explained) == (True, False)
    after = killed.observe(later, 21.0)
    assert (after.finding.reason.name, after.explained, after.state) == (
        reason,
        explained,
        State.TIMEOUT,
    )


@pytest.mark.parametrize(
    ("before", "looks", "blame"),
    [
        (RUNNING, [pod(find("OOMKilled"), exit_code=137)], Blame.TASKS),
        (RUNNING, [BAD], Blame.TASKS),
        (RUNNING, [pod(find("StorageLimit"), phase="Failed")], Blame.TASKS),
        (RUNNING, [KILLED], Blame.UNCLEAR),
        (RUNNING, [KILLED, EVICTED], Blame.NONE),
        (RUNNING, [KILLED, pod(find("StorageLimit"), phase="Failed")], Blame.TASKS),
        (RUNNING, [KILLED, pod(find("Killed"), phase="Failed", exit_code=137)], Blame.TASKS),
        (RUNNING, [EVICTED], Blame.NONE),
        (RUNNING, [GONE], Blame.NONE),
        (RUNNING, [DELETED, pod(find("Killed"), phase="Failed", exit_code=137)], Blame.NONE),
        (RUNNING, [DRAINED, pod(find("Drained"), phase="Failed", exit_code=1)], Blame.NONE),
        (RUNNING, [WELL], Blame.NONE),
        (RUNNING, [ALIVE], Blame.NONE),
        (CANCELLED, [BAD], Blame.NONE),
        (CANCELLED, [KILLED], Blame.NONE),
        (RETIRED, [BAD], Blame.NONE),
    ],
)
def test_tasks_are_blamed_for_an_end_that_nothing_else_explains(before, looks, blame):
    """Neither for what the cluster does to a pod, nor for an end that was wanted."""
    block = before
    for at, look in enumerate(looks):
        block = block.observe(look, 20.0 + at)
    assert block.blame is blame


def test_it_runs_since_it_was_first_seen_to_run():
    assert ASKED_FOR.observe(ALIVE, 20.0).observe(ALIVE, 30.0).running_since == 20.0


def test_an_event_says_more_than_that_the_container_is_being_made():
    """Until the container is there."""
    told = replace(ASKED_FOR, event=find("FailedMount", "no Secret"))
    assert told.observe(CREATING, 20.0).finding == find("FailedMount", "no Secret")
    assert told.observe(FULL, 20.0).finding.reason.name == "Unschedulable"
    assert told.observe(ALIVE, 20.0).finding is None


@pytest.mark.parametrize(
    ("looks", "since"),
    [
        ([(FULL, 20.0), (FULL, 30.0)], 20.0),
        ([(FULL, 20.0), (CREATING, 30.0)], 30.0),
        ([(FULL, 20.0), (ALIVE, 25.0), (FULL, 30.0)], 30.0),
        ([(NO_IMAGE, 20.0), (pod(find("ImagePullBackOff"), phase="Pending"), 30.0)], 20.0),
        ([(FULL, 20.0), (NO_IMAGE, 30.0)], 30.0),
    ],
)
def test_a_deadline_runs_from_the_first_look_that_showed_the_fault(looks, since):
    """Kubelet reports a failed pull in turn with its waits: one fault in two words."""
    found = ASKED_FOR
    for seen, now in looks:
        found = found.observe(seen, now)
    assert found.finding_since == since


@pytest.mark.parametrize(
    ("seen", "after", "overdue"),
    [(FULL, 59.0, False), (FULL, 61.0, True), (NO_IMAGE, 29.0, False), (NO_IMAGE, 31.0, True)],
)
def test_it_is_overdue_after_the_time_of_its_reasons_class(seen, after, overdue):
    found = ASKED_FOR.observe(seen, 100.0)
    assert found.overdue(LIMITS, 100.0 + after) is overdue
    assert not replace(found, cancelled=True).overdue(LIMITS, 100.0 + after)
    assert not RUNNING.overdue(LIMITS, 1e9)


def test_what_becomes_of_a_block_by_time_alone():
    forgotten = replace(ASKED_FOR, cancelled=True)
    assert forgotten.is_forgotten()
    assert forgotten.forgotten().state is State.CANCELLED
    assert not CANCELLED.is_forgotten()
    assert RETIRED.overstays(15.1 + block_module.RETIRE_S)
    assert not RETIRED.overstays(14.9 + block_module.RETIRE_S)
    assert not replace(RETIRED, cancelled=True).overstays(1e9)
    assert RUNNING.settled(10.1 + block_module.SETTLED_S)
    assert not RUNNING.settled(9.9 + block_module.SETTLED_S)
    assert not ASKED_FOR.settled(1e9)


def test_events_are_wanted_of_a_container_that_is_long_in_the_making():
    making = ASKED_FOR.observe(CREATING, 100.0)
    later = 100.1 + block_module.CREATING_S
    assert making.wants_events(later)
    assert not making.wants_events(104.9)
    assert not replace(making, asked_at=later).wants_events(later + 1)
    assert not ASKED_FOR.observe(FULL, 100.0).wants_events(1e9)


@pytest.mark.parametrize(
    ("reason", "state"), [("QuotaExceeded", State.PENDING), ("Forbidden", State.FAILED)]
)
def test_a_pod_that_was_not_made_may_still_be_unless_the_server_said_no_for_good(reason, state):
    refused = ASKED_FOR.refused(find(reason, "no"), 20.0)
    assert (refused.state, refused.seen) == (state, False)
    assert refused.message.endswith("(no)")


def test_the_message_ends_with_what_the_worker_said_last():
    ended = replace(RUNNING.observe(BAD, 20.0), last_lines="loading\nno such library")
    assert (
        ended.message
        == "Error: the worker failed (exit code 1)\nits last lines:\nloading\nno such library"
    )
    assert RUNNING.message == ""
