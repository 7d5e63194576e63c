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

from k8s_parsl.folder import Folder
from k8s_parsl.journal.journal import Journal
from k8s_parsl.record.report import Record
from k8s_parsl.views import page, task
from k8s_parsl.views.history import Run
from k8s_parsl.views.status import Json, status
from k8s_parsl.views.task_page import SHOWN_TRIES, task_page
from k8s_parsl.views.watchers import Watchers
from k8s_parsl_runtime.shared.deadlines import apart
from k8s_parsl_runtime.shared.errors import Failure, one_line

log = logging.getLogger(__name__)

# An answer is made once for all who ask within a second, or within so many times as it took to
# make: meanwhile the journal stands still, and with it the run.
FRESH_S = 1.0
FRESH_TIMES = 10
# How long a client waits for the page of a task; how many are read at once; how much of the logs.
TASK_S = 10.0
TASKS_AT_ONCE = 2
TASK_BYTES = 64 << 20
TASK = re.compile(r"/task/([0-9]{1,9})")
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


def html(text: str) -> Answer:
    """Return an answer that is a page."""
    return Answer("text/html; charset=utf-8", text.encode(errors="replace"), policy=page.policy())


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
    return html(make(record, document))


METRICS: Mapping[str, Route] = {"/metrics": _metrics}
ROUTES: Mapping[str, Route] = {
    "/": _page,
    "/fragment": _fragment,
    "/healthz": _healthz,
    "/status.json": _status,
    **METRICS,
}


# What an open page asks for.
WATCHING = ("/fragment",)


class Tasks:
    """The pages of tasks, which are read from the run's folder: its journal, and its logs.

    The volume may not answer. So each is read in its own thread, for which a client waits only so
    long, and no more than `TASKS_AT_ONCE` are read at a time.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._free = threading.BoundedSemaphore(TASKS_AT_ONCE)

    def answer(self, number: int) -> Answer:
        """Return the page of a task."""
        place = self._journal.place
        if place is None:
            return line("the run has not begun", "404 Not Found")
        folder, attempt = place
        try:
            return apart(lambda: self._read(Run(Folder(folder)), attempt, number), TASK_S)
        except TimeoutError:
            return line("the volume does not answer; ask again", "503 Service Unavailable")
        except (Failure, OSError) as error:
            return line(one_line(str(error)), "500 Internal Server Error")

    def _read(self, run: Run, attempt: int, number: int) -> Answer:
        """Read a task, if not too many are read; its own place is free again, however it ends."""
        if not self._free.acquire(blocking=False):
            return line("other tasks are being read; ask again", "503 Service Unavailable")
        try:
            is_over = self._journal.ended
            rows = task.tell(run, attempt, number, SHOWN_TRIES, TASK_BYTES, is_over=is_over)
            if not rows:
                text = f"attempt {attempt} has no task {number}"
                return line(text, "404 Not Found")
            return html(task_page(run, attempt, rows, back="../"))
        finally:
            self._free.release()


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
        self.watchers = Watchers()
        # Where the page is, which links to them.
        self._tasks = Tasks(journal) if "/" in routes else None

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
        path = environ["PATH_INFO"]
        if found := self._pages.get(path):
            answer = found.answer()
            if path in WATCHING:
                self.watchers.note(ended=found.has_end)
            return answer
        named = TASK.fullmatch(path)
        if named and self._tasks:
            return self._tasks.answer(int(named[1]))
        return line(f"no such path; there are: {', '.join(self._pages)}", "404 Not Found")


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
        # Whether the latest answer says how the run ended.
        self.has_end = False

    def answer(self) -> Answer:
        """Return it, made again if it is no longer fresh."""
        with self._lock:
            began = time.monotonic()
            ended = self._journal.ended
            if began >= self._until or ended != self.has_end:
                self._answer = self._made()
                self.has_end = ended
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
