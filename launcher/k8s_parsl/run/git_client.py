"""The client of a git server: fetches one commit, and says why a server did not give it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from dulwich.client import HttpGitClient, default_urllib3_manager
from dulwich.config import ConfigDict
from dulwich.errors import GitProtocolError, HangupException
from dulwich.objects import ObjectID
from dulwich.repo import Repo

from k8s_parsl.config.settings import Git
from k8s_parsl_runtime.shared.errors import (
    ConfigurationError,
    Failure,
    PermissionDenied,
    Unavailable,
    UsageError,
)

# Where the chart puts what Secret `workflow.git.secret` holds, and a laptop's user the same.
USERNAME = "K8S_PARSL_GIT_USERNAME"
PASSWORD = "K8S_PARSL_GIT_PASSWORD"  # noqa: S105 (its name)
# Servers that go by the password alone, when it is a token, still want a name.
ANY_USER = "git"
# Of one connection, and of each read from it.
TIMEOUT_S = 30.0
# A server that may be well again in a moment.
UNWELL = (429, 500, 502, 503, 504)
# About a minute of pauses: 0, 2, 4, 8, 16, 30 seconds. Also after a POST, which changes nothing at
# the server.
PATIENCE = urllib3.Retry(
    6,
    backoff_factor=1,
    backoff_max=30,
    status_forcelist=UNWELL,
    allowed_methods=None,
    raise_on_status=False,
    retry_after_max=30,
)


def fetch(git: Git, environment: Mapping[str, str], repository: Repo) -> None:
    """Fetch the one commit into ``repository``.

    Raises:
        Failure: the server does not give it.
    """
    client = _Client(git, environment)
    try:
        _fetch(client, git, repository)
    except GitProtocolError as error:
        raise _failure(git, error) from None
    finally:
        client.pool_manager.clear()


class _Client(HttpGitClient):
    """dulwich's client, with patience for a server that is unwell, and words for a status."""

    # The last answer has come to the files themselves (https://git-scm.com/docs/protocol-v2,
    # fetch).
    begun = False

    def __init__(self, git: Git, environment: Mapping[str, str]) -> None:
        self._git = git
        password = environment.get(PASSWORD)
        user = None
        if password:
            user = environment.get(USERNAME) or ANY_USER
        elif git.secret:
            raise UsageError(
                f"workflow.git.secret: {PASSWORD} (and {USERNAME}) are not set; in a pod they are"
                f" read from Secret {git.secret}, on a laptop set them yourself"
            )
        pool = default_urllib3_manager(_proxy_of(git.url), base_url=git.url, timeout=TIMEOUT_S)
        pool.connection_pool_kw["retries"] = PATIENCE
        super().__init__(git.url, pool_manager=pool, username=user, password=password, quiet=True)

    def _http_request(
        self,
        url: str,
        headers: dict[str, str] | None = None,
        data: bytes | Iterator[bytes] | None = None,
        raise_for_status: bool = True,  # noqa: FBT001, FBT002 (dulwich's signature)
    ) -> tuple[Any, Callable[[int], bytes]]:
        response, read = super()._http_request(url, headers, data, raise_for_status=False)
        if raise_for_status and response.status != 200:
            response.close()
            raise _refused(self._git, response.status)
        # dulwich would take a page for the files of an old server, which spoke no protocol.
        if "/info/refs" in url and not str(response.content_type).startswith("application/x-git-"):
            response.close()
            raise ConfigurationError(
                f"workflow.git.url: {self._git.url} is a web page, not a git repository"
            )
        self.begun = False

        def noted(size: int) -> bytes:
            content = read(size)
            self.begun = self.begun or content.startswith(b"packfile")
            return content

        return response, noted


def _proxy_of(url: str) -> ConfigDict:
    """Return the environment's proxy as git's configuration.

    dulwich itself reads `https_proxy`, but not `HTTPS_PROXY`.
    """
    address = urlsplit(url)
    config = ConfigDict()
    proxy = getproxies().get(address.scheme)
    if proxy and not proxy_bypass(address.netloc):
        config.set(b"http", b"proxy", proxy.encode())
    return config


def _refused(git: Git, status: int) -> Failure:
    if status in (401, 403):
        return _not_permitted(git, status)
    if status == 404:
        whom = f" for the credentials of {git.secret}" if git.secret else ""
        return ConfigurationError(f"workflow.git.url: there is no repository {git.url}{whom} (404)")
    if status in UNWELL:
        return Unavailable(f"workflow.git.url: {git.url} answered {status} for a minute")
    return ConfigurationError(
        f"workflow.git.url: {git.url} answered {status}, which no git server does"
    )


def _not_permitted(git: Git, status: int) -> Failure:
    if git.secret:
        return PermissionDenied(
            f"workflow.git.secret: {git.url} refuses the credentials of {git.secret} ({status})"
        )
    return PermissionDenied(
        f"workflow.git.url: {git.url} wants credentials ({status}): it is private"
        " (workflow.git.secret), or there is no such repository"
    )


def _fetch(client: _Client, git: Git, repository: Repo) -> None:
    """Fetch the one commit without its history.

    Servers of protocol 2 (git 2.18, GitHub, GitLab) give any commit that they have. Others only
    give what has a name: from them come all branches and tags.
    https://git-scm.com/docs/protocol-v2
    """
    commit = ObjectID(git.commit.encode())
    try:
        client.fetch("", repository, determine_wants=lambda *_, **__: [commit], depth=1)
    except GitProtocolError as error:
        if _no_answer(error):
            raise
        if client.begun and _is_broken_off(error):
            raise Unavailable(
                f"workflow.git.url: {git.url}: the connection broke off: {error}"
            ) from None
        if client.protocol_version == 2:
            raise unknown(git, _unusual(error)) from None
        client.fetch("", repository)


def _is_broken_off(error: GitProtocolError) -> bool:
    return isinstance(error, HangupException) or str(error).startswith("Length of pkt read")


def _unusual(error: GitProtocolError) -> str:
    """Return what a server says that does not have a commit, where it is not git's usual answer."""
    if isinstance(error, HangupException) or "not our ref" in str(error):
        return ""
    return f"; the server says: {error}"


def _no_answer(error: GitProtocolError) -> Exception | None:
    """Return what kept the server from answering; None where it answered."""
    cause = error.__cause__
    if isinstance(cause, urllib3.exceptions.HTTPError):
        return getattr(cause, "reason", None) or cause
    return None


def _failure(git: Git, error: GitProtocolError) -> Failure:
    reason = _no_answer(error)
    if isinstance(reason, urllib3.exceptions.SSLError):
        return ConfigurationError(f"workflow.git.url: {git.url}: {reason}")
    if reason:
        return Unavailable(f"workflow.git.url: {git.url} does not answer: {reason}")
    return ConfigurationError(f"workflow.git.url: {git.url}: {error}")


def unknown(git: Git, said: str = "") -> ConfigurationError:
    """Return the failure of a commit that the server does not have."""
    return ConfigurationError(
        f"workflow.git.commit: {git.url} has no commit {git.commit} (is it pushed?){said}"
    )
