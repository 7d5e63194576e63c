"""The workflow container as the launcher sees it: each end, or silence, becomes one outcome."""

from __future__ import annotations

import base64
import contextlib
import itertools
import logging
import signal
import threading
import time

import pytest
from told import submitted

from k8s_parsl.journal.apps import KEPT_APPS
from k8s_parsl.journal.journal import Journal
from k8s_parsl.record.report import Picture, Record
from k8s_parsl.run import events as run_events
from k8s_parsl.run import kernel, messages, throttle
from k8s_parsl.run import workflow as workflows
from k8s_parsl.run.conversation import Gone
from k8s_parsl.run.supervision import best_effort, stoppable
from k8s_parsl.run.workflow import Container, Workflow
from k8s_parsl_runtime.shared.errors import (
    ConfigurationError,
    ExitCode,
    Failure,
    Stopped,
    Temporary,
    UsageError,
    WorkflowFailed,
)
from k8s_parsl_runtime.shared.protocol import LINE_BYTES

LIMIT = "launcher.pod.resources.limits.memory"
OOM = f"OOMKilled: the workflow used more memory than it may: raise {LIMIT}"
ENDED = {
    "type": "ended",
    "status": 0,
    "signal": "",
    "asked": False,
    "out_of_memory": False,
    "lines": [],
}


def ended(status=0, **more):
    return messages.Ended(**ENDED | {"status": status} | more)


def notice(kind):
    return messages.Notice(type=kind)


RETURNED = messages.Returned(type="returned", result={"land": 1})
RAISED = messages.Raised(type="raised", text="ValueError: no (flow.py:3)")
FAULT = messages.Faulted(
    type="fault", code=78, text="executors.cpu: its interchange is of another version"
)
ENDS_WELL = Container(WorkflowFailed("the workflow container ended: Completed"))
OOM_KILLED = Container(
    WorkflowFailed("the workflow container ended: OOMKilled"), out_of_memory=True
)


class Socket:
    """Stands for the conversation: who is connected, and what was said to them."""

    def __init__(self, *roles):
        self.roles, self.sent = set(roles), []

    def has(self, role):
        return role in self.roles

    def send(self, role, message):
        if role in self.roles:
            self.sent.append((role, message))
        return role in self.roles


