"""Messages about a run: when they are due, what they say, and what a bad service costs the run."""

from __future__ import annotations

import email
import email.policy
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from hooks import Hook, mail_server
from told import failed, submitted

from k8s_parsl.config.settings import Notify
from k8s_parsl.identity import NOTIFY_URLS
from k8s_parsl.journal.journal import Journal
from k8s_parsl.journal.state import State
from k8s_parsl.run import lookout as lookouts
from k8s_parsl.run import notifier as notifiers
from k8s_parsl.run.lookout import Lookout
from k8s_parsl.run.notifier import MOST_URLS, notifier
from k8s_parsl.views.notify import Triggers, notice
from k8s_parsl_runtime.shared.tries import Try

ALL = Notify()
PARTS = ("t0ken", "s3cret", "k3y", "127.0.0.1", "json://", "ada")


@pytest.fixture
def hook():
    hook = Hook()
    yield hook
    hook.close()


def ended(state, app, number, outcome, at, **more):
    fields = dict.fromkeys(Try._fields[2:]) | {
        "outcome": outcome,
        "executor": "cpu",
        "submitted": 0.0,
        "ended": at,
        "pod": "",
        "text": "",
        "error": "",
        "call": "",
    }
    of = list(Try(id=number, number=0, **(fields | more)))
    state.take({"event": "try", "t": at, "app": app, "of": of})


def a_state(*, workflow="tiles:main", tasks=3):
    state = State()
    state.take({"event": "run", "t": 0.0, "run": "abc12345", "attempt": 1, "workflow": workflow})
    state.take({"event": "submitted", "t": 0.0, "app": "tile", "ids": [[0, tasks - 1]]})
    return state


# When ---------------------------------------------------------------------------------------------


def test_the_first_failed_task_is_worth_one_message():
    state, triggers = a_state(), Triggers(ALL)
    assert triggers.due(state) == []
    ended(state, "tile", 0, "failed", 1.0)
    assert triggers.due(state) == ["failure"]
    ended(state, "tile", 1, "failed", 2.0)
    assert triggers.due(state) == []


def test_a_task_that_is_tried_again_is_worth_none():
    state, triggers = a_state(), Triggers(ALL)
    ended(state, "tile", 0, "retried", 1.0)
    ended(state, "tile", 1, "lost", 1.0)
    assert triggers.due(state) == []


def test_a_run_stalls_when_no_task_ends_though_some_are_open():
    state, triggers = a_state(), Triggers(Notify(stall_after=60.0))
    state.now = 50.0
    ended(state, "tile", 0, "done", 50.0)
    assert triggers.due(state) == []
    state.now = 109.0
    assert triggers.due(state) == []
    state.now = 110.0
    assert triggers.due(state) == ["stall"]
    state.now = 1000.0
    assert triggers.due(state) == []


def test_a_run_without_open_tasks_does_not_stall():
    """Its own code runs; the time counts from the next task that is handed to Parsl."""
    state, triggers = a_state(tasks=2), Triggers(Notify(stall_after=60.0))
    ended(state, "tile", 0, "done", 1.0)
    ended(state, "tile", 1, "cancelled", 1.0)
    state.now = 500.0
    assert triggers.due(state) == []
    state.take({"event": "submitted", "t": 501.0, "app": "tile", "ids": [[2, 2]]})
    assert triggers.due(state) == []
    state.now = 561.0
    assert triggers.due(state) == ["stall"]


def test_the_end_says_all_that_the_others_would():
    state, triggers = a_state(), Triggers(Notify(stall_after=1.0))
    ended(state, "tile", 0, "failed", 1.0)
    state.take({"event": "end", "t": 100.0, "status": "failed", "exit_code": 1, "message": ""})
    assert triggers.due(state) == ["end"]
    assert triggers.due(state) == []


@pytest.mark.parametrize("wanted", ["end", "failure", "stall"])
def test_only_the_messages_that_are_wanted_are_due(wanted):
    state, triggers = a_state(), Triggers(Notify(when=(wanted,), stall_after=10.0))
    ended(state, "tile", 0, "failed", 1.0)
    found = triggers.due(state)
    state.now = 50.0
    found += triggers.due(state)
    state.take({"event": "end", "t": 60.0, "status": "failed", "exit_code": 1, "message": ""})
    found += triggers.due(state)
    assert found == [wanted]


# What ---------------------------------------------------------------------------------------------


