"""The conversation between the launcher and the workflow container, over one Unix socket.

One JSON object a line. The workflow container opens two connections: the supervisor's (its first
process) and the kernel's (the process below it that holds Parsl). The launcher treats what comes in
as data from outside: each line has a bound, and each message is checked before it is used.

From the supervisor:
    hello       role, protocol, versions; fault where this image does not fit
    ready       fault where code, volumes or working directory do not fit, else none
    code        digest: of the workflow's files, as it begins
    stopped     the workflow's process was stopped by a signal (SIGSTOP)
    continued   the workflow's process goes on after that
    ended       how the workflow's process ended: see `Ended`
From the kernel:
    hello       role, protocol
    submit      executor, block: make a worker pod
    cancel      executor, blocks: delete these
    retire      executor, blocks: give these no more tasks; delete those that do not end by
                themselves
    registered  executor: its first worker pod has registered
    tasks       events: a list of [kind, app, ...], see `run.messages` of the launcher
    scaled      executor, before, after, why: Parsl asks for more worker pods, or for fewer
    workers     executor, pod, number: so many workers of this pod have registered
    resumed     apps: what was taken over of an older run, a list of the fields of `resumed.Resumed`
    used        cpu, memory: what the process itself has used, in seconds, and has, in bytes
    log         level, text: a line for the launcher's log
    fault       code, text: the run cannot go on
    raised      text, traceback: the workflow raised
    unreceived  count, first: tasks failed, and the workflow never asked for their exceptions
    returned    result: what the workflow returned, as JSON
    picture     name, media, data (base64), last: a part of a picture for the report
To the supervisor:
    prepare     what to look at before anything starts: see `workflow.preparation`
    nothing     there is nothing to do: end with 0
    stop        seconds: end the workflow's process by SIGTERM, and by SIGKILL after so many seconds
To the kernel:
    start       all that the kernel needs: see `workflow.plan`
    block       executor, block, state, name, message, blame: what became of a worker pod; blame is
                `tasks` where one of its tasks may have ended it, `unclear` while that is not known,
                else `none`
    lost        executor, block: the pod is gone, its tasks have to run elsewhere; sent after
                `block`
    drain       executor, block: the pod will be gone soon, give it no more tasks
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable
from json import JSONDecoder, JSONEncoder
from typing import Any

from k8s_parsl_runtime.shared.deadlines import left

PROTOCOL = 4
# A longer line is no message of ours.
LINE_BYTES = 1 << 20
# Longer texts of the workflow container, and longer names of apps, are cut.
TEXT_CHARACTERS = 4000
APP_CHARACTERS = 300
# Failures that are reported with their text; further ones are only counted.
KEPT_FAILURES = 100
# Blocks that one message names, at most.
BLOCKS = 1000
# Names of linked data that one message has, at most: a folder may have any number.
LINKED = 100
# Outputs that one event names, at most.
MADE = 50
# Apps of which it is said what they took over of an older run.
RESUMED_APPS = 200
# Pictures in the report, and the size of the largest: the page should open at once.
PICTURES = 12
PICTURE_BYTES = 8_000_000
# By the end of a file's name.
PICTURE_MEDIA = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".svg": "image/svg+xml",
}

Message = dict[str, Any]

# Bound now: the user's code may replace the functions of `json`.
_to_json = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_from_json = JSONDecoder().decode


class ProtocolError(Exception):
    """Something came over the socket that is no message of this protocol."""


def encode(message: Message) -> bytes:
    """Return a message as its line.

    Raises:
        ProtocolError: the message is longer than a line may be.
    """
    text = _to_json(message)
    # JSON has no lone surrogates, which the name of a file has that is not UTF-8.
    line = text.encode(errors="replace") + b"\n"
    if len(line) > LINE_BYTES:
        raise ProtocolError(f"a message of {len(line)} bytes is too long ({message['type']})")
    return line


class Channel:
    """One end of a connection. Any thread may send; one thread receives."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""
        self._sending = threading.Lock()

    def send(self, message: Message) -> bool:
        """Send one message.

        Returns:
            False where the other end is gone.

        Raises:
            ProtocolError: the message is longer than a line may be.
        """
        line = encode(message)
        try:
            with self._sending:
                self._connection.sendall(line)
        except OSError:
            return False
        return True

    def receive(self) -> Message | None:
        """Wait for the next message.

        Returns:
            The message, or None once the other end is gone.

        Raises:
            ProtocolError: it is too long, is no JSON object, or has no type.
        """
        line = self.receive_line()
        if line is None:
            return None
        try:
            message = _from_json(line.decode())
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"not JSON: {error}") from None
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise ProtocolError("not an object with a type")
        return message

    def receive_line(self, seconds: float = math.inf) -> bytes | None:
        """Wait for the next message, which is not parsed.

        Args:
            seconds: how long the whole of it may take; then the other end counts as gone.

        Returns:
            The line, or None once the other end is gone.

        Raises:
            ProtocolError: it is too long.
        """
        if seconds == math.inf:
            return self._line(lambda: None)
        deadline = time.monotonic() + seconds
        # A socket's own timeout is for one call: each byte that comes would begin it again.
        line = self._line(lambda: self._connection.settimeout(left(deadline)))
        self._connection.settimeout(None)
        return line

    def _line(self, before_each: Callable[[], None]) -> bytes | None:
        while b"\n" not in self._received:
            if len(self._received) >= LINE_BYTES:
                raise ProtocolError(f"a line of more than {LINE_BYTES} bytes")
            try:
                before_each()
                more = self._connection.recv(65536)
            except OSError:
                return None
            if not more:
                return None
            self._received += more
        line, _, self._received = self._received.partition(b"\n")
        return line

    def close(self) -> None:
        """End the connection; a thread that waits in `receive` gets None."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def connect(path: str) -> Channel:
    """Connect to the launcher's socket at ``path``.

    Raises:
        OSError: no process listens there.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return Channel(connection)
