"""The launcher's HTTP server, asked by raw sockets: what it answers, and what it does not take."""

from __future__ import annotations

import itertools
import json
import logging
import os
import resource
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from told import submitted

from k8s_parsl.journal.journal import Journal
from k8s_parsl.views import listener, site, watchers
from k8s_parsl.views.server import Ports
from k8s_parsl.views.site import Site, line
from k8s_parsl_runtime.shared.programs import kib_in_memory
from launcher.web import PATIENCE_S, ask, connect, rest, served

BOTH = Ports(page=0, metrics=0)
HALF = b"GET /status.json HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def journal():
    journal = Journal()
    journal.begin(run="1a2b3c4d", workflow="flow:main", workers={"cpu": 2})
    journal.take_tasks([submitted("tile", 3)])
    return journal


@pytest.fixture
def page(journal):
    """The port of its page."""
    with served(journal, Ports(page=0)) as ports:
        yield ports["page"]


# What it answers ------------------------------------------------------------------------------------------------------


def test_status_json_is_the_status_of_the_journal_without_spaces(journal, page):
    status, headers, body = ask(page)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    document = json.loads(body)
    assert document["run"]["workflow"] == "flow:main"
    assert document["tasks"]["submitted"] == 3
    assert body == json.dumps(document, separators=(",", ":")).encode()


def test_healthz_is_one_line(page):
    assert ask(page, "/healthz")[::2] == (200, b"ok\n")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *((method, path, 200) for method in ("GET", "HEAD") for path in site.ROUTES),
        ("GET", "/status.json?a=b", 200),
        ("GET", "/index.html", 404),
        ("GET", "/status.json/", 404),
        ("GET", "/../etc/passwd", 404),
        ("GET", "/%00", 404),
        ("HEAD", "/nowhere", 404),
        ("POST", "/status.json", 405),
        ("DELETE", "/healthz", 405),
        ("PUT", "/nowhere", 405),
        ("OPTIONS", "/metrics", 405),
    ],
)
def test_only_get_and_head_of_known_paths_are_answered(page, method, path, status):
    """Whatever it is, with the headers of a page that may load nothing."""
    said, headers, body = ask(page, path, method=method)
    assert said == status
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert ("Allow" in headers) == (status == 405)
    assert "Server" not in headers
    if method == "HEAD":
        assert body == b""
        assert int(headers["Content-Length"]) > 0
        return
    assert len(body) == int(headers["Content-Length"])
    if status != 200:
        assert body.count(b"\n") == 1