def test_the_message_about_the_end_says_how_and_why():
    state = a_state()
    ended(state, "tile", 0, "done", 1.0)
    ended(state, "tile", 1, "failed", 2.0, text="ValueError: no 1", pod="pdgrun-cpu-0")
    ended(state, "tile", 2, "failed", 3.0, text="ValueError: no 2")
    message = "the workflow raised ValueError: no 1"
    end = {"event": "end", "t": 7500.0, "status": "failed", "exit_code": 1, "message": message}
    state.take(end)
    found = notice("end", state, "pdgrun", 3600.0, "/mnt/runs/abc12345-1/report.html")
    assert found.subject == "pdgrun: failed after 2 h 5 min (tiles:main)"
    assert found.tone == "failure"
    lines = found.body.splitlines()
    assert lines[:3] == [
        "1 of 3 tasks done, 2 failed",
        message,
        "first failure: tile, task 1 in pdgrun-cpu-0: ValueError: no 1",
    ]
    assert lines[-2:] == ["run abc12345, attempt 1", "report: /mnt/runs/abc12345-1/report.html"]


def test_the_message_about_a_stall_says_what_the_run_waits_for():
    state = a_state()
    pod = {"event": "pod", "t": 1.0, "executor": "cpu", "state": "asked", "reason": "Unschedulable"}
    state.take(pod | {"pod": "pdgrun-cpu-0", "text": "Unschedulable: no node can take it"})
    found = notice("stall", state, "pdgrun", 3600.0, "")
    assert found.subject == "pdgrun: no task has ended for 1 h 0 min (tiles:main)"
    assert "1 worker pod waits: Unschedulable: no node can take it" in found.body.splitlines()
    assert "report" not in found.body


@pytest.mark.parametrize(
    "hostile",
    [
        "x\r\nBcc: eve@example.org\r\n\r\nbody",
        "x\x1b[2J\x00\x07",
        "x\u202egpj.exe",
        "x\u2028y\x85z",
        "\ud800",
        "<!channel> @everyone @here <@U123>",
        "a" * 1_000_000,
        "\n" * 1_000_000,
    ],
    ids=["header", "terminal", "direction", "lines", "surrogate", "mention", "long", "newlines"],
)
def test_no_name_and_no_exception_begins_a_line_or_mentions_a_group(hostile):
    state = a_state(workflow=hostile)
    ended(state, hostile, 0, "failed", 1.0, text=hostile, pod=hostile, call=hostile)
    end = {"event": "end", "t": 2.0, "status": hostile, "exit_code": 1, "message": hostile}
    state.take(end)
    found = notice("end", state, "pdgrun", 3600.0, "/report")
    lines = [found.subject, *found.body.split("\n")]
    assert len(lines) <= 10
    for line in lines:
        assert line.replace("\u200b", "").isprintable()
        assert len(line) < 800
        assert "@everyone" not in line
        assert "<!" not in line
        line.encode()


# Sending ------------------------------------------------------------------------------------------


def a_journal(**facts):
    journal = Journal()
    journal.begin(**({"run": "abc12345", "attempt": 1, "workflow": "tiles:main"} | facts))
    return journal


def watched(journal, urls, settings=ALL):
    """A lookout over the journal that has begun; its block ends with the run."""
    watch = Lookout(journal)
    watch.add(lambda: notifier(settings, {NOTIFY_URLS: urls}, "pdgrun", "/report.html"))
    watch.begin()
    return watch


def run_to_its_end(urls, settings=ALL, status="done"):
    """Return how long the run's end waited."""
    journal = a_journal()
    with watched(journal, urls, settings):
        journal.end(status=status, exit_code=0, message="")
        began = time.monotonic()
    return time.monotonic() - began


def test_each_message_comes_once(hook, monkeypatch):
    monkeypatch.setattr(lookouts, "LOOK_S", 0.05)
    journal = a_journal()
    with watched(journal, hook.url, Notify(secret="pdg-notify", stall_after=2.0)):
        journal.take_tasks([submitted("tile", 3), failed("tile", "ValueError: no")])
        hook.wait_for(lambda h: len(h.posted) == 1)
        hook.wait_for(lambda h: len(h.posted) == 2)
        journal.end(status="stopped", exit_code=143, message="SIGTERM")
    assert [subject.split(" after ")[0] for subject in hook.subjects] == [
        "pdgrun: a first task failed",
        "pdgrun: no task has ended for 2.00 s (tiles:main)",
        "pdgrun: stopped",
    ]
    assert [message["type"] for message in hook.posted] == ["failure", "warning", "info"]
    assert "first failure: tile, task 0 in pod-0: ValueError: no" in hook.posted[0]["message"]


def test_every_line_of_the_secret_is_a_service_and_one_bad_one_costs_only_itself(hook, caplog):
    other = Hook()
    urls = f"# ours\n\n{hook.url}\njson://127.0.0.1:{closed_port()}\n  {other.url}  \n"
    run_to_its_end(urls)
    assert len(hook.posted) == len(other.posted) == 1
    (line,) = said(caplog)
    assert line.startswith(f"notify.secret: {NOTIFY_URLS}: the services of line 4 did not take")
    other.close()


def said(caplog):
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


