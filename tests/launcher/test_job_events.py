"""Events on the Job of a run: which there are, and that no API server holds the run up for them."""

from __future__ import annotations

import logging
import threading
import time

import pytest
from told import done, submitted

from k8s_parsl.journal.journal import Journal
from k8s_parsl.journal.state import State
from k8s_parsl.kube.watch import PodWatch
from k8s_parsl.run import job_events as events_module
from k8s_parsl.run import lookout as lookouts
from k8s_parsl.run.job_events import MOST_WAITING, job_events
from k8s_parsl.run.lookout import Lookout
from k8s_parsl.views.job_events import AGAIN_S, MESSAGE_CHARACTERS, News
from launcher.release import NS

JOB = {"apiVersion": "batch/v1", "kind": "Job", "name": "pdgrun-launcher-abc12345", "uid": "j0b"}


# Which --------------------------------------------------------------------------------------------


def a_state():
    state = State()
    run = {"run": "abc12345", "attempt": 1, "workflow": "tiles:main"}
    state.take({"event": "run", "t": 0.0} | run)
    return state


def pod(state, name, at, stage="asked", reason="", text=""):
    event = {"event": "pod", "t": at, "executor": "cpu", "pod": name, "state": stage}
    state.take(event | {"reason": reason, "text": text})


def reasons(events):
    return [event.reason for event in events]


def test_before_the_run_has_begun_there_is_no_event():
    assert News().look(State()) == []


def test_a_run_is_started_gets_its_first_worker_and_ends_each_once():
    state, news = a_state(), News()
    assert [(e.severity, e.reason, e.message) for e in news.look(state)] == [
        ("Normal", "RunStarted", "run abc12345, attempt 1: tiles:main")
    ]
    for name, at in (("p-0", 12.0), ("p-1", 13.0)):
        pod(state, name, at, "running")
        state.take({"event": "workers", "t": at, "executor": "cpu", "pod": name, "number": 2})
    (first,) = news.look(state)
    assert first.reason == "FirstWorker"
    assert first.message == "worker pod p-0 takes tasks, 12 s after the start"
    state.take({"event": "end", "t": 60.0, "status": "done", "exit_code": 0, "message": ""})
    (last,) = news.look(state)
    assert (last.severity, last.reason) == ("Normal", "RunDone")
    assert last.message == "done after 1 min 0 s: 0 of 0 tasks done, 0 failed"
    assert news.look(state) == []


@pytest.mark.parametrize(
    ("status", "severity", "reason"),
    [
        ("done", "Normal", "RunDone"),
        ("done with failures", "Warning", "RunDoneWithFailures"),
        ("stopped", "Normal", "RunStopped"),
        ("failed", "Warning", "RunFailed"),
        ("", "Warning", "RunFailed"),
    ],
)
def test_the_last_event_says_how_the_run_ended(status, severity, reason):
    state, news = a_state(), News()
    news.look(state)
    state.take({"event": "end", "t": 1.0, "status": status, "exit_code": 1, "message": "why"})
    (last,) = news.look(state)
    assert (last.severity, last.reason) == (severity, reason)
    assert last.message.endswith("; why")


def test_a_reason_to_wait_is_said_once_in_ten_minutes_however_many_pods_wait():
    state, news = a_state(), News()
    news.look(state)
    for number in range(3):
        pod(state, f"p-{number}", 1.0, reason="Unschedulable", text="no node can take it")
    (said,) = news.look(state)
    assert (said.severity, said.reason) == ("Warning", "Unschedulable")
    assert said.message == "3 worker pods wait: no node can take it"
    state.now = AGAIN_S
    assert news.look(state) == []
    state.now = AGAIN_S + 1
    assert reasons(news.look(state)) == ["Unschedulable"]


