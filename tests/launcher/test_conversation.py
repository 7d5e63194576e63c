"""The launcher's end of the socket: peers, messages, and what no peer can do to the launcher."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from told import done, failed, kept, submitted

from k8s_parsl.run import conversation as conversations
from k8s_parsl.run import messages, throttle
from k8s_parsl.run.conversation import Conversation, Gone
from k8s_parsl_runtime.shared.errors import ConfigurationError
from k8s_parsl_runtime.shared.protocol import (
    BLOCKS,
    LINE_BYTES,
    LINKED,
    PROTOCOL,
    Channel,
    ProtocolError,
    connect,
)

UID = os.getuid()
ENDED = {
    "type": "ended",
    "status": 0,
    "signal": "",
    "asked": False,
    "out_of_memory": False,
    "lines": [],
}
LOG = {"type": "log", "level": "INFO", "text": "x"}
# A connection that is closed on the other side without having read all that was sent ends in an
# error.
BROKEN = (BrokenPipeError, ConnectionResetError)


class Taken:
    """Stands for the run: what came in, in order."""

    def __init__(self):
        self.queue = queue.Queue()

    def __call__(self, message):
        self.queue.put(message)

    def next(self, kind, seconds=10):
        message = self.queue.get(timeout=seconds)
        assert isinstance(message, kind), message
        return message

    def nothing(self, seconds=0.05):
        with pytest.raises(queue.Empty):
            self.queue.get(timeout=seconds)


@pytest.fixture
def folder():
    """A short path: that of a Unix socket has at most 107 characters."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def taken():
    return Taken()


@pytest.fixture
def open_socket(folder, taken):
    """Open the launcher's socket for connections of this uid; its path."""
    with contextlib.ExitStack() as stack:
        yield lambda uid=UID: stack.enter_context(Conversation(folder / "socket", uid, taken))


@pytest.fixture
def conversation(open_socket):
    return open_socket()


@pytest.fixture
def client(folder):
    """Connections to the socket, closed at the end."""
    made = []

    def client():
        made.append(socket.socket(socket.AF_UNIX))
        made[-1].settimeout(10)
        made[-1].connect(str(folder / "socket"))
        return made[-1]

    yield client
    for connection in made:
        connection.close()


def line(**message):
    return json.dumps(message).encode() + b"\n"


def hello(role="supervisor", **more):
    return line(**{"type": "hello", "role": role, "protocol": PROTOCOL} | more)


@pytest.fixture
def greeted(conversation, client, taken):
    """A connection of this role that was taken."""

    def greeted(role="supervisor"):
        connection = client()
        connection.sendall(hello(role))
        assert taken.next(messages.Hello).role == role
        return connection

    return greeted


def is_closed(connection):
    """The launcher has closed it, and has said nothing before."""
    with contextlib.suppress(*BROKEN):
        assert connection.recv(1) == b""
    return True


# Who is there --------------------------------------------------------------------------------------------------------


def test_both_ends_talk(conversation, client, taken):
    """Each role has its own connection, in any order; a message is one line however it travels."""
    kernel, supervisor = Channel(client()), client()
    kernel.send({"type": "hello", "role": "kernel", "protocol": PROTOCOL})
    assert taken.next(messages.Hello).role == "kernel"
    assert not conversation.has("supervisor")
    assert not conversation.send("supervisor", {"type": "nothing"})
    said = hello(versions="py3.11/parsl1") + line(type="ready") + line(**ENDED)
    supervisor.sendall(said[:30])
    taken.nothing()
    supervisor.sendall(said[30:])
    assert taken.next(messages.Hello).versions == "py3.11/parsl1"
    assert taken.next(messages.Ready).fault is None
    assert taken.next(messages.Ended).status == 0
    assert conversation.has("supervisor")
    assert conversation.send("supervisor", {"type": "stop", "seconds": 3})
    assert supervisor.recv(100) == b'{"type":"stop","seconds":3}\n'
    assert conversation.send("kernel", {"type": "lost", "executor": "cpu", "block": "0"})
    assert kernel.receive() == {"type": "lost", "executor": "cpu", "block": "0"}
    kernel.close()
    gone = taken.next(Gone)
    assert (gone.role, gone.why) == ("kernel", "")
    assert not conversation.has("kernel")
    assert not conversation.send("kernel", {"type": "lost"})