class Pods:
    """Stands for an executor's worker pods."""

    def __init__(self):
        self.registered, self.asked = False, []

    def submit(self, number):
        self.asked.append(("submit", number))

    def cancel(self, number):
        self.asked.append(("cancel", number))

    def retire(self, number):
        self.asked.append(("retire", number))

    def tell_all(self):
        self.asked.append(("tell all",))


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Long enough for a thread of this process, however busy the machine is."""
    for name in ("PREPARE_S", "LAST_WORDS_S", "WHY_S"):
        monkeypatch.setattr(workflows, name, 2.0)


@pytest.fixture
def sockets():
    return Socket("supervisor", "kernel")


@pytest.fixture
def workflow():
    return Workflow(Journal(), LIMIT, stop_s=0.1)


@pytest.fixture
def watched(workflow, sockets):
    """One whose container has greeted."""
    workflow.take(
        messages.Hello(type="hello", role="supervisor", protocol=1, versions="py3.11/parsl1")
    )
    assert workflow.greeting(sockets).versions == "py3.11/parsl1"
    return workflow


def leaves(workflow, sockets, role="kernel", why=""):
    """What the socket does at the end of a connection, in this order."""
    sockets.roles.discard(role)
    workflow.take(Gone(role, why))


def outcome_of(workflow, *steps):
    """The outcome of a run in which these things happen while `result` waits, one after the other."""

    def happen():
        for step in steps:
            time.sleep(0.02)
            step()

    thread = threading.Thread(target=happen)
    thread.start()
    outcome = workflow.result()
    thread.join()
    return outcome


def takes(workflow, message):
    return lambda: workflow.take(message)


# Before the start ----------------------------------------------------------------------------------------------------

BEFORE = {
    "a fault of the cluster's": (
        lambda w, _: w.fault(ConfigurationError("no account")),
        ExitCode.CONFIGURATION,
        "no ",
    ),
    "stopped from outside": (
        lambda w, _: w.fault(Stopped("SIGTERM: stopped")),
        ExitCode.STOPPED,
        "SIGTERM: stopped",
    ),
    "its SIGTERM": (
        lambda w, _: w.take(notice("terminating")),
        ExitCode.STOPPED,
        "SIGTERM: the run was stopped from outside",
    ),
    "a container that cannot start": (
        lambda w, _: w.container(
            Container(ConfigurationError("the workflow container cannot start: x"))
        ),
        ExitCode.CONFIGURATION,
        "the workflow container cannot start: x",
    ),
    "the end of its process": (
        lambda w, _: w.take(ended(1, lines=["a", "ImportError: zmq"])),
        ExitCode.WORKFLOW,
        "the workflow's process ended before the workflow began; its last line: ImportError: zmq",
    ),
    "nonsense": (
        lambda w, s: leaves(w, s, "supervisor", "ready.linked: too many"),
        ExitCode.WORKFLOW,
        "the workflow container sent an invalid message: ready.linked: too many",
    ),
    "gone": (
        lambda w, s: (leaves(w, s, "supervisor"), w.container(OOM_KILLED)),
        ExitCode.WORKFLOW,
        OOM,
    ),
}


@pytest.mark.parametrize("phase", ["greeting", "prepare"])
@pytest.mark.parametrize(("act", "code", "message"), BEFORE.values(), ids=BEFORE)
def test_what_may_come_in_place_of_a_greeting_or_an_answer(
    workflow, sockets, phase, act, code, message
):
    """No worker pod was made yet, and none is."""
    if phase == "prepare":
        workflow.take(messages.Hello(type="hello", role="supervisor", protocol=1))
        workflow.greeting(sockets)
    act(workflow, sockets)
    with pytest.raises(Failure) as caught:
        workflow.greeting(sockets) if phase == "greeting" else workflow.prepare({})
    assert caught.value.exit_code is code
    assert str(caught.value).startswith(message)


def test_a_greeting_with_a_fault_is_the_runs_end(workflow, sockets):
    """An image without Parsl, or with a Python that is too old: in the words of who looked."""
    fault = messages.Fault(code=78, text="this image has no Parsl; k8s-parsl supports 2026.10.26")
    workflow.take(messages.Hello(type="hello", role="supervisor", protocol=1, fault=fault))
    with pytest.raises(
        ConfigurationError, match=r"^this image has no Parsl; k8s-parsl supports 2026\.10\.26$"
    ):
        workflow.greeting(sockets)


def test_the_kernels_greeting_is_not_the_containers(workflow, sockets):
    """It may come first: each has its own connection."""
    workflow.take(messages.Hello(type="hello", role="kernel", protocol=1))
    workflow.take(
        messages.Hello(type="hello", role="supervisor", protocol=1, versions="py3.11/parsl1")
    )
    assert workflow.greeting(sockets).role == "supervisor"
    assert sockets.sent == [], "no plan yet"


def test_the_container_is_asked_to_look_at_code_and_volumes(watched, sockets):
    ready = messages.Ready(type="ready", linked=["big.nc"], renewed=["a"], kept=["b"])
    watched.take(ready)
    assert watched.prepare({"work": "/work"}) == ready
    assert sockets.sent == [("supervisor", {"type": "prepare", "work": "/work"})]


@pytest.mark.parametrize(
    ("git", "known"), [("", "sha256:1 of 2 files"), ("repo 1a2b", "repo 1a2b")]
)
def test_the_digest_of_the_code_is_noted_where_no_commit_says_more(watched, git, known):
    watched.journal.begin(run="r", code=git)
    watched.take(messages.checked("supervisor", b'{"type":"code","digest":"sha256:1 of 2 files"}'))
    with watched.journal.locked() as state:
        record = Record("r", "i", "w", "v", "now", code=git)
        record.add(state)
    assert (state.run["code"], record.code) == (known, known)


def test_what_is_wrong_with_code_or_volumes_is_the_runs_end(watched):
    fault = messages.Fault(code=64, text="workflow.script: there is no file /work/a.py")
    watched.take(messages.Ready(type="ready", fault=fault))
    with pytest.raises(UsageError, match=r"^workflow\.script: there is no file /work/a\.py$"):
        watched.prepare({})


def test_no_answer_is_not_waited_for(watched, monkeypatch):
    """A volume that hangs; another launcher may be on a better node."""
    monkeypatch.setattr(workflows, "PREPARE_S", 0.1)
    with pytest.raises(Temporary, match="the workflow container did not answer within 0 s"):
        watched.prepare({})


def test_where_there_is_nothing_to_do_the_container_ends_well(watched, sockets):
    watched.nothing()
    assert sockets.sent == [("supervisor", {"type": "nothing"})]


# The start -----------------------------------------------------------------------------------------------------------

KERNEL = messages.Hello(type="hello", role="kernel", protocol=1)


@pytest.mark.parametrize("early", [True, False], ids=["before the plan", "after the plan"])
def test_the_kernel_gets_its_plan_once_then_what_became_of_the_pods(watched, sockets, early):
    """The first pods are asked for while it still imports Parsl, or the other way round."""
    sockets.roles.discard("kernel")
    pods = Pods()
    plan = {"type": "start", "work": "/work"}
    if early:
        sockets.roles.add("kernel")
        watched.take(KERNEL)
        # What happens to the first pods meanwhile comes with `tell_all`.
        watched.to_kernel({"type": "block"})
        assert sockets.sent == []
    watched.start({"work": "/work"}, {"cpu": pods})
    if not early:
        assert sockets.sent == []
        sockets.roles.add("kernel")
        watched.take(KERNEL)
    assert sockets.sent == [("kernel", plan)]
    assert pods.asked == [("tell all",)]
    watched.take(KERNEL)
    assert sockets.sent == [("kernel", plan)], "a plan holds the run's keys"
    watched.to_kernel({"type": "block"})
    assert sockets.sent[1:] == [("kernel", {"type": "block"})]


def test_a_plan_that_is_too_long_is_the_users_to_shorten(watched, sockets):
    """A plan that cannot be sent ends the run at once."""
    with pytest.raises(
        UsageError, match=r"workflow\.kwargs, workflow\.args: a message of \d+ bytes is too long"
    ):
        watched.start({"kwargs": {"x": "x" * LINE_BYTES}}, {})
    assert sockets.sent == []


def test_what_the_kernel_asks_for_goes_to_that_executors_pods(watched):
    """An executor that there is not gets nothing; and it is no fault."""
    cpu, gpu = Pods(), Pods()
    watched.start({}, {"cpu": cpu, "gpu": gpu})
    for label in ("cpu", "nope"):
        watched.take(messages.Submit(type="submit", executor=label, block="3"))
        watched.take(messages.Blocks(type="cancel", executor=label, blocks=["0", "1"]))
        watched.take(messages.Blocks(type="retire", executor=label, blocks=["2"]))
        watched.take(messages.Registered(type="registered", executor=label))
    assert cpu.asked == [
        ("tell all",),
        ("submit", "3"),
        ("cancel", "0"),
        ("cancel", "1"),
        ("retire", "2"),
    ]
    assert gpu.asked == [("tell all",)]
    assert (cpu.registered, gpu.registered) == (True, False)


# The end -------------------------------------------------------------------------------------------------------------

ORDERS = [
    order
    for order in itertools.permutations(["said", "gone", "ended"])
    if order.index("said") < order.index("gone")
]


@pytest.mark.parametrize("order", ORDERS, ids=map(", ".join, ORDERS))
@pytest.mark.parametrize(
    ("said", "end", "message", "result"),
    [
        (RETURNED, ended(0), None, {"land": 1}),
        (RAISED, ended(1), "the workflow raised ValueError: no (flow.py:3)", None),
        (FAULT, ended(78), "executors.cpu: its interchange is of another version", None),
    ],
    ids=["returned", "raised", "fault"],
)
def test_what_the_process_said_before_its_end_counts_whichever_comes_first(
    watched, sockets, order, said, end, message, result
):
    """Its own connection and its supervisor's are two: which thread is faster is chance."""
    steps = {
        "said": takes(watched, said),
        "gone": lambda: leaves(watched, sockets),
        "ended": takes(watched, end),
    }
    outcome = outcome_of(watched, *(steps[name] for name in order))
    assert (str(outcome.failure) if outcome.failure else None) == message
    assert (outcome.result, outcome.status) == (result, end.status)


