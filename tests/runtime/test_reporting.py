"""What the workflow's process sends to the launcher, and gets from it.

The launcher accepts every message.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import socket
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from parsl.jobs.states import JobState

from k8s_parsl.config.settings import Executor
from k8s_parsl.journal.journal import Journal
from k8s_parsl.run import messages
from k8s_parsl.run.kernel import Kernel
from k8s_parsl.run.throttle import Throttle
from k8s_parsl_runtime.shared import workdir
from k8s_parsl_runtime.shared.errors import ConfigurationError
from k8s_parsl_runtime.shared.programs import START
from k8s_parsl_runtime.shared.protocol import LINKED, PROTOCOL, Channel, encode
from k8s_parsl_runtime.shared.tries import Try
from k8s_parsl_runtime.workflow import kernel, preparation, program, supervisor
from k8s_parsl_runtime.workflow import pictures as sent_pictures
from k8s_parsl_runtime.workflow.provider import LauncherProvider
from k8s_parsl_runtime.workflow.reporter import EVENTS, Reporter, ToLauncher
from k8s_parsl_runtime.workflow.results import pictures, presentable


def ended(outcome, **more):
    """The end of a try."""
    fields = {"id": 0, "number": 0, "executor": "cpu", "submitted": 1.0, "launched": 1.0}
    return Try(**fields | {"sent": None, "ended": 2.0, "outcome": outcome} | more)


class Launcher:
    """The other end: what came, checked as the launcher checks it."""

    def __init__(self, connection):
        self.channel, self.taken = Channel(connection), []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while (line := self.channel.receive_line()) is not None:
            self.taken.append(messages.checked("kernel", line))


@pytest.fixture
def launcher():
    ours, theirs = socket.socketpair()
    launcher = Launcher(theirs)
    launcher.reporter = Reporter(Channel(ours))
    yield launcher
    ours.close()
    launcher.thread.join()
    theirs.close()


def taken(launcher):
    """All that came, once it has."""
    launcher.reporter._launcher.close()
    launcher.thread.join()
    return launcher.taken


# Tasks ---------------------------------------------------------------------------------------------------------------


def test_what_tasks_did_comes_together(launcher):
    """As few messages as that takes; the launcher counts the same."""
    reporter = launcher.reporter
    for number in range(3 * EVENTS):
        reporter.submitted("stage", number)
        reporter.tried("stage", ended("done", id=number, seconds=0.5))
    reporter.tried("stage", ended("retried"))
    reporter.tried("stage", ended("kept"))
    reporter.tried("merge", ended("failed", text="merge(1): ValueError: no land"))
    reporter.flush()
    journal = Journal()
    for message in taken(launcher):
        journal.take_tasks(message.events)
    assert len(launcher.taken) < 10
    with journal.locked() as state:
        stage, merge = state.tasks.apps["stage"], state.tasks.apps["merge"]
    assert (stage.submitted, stage.done, stage.retried, stage.seconds.number) == (
        3 * EVENTS,
        3 * EVENTS + 1,
        1,
        3 * EVENTS,
    )
    assert merge.failed == 1
    assert state.tasks.failures.texts == [("merge", "merge(1): ValueError: no land")]


@pytest.mark.parametrize(
    ("app", "text"),
    [
        ("a" * 1000, "x"),
        ("a", "x" * 100_000),
        ("a", r"r\udce9sum\udce9"),
        ("a", '"\\\x00\u2028'),
        ("a", ""),
    ],
    ids=["a long name", "a long text", "no UTF-8", "marks of JSON's", "no text"],
)
def test_whatever_is_said_of_a_task_the_launcher_can_take_it(launcher, app, text):
    launcher.reporter.tried(app, ended("failed", text=text))
    launcher.reporter.flush()
    ((_, name, group),) = taken(launcher)[0].events
    said = group["same"].get("text", "")
    assert text.replace(r"\udce9", "?").startswith(said) or text.startswith(said)
    assert app.startswith(name)


def test_many_failures_with_long_texts_at_once_are_all_counted(launcher):
    """Their message would be too long."""
    for _ in range(500):
        launcher.reporter.tried("a", ended("failed", text="\N{SNOWMAN}" * 100_000))
    launcher.reporter.flush()
    events = [event for message in taken(launcher) for event in message.events]
    assert sum(len(group["each"]["id"]) for _, _, group in events) == 500


def test_a_decision_to_scale_is_an_event_with_its_reason(launcher):
    launcher.reporter.scaled("cpu", 1, 3, "9 open tasks, and 2 workers asked for")
    launcher.reporter.scaled("no executor of the run's", 1, 3, "")
    decisions = taken(launcher)
    journal = Journal()
    journal.begin(run="1a2b3c4d", workers={"cpu": 2})
    kernel = Kernel(journal, lambda _: True, lambda _: None, Throttle())
    for message in decisions:
        assert kernel.take(message)
    with journal.locked() as state:
        ((_, *facts),) = [dataclasses.astuple(one) for one in state.scalings]
    assert facts == ["cpu", 1, 3, "9 open tasks, and 2 workers asked for"]


def test_a_clock_that_is_put_back_makes_no_negative_time():
    """The kernel's, while a task was with its worker."""
    later = datetime.now() + timedelta(hours=1)
    assert kernel._seconds({"try_time_launched": later}) == 0.0


