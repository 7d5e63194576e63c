"""The API server is busy, breaks, forgets or is away. Workers and tasks do not need it: they go on."""

from __future__ import annotations

import pytest

from . import host
from .proxy import GONE, Fault, Proxy


@pytest.fixture
def proxy():
    proxy = Proxy()
    yield proxy
    proxy.close()


def creates(method, path):
    return method == "POST" and path.endswith("/pods")


def names_of_workers(run):
    return [pod.name for pod in run.pods.workers()]


def test_too_many_requests(run, report, proxy):
    """Pods are made later, not before the time that Retry-After says."""
    fault = proxy.add(Fault(creates, 6, status=429, headers=(("Retry-After", "2"),)))
    run.start(values=proxy.values())
    row = run.finish("429 with Retry-After, 6 times, on create", confirmed="", about=["429"])
    row.confirmed = f"{fault.met} answers of 429"
    report(row)
    assert fault.met == 6
    began = [
        moment for moment, what in proxy.times if what.startswith("POST") and what.endswith("/pods")
    ]
    # Eight calls for two pods; each of the six refusals holds its pod's next one off.
    assert max(began) - min(began) > 4, began


def test_server_errors(run, report, proxy):
    """A burst of 500 on everything that is asked of pods."""
    fault = proxy.add(Fault(lambda method, path: "/pods" in path, 6, status=500))
    run.start(values=proxy.values())
    row = run.finish("500 on the first 6 calls", confirmed="", about=["injected"])
    row.confirmed = f"{fault.met} answers of 500"
    report(row)
    assert fault.met == 6


def test_create_whose_answer_is_lost(run, report, proxy):
    """The API server made the pod, but its answer got lost: the pod is not made twice."""
    fault = proxy.add(Fault(creates, 2))
    run.start(values=proxy.values())
    row = run.finish("create done, its answer lost (twice)", confirmed="", about=["not made yet"])
    names = names_of_workers(run)
    row.confirmed = f"{fault.met} answers dropped"
    row.note = f"{len(names)} worker pods in all"
    report(row)
    assert len(names) == 2, names


def test_watch_that_is_too_old(run, report, proxy):
    """410 on the watch while a worker dies: the new list shows it."""
    run.start(values=proxy.values())
    run.until_busy()
    fault = proxy.add(Fault(lambda *_: False, 1, event=GONE))
    victim = run.victim()
    run.delete(victim, grace=0)
    confirmed = run.until_gone(victim)
    row = run.finish(
        "410 on the watch as a worker is deleted",
        confirmed=f"{confirmed}; {fault.met} events of 410",
        about=[victim.name],
    )
    report(row)
    assert fault.met == 1


def away(run, report, name, outage, seconds):
    """With a worker killed meanwhile, which only its missing heartbeat can show."""
    # Three at a time: two stay with the killed worker until its heartbeat is missed, the third
    # shows that work goes on.
    run.start(tasks=24 + seconds, at_once=3)
    run.until_busy(at_once=3)
    victim = run.victim()
    before = len([e for e in run.executions() if e.ended])
    with outage:
        host.kill(host.main_process(victim))
        host.wait(seconds)
        during = len([e for e in run.executions() if e.ended]) - before
    # Not a free slot for each of the two tasks.
    row = run.finish(
        name,
        confirmed="API server's process; worker's process gone",
        about=["watch of"],
        spare_slot=False,
    )
    row.note = f"{during} tasks ended meanwhile; a worker pod was SIGKILLed at the same time"
    report(row)
    assert during


@pytest.mark.disruptive
def test_api_server_gone_for_30_s(run, report):
    """Killed: connections are refused."""
    away(run, report, "API server killed, back after 30 s", host.api_server_gone(), 30)


@pytest.mark.disruptive
def test_api_server_hangs_for_30_s(run, report):
    """Stopped: it takes connections and does not answer."""
    away(run, report, "API server hangs for 30 s", host.api_server_hangs(), 30)


@pytest.mark.disruptive
@pytest.mark.timeout(1200)
def test_api_server_gone_for_5_minutes(run, report):
    """As above, longer than a client's own timeouts."""
    away(run, report, "API server killed, back after 5 min", host.api_server_gone(), 300)