def test_once_no_pod_waits_the_run_has_resumed():
    """Whether the pods run, or have ended. A reason that comes and goes is no flood of Events."""
    state, news = a_state(), News()
    pod(state, "p-0", 1.0, reason="QuotaExceeded", text="used up")
    pod(state, "p-1", 1.0, reason="Unschedulable", text="no node")
    assert reasons(news.look(state)) == ["RunStarted", "QuotaExceeded", "Unschedulable"]
    pod(state, "p-0", 2.0, "running")
    assert news.look(state) == []
    pod(state, "p-1", 3.0, "ended", reason="Deleted", text="gone")
    (resumed,) = news.look(state)
    assert resumed.reason == "RunResumed"
    assert resumed.message == "no worker pod waits any more (QuotaExceeded, Unschedulable)"
    for at in range(4, 100):
        pod(state, "p-2", at, reason="Unschedulable" if at % 2 else "", text="no node")
        assert news.look(state) == []


def test_a_container_that_is_created_is_no_news():
    state, news = a_state(), News()
    news.look(state)
    pod(state, "p-0", 1.0, "created", reason="ContainerCreating", text="its image is being pulled")
    assert news.look(state) == []


@pytest.mark.parametrize("hostile", ["x\r\ny\x1b[2J\u202e", "a" * 1_000_000, "\ud800"])
def test_no_text_is_long_or_has_control_characters(hostile):
    state, news = a_state(), News()
    state.run["workflow"] = hostile
    pod(state, "p-0", 1.0, reason="Unschedulable", text=hostile)
    state.take({"event": "end", "t": 1.0, "status": "failed", "exit_code": 1, "message": hostile})
    for event in news.look(state):
        assert event.message.isprintable()
        assert len(event.message) < MESSAGE_CHARACTERS + 100
        event.message.encode()


# Creating them ------------------------------------------------------------------------------------


@pytest.fixture
def own_pod(server, identity, monkeypatch):
    """This launcher's pod as the Job's controller creates it."""
    monkeypatch.setattr(lookouts, "LOOK_S", 0.05)
    monkeypatch.setattr(events_module, "PAUSE_S", 0.05)
    server.put(
        "ADDED",
        {
            "metadata": {
                "name": identity.pod_name,
                "uid": identity.pod_uid,
                "labels": {"app.kubernetes.io/instance": "pdgrun"},
                "ownerReferences": [JOB | {"controller": True}],
            }
        },
    )


@pytest.fixture
def pods(own_pod, api):
    watch = PodWatch(api, "app.kubernetes.io/instance=pdgrun")
    watch.start(10)
    yield watch
    watch.stop()


@pytest.fixture
def journal():
    journal = Journal()
    journal.begin(run="abc12345", attempt=1, workflow="tiles:main")
    return journal


def watched(journal, identity, api, pods):
    lookout = Lookout(journal)
    lookout.add(lambda: job_events(identity, api, pods))
    lookout.begin()
    return lookout


def run_to_its_end(journal, identity, api, pods):
    """Return how long the run's end waited."""
    with watched(journal, identity, api, pods):
        journal.end(status="done", exit_code=0, message="")
        began = time.monotonic()
    return time.monotonic() - began


def created(server):
    return [event["reason"] for event in server.created_events]


def test_the_events_are_on_the_job_that_owns_the_pod(journal, identity, api, pods, server):
    with watched(journal, identity, api, pods):
        server.wait_for(lambda s: created(s) == ["RunStarted"])
        facts = {"executor": "cpu", "pod": "p-0"}
        journal.note("pod", **facts, state="asked", reason="Unschedulable", text="no node")
        server.wait_for(lambda s: created(s)[1:] == ["Unschedulable"])
        journal.note("pod", **facts, state="running")
        journal.note("workers", **facts, number=1)
        server.wait_for(lambda s: created(s)[2:] == ["FirstWorker", "RunResumed"])
        journal.end(status="failed", exit_code=1, message="the workflow raised")
    assert created(server)[4:] == ["RunFailed"]
    event = server.created_events[-1]
    assert event["involvedObject"] == JOB | {"namespace": NS}
    assert (event["type"], event["source"]) == ("Warning", {"component": "k8s-parsl"})
    assert event["reportingInstance"] == identity.pod_name
    assert event["firstTimestamp"] == event["lastTimestamp"]
    names = {event["metadata"]["name"] for event in server.created_events}
    assert len(names) == 5


def test_a_pod_without_a_job_makes_no_events(journal, identity, api, watch, server):
    """That of `helm test`."""
    assert job_events(identity, api, watch) is None
    run_to_its_end(journal, identity, api, watch)
    assert server.created_events == []