def test_a_task_whose_result_a_checkpoint_had_has_no_times():
    assert kernel._seconds({"try_time_launched": datetime.now(), "from_memo": True}) is None


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_child_that_the_script_forked_is_no_part_of_the_run(launcher):
    """It has the connection, too."""
    launcher.reporter.submitted("a", 0)
    child = os.fork()
    if not child:
        launcher.reporter.submitted("b", 1)
        launcher.reporter.flush()
        launcher.reporter.fault(ConfigurationError("of a child"))
        os._exit(0)
    os.waitpid(child, 0)
    launcher.reporter.flush()
    (message,) = taken(launcher)
    assert message.events == [("submitted", "a", [(0, 0)])]


def test_a_launcher_that_is_gone_is_no_error(launcher):
    """The supervisor ends the process; until then it goes on."""
    launcher.channel.close()
    launcher.reporter.submitted("a", 0)
    launcher.reporter.flush()
    launcher.reporter.fault(ConfigurationError("x"))


def test_a_fault_comes_after_what_was_before_it(launcher):
    launcher.reporter.submitted("a", 0)
    launcher.reporter.fault(ConfigurationError("executors.cpu: " + "x" * 10_000))
    first, second = taken(launcher)
    assert (first.type, second.type, second.code) == ("tasks", "fault", 78)
    assert second.text.startswith("executors.cpu: xxx")


def test_any_number_of_linked_files_is_sent_in_one_message(tmp_path, monkeypatch):
    """A folder of data beside the code may hold a hundred thousand; the log shows some of them."""
    monkeypatch.setattr(workdir, "COPIED_FILES", 0)
    code, work = tmp_path / "code", tmp_path / "work"
    code.mkdir()
    (code / "flow.py").write_text("def main(): pass")
    for number in range(300):
        (code / f"{number}.nc").touch()
    place = {"call": "flow:main", "script": "", "path": str(code)}
    answer = preparation.look({"mounts": [], "code": place, "work": str(work)})
    assert len(list(work.iterdir())) == 301
    assert len(messages.checked("supervisor", encode(answer)).linked) == LINKED


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (40, "signal 40"), (64, "SIGRTMAX")])
def test_every_signal_has_a_name_that_the_launcher_takes(number, name):
    ended = supervisor.Ended(128 + number, supervisor._name(number), False, False, [])
    message = {"type": "ended", **dataclasses.asdict(ended)}
    assert messages.checked("supervisor", encode(message)).signal == name


# The log -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "level"),
    [(10, "DEBUG"), (20, "INFO"), (25, "INFO"), (30, "WARNING"), (40, "ERROR"), (60, "CRITICAL")],
)
def test_a_level_keeps_its_name_whatever_a_script_calls_it(launcher, number, level):
    """Colours, say: `logging.addLevelName`."""
    before = logging.getLevelName(number)
    logging.addLevelName(number, f"\033[31m{level}\033[0m")
    try:
        record = logging.LogRecord("k8s_parsl_runtime", number, "file", 1, "%s", ("said",), None)
        ToLauncher(launcher.reporter).emit(record)
    finally:
        logging.addLevelName(number, before)
    (message,) = taken(launcher)
    assert (message.level, message.text) == (level, "said")