@pytest.fixture
def patient(monkeypatch):
    """Time for all tries on a machine with much other load, where apprise takes long to start."""
    monkeypatch.setattr(notifiers, "SEND_S", 100.0)
    monkeypatch.setattr(lookouts, "END_S", 101.0)


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@pytest.mark.parametrize("answers", [[500], [500, 503], [429]])
@pytest.mark.usefixtures("patient")
def test_the_message_about_the_end_is_tried_again(hook, answers, caplog):
    hook.answers = list(answers)
    run_to_its_end(hook.url)
    assert len(hook.posted) == 1
    assert said(caplog) == []


@pytest.mark.usefixtures("patient")
def test_a_service_that_always_fails_costs_three_tries_and_one_line(hook, caplog):
    hook.answers = [500] * 10
    run_to_its_end(hook.url, Notify(secret="pdg-notify"))
    assert hook.asked == 3
    (line,) = said(caplog)
    assert line.startswith("notify.secret: Secret pdg-notify: the services of line 1 did not take")


def test_other_messages_are_tried_again_too(hook, monkeypatch, caplog):
    """A service that is away for a moment gets each of them."""
    monkeypatch.setattr(lookouts, "LOOK_S", 0.05)
    hook.answers = [500]
    journal = a_journal()
    with watched(journal, hook.url, Notify(when=("failure",))):
        journal.take_tasks([submitted("tile"), failed("tile")])
        hook.wait_for(lambda h: h.posted)
    assert (hook.asked, said(caplog)) == (2, [])


@pytest.mark.usefixtures("patient")
def test_a_service_that_refuses_at_once_is_said_to_have_refused_so_often(caplog):
    """And not to have had all the time that a message may take."""
    run_to_its_end(f"json://127.0.0.1:{closed_port()}")
    (line,) = said(caplog)
    assert "line 1 did not take the message about: end (3 tries in " in line


@pytest.mark.parametrize("hangs", [True, False])
def test_no_thread_of_a_notifier_outlives_its_run(hook, monkeypatch, caplog, hangs):
    """Neither one that checks URLs, nor one whose service hangs or is tried again."""
    monkeypatch.setattr(lookouts, "END_S", 0.5)
    hook.hangs = hangs
    hook.answers = [500] * 10
    run_to_its_end(hook.url)
    for thread in [one for one in threading.enumerate() if one.name.startswith("notify")]:
        thread.join(30)
        assert not thread.is_alive()
    assert said(caplog) == [
        f"notify.secret: {NOTIFY_URLS}: the run ends before the message about it was taken"
    ]


def test_a_service_that_hangs_is_left_after_the_deadline(hook, monkeypatch, caplog):
    """And gets the message once: an answer that comes too late is no reason for another try."""
    monkeypatch.setattr(notifiers, "SEND_S", 4.0)
    hook.hangs = True
    assert 3.5 < run_to_its_end(hook.url) < 8
    assert len(said(caplog)) == 1
    hook.answer()
    hook.wait_for(lambda h: len(h.posted) == 1)
    assert hook.asked == 1


def test_a_run_that_was_stopped_waits_less(hook, monkeypatch, caplog):
    """Kubelet kills its pod soon."""
    monkeypatch.setattr(lookouts, "HURRIED_S", 2.0)
    hook.hangs = True
    assert run_to_its_end(hook.url, status="stopped") < 4
    assert said(caplog) == [
        f"notify.secret: {NOTIFY_URLS}: the run ends before the message about it was taken"
    ]


def test_a_signal_ends_the_wait_for_a_service(hook):
    """And nothing else: how the run ended is known."""
    hook.hangs = True

    def signalled():
        hook.wait_for(lambda h: h.asked == 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=signalled, daemon=True).start()
    assert run_to_its_end(hook.url) < 8


def test_only_so_many_urls_are_used(hook, caplog):
    run_to_its_end("\n".join([hook.url] * (MOST_URLS + 1)))
    hook.wait_for(lambda h: len(h.posted) == MOST_URLS)
    assert said(caplog) == ["notify.secret: only the first 20 URLs get messages"]


def test_the_run_goes_on_while_a_service_hangs(hook, monkeypatch):
    """The journal takes events, and the next message is sent by another process."""
    monkeypatch.setattr(lookouts, "LOOK_S", 0.05)
    hook.hangs = True
    journal = a_journal()
    with watched(journal, hook.url):
        journal.take_tasks([submitted("tile", 2), failed("tile")])
        hook.wait_for(lambda h: h.asked == 1)
        began = time.monotonic()
        journal.take_tasks([failed("tile")])
        assert time.monotonic() - began < 1
        journal.end(status="failed", exit_code=1, message="")
        hook.wait_for(lambda h: h.asked == 2)
        hook.answer()
    hook.wait_for(lambda h: len(h.posted) == 2)