def test_a_child_that_keeps_the_connection_open_is_not_waited_for_long(watched, monkeypatch):
    """The workflow's process has ended; what it forked has not."""
    monkeypatch.setattr(workflows, "LAST_WORDS_S", 0.2)
    watched.take(RETURNED)
    watched.take(ended(0))
    outcome = watched.result()
    assert (outcome.failure, outcome.result) == (None, {"land": 1})


def test_the_first_of_two_faults_counts(watched, sockets):
    """The second is often a consequence."""
    steps = [
        lambda: watched.fault(ConfigurationError("executors.cpu: worker pod p: InvalidImageName")),
        takes(watched, FAULT),
        takes(watched, ended(143, signal="SIGTERM", asked=True, lines=["bye"])),
    ]
    outcome = outcome_of(watched, *steps)
    assert str(outcome.failure) == "executors.cpu: worker pod p: InvalidImageName"
    assert (outcome.status, outcome.lines) == (143, ["bye"])
    assert sockets.sent == [("supervisor", {"type": "stop", "seconds": 0.1})]


def test_sigterm_of_its_container_is_that_of_the_pod(watched, sockets):
    """Kubelet sends it to both containers; either may report it first."""
    outcome = outcome_of(
        watched, takes(watched, notice("terminating")), takes(watched, ended(0, asked=True))
    )
    assert outcome.failure.exit_code is ExitCode.STOPPED
    assert sockets.sent == [("supervisor", {"type": "stop", "seconds": 0.1})]