AS_ANOTHER = """
import os, socket, sys
os.setgroups([]), os.setgid(65534), os.setuid(65534)
connection = socket.socket(socket.AF_UNIX)
# By its name alone: the folders above belong to others.
connection.connect("socket")
connection.settimeout(10)
try:
    connection.sendall(sys.stdin.buffer.read())
    said = connection.recv(100)
except (BrokenPipeError, ConnectionResetError):
    said = b""
print(said)
"""


@pytest.mark.skipif(UID != 0, reason="only root can be another user")
def test_a_connection_of_another_user_is_refused(conversation, folder, taken, caplog):
    """A sidecar may have the socket's folder mounted, too."""
    folder.chmod(0o711)
    done = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER],
        cwd=folder,
        input=hello(),
        capture_output=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (b"b''\n", b"")
    taken.nothing()
    assert not conversation.has("supervisor")
    assert (
        f"a connection of uid 65534 to the launcher's socket was refused (expected: {UID})"
        in caplog.text
    )


def test_the_expected_user_need_not_be_the_launchers_own(open_socket, client, taken):
    """The workflow container may run as another; then the launcher's own uid is the wrong one."""
    open_socket(UID + 1)
    connection = client()
    with contextlib.suppress(*BROKEN):
        connection.sendall(hello())
    assert is_closed(connection)
    taken.nothing()


DEEP = b"[" * 100_000 + b"]" * 100_000
STRANGE = {
    "no number": (hello(protocol="1"), "protocol: Input should be a valid integer"),
    "no protocol": (line(type="hello", role="kernel"), "protocol: Field required"),
    "another role": (hello("launcher"), "role: Input should be 'supervisor' or 'kernel'"),
    "a key too many": (hello(more=1), "more: Extra inputs are not permitted"),
    "a message of another kind": (line(**ENDED), "Input should be 'hello'"),
    "a list": (b"[]\n", "message: Input should be an object"),
    "no JSON": (b"GET / HTTP/1.1\r\n\r\n", "message: Invalid JSON"),
    "no text": (bytes(range(256)) + b"\n", "message: Invalid JSON"),
    "half a character": (b'{"type":"hello","role":"\xff"}\n', "message: Invalid JSON"),
    "an empty line": (b"\n", "message: Invalid JSON: EOF"),
    "deep": (DEEP + b"\n", "recursion limit exceeded"),
    "deep inside": (b'{"type":"hello","fault":' + DEEP + b"}\n", "recursion limit exceeded"),
    "long": (hello(versions="x" * 101), "versions: String should have at most 100 characters"),
    "without end": (b"x" * (LINE_BYTES + 100_000), f"a line of more than {LINE_BYTES} bytes"),
}


@pytest.mark.parametrize(("said", "why"), STRANGE.values(), ids=STRANGE)
def test_a_strange_greeting_is_refused_and_the_right_one_still_taken(
    conversation, client, taken, caplog, said, why
):
    """Nothing of it reaches the run."""
    strange = client()
    with contextlib.suppress(*BROKEN):
        strange.sendall(said)
    assert is_closed(strange)
    taken.nothing()
    assert "a connection to the launcher's socket was refused: " in caplog.text
    assert why in caplog.text
    connection = client()
    connection.sendall(hello())
    assert taken.next(messages.Hello).role == "supervisor"


@pytest.mark.parametrize("protocol", [PROTOCOL + 1, 10**40])
def test_a_runtime_of_another_version_ends_the_run_by_name(
    conversation, client, taken, caplog, protocol
):
    """The image was built FROM another release; nothing else of that connection reaches the run."""
    strange = client()
    strange.sendall(hello(protocol=protocol))
    assert is_closed(strange)
    failure = taken.next(ConfigurationError)
    assert "set image.runtime to inject, or build the image FROM launcher.image" in str(failure)
    assert "another version of k8s-parsl" in caplog.text
    taken.nothing()


def test_half_a_message_at_the_end_is_ignored(greeted, taken):
    """Its sender was killed in the middle of it."""
    connection = greeted()
    connection.sendall(line(**ENDED)[:-2])
    connection.close()
    assert taken.next(Gone).why == ""


