"""What a working Vault does not do on demand: overload, half answers, other servers, broken TLS.

The server here sends scripted answers over real HTTP. What a real Vault answers is tested with a
real one (tests/cluster/test_vault.py).
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from k8s_parsl.ceph_key.budget import LONGEST_PAUSE_S, Budget
from k8s_parsl.ceph_key.settings import VaultSettings
from k8s_parsl.ceph_key.vault import Vault
from k8s_parsl.ceph_key.vault_errors import LOGIN_REFUSALS, Refused, login_refused
from k8s_parsl_runtime.shared.errors import ConfigurationError, ExitCode, Failure, Unavailable
from testbed import pki

TOKEN = "hvs.not-to-be-seen"
LOGIN = "POST /v1/auth/kubernetes/login"
MOUNT = "GET /v1/sys/internal/ui/mounts/secret"
READ = "GET /v1/secret/data/pdg"
REVOKE = "POST /v1/auth/token/revoke-self"


def login(kind="service"):
    return 200, {"auth": {"client_token": TOKEN, "token_type": kind}}


HEALTHY = {
    LOGIN: login(),
    MOUNT: (200, {"data": {"type": "kv", "path": "secret/", "options": {"version": "2"}}}),
    READ: (200, {"data": {"data": {"userID": "pdg"}, "metadata": {"version": 4}}}),
    REVOKE: (204, None),
}


class Server:
    """Answers each address: first those in `first`, then the healthy one; records the requests."""

    def __init__(self):
        self.first, self.asked, self.bodies = {}, [], []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                address = f"{self.command} {self.path}"
                server.asked.append((address, dict(self.headers)))
                queue = server.first.get(address, [])
                status, body = queue.pop(0) if queue else HEALTHY[address]
                if callable(body):
                    body = body()
                content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header(
                    "Content-Type", "text/html" if isinstance(body, str) else "application/json"
                )
                self.send_header("Content-Length", "0" if status == 204 else str(len(content)))
                self.end_headers()
                if status != 204:
                    self.wfile.write(content)

            do_GET = do_POST = do_PUT = answer  # noqa: N815 (http.server's names)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None  # of clients that go away, as some here do
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(
            target=self.http.serve_forever, kwargs={"poll_interval": 0.01}
        )

    def start(self):
        self.thread.start()
        return self

    def encrypt(self, folder, name):
        pki.Authority(folder).issue("vault", "vault", names=(name,))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "vault.crt", folder / "vault.key")
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.url = self.url.replace("http:", "https:")

    def times(self, address):
        return [asked for asked, _ in self.asked].count(address)

    def close(self):
        if self.thread.is_alive():
            self.http.shutdown()
            self.thread.join()
        self.http.server_close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Shorten the pauses, which would take a minute, and use no proxy of this machine."""
    monkeypatch.setattr("k8s_parsl.ceph_key.budget.FIRST_PAUSE_S", 0.01)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def read(server, tmp_path):
    """Read once, with some settings changed."""
    (tmp_path / "token").write_text("header.e30.signature\n")

    def read(budget=5.0, **change):
        auth = {"role": "pdg", "file": str(tmp_path / "token")} | change.pop("auth", {})
        data = {"url": server.url, "auth": auth, "kv": {"mount": "secret", "path": "pdg"}} | change
        if not server.thread.ident:
            server.start()
        return Vault(VaultSettings.model_validate_json(json.dumps(data)), Budget(budget)).read()

    return read


@pytest.mark.parametrize("status", [412, 429, 472, 473, 500, 501, 502, 503, 504])
@pytest.mark.parametrize("address", [LOGIN, MOUNT, READ])
def test_what_passes_is_tried_again(server, read, status, address):
    """Login too, which is a POST: urllib3's own retries leave that out."""
    server.first[address] = [
        (status, {"errors": ["in a moment"]}),
        (status, "<html>a proxy's page</html>"),
    ]
    reading = read()
    assert (reading.data["userID"].get_secret_value(), reading.version) == ("pdg", 4)
    assert server.times(address) == 3


@pytest.mark.parametrize("status", [400, 401, 404, 405])
@pytest.mark.parametrize("address", [LOGIN, READ])
def test_what_does_not_pass_is_reported_at_once(server, read, status, address):
    """A budget is no reason to let the user wait for an answer that is there."""
    server.first[address] = [(status, {"errors": ["no"]})]
    with pytest.raises(Failure) as caught:
        read()
    assert server.times(address) == 1
    assert caught.value.exit_code in (ExitCode.PERMISSION, ExitCode.CONFIGURATION)