GONE = {
    "OOMKilled": ([OOM_KILLED], OOM),
    "ended": ([ENDS_WELL], "the workflow container ended: Completed"),
    "stopped meanwhile": ([Stopped("SIGTERM: stopped")], "SIGTERM: stopped"),
}


@pytest.mark.parametrize("first", ["the connection", "kubelet"])
@pytest.mark.parametrize(("says", "message"), GONE.values(), ids=GONE)
def test_a_container_that_is_gone_without_a_word_is_explained_by_kubelet(
    watched, sockets, first, says, message
):
    """Out of memory may take the first process itself. Which of the two arrives first is chance."""
    steps = [lambda: leaves(watched, sockets, "supervisor")]
    steps.insert(
        len(steps) if first == "the connection" else 0,
        lambda: [
            watched.container(one) if isinstance(one, Container) else watched.fault(one)
            for one in says
        ],
    )
    sockets.roles.discard("kernel")
    assert str(outcome_of(watched, *steps).failure) == message


def test_an_end_without_an_explanation_is_not_waited_for(watched, sockets, monkeypatch):
    monkeypatch.setattr(workflows, "WHY_S", 0.1)
    outcome = outcome_of(watched, lambda: leaves(watched, sockets, "supervisor"))
    assert outcome.failure.exit_code is ExitCode.WORKFLOW
    assert str(outcome.failure) == (
        "the workflow container ended, and Kubernetes does not say why; see kubectl describe pod"
    )


def test_kubelet_may_be_faster_than_the_supervisors_last_word(watched, sockets):
    """What the supervisor knows is more."""
    outcome = outcome_of(
        watched,
        takes(watched, RAISED),
        lambda: watched.container(ENDS_WELL),
        lambda: leaves(watched, sockets),
        takes(watched, ended(1)),
    )
    assert str(outcome.failure) == "the workflow raised ValueError: no (flow.py:3)"


@pytest.mark.parametrize(
    ("role", "message"),
    [
        ("supervisor", "the workflow container sent an invalid message: ended.status: no"),
        ("kernel", "the workflow's process sent an invalid message: ended.status: no"),
    ],
)
def test_nonsense_ends_the_run(watched, sockets, role, message):
    """What else it says is lost, and its pods with it: it would wait for ever."""
    sockets.roles.discard("kernel")
    outcome = outcome_of(
        watched,
        lambda: leaves(watched, sockets, role, "ended.status: no"),
        takes(watched, ended(143)),
    )
    assert outcome.failure.exit_code is ExitCode.WORKFLOW
    assert str(outcome.failure) == message
    assert sockets.sent == (
        [("supervisor", {"type": "stop", "seconds": 0.1})] if role == "kernel" else []
    )


