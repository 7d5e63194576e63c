"""A socket on which a site is served, with bounds for what clients can cost (waitress)."""

from __future__ import annotations

import logging
import socket
import time
from typing import Any

from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import WSGITask
from waitress.wasyncore import close_all

from k8s_parsl.views.site import Site

# Of each listener: two may read the volume for the page of a task (`site.TASKS_AT_ONCE`).
THREADS = 4
CONNECTIONS = 64
# The end waits so long for answers that are on their way, and looks so often.
SEND_S = 1.0
LOOK_S = 0.01
# How long a connection lasts at most, however slowly it asks or reads.
CONNECTION_S = 30
HEADER_BYTES = 16 << 10
# No request has one.
BODY_BYTES = 1 << 10
# It warns of each client that leaves or waits.
logging.getLogger("waitress").setLevel(logging.CRITICAL)


class _Task(WSGITask):
    """The one request of a connection: others behind it would pile up unread answers."""

    def execute(self) -> None:
        self.set_close_on_finish()
        super().execute()


class _Channel(HTTPChannel):
    """A connection, which ends after `CONNECTION_S` even if its client sends a byte a second."""

    task_class = _Task

    @property
    def last_activity(self) -> float:
        return float(self.creation_time)

    @last_activity.setter
    def last_activity(self, moment: float) -> None:
        """Its beginning is what counts."""


class Listener:
    """Serves a site on a socket until it is stopped."""

    def __init__(self, site: Site, sock: socket.socket) -> None:
        self._map: dict[int, Any] = {}
        self._server = create_server(
            site,
            map=self._map,
            sockets=[sock],
            threads=THREADS,
            connection_limit=CONNECTIONS,
            channel_timeout=CONNECTION_S,
            cleanup_interval=1,
            max_request_header_size=HEADER_BYTES,
            max_request_body_size=BODY_BYTES,
            # `select` takes no file descriptor above 1023.
            asyncore_use_poll=True,
            log_socket_errors=False,
            ident="",
        )
        self._server.channel_class = _Channel

    def run(self) -> None:
        """Serve it; return once it is stopped."""
        self._server.run()
        self._server.task_dispatcher.shutdown()

    def stop(self) -> None:
        """End `run`, from any thread, once what was asked for is sent."""
        deadline = time.monotonic() + SEND_S
        while self._is_answering() and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        self._server.trigger.pull_trigger(lambda: close_all(self._map))

    def _is_answering(self) -> bool:
        channels = list(self._server.active_channels.values())
        return any(channel.requests or channel.total_outbufs_len for channel in channels)