def test_a_second_one_of_the_same_role_is_refused_while_the_first_lives(
    greeted, client, conversation, taken, caplog
):
    """A script of the user's may know the socket's path: the first process is there before it."""
    first, second = greeted("supervisor"), client()
    second.sendall(hello("supervisor") + line(**ENDED))
    assert is_closed(second)
    taken.nothing()
    assert "a second connection of the workflow's supervisor was refused" in caplog.text
    assert conversation.send("supervisor", {"type": "nothing"})
    assert first.recv(100) == b'{"type":"nothing"}\n'
    first.close()
    assert taken.next(Gone).role == "supervisor"
    greeted("supervisor")


def test_a_greeting_that_never_comes_is_not_waited_for(open_socket, client, taken, monkeypatch):
    monkeypatch.setattr(conversations, "HELLO_S", 0.2)
    open_socket()
    silent, half = client(), client()
    half.sendall(hello()[:10])
    assert is_closed(silent)
    assert is_closed(half)
    taken.nothing()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", [b"x", hello()[:1], b" ", b"\0"])
def test_a_greeting_that_comes_byte_by_byte_has_one_deadline(
    open_socket, client, taken, monkeypatch, piece
):
    """So many of them as there may be keep no other one out."""
    monkeypatch.setattr(conversations, "HELLO_S", 0.5)
    open_socket()
    slow = [client() for _ in range(conversations.CONNECTIONS)]
    sent = threading.Event()

    def drip(connection):
        with contextlib.suppress(*BROKEN):
            while True:
                connection.sendall(piece)
                sent.set()
                time.sleep(0.05)

    threads = [
        threading.Thread(target=drip, args=(connection,), daemon=True) for connection in slow
    ]
    for thread in threads:
        thread.start()
    assert sent.wait(10)
    client().sendall(hello())
    assert taken.next(messages.Hello, 30).role == "supervisor"
    for thread in threads:
        thread.join()


def refused_as_second(client):
    connection = client()
    with contextlib.suppress(*BROKEN):
        connection.sendall(hello("supervisor"))
    return connection


def refused_for_its_greeting(client):
    connection = client()
    connection.sendall(b"GET / HTTP/1.1\n")
    return connection


def refused_for_its_version(client):
    connection = client()
    connection.sendall(hello("kernel", protocol=PROTOCOL + 1))
    return connection


def ended_for_what_it_sent(client):
    connection = client()
    connection.sendall(hello("kernel") + b"{}\n")
    return connection


def refused_for_its_user(client):
    connection = client()
    with contextlib.suppress(*BROKEN):
        connection.sendall(hello())
    return connection


REFUSED = (
    refused_as_second,
    refused_for_its_greeting,
    refused_for_its_version,
    ended_for_what_it_sent,
)


@pytest.mark.parametrize("connects", [*REFUSED, refused_for_its_user], ids=lambda one: one.__name__)
def test_a_loop_of_connections_fills_no_log(
    open_socket, client, taken, monkeypatch, caplog, connects
):
    """The launcher's own lines have to be found; that lines are left out is said once."""
    monkeypatch.setattr(throttle, "LOG_LINES", 5)
    open_socket(UID + (connects is refused_for_its_user))
    if connects is not refused_for_its_user:
        client().sendall(hello("supervisor"))
        taken.next(messages.Hello)
    for _ in range(20):
        assert is_closed(connects(client))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 6, lines
    assert [
        line for line in lines if "more than 5 lines in 10 s; the rest is left out" in line
    ] == lines[-1:]


@pytest.mark.parametrize("key", ["\x1b[2J", "\n2026-01-01 INFO done", "A" * 100_000, "\u202e"])
def test_the_message_about_a_greeting_is_one_short_line(open_socket, client, caplog, key):
    """A name of a key is the other side's own."""
    open_socket()
    connection = client()
    connection.sendall(hello(**{key: 1}))
    assert is_closed(connection)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.isprintable()
    assert len(said) < 500


def test_one_that_has_greeted_may_be_silent_for_long(open_socket, client, taken, monkeypatch):
    """A workflow that computes has nothing to say."""
    monkeypatch.setattr(conversations, "HELLO_S", 0.2)
    conversation = open_socket()
    connection = client()
    connection.sendall(hello())
    taken.next(messages.Hello)
    taken.nothing(0.6)
    connection.sendall(line(**ENDED))
    taken.next(messages.Ended)
    assert conversation.has("supervisor")