def test_a_process_that_is_stopped_and_not_continued_ends_the_run(
    watched, sockets, monkeypatch, caplog
):
    """SIGSTOP: nothing else shows it, and the Job would wait for ever."""
    monkeypatch.setattr(workflows, "STOPPED_S", 0.2)
    watched.take(notice("stopped"))
    outcome = outcome_of(
        watched, *[lambda: None] * 15, takes(watched, ended(137, signal="SIGKILL", asked=True))
    )
    assert (
        str(outcome.failure)
        == "the workflow's process was stopped (SIGSTOP) and not continued for 0 s"
    )
    assert outcome.failure.exit_code is ExitCode.WORKFLOW
    assert outcome.status == 137
    assert "it waits for SIGCONT" in caplog.text
    assert sockets.sent == [("supervisor", {"type": "stop", "seconds": 0.1})]


def test_one_that_is_continued_goes_on(watched, sockets, monkeypatch):
    monkeypatch.setattr(workflows, "STOPPED_S", 0.3)
    sockets.roles.discard("kernel")
    watched.take(RETURNED)
    steps = [takes(watched, notice(kind)) for kind in ("stopped", "continued") * 3]
    outcome = outcome_of(watched, *steps, *[lambda: None] * 20, takes(watched, ended(0)))
    assert (outcome.failure, outcome.result) == (None, {"land": 1})
    assert sockets.sent == []


def test_a_stop_that_is_not_answered_is_not_waited_for(watched, monkeypatch, caplog):
    """A supervisor that hangs, or was stopped itself: the pod's end takes it."""
    monkeypatch.setattr(workflows, "LAST_WORDS_S", 0.1)
    began = time.monotonic()
    outcome = watched.stop(Stopped("SIGTERM: stopped"))
    assert time.monotonic() - began >= 0.2
    assert (str(outcome.failure), outcome.status) == ("SIGTERM: stopped", None)
    assert "the workflow container did not end within 0 s; going on without" in caplog.text


def test_a_stop_where_no_process_is_left_needs_no_wait(watched, sockets, monkeypatch):
    monkeypatch.setattr(workflows, "LAST_WORDS_S", 600.0)
    steps = [lambda: leaves(watched, sockets, "supervisor")]
    watched.fault(Temporary("executors.cpu: its interchange process ended with 1"))
    assert str(outcome_of(watched, *steps).failure).startswith("executors.cpu")
    assert watched.stop(Stopped("x")).status is None


# What is kept --------------------------------------------------------------------------------------------------------


