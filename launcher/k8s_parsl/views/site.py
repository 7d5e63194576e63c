"""What the launcher's HTTP server answers: a table of paths, each with a function."""

from __future__ import annotations

import ipaddress
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from k8s_parsl.journal.journal import Journal
from k8s_parsl.record.report import Record
from k8s_parsl.views import page
from k8s_parsl.views.status import Json, status

log = logging.getLogger(__name__)

# An answer is made once for all who ask within a second, or within so many times as it took to
# make: meanwhile the journal stands still, and with it the run.
FRESH_S = 1.0
FRESH_TIMES = 10
METHODS = ("GET", "HEAD")
LINE = "text/plain; charset=utf-8"
# A page may load nothing, from nowhere.
NOTHING = "default-src 'none'"

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]


@dataclass(frozen=True)
class Answer:
    """What a client gets."""

    kind: str
    body: bytes
    status: str = "200 OK"
    # The Content-Security-Policy.
    policy: str = NOTHING


Route = Callable[[Journal], Answer]


def line(text: str, status: str = "200 OK") -> Answer:
    """Return an answer of one line."""
    return Answer(LINE, f"{text}\n".encode(), status)


def _healthz(_: Journal) -> Answer:
    return line("ok")


def _status(journal: Journal) -> Answer:
    with journal.locked() as state:
        document = status(state)
    return Answer("application/json", json.dumps(document, separators=(",", ":")).encode())


def _metrics(journal: Journal) -> Answer:
    from k8s_parsl.views import metrics  # only where it is asked for: its library is large

    with journal.locked() as state:
        families = list(metrics.families(state))
    return Answer(metrics.KIND, metrics.text(families))


def _page(journal: Journal) -> Answer:
    return _html(journal, page.whole)


def _fragment(journal: Journal) -> Answer:
    return _html(journal, page.fragment)


def _html(journal: Journal, make: Callable[[Record, Json], str]) -> Answer:
    with journal.locked() as state:
        document = status(state)
        record = page.record_of(state)
    text = make(record, document)
    return Answer("text/html; charset=utf-8", text.encode(errors="replace"), policy=page.policy())


METRICS: Mapping[str, Route] = {"/metrics": _metrics}
ROUTES: Mapping[str, Route] = {
    "/": _page,
    "/fragment": _fragment,
    "/healthz": _healthz,
    "/status.json": _status,
    **METRICS,
}


class Site:
    """A WSGI application that answers from the journal."""

    def __init__(self, journal: Journal, routes: Mapping[str, Route], *, any_host: bool) -> None:
        """Take what it answers.

        Args:
            journal: of the run.
            routes: by path.
            any_host: answer under any name. On loopback that must be False: a page of another
                site could make its name point here and read the answers (DNS rebinding).
        """
        self._pages = {path: _Page(path, route, journal) for path, route in routes.items()}
        self._any_host = any_host

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, as WSGI has it."""
        answer = self._answer(environ)
        headers = [
            ("Content-Type", answer.kind),
            ("Content-Length", str(len(answer.body))),
            ("Content-Security-Policy", answer.policy),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
        ]
        if answer.status.startswith("405"):
            headers.append(("Allow", ", ".join(METHODS)))
        start_response(answer.status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    def _answer(self, environ: Environ) -> Answer:
        host = environ.get("HTTP_HOST", "")
        if not self._any_host and not is_address(host):
            return line("ask for localhost or an IP address", "421 Misdirected Request")
        if environ["REQUEST_METHOD"] not in METHODS:
            return line("only GET and HEAD", "405 Method Not Allowed")
        found = self._pages.get(environ["PATH_INFO"])
        if found is None:
            return line(f"no such path; there are: {', '.join(self._pages)}", "404 Not Found")
        return found.answer()


def is_address(host: str) -> bool:
    """Return whether a Host header is `localhost` or an IP address; or absent, as of HTTP/1.0."""
    name = re.sub(r":[0-9]{1,5}$", "", host)
    if name.lower() in ("", "localhost"):
        return True
    try:
        ipaddress.ip_address(re.sub(r"^\[(.*)\]$", r"\1", name))
    except ValueError:
        return False
    return True


class _Page:
    """A route's latest answer."""

    def __init__(self, path: str, route: Route, journal: Journal) -> None:
        self._path = path
        self._route = route
        self._journal = journal
        self._lock = threading.Lock()
        self._answer = line("")
        self._until = 0.0
        self._failed = False

    def answer(self) -> Answer:
        """Return it, made again if it is no longer fresh."""
        with self._lock:
            began = time.monotonic()
            if began >= self._until:
                self._answer = self._made()
                took = time.monotonic() - began
                self._until = began + max(FRESH_S, took * FRESH_TIMES)
            return self._answer

    def _made(self) -> Answer:
        try:
            return self._route(self._journal)
        except Exception as error:
            if not self._failed:
                self._failed = True
                log.exception("%s cannot be made", self._path)
            return line(
                f"this cannot be made: {type(error).__name__}; the launcher's log says more",
                "500 Internal Server Error",
            )