def test_a_line_that_cannot_be_made_is_left_out(launcher):
    record = logging.LogRecord(
        "k8s_parsl_runtime", logging.INFO, "file", 1, "%d", ("no number",), None
    )
    ToLauncher(launcher.reporter).emit(record)
    assert taken(launcher) == []


# The result ----------------------------------------------------------------------------------------------------------


class Loud:
    def __repr__(self):
        raise RuntimeError("never")


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        ({"land": 148.9, "n": 3, "all": (1, None, True), 7: Path("/data/a")}, None),
        (float("nan"), "nan"),
        ([float("inf")], ["inf"]),
        (Loud(), "(Loud, which cannot be shown: RuntimeError)"),
        ({1, 2}, "{1, 2}"),
        (b"x", "b'x'"),
        ("r\udce9", "r?"),
        (10**5000, "(int, which cannot be shown: OverflowError)"),
    ],
    ids=["plain", "nan", "inf", "loud", "set", "bytes", "no UTF-8", "many digits"],
)
def test_what_a_workflow_returns_is_shown_as_far_as_json_goes(launcher, result, shown):
    launcher.reporter.send({"type": "returned", "result": presentable(result)})
    (message,) = taken(launcher)
    expected = (
        {"land": 148.9, "n": 3, "all": [1, None, True], "7": "/data/a"} if shown is None else shown
    )
    assert message.result == expected


@pytest.mark.parametrize(
    "result",
    [nested(150), nested(900), "x" * 10**7, ["\N{SNOWMAN}" * 10**5] * 100],
    ids=["deep", "deeper", "long", "wide"],
)
def test_what_is_too_deep_or_too_long_is_cut_and_still_taken(launcher, result):
    launcher.reporter.send({"type": "returned", "result": presentable(result)})
    (message,) = taken(launcher)
    assert json.dumps(message.result)


def test_the_pictures_that_a_result_names_are_found_wherever_they_are(tmp_path):
    """In its order, each once; one that is not there, and a name that is none, are left out."""
    picture, other = tmp_path / "map.png", tmp_path / "other.SVG"
    picture.write_bytes(b"x")
    other.write_bytes(b"x")
    result = {
        "all": [{"map": str(picture)}, str(picture)],
        "gone": str(tmp_path / "gone.png"),
        "n": 3,
        "o": (other,),
    }
    assert pictures(result) == [picture, other]
    assert pictures(["\0.png", "x" * 10_000 + ".png", str(tmp_path)]) == []
    endless = []
    endless.append(endless)
    assert pictures(endless) == []


def test_pictures_are_sent_in_parts_and_a_large_one_by_its_name(launcher, tmp_path, monkeypatch):
    monkeypatch.setattr(sent_pictures, "PART_BYTES", 4)
    monkeypatch.setattr(sent_pictures, "PICTURE_BYTES", 10)
    small, large, empty = (tmp_path / name for name in ("small.png", "large.jpeg", "empty.svg"))
    small.write_bytes(b"0123456789")
    large.write_bytes(b"0123456789x")
    empty.write_bytes(b"")
    run = program.Program(
        launcher.reporter._launcher, {"volumes": [str(tmp_path)], "work": "/nowhere"}
    )
    for one in (small, large, empty, tmp_path / "gone.png"):
        run._send_picture(one)
    said = [
        (Path(message.name).name, message.media, message.data, message.last)
        for message in taken(launcher)
    ]
    assert said == [
        ("small.png", "image/png", "MDEyMw==", False),
        ("small.png", "image/png", "NDU2Nw==", False),
        ("small.png", "image/png", "ODk=", True),
        ("large.jpeg", "image/jpeg", "", True),
    ]