@pytest.mark.parametrize(("refusals", "ended"), [(2, False), (3, True)])
def test_a_fresh_account_is_refused_twice_at_most(server, read, refusals, ended):
    """A third "permission denied" is meant."""
    server.first[LOGIN] = [(403, {"errors": ["permission denied"]})] * refusals
    if ended:
        with pytest.raises(
            Failure, match="denies this pod's ServiceAccount the login at auth/kubernetes"
        ):
            read()
    else:
        assert read().version == 4


# Vault's answers to a login, in the order of the table, and what its message names.
LOGIN_ANSWERS = [
    ("kubernetes", 400, 'invalid role name "pdg"', "vault.auth.role: auth/kubernetes has no role"),
    (
        "kubernetes",
        500,
        "could not load backend configuration",
        "vault write auth/kubernetes/config",
    ),
    ("kubernetes", 403, "service account name not authorized", "bound_service_account_names"),
    ("kubernetes", 403, "namespace not authorized", "bound_service_account_namespaces"),
    ("kubernetes", 403, "invalid audience (aud) claim", "the token is for audience 'a', 'b', but"),
    ("jwt", 400, "error validating claims: sub does not match", "bound_subject or bound_claims"),
    ("approle", 400, "invalid role or secret ID", "vault.auth.roleID 'r' and the secret ID in /c"),
    ("kubernetes", 403, "permission denied", "denies system:serviceaccount:a:b the login"),
    ("jwt", 403, "permission denied", "Vault denies the login at auth/jwt without a reason"),
]


@pytest.mark.parametrize(("row", "answer"), list(enumerate(LOGIN_ANSWERS)))
def test_each_refusal_of_a_login_names_what_to_change(row, answer):
    """One answer for each row of the table; no row hides a later one."""
    method, status, text, message = answer
    auth = {"method": method, "role": "pdg", "roleID": "r", "file": "/c"}
    data = {"url": "https://v", "auth": auth, "kv": {"mount": "secret", "path": "pdg"}}
    settings = VaultSettings.model_validate_json(json.dumps(data))
    claims = {"sub": "system:serviceaccount:a:b", "aud": ["a", "b"]}
    token = f"h.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()}.s"
    failure = login_refused(Refused(status, text, text, None), settings, SecretStr(token))
    assert message in str(failure)
    assert type(failure) is LOGIN_REFUSALS[row].error
    assert len(LOGIN_ANSWERS) == len(LOGIN_REFUSALS)


def test_a_403_with_a_reason_is_not_tried_again(server, read):
    """A new try would meet the same role."""
    server.first[LOGIN] = [(403, {"errors": ["namespace not authorized"]})] * 3
    with pytest.raises(Failure, match="bound_service_account_namespaces"):
        read()
    assert server.times(LOGIN) == 1


def test_the_budget_holds(server, read):
    """For all calls together; and the token is revoked in any case."""
    server.first[READ] = [(503, {"errors": ["Vault is sealed"]})] * 1000
    with pytest.raises(Unavailable, match=r"is sealed: unseal it .* \(tried for 1 s\)") as caught:
        read(budget=1)
    # Seven pauses, of at least 0.005 s and then twice that each time, are 0.6 s; the next has no
    # room.
    assert server.times(READ) <= 8
    assert caught.value.exit_code is ExitCode.UNAVAILABLE
    assert server.times(REVOKE) == 1


def test_a_server_that_hangs(server, read):
    """A request has its own time."""
    gone = threading.Event()
    server.first[LOGIN] = [(200, lambda: gone.wait(30) and "")] * 9
    with pytest.raises(Unavailable, match="does not answer: timed out"):
        read(budget=0.5, timeout=0.2)
    gone.set()


@pytest.mark.parametrize("read_answer", [HEALTHY[READ], (404, {"errors": []})], ids=["good", "bad"])
def test_the_token_is_revoked(server, read, read_answer):
    """After a successful read and after a failed one."""
    server.first[READ] = [read_answer]
    with contextlib.suppress(ConfigurationError):
        read()
    address, headers = server.asked[-1]
    assert (address, headers["X-Vault-Token"]) == (REVOKE, TOKEN)


def test_a_batch_token_cannot_be_revoked(server, read):
    """Vault would answer 400."""
    server.first[LOGIN] = [login("batch")]
    assert read().version == 4
    assert server.times(REVOKE) == 0


def test_a_token_that_cannot_be_revoked_is_no_reason_to_fail(server, read, caplog):
    """A role without Vault's default policy may not; the token has its own end."""
    server.first[REVOKE] = [(403, {"errors": ["permission denied"]})]
    with caplog.at_level(logging.WARNING):
        assert read().version == 4
    assert "could not be revoked" in caplog.text
    assert TOKEN not in caplog.text