def test_more_connections_than_there_may_be_wait_for_their_turn(
    open_socket, client, taken, monkeypatch
):
    """Silent ones are closed, and then it is the right one's turn."""
    monkeypatch.setattr(conversations, "HELLO_S", 0.5)
    monkeypatch.setattr(conversations, "CONNECTIONS", 2)
    conversation = open_socket()
    silent = [client() for _ in range(2)]
    last = client()
    last.sendall(hello())
    with conversation._lock:
        assert len(conversation._channels) <= 2
    assert taken.next(messages.Hello).role == "supervisor"
    assert all(is_closed(connection) for connection in silent)


# What is said --------------------------------------------------------------------------------------------------------


def tasks(*events):
    return line(type="tasks", events=list(events))


WRONG = {
    "no JSON": ("kernel", b"{\n", "Invalid JSON"),
    "deep": ("kernel", b'{"type":"returned","result":' + DEEP + b"}\n", "recursion limit exceeded"),
    "without end": (
        "kernel",
        b'{"type":"log","text":"' + b"x" * (LINE_BYTES + 100_000),
        "a line of more than",
    ),
    "no type": ("kernel", b"{}\n", "Unable to extract tag"),
    "an unknown type": (
        "kernel",
        line(type="shell", command="id"),
        "does not match any of the expected tags",
    ),
    "not the kernel's": ("kernel", line(**ENDED), "does not match any of the expected tags"),
    "not the supervisor's": (
        "supervisor",
        line(type="submit", executor="cpu", block="0"),
        "does not match any",
    ),
    "another greeting": ("kernel", hello("kernel"), "does not match any of the expected tags"),
    "a key too many": ("kernel", line(**LOG, more=1), "Extra inputs are not permitted"),
    "a key too few": ("kernel", line(type="submit", executor="cpu"), "block: Field required"),
    "a block that is a path": (
        "kernel",
        line(type="submit", executor="cpu", block="../x"),
        "block: String should",
    ),
    "a block with a line break": (
        "kernel",
        line(type="submit", executor="cpu", block="1\n"),
        "block: String should",
    ),
    "a block with many digits": (
        "kernel",
        line(type="submit", executor="cpu", block="1" * 10),
        "block: String should",
    ),
    "digits of another script": (
        "kernel",
        line(type="submit", executor="cpu", block="\u0661"),
        "block: String should",
    ),
    "a block that is a number": (
        "kernel",
        line(type="submit", executor="cpu", block=1),
        "valid string",
    ),
    "a long label": (
        "kernel",
        line(type="submit", executor="c" * 64, block="0"),
        "at most 63 characters",
    ),
    "one wrong block of many": (
        "kernel",
        line(type="cancel", executor="cpu", blocks=["0", "-1"]),
        "blocks.1",
    ),
    "too many blocks": (
        "kernel",
        line(type="retire", executor="c", blocks=["0"] * (BLOCKS + 1)),
        "at most 1000 items",
    ),
    "too many names": (
        "supervisor",
        line(type="ready", linked=["a"] * (LINKED + 1)),
        "at most 100 items",
    ),
    "a huge count": (
        "kernel",
        tasks(["submitted", "app", [[0, 10**30]]]),
        "less than or equal to 1000000000",
    ),
    "a negative count": (
        "kernel",
        tasks(["submitted", "app", [[-1, 0]]]),
        "greater than or equal to 0",
    ),
    "no time": ("kernel", b'{"type":"tasks","events":[["long","app",NaN]]}\n', "tasks.events.0"),
    "endless time": (
        "kernel",
        b'{"type":"tasks","events":[["submitted","app",[[0,1e999]]]]}\n',
        "tasks.events.0",
    ),
    "a time long ago": ("kernel", tasks(done("app", -0.5)), "tasks.events.0"),
    "an unknown event": ("kernel", tasks(["forgotten", "app", 1]), "tasks.events.0"),
    "too many events": ("kernel", tasks(*[["long", "a", ""]] * 5001), "at most 5000 items"),
    "a long app": ("kernel", tasks(submitted("a" * 301)), "at most 300 characters"),
    "a long text": (
        "kernel",
        line(type="log", level="INFO", text="x" * 8001),
        "at most 8000 characters",
    ),
    "an unknown level": ("kernel", line(type="log", level="LOUD", text="x"), "log.level"),
    "an exit code of no process": (
        "kernel",
        line(type="fault", code=256, text="x"),
        "less than or equal to 255",
    ),
    "a fault that ends well": (
        "kernel",
        line(type="fault", code=0, text="x"),
        "greater than or equal to 1",
    ),
    "no picture": (
        "kernel",
        line(type="picture", name="a.html", media="text/html", data="", last=True),
        "picture.media",
    ),
    "no base64": (
        "kernel",
        line(type="picture", name="a.png", media="image/png", data='"><script>', last=True),
        "picture.data",
    ),
    "a status of no process": ("supervisor", line(**ENDED | {"status": 999}), "ended.status"),
    "a status that is none": ("supervisor", line(**ENDED | {"status": True}), "ended.status"),
    "too many lines": ("supervisor", line(**ENDED | {"lines": ["x"] * 101}), "ended.lines"),
}


