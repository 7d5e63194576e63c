"""A run's HTTP server in a test: where it listens, and raw requests."""

from __future__ import annotations

import logging
import queue
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from k8s_parsl.journal.journal import Journal
from k8s_parsl.views import server
from k8s_parsl.views.server import Ports, serving

# For what comes at once, on a machine that is busy.
PATIENCE_S = 60


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.said: queue.Queue[logging.LogRecord] = queue.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.said.put(record)


@contextmanager
def served(journal: Journal, ports: Ports) -> Iterator[dict[str, int]]:
    """Serve a journal; yield the port of each service, `page` and `metrics`, by its log line."""
    lines = _Lines()
    wanted = (ports.page is not None) + (ports.metrics is not None)
    server.log.setLevel(logging.INFO)
    server.log.addHandler(lines)
    try:
        with serving(journal, ports):
            found = [lines.said.get(timeout=PATIENCE_S) for _ in range(wanted)]
            yield {
                record.getMessage().partition(":")[0]: int(record.args[-1])
                for record in found
                if record.levelno == logging.INFO
            }
    finally:
        server.log.removeHandler(lines)
        server.log.setLevel(logging.NOTSET)


def connect(port: int, address: str = "127.0.0.1") -> socket.socket:
    """Return a connection, whose reads do not wait forever."""
    return socket.create_connection((address, port), PATIENCE_S)


def rest(connection: socket.socket) -> bytes:
    """Return all that still comes, until the other side closes."""
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        # It closed before it had read all that was sent.
        pass
    return b"".join(parts)


def ask(
    port: int, path: str = "/status.json", *, method: str = "GET", host: str = "localhost"
) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of an answer."""
    request = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"
    with connect(port) as connection:
        connection.sendall(request.encode())
        head, _, body = rest(connection).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body