def test_nothing_of_the_environment_gets_in(server, read, monkeypatch, tmp_path):
    """hvac would read a token from VAULT_TOKEN or the home folder, and send it with the login."""
    (tmp_path / ".vault-token").write_text("of the home")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VAULT_TOKEN", "of the environment")
    monkeypatch.setenv("VAULT_ADDR", "https://elsewhere.example.org")
    assert read(namespace="team").version == 4
    assert "X-Vault-Token" not in server.asked[0][1]
    assert {headers["X-Vault-Namespace"] for _, headers in server.asked} == {"team"}


def test_a_vault_without_namespaces_is_asked_without_one(server, read, monkeypatch):
    """Also where VAULT_NAMESPACE is set."""
    monkeypatch.setenv("VAULT_NAMESPACE", "of the environment")
    assert read().version == 4
    assert not any("X-Vault-Namespace" in headers for _, headers in server.asked)


def test_a_secret_id_that_vault_repeats_is_not_shown(server, read):
    """vault:builtin/credential/approle/path_login.go: `invalid secret_id %q`."""
    server.first["POST /v1/auth/approle/login"] = [
        (400, {"errors": ['what is "header.e30.signature"?']})
    ]
    with pytest.raises(Failure) as caught:
        read(auth={"method": "approle", "roleID": "x", "role": ""})
    assert "signature" not in str(caught.value)
    assert 'what is "..."?' in str(caught.value)


def test_what_was_read_does_not_show_itself(read):
    """Not by a repr in a log or a traceback."""
    reading = read()
    assert "pdg" not in repr(reading)


def test_some_other_server(server, read):
    """A page with 200 is no login."""
    server.first[LOGIN] = [(200, "<html>Welcome</html>")]
    with pytest.raises(
        ConfigurationError, match=r"vault\.url: the server at http://127.0.0.1:\d+ is not Vault"
    ):
        read()


def test_a_login_without_a_token(server, read):
    """Vault Enterprise asks for a second factor so."""
    server.first[LOGIN] = [(200, {"auth": {"client_token": "", "mfa_requirement": {}}})]
    with pytest.raises(ConfigurationError, match="accepts the login without a token"):
        read()


def test_a_private_authority(server, read, tmp_path):
    """A session of our own hides the CA file from hvac, unless it is set on the session."""
    server.encrypt(tmp_path / "pki", "127.0.0.1")
    assert read(caFile=str(tmp_path / "pki" / "ca.crt")).version == 4


def test_an_authority_that_was_not_given(server, read, tmp_path):
    """The chart's key is caBundle, and that is the one to name."""
    server.encrypt(tmp_path / "pki", "127.0.0.1")
    with pytest.raises(
        ConfigurationError, match=r"vault\.caBundle \(or caFile\): no CA in it has signed Vault's"
    ):
        read()
    assert server.asked == []


def test_a_certificate_for_another_name(server, read, tmp_path):
    """Distinguished from a wrong CA: the user has to change something else."""
    server.encrypt(tmp_path / "pki", "vault.example.org")
    with pytest.raises(
        ConfigurationError, match=r"vault\.url: Vault's certificate is not for this name"
    ):
        read(caFile=str(tmp_path / "pki" / "ca.crt"))
    assert server.asked == []


def test_a_server_without_tls(server, read):
    """At once, though it is a failed connection."""
    server.url = server.url.replace("http:", "https:")
    with pytest.raises(
        ConfigurationError, match=r"vault\.url: the server there does not speak TLS"
    ):
        read()


def test_a_server_with_tls_where_http_was_written(server, read):
    """Go's server says so in plain HTTP."""
    server.first[LOGIN] = [(400, "Client sent an HTTP request to an HTTPS server.\n")]
    with pytest.raises(ConfigurationError, match="speaks TLS: write https://"):
        read()


@pytest.mark.parametrize("seconds", [0.0, 0.4, 5.0, 60.0])
def test_a_budget_ends_in_time(monkeypatch, seconds):
    """No pause is begun that would outlast it, and none that has room is left out."""
    now = [1000.0]
    clock = SimpleNamespace(
        monotonic=lambda: now[0], sleep=lambda pause: now.append(now.pop() + pause)
    )
    monkeypatch.setattr("k8s_parsl.ceph_key.budget.time", clock)
    budget = Budget(seconds)
    while budget.wait("nothing"):
        pass
    spent = now[0] - 1000.0
    assert spent <= seconds <= spent + LONGEST_PAUSE_S
