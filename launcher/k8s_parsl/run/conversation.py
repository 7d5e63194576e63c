"""The launcher's end of the socket that it shares with the workflow container.

One connection of a supervisor and one of a kernel, both of the uid that is expected; any other is
refused. Each message that comes in is checked, then handed to the run.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from k8s_parsl.run import messages
from k8s_parsl.run.throttle import Throttle
from k8s_parsl_runtime.shared.errors import ConfigurationError
from k8s_parsl_runtime.shared.protocol import PROTOCOL, Channel, Message, ProtocolError

log = logging.getLogger(__name__)

# A new connection has to send its whole greeting within this time.
HELLO_S = 10.0
# Connections at once, with those that have not said who they are.
CONNECTIONS = 8
# Messages that are read from one connection in a second; the sender waits with the rest.
RATE = 2000
# Messages that wait for the other end to read them, at most.
WAITING = 20_000
# At the end of the conversation they wait for so long.
FINISH_S = 2.0
# pid, uid, gid: https://man7.org/linux/man-pages/man7/unix.7.html (SO_PEERCRED)
_PEER = struct.Struct("3i")


class Outbox:
    """What is to be sent on one connection.

    A thread sends it, so that a process that does not read blocks no caller.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._messages: queue.Queue[Message | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def put(self, message: Message) -> bool:
        """Have a message sent; return False where the other end is gone or has long not read."""
        if not self._thread.is_alive():
            return False
        try:
            self._messages.put_nowait(message)
        except queue.Full:
            return False
        return True

    def finish(self, seconds: float) -> None:
        """Wait until all is sent, but no longer than this."""
        with contextlib.suppress(queue.Full):
            self._messages.put_nowait(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        while (message := self._messages.get()) is not None:
            try:
                if not self._channel.send(message):
                    return
            except ProtocolError:
                log.exception("not sent to the workflow container")


class Gone:
    """The end of a connection.

    Args:
        role: whose connection it was.
        why: what was wrong with its last message; empty for a connection that was closed.
    """

    def __init__(self, role: str, why: str = "") -> None:
        self.role = role
        self.why = why


class Conversation:
    """The socket at ``path``, for the time of a `with` block.

    Args:
        path: where it is made; a Unix socket's path has at most 107 characters.
        uid: the only user whose connections are taken.
        take: gets each message of either connection, `messages.Hello` and `Gone` among them. It is
            called on the connection's thread, one message at a time for each connection.
    """

    def __init__(self, path: Path, uid: int, take: Callable[[Any], None]) -> None:
        self._path = path
        self._uid = uid
        self._take = take
        self._outboxes: dict[str, Outbox] = {}
        self._channels: set[Channel] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._throttle = Throttle()
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        self._listener = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Self:
        self._path.unlink(missing_ok=True)
        self._listener.bind(str(self._path))
        # The peer's uid is asked for each connection; the mode alone could not tell one user from
        # the others.
        self._path.chmod(0o666)
        self._listener.listen(CONNECTIONS)
        threading.Thread(target=self._accept, name="socket", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            self._closed = True
            outboxes = list(self._outboxes.values())
            channels = list(self._channels)
        for outbox in outboxes:
            outbox.finish(FINISH_S)
        for channel in channels:
            channel.close()
        # Its file stays: a connection is refused there from now on, which says that this launcher
        # has ended.

    def send(self, role: str, message: Message) -> bool:
        """Send a message to the connection of this role; return whether one took it."""
        with self._lock:
            outbox = self._outboxes.get(role)
        return outbox is not None and outbox.put(message)

    def has(self, role: str) -> bool:
        """Return whether there is a connection of this role."""
        with self._lock:
            return role in self._outboxes

    def _accept(self) -> None:
        while True:
            self._free.acquire()
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(
                target=self._serve, args=(connection,), name="connection", daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        channel = Channel(connection)
        with self._lock:
            # One that was accepted in the last moment is not among those that `__exit__` closes.
            is_late = self._closed
            self._channels.add(channel)
        try:
            # `__exit__` may close the socket meanwhile.
            with contextlib.suppress(OSError):
                if not is_late:
                    self._converse(connection, channel)
        finally:
            with self._lock:
                self._channels.discard(channel)
            channel.close()
            self._free.release()

    def _converse(self, connection: socket.socket, channel: Channel) -> None:
        hello = self._greeted(connection, channel)
        if hello is None:
            return
        with self._lock:
            if hello.role in self._outboxes:
                self._warn("a second connection of the workflow's %s was refused", hello.role)
                return
            self._outboxes[hello.role] = Outbox(channel)
        why = ""
        try:
            self._take(hello)
            self._listen(hello.role, channel)
        except ProtocolError as error:
            why = str(error)
            self._warn("the workflow's %s sent an invalid message: %s", hello.role, why)
        finally:
            with self._lock:
                outbox = self._outboxes.pop(hello.role)
            outbox.finish(0)
            self._take(Gone(hello.role, why))

    def _greeted(self, connection: socket.socket, channel: Channel) -> messages.Hello | None:
        """Return the first message of a connection; None where the connection is refused."""
        uid = _uid(connection)
        if uid != self._uid:
            self._warn(
                "a connection of uid %d to the launcher's socket was refused (expected: %d)",
                uid,
                self._uid,
            )
            return None
        try:
            line = channel.receive_line(HELLO_S)
            if line is None:
                return None
            hello = messages.hello(line)
        except ProtocolError as error:
            self._warn_of_refusal(error)
            return None
        if hello.protocol != PROTOCOL:
            self._take(_other_version(hello.protocol))
            self._warn_of_refusal(
                f"protocol {hello.protocol}, not {PROTOCOL}: another version of k8s-parsl"
            )
            return None
        return hello

    def _warn_of_refusal(self, why: object) -> None:
        self._warn("a connection to the launcher's socket was refused: %s", why)

    def _warn(self, message: str, *arguments: object) -> None:
        """Log what a connection did, within bounds: a loop of them must not hide other lines."""
        if self._throttle.lets_pass():
            log.warning(message, *arguments)

    def _listen(self, role: str, channel: Channel) -> None:
        second = 0
        number = 0
        while (line := channel.receive_line()) is not None:
            now = time.monotonic()
            if int(now) != second:
                second = int(now)
                number = 0
            number += 1
            if number > RATE:
                time.sleep(second + 1 - now)
            self._take(messages.checked(role, line))


def _other_version(protocol: int) -> ConfigurationError:
    return ConfigurationError(
        "the workflow's image has another version of the k8s-parsl runtime"
        f" (protocol {protocol}, not {PROTOCOL}): set image.runtime to inject, or build the image"
        " FROM launcher.image"
    )


def _uid(connection: socket.socket) -> int:
    """Return the uid of the process at the other end."""
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _, uid, _ = _PEER.unpack(peer)
    return int(uid)
