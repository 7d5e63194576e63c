"""Messages of the workflow's side, of any kind and number, take a bounded amount of memory."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import statistics
import tempfile
import threading
import tracemalloc
import typing
from pathlib import Path
from types import SimpleNamespace

import pytest
from quick import quick
from told import done, failed, retried, submitted

from k8s_parsl.config.settings import Executor
from k8s_parsl.journal import times as recorded
from k8s_parsl.journal.journal import Journal
from k8s_parsl.journal.times import SAMPLE, Times
from k8s_parsl.record.report import Record
from k8s_parsl.run import conversation as conversations
from k8s_parsl.run import events as run_events
from k8s_parsl.run import kernel, messages
from k8s_parsl.run.conversation import Conversation, Gone
from k8s_parsl.run.worker_pods import WorkerPods
from k8s_parsl.run.workflow import Workflow
from k8s_parsl_runtime.shared.protocol import (
    BLOCKS,
    LINE_BYTES,
    LINKED,
    PROTOCOL,
    RESUMED_APPS,
    TEXT_CHARACTERS,
)

TEXT = "x" * 2 * TEXT_CHARACTERS
# No batch is longer, in bytes and in messages.
BATCH_BYTES, BATCH = 2 << 20, 2000
# What a socket's ends and the interpreter have in use just then, and pydantic's cache of 16,384 short
# strings (ConfigDict.cache_strings) for the 4,000 of a batch.
SLACK = 300_000

# By what is sent, how the message with a number looks.
SUPERVISORS = {
    "ready": lambda n: {"type": "ready", "linked": [TEXT] * LINKED},
    "ready with a fault": lambda n: {"type": "ready", "fault": {"code": 78, "text": TEXT}},
    "code": lambda n: {"type": "code", "digest": f"{n:0200d}"},
    "stopped": lambda n: {"type": "stopped"},
    "continued": lambda n: {"type": "continued"},
    "terminating": lambda n: {"type": "terminating"},
    "ended": lambda n: {
        "type": "ended",
        "status": 0,
        "signal": "",
        "asked": False,
        "out_of_memory": False,
        "lines": [TEXT] * 100,
    },
}
KERNELS = {
    "submit": lambda n: {"type": "submit", "executor": "cpu", "block": str(n)},
    "submit of one": lambda n: {"type": "submit", "executor": "cpu", "block": "0"},
    "submit elsewhere": lambda n: {"type": "submit", "executor": f"e{n}", "block": str(n)},
    "cancel": lambda n: {"type": "cancel", "executor": "cpu", "blocks": ["0"] * BLOCKS},
    "cancel of others": lambda n: {
        "type": "cancel",
        "executor": "cpu",
        "blocks": list(map(str, range(n, n + BLOCKS))),
    },
    "retire": lambda n: {"type": "retire", "executor": "cpu", "blocks": ["0"] * BLOCKS},
    "registered": lambda n: {"type": "registered", "executor": f"e{n}"},
    "submitted": lambda n: {
        "type": "tasks",
        "events": [submitted(f"{i}-{n}".ljust(150), 10**9) for i in range(4000)],
    },
    "done, never submitted": lambda n: {
        "type": "tasks",
        "events": [done("a", i % 9, id=i) for i in range(3000)],
    },
    "retried": lambda n: {
        "type": "tasks",
        "events": [retried(f"app{i}") for i in range(3000)],
    },
    "failed": lambda n: {"type": "tasks", "events": [failed("app", f"{n}{TEXT[20:]}")] * 100},
    "failed in ever new ways": lambda n: {
        "type": "tasks",
        "events": [failed(f"app{n}", TEXT, error=f"E{n}-{i}", call="c" * 1000) for i in range(80)],
    },
    "running": lambda n: {
        "type": "tasks",
        "events": [
            ["running", "app", [n * 5000 + i, 0, "cpu", f"pod{i}", 1.0]] for i in range(5000)
        ],
    },
    "workers": lambda n: {"type": "workers", "executor": "cpu", "pod": f"pod{n}", "number": 1},
    "held": lambda n: {"type": "held", "app": f"app{n}"},
    "resumed": lambda n: {
        "type": "resumed",
        "apps": [[f"app{n}-{i}", n, i, 0, 0] for i in range(RESUMED_APPS)],
    },
    "scaled": lambda n: {
        "type": "scaled",
        "executor": f"e{n}",
        "before": n,
        "after": n + 1,
        "why": "tasks wait",
    },
    "used": lambda n: {"type": "used", "cpu": 1.0, "memory": n},
    "long": lambda n: {"type": "tasks", "events": [["long", f"app{n}", f"{n}{TEXT[20:]}"]] * 100},
    "waiting": lambda n: {"type": "tasks", "events": [["waiting", f"app{n}", [n, 0]]] * 100},
    "log": lambda n: {"type": "log", "level": "INFO", "text": "x\n" * TEXT_CHARACTERS},
    "fault": lambda n: {"type": "fault", "code": 1 + n % 255, "text": TEXT},
    "raised": lambda n: {"type": "raised", "text": TEXT},
    "unreceived": lambda n: {"type": "unreceived", "count": 10**9, "first": TEXT},
    "returned": lambda n: {"type": "returned", "result": {str(n): "x" * 900_000}},
    "picture without end": lambda n: _picture(n, last=False),
    "picture": lambda n: _picture(n, last=True),
}


def _picture(number, *, last):
    name = f"{number}".ljust(5000)
    return {
        "type": "picture",
        "name": name,
        "media": "image/png",
        "data": "A" * 900_000,
        "last": last,
    }


class Server:
    """Stands for an API server that is slow: nothing that waits for it ends."""

    def __init__(self):
        self.go_on, self.calls = threading.Event(), []

    def create_pod(self, manifest):
        self.calls.append(manifest["metadata"]["name"])
        self.go_on.wait()
        return "uid"

    def delete_pod(self, name, uid):
        self.go_on.wait()

    def list_pods(self, selector):
        return [], ""


class Flooded:
    """A launcher's end of the socket, with all that is behind it."""

    def __init__(self, conversation, workflow, path, taken):
        self.conversation, self.workflow, self.path, self.taken = (
            conversation,
            workflow,
            path,
            taken,
        )

    def connect(self):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        connection.connect(self.path)
        return connection

    def hello(self, role, **more):
        connection = self.connect()
        connection.sendall(_line({"type": "hello", "role": role, "protocol": PROTOCOL} | more))
        return connection


