"""The launcher's HTTP server: the run's status on loopback, and metrics for Prometheus.

It runs beside the run, in threads of its own: whatever happens to it, the run goes on.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from k8s_parsl.config.settings import Settings
from k8s_parsl.journal.journal import Journal
from k8s_parsl.views.site import METRICS, ROUTES, Route, Site

if TYPE_CHECKING:
    from k8s_parsl.views.listener import Listener

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
# The end of the run waits so long for the threads.
STOP_S = 5.0


@dataclass(frozen=True)
class Ports:
    """Where to serve the page and the metrics; None: nowhere, 0: on a free port."""

    page: int | None = None
    metrics: int | None = None


def ports_in_pod(settings: Settings) -> Ports:
    """Return the ports that the values name."""
    return Ports(
        page=settings.page.port if settings.page.enabled else None,
        metrics=settings.metrics.port if settings.metrics.enabled else None,
    )


def ports_on_laptop(settings: Settings) -> Ports:
    """Return the page's port: that of the values files, or else a free one.

    Nothing is open to the laptop's network: the page has the metrics, too.
    """
    if not settings.page.enabled:
        return Ports()
    named = "port" in settings.page.model_fields_set
    return Ports(page=settings.page.port if named else 0)


@contextmanager
def serving(
    journal: Journal, ports: Ports, hurry: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Serve the run's journal in the background until the block ends.

    Args:
        journal: the run's.
        ports: of the page and of the metrics.
        hurry: returns whether no page that is open is waited for, which shows the end then.
    """
    with ExitStack() as stack:
        if ports.page is not None:
            page = _Service("page.port", ports.page, _on_loopback, ROUTES, journal)
            stack.enter_context(page.running(hurry))
        if ports.metrics is not None:
            metrics = _Service("metrics.port", ports.metrics, _everywhere, METRICS, journal)
            stack.enter_context(metrics.running(hurry))
        yield


def _on_loopback(port: int) -> socket.socket:
    return socket.create_server((LOOPBACK, port))


def _everywhere(port: int) -> socket.socket:
    """Listen on all addresses, of IPv6 too where the pod has it."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


class _Service:
    """One socket and the thread that serves it."""

    def __init__(
        self,
        key: str,
        port: int,
        listen: Callable[[int], socket.socket],
        routes: Mapping[str, Route],
        journal: Journal,
    ) -> None:
        self._key = key
        self._port = port
        self._listen = listen
        self._is_page = routes is ROUTES
        self._site = Site(journal, routes, any_host=not self._is_page)
        self._lock = threading.Lock()
        self._listener: Listener | None = None
        self._stopped = False

    @contextmanager
    def running(self, hurry: Callable[[], bool]) -> Iterator[None]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._run, name=self._key, daemon=True)
        thread.start()
        try:
            yield
            if not hurry():
                self._site.watchers.wait()
        finally:
            self._stop()
            thread.join(STOP_S)

    def _run(self) -> None:
        try:
            self._serve()
        except OSError as error:
            log.warning(
                "%s: port %d: %s, so nothing is served there and the run goes on; set another port",
                self._key,
                self._port,
                os.strerror(error.errno) if error.errno else error,
            )
        except Exception:
            log.exception("%s: the server ended; the run goes on", self._key)

    def _serve(self) -> None:
        from k8s_parsl.views.listener import Listener  # not before the first pods: it takes a while

        with self._listen(self._port) as sock:
            port = sock.getsockname()[1]
            with self._lock:
                if self._stopped:
                    return
                self._listener = Listener(self._site, sock)
            if self._is_page:
                log.info("page: http://%s:%d/", LOOPBACK, port)
            else:
                log.info("metrics: port %d, /metrics", port)
            self._listener.run()

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._listener:
                self._listener.stop()