@pytest.mark.parametrize(
    ("host", "taken"),
    [
        ("localhost", True),
        ("LOCALHOST:8080", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("[2001:db8::7]", True),
        ("10.1.2.3", True),
        ("", True),
        ("attacker.example", False),
        ("attacker.example:8080", False),
        ("localhost.attacker.example", False),
        ("127.0.0.1.attacker.example", False),
        ("127.0.0.1@attacker.example", False),
        ("localhost, attacker.example", False),
        ("0x7f000001", False),
        ("localhost:80:80", False),
        ("[]", False),
    ],
)
def test_a_name_of_another_site_that_leads_here_is_refused(page, host, taken):
    """DNS rebinding: a browser sends the name of the page that it is on."""
    status, _, body = ask(page, host=host)
    assert status == (200 if taken else 421)
    if not taken:
        assert body == b"ask for localhost or an IP address\n"


def test_a_second_host_header_is_refused(page):
    with connect(page) as connection:
        connection.sendall(HALF + b"Host: attacker.example\r\n\r\n")
        assert rest(connection).startswith((b"HTTP/1.1 421", b"HTTP/1.1 400"))


def test_a_page_that_cannot_be_made_is_one_line_and_one_error_in_the_log(journal, caplog):
    def broken(_: Journal) -> site.Answer:
        raise ZeroDivisionError

    answers = []
    pages = Site(journal, {"/broken": broken}, any_host=True)
    for _ in range(2):
        pages._pages["/broken"]._until = 0.0
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/broken"}
        answers += pages(environ, lambda status, headers: answers.append(status))
    said = b"this cannot be made: ZeroDivisionError; the launcher's log says more\n"
    assert answers == ["500 Internal Server Error", said] * 2
    assert [record.getMessage() for record in caplog.records] == ["/broken cannot be made"]


# Where it listens -----------------------------------------------------------------------------------------------------


def own_addresses() -> list[str]:
    """Another address of loopback, and this machine's own where it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        try:
            # Sends nothing: it only chooses an address.
            out.connect(("192.0.2.1", 9))
            return ["127.0.0.2", out.getsockname()[0]]
        except OSError:
            return ["127.0.0.2"]


def test_the_page_is_on_loopback_alone_and_the_metrics_are_everywhere(journal):
    with served(journal, BOTH) as ports:
        for address in own_addresses():
            with pytest.raises(ConnectionRefusedError):
                connect(ports["page"], address)
            connect(ports["metrics"], address).close()
        if socket.has_dualstack_ipv6():
            connect(ports["metrics"], "::1").close()


def test_the_metrics_port_has_the_metrics_and_nothing_else(journal):
    """Prometheus may ask by the name of a Service."""
    with served(journal, BOTH) as ports:
        for path in site.ROUTES:
            status = ask(ports["metrics"], path, host="pdgrun.science.svc")[0]
            assert status == (200 if path == "/metrics" else 404)


def test_without_ports_nothing_is_served(journal):
    threads = threading.active_count()
    with served(journal, Ports()) as ports:
        assert ports == {}
        assert threading.active_count() == threads


@pytest.mark.parametrize("key", ["page", "metrics"])
def test_a_taken_port_is_one_line_with_its_key_and_the_block_goes_on(journal, key, caplog):
    caplog.set_level("INFO")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        wanted = {"page": 0, "metrics": 0} | {key: port}
        with served(journal, Ports(**wanted)) as ports:
            (other,) = ports.values()
            assert ask(other, "/metrics")[0] == 200
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    (warning,) = said
    assert warning == (
        f"{key}.port: port {port}: Address already in use, so nothing is served there and the run"
        " goes on; set another port"
    )


def test_the_end_of_the_run_leaves_no_thread_and_no_port(journal):
    threads = set(threading.enumerate())
    with served(journal, BOTH) as ports, connect(ports["page"]) as idle:
        idle.sendall(HALF)
    assert set(threading.enumerate()) - threads == set()
    for port in ports.values():
        with pytest.raises(ConnectionRefusedError):
            connect(port)


# What clients can cost ------------------------------------------------------------------------------------------------


def threads_of_the_server() -> int:
    return sum(thread.name.startswith("waitress") for thread in threading.enumerate())


END = {"status": "done", "exit_code": 0, "message": "", "workflow_status": 0}


def test_an_open_page_gets_the_end_before_the_server_ends(journal, monkeypatch):
    waits = threading.Event()
    plain = watchers.Watchers.wait

    def wait(self):
        waits.set()
        plain(self)

    monkeypatch.setattr(watchers.Watchers, "wait", wait)
    got = []

    def asks_again(port):
        waits.wait(PATIENCE_S)
        got.append(ask(port, "/fragment")[2])

    with served(journal, Ports(page=0)) as ports:
        assert b"running" in ask(ports["page"], "/fragment")[2]
        browser = threading.Thread(target=asks_again, args=(ports["page"],))
        browser.start()
        journal.end(**END)
    browser.join(PATIENCE_S)
    assert b"done" in got[0]


def test_without_an_open_page_the_server_ends_at_once(journal, monkeypatch):
    monkeypatch.setattr(watchers, "END_S", 600.0)
    with served(journal, Ports(page=0)) as ports:
        ask(ports["page"], "/status.json")
        journal.end(**END)


def test_200_half_requests_cost_no_thread_and_do_not_hold_up_the_run(journal, monkeypatch):
    """Nor do they lock others out for longer than a connection lasts."""
    monkeypatch.setattr(listener, "CONNECTION_S", 2)
    with served(journal, Ports(page=0)) as ports:
        port = ports["page"]
        assert ask(port)[0] == 200
        memory = kib_in_memory()
        slow = [connect(port) for _ in range(200)]
        for connection in slow:
            connection.sendall(HALF)
        assert threads_of_the_server() == listener.THREADS
        began = time.monotonic()
        for _ in range(1000):
            journal.take_tasks([submitted("tile")])
        assert time.monotonic() - began < 5
        assert ask(port)[0] == 200
        assert kib_in_memory() - memory < 32 << 10
        assert {rest(connection) for connection in slow} == {b""}
        for connection in slow:
            connection.close()


def test_a_client_that_sends_a_byte_at_a_time_is_not_waited_for(journal, monkeypatch):
    monkeypatch.setattr(listener, "CONNECTION_S", 1)
    with served(journal, Ports(page=0)) as ports, connect(ports["page"]) as connection:
        began = time.monotonic()
        closed = False
        while not closed:
            assert time.monotonic() - began < PATIENCE_S
            # The event is the server's end of it.
            closed = bool(select.select([connection], [], [], 0.05)[0])
            if not closed:
                connection.send(b"G")
        assert rest(connection) == b""


def test_a_client_that_never_reads_its_answers_holds_no_thread(journal, monkeypatch):
    """With requests one behind the other, whose answers would pile up."""
    monkeypatch.setattr(site, "FRESH_S", 1000)
    large = site.Answer("text/plain", b"x" * (8 << 20))
    routes = {"/large": lambda _: large, "/": lambda _: line("")}
    monkeypatch.setattr("k8s_parsl.views.server.ROUTES", routes)
    with served(journal, Ports(page=0)) as ports:
        port = ports["page"]
        lazy = [connect(port) for _ in range(8)]
        for connection in lazy:
            connection.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
        memory = kib_in_memory()
        assert ask(port, "/")[0] == 200
        assert kib_in_memory() - memory < 64 << 10
        for connection in lazy:
            body = rest(connection).partition(b"\r\n\r\n")[2]
            # One answer, and no second one.
            assert body == large.body
            connection.close()


def test_a_header_of_a_megabyte_is_refused_and_not_kept(page):
    assert ask(page)[0] == 200
    memory = kib_in_memory()
    for _ in range(50):
        with connect(page) as connection:
            try:
                connection.sendall(HALF + b"X: " + b"x" * (1 << 20) + b"\r\n\r\n")
            except (ConnectionResetError, BrokenPipeError):
                continue
            assert rest(connection)[:12] in (b"", b"HTTP/1.1 431", b"HTTP/1.0 431")
    assert ask(page)[0] == 200
    assert kib_in_memory() - memory < 16 << 10


@pytest.mark.parametrize(
    "request_",
    [
        b"\0" * 100 + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /nowhere HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
        b"GET /status.json HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /%ff%fe HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
    ],
)
def test_what_is_no_request_gets_an_error_and_the_next_client_an_answer(page, request_, caplog):
    with connect(page) as connection:
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        assert rest(connection).partition(b"\r\n")[0][:10] in (
            b"",
            b"HTTP/1.0 4",
            b"HTTP/1.1 4",
            b"HTTP/1.0 5",
        )
    assert ask(page)[0] == 200
    ours = [
        record for record in caplog.records if "views" in record.name or "waitress" in record.name
    ]
    assert [record for record in ours if record.levelno >= logging.WARNING] == []


def test_many_who_ask_at_once_make_one_answer(journal, monkeypatch):
    """The journal stands still while an answer is made, and with it the run."""
    made = itertools.count()
    monkeypatch.setattr(site, "FRESH_S", 1000)
    monkeypatch.setattr("k8s_parsl.views.server.ROUTES", {"/": lambda _: line(str(next(made)))})
    with served(journal, Ports(page=0)) as ports, ThreadPoolExecutor(20) as pool:
        answers = set(pool.map(lambda _: ask(ports["page"], "/")[2], range(100)))
    assert answers == {b"0\n"}


def test_an_answer_that_takes_long_to_make_is_made_more_rarely(journal, monkeypatch):
    """So the journal stands still for a tenth of the time at most."""
    made = itertools.count()
    clock = iter([0.0, 3.0, 29.9, 30.1, 33.1])
    monkeypatch.setattr(site.time, "monotonic", lambda: next(clock))
    page = site._Page("/", lambda _: line(str(next(made))), journal)
    assert [page.answer().body for _ in range(3)] == [b"0\n", b"0\n", b"1\n"]


def test_more_connections_than_file_descriptors_for_select_are_no_problem(journal):
    """`select` takes none above 1023; a launcher with many worker pods may have as many open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1200:
        pytest.skip("this machine allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with served(journal, Ports(page=0)) as ports:
            assert ask(ports["page"])[0] == 200
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