@pytest.fixture
def flooded(identity, monkeypatch):
    """With one executor, of whose pods one is asked for; nothing reads the run's queue."""
    monkeypatch.setattr(conversations, "RATE", 10**9)
    monkeypatch.setattr(conversations, "WAITING", 50)
    monkeypatch.setattr(run_events, "EVENTS", 50)
    monkeypatch.setattr(kernel, "PICTURE_BYTES", 100_000)
    server = Server()
    watch = SimpleNamespace(listen=lambda listener: None, get=lambda name: None, pods=list)
    template = {
        "metadata": {"labels": {}},
        "spec": {"containers": [{"name": "worker", "args": []}]},
    }
    workflow = Workflow(Journal(), "memory")
    pods = WorkerPods(
        "cpu",
        Executor(max_blocks=10),
        template,
        identity,
        server,
        watch,
        arguments=lambda number: [],
        on_fault=workflow.fault,
        tell=workflow.to_kernel,
    )
    taken = threading.Semaphore(0)

    def take(message):
        workflow.take(message)
        if not isinstance(message, messages.Hello):
            taken.release()

    with (
        tempfile.TemporaryDirectory() as folder,
        Conversation(Path(folder, "s"), os.getuid(), take) as conversation,
    ):
        workflow._conversation = conversation
        workflow.start({}, {"cpu": pods})
        pods.submit("0")
        yield Flooded(conversation, workflow, str(Path(folder, "s")), taken)
    server.go_on.set()
    pods.close()


def _line(message):
    line = json.dumps(message).encode() + b"\n"
    assert len(line) <= LINE_BYTES
    return line