def infos(caplog):
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.INFO]


def test_without_the_permission_the_run_goes_on_and_says_so_once(
    journal, identity, api, pods, server, caplog
):
    caplog.set_level("INFO", logger="k8s_parsl")
    server.denied.add(("create", "events"))
    with watched(journal, identity, api, pods):
        wait_until(lambda: infos(caplog))
        journal.note("pod", executor="cpu", pod="p-0", state="asked", reason="X", text="x")
        journal.end(status="done", exit_code=0, message="")
    (line,) = infos(caplog)
    assert line.startswith(
        "the run goes on without Events on Job pdgrun-launcher-abc12345 (rbac.events): 403"
    )
    assert len([call for call in server.calls if call[0] == "POST"]) == 1


def wait_until(done):
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("code", [429, 500])
def test_an_event_that_is_refused_for_now_is_created_later(
    journal, identity, api, pods, server, caplog, code
):
    caplog.set_level("INFO", logger="k8s_parsl")
    server.refuse("POST /events", code, "later", {"Retry-After": "0"} if code == 500 else None)
    with watched(journal, identity, api, pods):
        server.wait_for(lambda s: created(s) == ["RunStarted"])
    assert infos(caplog) == []


def test_an_api_server_that_always_refuses_costs_a_few_tries(journal, identity, api, pods, server):
    server.refuse("POST /events", 429, "later", {"Retry-After": "3600"}, times=50)
    assert run_to_its_end(journal, identity, api, pods) < 5
    assert len(server.answers) >= 45


def test_an_api_server_that_hangs_costs_the_end_three_seconds_at_most(
    journal, identity, api, pods, server
):
    """And the run itself nothing: the journal takes events meanwhile."""
    server.hangs = r"^POST /api/v1/namespaces/\w+/events"
    with watched(journal, identity, api, pods):
        server.wait_for(lambda s: any(call[0] == "POST" for call in s.calls))
        began = time.monotonic()
        for number in range(1000):
            facts = {"pod": f"p-{number}", "reason": f"R{number}", "text": "x"}
            journal.note("pod", executor="cpu", state="asked", **facts)
        assert time.monotonic() - began < 2
        (sender,) = [one for one in threading.enumerate() if one.name == "job-events"]
        journal.end(status="done", exit_code=0, message="")
        began = time.monotonic()
    assert time.monotonic() - began < 5
    server.close()
    sender.join(10)
    assert not sender.is_alive()


def test_the_end_is_among_the_events_that_wait_for_a_slow_api_server(
    journal, identity, api, pods, server
):
    """Of more than fit into the queue the oldest are dropped."""
    server.refuse("POST /events", 429, "later", {"Retry-After": "1"})
    with watched(journal, identity, api, pods):
        server.wait_for(lambda s: any(call[0] == "POST" for call in s.calls))
        for number in range(2 * MOST_WAITING):
            facts = {"pod": f"p-{number}", "reason": f"R{number}", "text": "x"}
            journal.note("pod", executor="cpu", state="asked", **facts)
        journal.end(status="done", exit_code=0, message="")
    assert created(server)[-1] == "RunDone"
    assert len(created(server)) <= MOST_WAITING + 1


def test_an_answer_that_was_lost_makes_no_second_event(journal, identity, api, pods, server):
    """A retry has the same name, and 409 says that it is there."""
    with watched(journal, identity, api, pods):
        server.wait_for(lambda s: created(s) == ["RunStarted"])
        api.create_event(server.created_events[0])
    assert created(server) == ["RunStarted"]


def test_a_run_that_is_over_before_its_workers_were_seen_had_a_first_worker_all_the_same():
    """The workflow's process looks each second; what a worker did says that it was there."""
    journal = Journal()
    journal.begin(run="1a2b3c4d", attempt=1, workflow="flow:main", workers={"cpu": 1})
    journal.note("pod", executor="cpu", pod="cpu-0", state="running")
    journal.take_tasks([submitted("tile", 1), done("tile", 0.1, pod="cpu-0")])
    journal.end(status="done", exit_code=0)
    with journal.locked() as state:
        reasons = [one.reason for one in News().look(state)]
    assert reasons == ["RunStarted", "FirstWorker", "RunDone"]