@pytest.mark.parametrize(("role", "said", "why"), WRONG.values(), ids=WRONG)
def test_what_is_no_message_ends_its_connection(
    greeted, conversation, taken, caplog, role, said, why
):
    """It says what is wrong, and not what was sent.

    What came before it counts, what comes after it does not.
    """
    before = LOG if role == "kernel" else {"type": "continued"}
    connection = greeted(role)
    connection.sendall(line(**before))
    taken.next(messages.Log if role == "kernel" else messages.Notice)
    with contextlib.suppress(*BROKEN):
        connection.sendall(said + line(**before))
    gone = taken.next(Gone)
    assert gone.role == role
    assert why in gone.why
    assert "\n" not in gone.why
    assert len(gone.why) < 300
    assert f"the workflow's {role} sent an invalid message: " in caplog.text
    assert is_closed(connection)
    assert not conversation.has(role)
    taken.nothing()


@pytest.mark.parametrize(
    "said",
    [
        line(type="returned", result=None),
        b'{"type":"returned","result":' + b"[" * 100 + b"]" * 100 + b"}\n",
        line(type="picture", name="a.png", media="image/png", data="AAAA", last=False),
        tasks(
            done("app", 3.0, 0.5),
            kept("app"),
            failed("app", ""),
            ["submitted", "app", [[0, 10**9]]],
            ["running", "app", [7, 0, "cpu", "pod", 1.0]],
        ),
        tasks(["long", "app", "a task has run for 900 s"]),
        tasks(["waiting", "app", [0, 10**9]]),
        line(type="cancel", executor="cpu", blocks=[]),
    ],
)
def test_what_is_just_within_bounds_is_taken(greeted, taken, said):
    connection = greeted("kernel")
    connection.sendall(said)
    taken.next(messages.Model)


def test_a_text_that_is_no_utf8_does_not_end_the_conversation(greeted, folder, taken):
    """The name of a file may hold such bytes, and with it the text of an error."""
    kernel = connect(str(folder / "socket"))
    kernel.send({"type": "hello", "role": "kernel", "protocol": PROTOCOL})
    taken.next(messages.Hello)
    kernel.send({"type": "raised", "text": "FileNotFoundError: r\udce9sum\u00e9"})
    assert taken.next(messages.Raised).text == "FileNotFoundError: r?sum\u00e9"
    kernel.close()


# What no peer can do to the launcher ---------------------------------------------------------------------------------


def test_a_flood_is_slowed_down_and_delays_no_other_peer(open_socket, client, taken, monkeypatch):
    """What is too much waits at the sender's end, and not in the launcher's memory."""
    monkeypatch.setattr(conversations, "RATE", 100)
    conversation = open_socket()
    kernel, supervisor = client(), client()
    kernel.sendall(hello("kernel"))
    taken.next(messages.Hello)
    supervisor.sendall(hello("supervisor"))
    taken.next(messages.Hello)
    sent = []

    def flood():
        said = line(**LOG | {"text": "x" * 4000})
        with contextlib.suppress(OSError):
            for number in range(20_000):
                kernel.sendall(said)
                sent.append(number)

    began = time.monotonic()
    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    taken.next(messages.Log)
    supervisor.sendall(line(**ENDED))
    found = [taken.next((messages.Log, messages.Ended))]
    while not isinstance(found[-1], messages.Ended):
        found.append(taken.next((messages.Log, messages.Ended)))
    # One allowance for each second that has begun.
    assert len(found) <= 100 * (time.monotonic() - began + 2)
    while time.monotonic() - began < 1.5:
        taken.next(messages.Log)
        found.append(None)
    assert len(found) <= 100 * (time.monotonic() - began + 2)
    assert len(sent) < 10_000
    assert thread.is_alive()
    assert conversation.send("supervisor", {"type": "nothing"})
    assert supervisor.recv(100) == b'{"type":"nothing"}\n'