def _batches(make):
    """Lines of two batches: the first fills what may be kept, and nothing of the second may stay."""
    size = len(_line(make(0)))
    number = max(min(BATCH, BATCH_BYTES // size), 3)
    return [[_line(make(n)) for n in range(start, start + number)] for start in (0, number)]


def _kept():
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _grows(flooded, send, batches):
    """Send two batches; return by how much the memory grows from the first's end to the last's."""
    tracemalloc.start()
    try:
        kept = []
        for batch in batches:
            for one in batch:
                send(one)
            for _ in batch:
                assert flooded.taken.acquire(timeout=60)
            kept.append(_kept())
        return kept[-1] - kept[0]
    finally:
        tracemalloc.stop()


def test_every_message_is_sent_here():
    """One that comes to the protocol comes to this table."""
    for union, floods in ((messages.FromSupervisor, SUPERVISORS), (messages.FromKernel, KERNELS)):
        kinds = {
            kind
            for one in typing.get_args(union)
            for kind in typing.get_args(one.model_fields["type"].annotation)
        }
        assert {make(0)["type"] for make in floods.values()} == kinds


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("role", "make"),
    quick(
        [
            *(("supervisor", make) for make in SUPERVISORS.values()),
            *(("kernel", make) for make in KERNELS.values()),
        ],
        7,
    ),
    ids=[*SUPERVISORS, *KERNELS],
)
def test_a_flood_of_messages_takes_no_memory(flooded, role, make):
    """However large they are; and while the main thread looks at something else."""
    batches = _batches(make)
    sent = sum(map(len, batches[1]))
    with flooded.hello(role) as connection:
        reader = threading.Thread(target=_read, args=(connection,), daemon=True)
        reader.start()
        grown = _grows(flooded, connection.sendall, batches)
        connection.shutdown(socket.SHUT_RDWR)
        reader.join()
    assert grown < sent / 20 + SLACK
    assert len(flooded.workflow._events) <= run_events.EVENTS + len(flooded.workflow._events._met)


def _read(connection):
    with contextlib.suppress(OSError):
        while connection.recv(1 << 16):
            pass


FAULT = {"code": 78, "text": TEXT}
CONNECTIONS = {
    "comes and goes": ({}, b""),
    "with a fault": ({"fault": FAULT}, b""),
    "then nonsense": ({}, b'{"type":"log","' + b"k" * 100_000 + b'":1}\n'),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("role", ["supervisor", "kernel"])
@pytest.mark.parametrize(("more", "then"), CONNECTIONS.values(), ids=CONNECTIONS)
def test_a_flood_of_connections_takes_no_memory(flooded, role, more, then):
    def send(_):
        connection = flooded.hello(role, **more)
        with contextlib.suppress(OSError):
            connection.sendall(then)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1 << 16)
            while connection.recv(1 << 16):
                pass
        connection.close()

    assert _grows(flooded, send, [range(100), range(200)]) < SLACK
    assert len(flooded.workflow._events) <= run_events.EVENTS + len(flooded.workflow._events._met)


@pytest.mark.parametrize("protocol", [PROTOCOL + 1, 10**300])
def test_a_flood_of_another_version_is_one_failure(flooded, protocol):
    """Each connection says it once more."""
    for _ in range(20):
        with flooded.hello("kernel", protocol=protocol) as connection:
            assert connection.recv(1) == b""
    assert len(flooded.workflow._events) == 1


def test_of_what_waits_each_kind_has_a_place(flooded):
    """However full it is of another kind; and of what counts once, the first."""
    workflow = flooded.workflow
    for _ in range(3 * run_events.EVENTS):
        workflow.take(messages.Notice(type="stopped"))
        workflow.take(Gone("kernel"))
    ended = [messages.Ended(**SUPERVISORS["ended"](0) | {"status": status}) for status in (1, 2, 3)]
    others = [messages.Notice(type="terminating"), messages.Ready(type="ready"), Gone("supervisor")]
    for event in (*ended, *others, *others):
        workflow.take(event)
    waiting = list(workflow._events.within(0))
    assert [event for event in waiting if event in ended] == ended[:1]
    for one in others:
        assert len([event for event in waiting if event is one]) == 1


# The times of tasks, however many there are ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, SAMPLE - 1, SAMPLE])
def test_the_median_of_a_few_is_exact(number):
    times, given = Times(), [float(n % 17) for n in range(number)]
    for one in given:
        times.add(one)
    assert times.median == statistics.median(given)
    assert (times.number, times.total, times.longest) == (number, sum(given), max(given))


@pytest.mark.parametrize("order", ["rising", "falling", "alternating"])
def test_the_median_of_many_is_that_of_a_fair_sample(order):
    """In any order; sum, number and maximum stay exact."""
    many = 20 * SAMPLE
    given = range(many) if order != "falling" else range(many - 1, -1, -1)
    if order == "alternating":
        given = [n if n % 2 else many - n for n in range(many)]
    times = Times()
    for one in given:
        times.add(float(one))
    assert times.median == pytest.approx(many / 2, rel=0.08)
    assert (times.number, times.total, times.longest) == (
        many,
        float(sum(given)),
        float(max(given)),
    )
    assert len(times._sample) == SAMPLE


def test_the_same_tasks_give_the_same_record(monkeypatch):
    monkeypatch.setattr(recorded, "SAMPLE", 10)
    records = []
    for _ in range(2):
        journal = Journal()
        journal.take_tasks([done(app, float(n)) for n in range(1000) for app in ("a", "b")])
        record = Record("r", "i", workflow="w", versions="v", started="s")
        with journal.locked() as state:
            record.add(state)
        records.append(record.tasks)
    assert records[0] == records[1]
    assert [(row["longest_s"], row["total_s"], row["done"]) for row in records[0]] == [
        (999, 499_500, 1000)
    ] * 2