def send_picture(workflow, name, content, parts=1):
    size = -(-len(content) // parts)
    for number in range(parts):
        data = base64.b64encode(content[number * size : (number + 1) * size]).decode()
        last = number == parts - 1
        workflow.take(
            messages.Picture(type="picture", name=name, media="image/png", data=data, last=last)
        )


def test_a_picture_comes_in_parts(workflow):
    send_picture(workflow, "/data/a.png", b"abcdefghij", parts=3)
    send_picture(workflow, "/data/b.png", b"klm")
    assert workflow.pictures == [
        Picture("/data/a.png", "image/png", b"abcdefghij"),
        Picture("/data/b.png", "image/png", b"klm"),
    ]


def test_of_a_picture_that_is_too_large_only_the_name_is_kept(workflow, monkeypatch):
    """However many parts it has; the next one is not harmed."""
    monkeypatch.setattr(kernel, "PICTURE_BYTES", 100)
    for _ in range(50):
        send_picture(workflow, "/data/a.png", b"x" * 90, parts=3)
        workflow.pictures.clear()
    for _ in range(1000):
        data = base64.b64encode(b"x" * 30).decode()
        workflow.take(
            messages.Picture(
                type="picture", name="/a.png", media="image/png", data=data, last=False
            )
        )
    assert len(workflow._kernel.pictures._part) < 200
    send_picture(workflow, "/data/a.png", b"x" * 30)
    send_picture(workflow, "/data/b.png", b"x" * 100)
    assert [(picture.name, len(picture.content)) for picture in workflow.pictures] == [
        ("/data/a.png", 0),
        ("/data/b.png", 100),
    ]


def test_there_are_only_so_many_pictures(workflow):
    for number in range(kernel.PICTURES + 5):
        send_picture(workflow, f"/data/{number}.png", b"x")
    assert len(workflow.pictures) == kernel.PICTURES


def test_data_that_is_no_base64_makes_no_picture(workflow):
    """The pattern lets a length pass that is none."""
    workflow.take(
        messages.Picture(type="picture", name="/a.png", media="image/png", data="AAAAA", last=True)
    )
    assert [picture.content for picture in workflow.pictures] == [b""]


def test_lines_for_the_log_are_limited_which_is_reported_once(workflow, monkeypatch, caplog):
    """A library may log in a loop; the launcher's own lines have to be found."""
    caplog.set_level(logging.DEBUG, logger="k8s_parsl")

    def lines(number):
        for _ in range(number):
            workflow.take(messages.Log(type="log", level="INFO", text="%s %d {}"))

    lines(throttle.LOG_LINES + 100)
    said = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert said[:-1] == [("k8s_parsl.workflow", "INFO", "%s %d {}")] * throttle.LOG_LINES
    assert (
        said[-1][2] == "the workflow's side logs more than 200 lines in 10 s; the rest is left out"
    )
    caplog.clear()
    workflow._throttle.since -= throttle.LOG_PERIOD_S + 1
    lines(3)
    assert len(caplog.records) == 3


def test_a_process_that_is_stopped_again_and_again_fills_no_log(watched, sockets, caplog):
    sockets.roles.discard("kernel")
    for _ in range(throttle.LOG_LINES + 100):
        watched.take(notice("stopped"))
    watched.take(ended(0))
    assert watched.result().failure is None
    assert caplog.text.count("was stopped by a signal") == throttle.LOG_LINES


def test_a_run_has_only_so_many_apps(workflow):
    for number in range(KEPT_APPS + 100):
        workflow.take(messages.Tasks(type="tasks", events=[submitted(f"app{number}", 2)]))
    assert workflow.journal.counts() == (2 * (KEPT_APPS + 100), 0, 0)
    with workflow.journal.locked() as state:
        assert len(state.tasks.apps) == KEPT_APPS + 1


def test_events_that_are_not_read_yet_are_bounded(workflow, sockets):
    """Another launcher may still be waited for, for minutes.

    The first of them is the one that counts.
    """
    for _ in range(5000):
        workflow.take(FAULT)
        workflow.take(notice("stopped"))
    assert len(workflow._events) <= run_events.EVENTS
    workflow.take(ended(1))
    assert len(workflow._events) == run_events.EVENTS + 1, "an end is not lost"
    with pytest.raises(ConfigurationError, match="another version"):
        workflow.greeting(sockets)


# Signals -------------------------------------------------------------------------------------------------------------


def test_a_signal_ends_the_run_in_whatever_phase_it_is(watched, sockets):
    """Before the workflow is watched, a signal breaks off any wait."""
    with (
        pytest.raises(Stopped, match="SIGTERM: the run was stopped from outside"),
        stoppable(watched),
    ):
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("it went on")


def test_a_signal_ends_code_that_goes_on_after_an_exception(watched):
    """As best effort and a retry do."""
    with pytest.raises(Stopped, match="SIGTERM"), stoppable(watched):
        best_effort("write the record", lambda: signal.raise_signal(signal.SIGTERM))
        pytest.fail("it went on")


def test_a_signal_is_not_lost_where_python_drops_what_it_raises(watched, sockets):
    with stoppable(watched):
        with contextlib.suppress(BaseException):  # as Python itself does in a callback
            signal.raise_signal(signal.SIGTERM)
        outcome = outcome_of(watched, takes(watched, ended(143, signal="SIGTERM", asked=True)))
    assert str(outcome.failure) == "SIGTERM: the run was stopped from outside"


def test_a_signal_to_a_workflow_that_is_watched_is_an_end_like_any_other(watched, sockets):
    before = signal.getsignal(signal.SIGTERM)
    with stoppable(watched):
        watched.watched = True
        signal.raise_signal(signal.SIGINT)
        outcome = outcome_of(watched, takes(watched, ended(143, signal="SIGTERM", asked=True)))
    assert str(outcome.failure) == "SIGINT: the run was stopped from outside"
    assert outcome.failure.exit_code is ExitCode.STOPPED
    assert signal.getsignal(signal.SIGTERM) is before