def test_a_wrong_url_is_one_line_at_the_start(hook, caplog):
    urls = f"{hook.url}\nnosuch://t0ken\nt0ken\nslack://t0ken\nmailto://\n\n"
    journal = a_journal()
    with watched(journal, urls, Notify(secret="pdg-notify", when=("failure",))):
        wait_until(lambda: said(caplog))
    (line,) = said(caplog)
    assert line.startswith("notify.secret: Secret pdg-notify: lines 2, 3, 4, 5 of it: no URL of a")
    assert "t0ken" not in line
    assert hook.asked == 0


def wait_until(done):
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_good_urls_are_worth_no_line(hook, caplog):
    run_to_its_end(f"{hook.url}\n")
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "notify check"])
    assert said(caplog) == []


@pytest.mark.parametrize(
    ("url", "service"),
    [("json", 500), ("json", None), ("jsons", 200), ("mailto", None), ("slack", None)],
)
def test_no_part_of_a_url_is_in_the_log(hook, caplog, capfd, url, service):
    """Not at DEBUG, and not of any library: a refusing one, no TLS, a wrong one.

    Neither is it in what the process prints that sends it.
    """
    caplog.set_level("DEBUG")
    logging.getLogger("apprise").setLevel("DEBUG")
    hook.answers = [service] * 3 if service else []
    port = hook.port if service else closed_port()
    text = f"{url}://ada:t0ken@127.0.0.1:{port}/s3cret?+X-Key=k3y&verify=no&to=k3y@s3cret"
    run_to_its_end(text)
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "notify check"])
    assert len(said(caplog)) >= 1
    printed = "".join(capfd.readouterr())
    assert [part for part in PARTS if part in caplog.text + printed] == []


def test_the_launcher_never_imports_apprise(hook):
    run_to_its_end(hook.url)
    assert len(hook.posted) == 1
    assert "apprise" not in sys.modules


def test_a_secret_that_is_missing_is_one_line(caplog):
    assert notifier(Notify(secret="pdg-notify", secret_key="urls"), {}, "pdgrun", "") is None
    (line,) = said(caplog)
    assert line.startswith("notify.secret: no messages about the run: K8S_PARSL_NOTIFY_URL is not")
    assert "Secret pdg-notify, key urls (notify.secretKey)" in line


def test_without_notify_there_is_no_line_and_no_thread(caplog):
    assert notifier(ALL, {}, "pdgrun", "") is None
    assert notifier(Notify(when=()), {NOTIFY_URLS: "json://x"}, "pdgrun", "") is None
    assert said(caplog) == []


PAGE = Path(__file__).parents[2] / "docs" / "user" / "notify.md"
# In place of what the page leaves to the reader.
FILLED = {"A/B/C": "T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "HOST": "example.org"}


def test_apprise_knows_the_urls_of_the_page():
    found = re.findall(r"^   \| .* \| `(\w+://[^`]+)`", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(found) == 4
    urls = dict(enumerate(found))
    for word, value in FILLED.items():
        urls = {number: url.replace(word, value) for number, url in urls.items()}
    assert notifiers._worked(urls, None, 30.0, threading.Event()) == {0, 1, 2, 3}


def test_a_mail_has_one_subject_and_no_other_recipient():
    """Whatever the user's code puts into names and exceptions."""
    bad = "tiles:main\r\nBcc: eve@example.org\r\n\r\n<b>x</b>"
    journal = a_journal(workflow=bad)
    with mail_server() as (port, taken):
        url = f"mailto://127.0.0.1:{port}?from=pdg@example.org&to=ada@example.org&mode=insecure"
        with watched(journal, url):
            journal.take_tasks([submitted(bad), failed(bad, f"ValueError: {bad}")])
            journal.end(status="failed", exit_code=1, message=bad)
        (envelope,) = taken
    assert envelope.rcpt_tos == ["ada@example.org"]
    mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert mail.get_all("Bcc") is None
    assert mail.get_all("Subject") == [str(mail["Subject"])]
    assert str(mail["Subject"]).startswith("pdgrun: failed after ")
    assert "(tiles:main Bcc: eve@example.org <b>x</b>)" in str(mail["Subject"])
    text = mail.get_body(("plain", "html")).get_content()
    assert "first failure: tiles:main Bcc: eve@example.org" in text.replace("\n", " ")
    if mail.get_body(("html",)):
        assert "<b>x" not in mail.get_body(("html",)).get_content()


def test_a_mail_server_that_accepts_and_says_nothing_is_left_after_the_deadline(
    monkeypatch, caplog
):
    monkeypatch.setattr(notifiers, "SEND_S", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"mailto://127.0.0.1:{port}?from=pdg@example.org&to=ada@example.org&mode=insecure"
        assert run_to_its_end(url) < 6
    assert len(said(caplog)) == 1