def test_a_peer_that_does_not_read_delays_no_other_peer(open_socket, client, taken, monkeypatch):
    """A process that was stopped, say: `send` returns at once, and keeps only so much for it."""
    monkeypatch.setattr(conversations, "WAITING", 200)
    monkeypatch.setattr(conversations, "FINISH_S", 0.2)
    conversation = open_socket()
    kernel, supervisor = client(), client()
    for role, connection in (("kernel", kernel), ("supervisor", supervisor)):
        connection.sendall(hello(role))
        taken.next(messages.Hello)
    message = {"type": "block", "message": "x" * 10_000}
    began = time.monotonic()
    took = [conversation.send("kernel", message) for _ in range(2000)]
    assert time.monotonic() - began < 5
    assert took[:200] == [True] * 200
    assert not took[-1]
    assert sum(took) < 1000
    assert conversation.has("kernel"), "it may read later"
    assert conversation.send("supervisor", {"type": "nothing"})
    assert supervisor.recv(100) == b'{"type":"nothing"}\n'
    began = time.monotonic()
    conversation.__exit__(None, None, None)
    assert time.monotonic() - began < 5


def test_what_was_sent_before_the_end_still_arrives(open_socket, client, taken):
    """`stop`, above all, to a supervisor that looks at something else meanwhile."""
    conversation = open_socket()
    connection = client()
    connection.sendall(hello())
    taken.next(messages.Hello)
    for number in range(100):
        assert conversation.send("supervisor", {"type": "stop", "seconds": number})
    conversation.__exit__(None, None, None)
    channel = Channel(connection)
    assert [channel.receive()["seconds"] for _ in range(100)] == list(range(100))
    assert channel.receive() is None


def test_one_that_comes_again_and_again_leaves_nothing_behind(greeted, taken):
    """No thread, no connection."""
    for _ in range(20):
        greeted("kernel").close()
        assert taken.next(Gone).role == "kernel"
    end = time.monotonic() + 10
    while [thread for thread in threading.enumerate() if thread.name in ("outbox", "connection")]:
        assert time.monotonic() < end, threading.enumerate()
        time.sleep(0.01)


def test_a_message_that_is_too_long_to_be_sent_costs_no_other(greeted, conversation, caplog):
    connection = greeted("kernel")
    assert conversation.send("kernel", {"type": "block", "message": "x" * LINE_BYTES})
    assert conversation.send("kernel", {"type": "drain"})
    assert connection.recv(100) == b'{"type":"drain"}\n'
    assert "is too long (block)" in caplog.text


def test_the_end_closes_every_connection_and_refuses_new_ones(open_socket, folder, client, taken):
    """Those that have not greeted, too. A launcher that starts again makes a new socket."""
    conversation = open_socket()
    greeted, silent = client(), client()
    greeted.sendall(hello())
    taken.next(messages.Hello)
    conversation.__exit__(None, None, None)
    assert is_closed(greeted)
    assert is_closed(silent)
    assert taken.next(Gone).role == "supervisor"
    with pytest.raises(ConnectionRefusedError):
        connect(str(folder / "socket"))
    open_socket()
    client().sendall(hello())
    assert taken.next(messages.Hello).role == "supervisor"


# The same rules at the other end -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"x" * (LINE_BYTES + 100_000), "a line of more than"),
        (b"{\n", "not JSON"),
        (DEEP + b"\n", "not JSON"),
        (b"[]\n", "not an object with a type"),
        (b'{"type":1}\n', "not an object with a type"),
    ],
)
def test_the_workflows_side_takes_no_nonsense_either(said, why):
    ours, theirs = socket.socketpair()

    def send():
        with contextlib.suppress(OSError):
            ours.sendall(said)

    with ours, theirs:
        thread = threading.Thread(target=send)
        thread.start()
        with pytest.raises(ProtocolError, match=why):
            Channel(theirs).receive()
        theirs.close()
        ours.close()
        thread.join()