@pytest.mark.parametrize("name", ["two\nlines.png", "tab\t.png", "\x1b[31mred.png", "bell\x07.png"])
def test_the_name_of_a_picture_is_one_line(launcher, tmp_path, name):
    """A terminal acts on nothing in it."""
    picture = tmp_path / name
    picture.write_bytes(b"x")
    run = program.Program(
        launcher.reporter._launcher, {"volumes": [str(tmp_path)], "work": "/nowhere"}
    )
    run._send_picture(picture)
    (message,) = taken(launcher)
    assert message.name == str(tmp_path / ascii(name)[1:-1])


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".jpeg", ".svg"])
def test_an_empty_picture_is_left_out_and_reported_as_empty(launcher, tmp_path, caplog, suffix):
    """And not to be too large."""
    picture = tmp_path / f"map{suffix}"
    picture.touch()
    run = program.Program(
        launcher.reporter._launcher, {"volumes": [str(tmp_path)], "work": "/nowhere"}
    )
    run._send_picture(picture)
    assert taken(launcher) == []
    assert caplog.messages == [f"not in the report: {picture}: it is empty"]


# The provider --------------------------------------------------------------------------------------------------------


class Told:
    """Stands for the executor: the provider's calls, in order."""

    def __init__(self):
        self.words = []

    def lost(self, block):
        self.words.append(("lost", block))

    def drain(self, block):
        self.words.append(("drain", block))


@pytest.fixture
def provider():
    sent = []
    provider = LauncherProvider("cpu", Executor(max_blocks=3).model_dump(), sent.append)
    provider.sent = sent
    return provider


def block(number, state, message="", name="pod"):
    said = {"type": "block", "executor": "cpu", "block": number, "state": state}
    return said | {"name": f"{name}-{number}", "message": message}


def test_each_status_is_a_fresh_object(provider):
    """Parsl writes into the ones it is given (HighThroughputExecutor.status)."""
    number = provider.submit("worker", 1, "parsl.cpu.block-0")
    first, second = provider.status([number, number])
    assert first is not second
    first.state = JobState.CANCELLED
    assert provider.status([number])[0].state is JobState.PENDING


def test_a_block_is_as_the_launcher_says_and_an_end_is_final(provider):
    """The launcher may have asked for it before Parsl did; an unknown block is PENDING."""
    provider.take(block("0", "RUNNING"))
    assert provider.submit("worker", 1, "parsl.cpu.block-0") == "0"
    states = [status.state for status in provider.status(["0", "9"])]
    assert states == [JobState.RUNNING, JobState.PENDING]
    provider.take(block("0", "TIMEOUT", "Killed: SIGKILL"))
    provider.take(block("0", "RUNNING"))
    (status,) = provider.status(["0"])
    assert (status.state, status.message) == (JobState.TIMEOUT, "Killed: SIGKILL")
    provider.take(block("0", "TIMEOUT", "Evicted: ephemeral storage\nits last lines:\nx"))
    assert provider.status(["0"])[0].message.startswith("Evicted")
    assert provider.why("pod-0") == "Evicted: ephemeral storage"
    assert provider.why("pod-1") == ""


def test_what_parsl_asks_of_it_is_sent_and_waits_for_nothing(provider):
    provider.submit("worker", 1, "parsl.cpu.block-2")
    assert provider.cancel(["0", "2"]) == [True, True]
    provider.retire(["1"])
    provider.registered()
    provider.registered()
    shared = {"executor": "cpu"}
    assert provider.sent == [
        {"type": "submit", "block": "2"} | shared,
        {"type": "cancel", "blocks": ["0", "2"]} | shared,
        {"type": "retire", "blocks": ["1"]} | shared,
        {"type": "registered"} | shared,
    ]
    for message in provider.sent:
        messages.checked("kernel", json.dumps(message).encode())


def test_a_pod_that_is_gone_or_will_be_is_passed_on_at_once(provider):
    """To the executor, once there is one."""
    provider.take({"type": "lost", "executor": "cpu", "block": "0"})
    provider.control = Told()
    provider.take({"type": "drain", "executor": "cpu", "block": "1"})
    provider.take({"type": "lost", "executor": "cpu", "block": "1"})
    assert provider.control.words == [("drain", "1"), ("lost", "1")]


def test_a_python_that_is_too_old_greets_by_the_same_protocol():
    """It cannot import the number: that file is for any Python 3."""
    assert f'"protocol": {PROTOCOL},' in Path(START).read_text()
