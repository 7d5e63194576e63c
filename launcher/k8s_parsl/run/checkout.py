"""The workflow's code from a git repository at one commit, before launcher and workers start.

The only module that knows dulwich. In a pod it is the init container's whole work; on a laptop the launcher calls it.
Nothing but files is left: no history, no `.git`, no credentials.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from dulwich.client import HttpGitClient, default_urllib3_manager
from dulwich.config import ConfigDict
from dulwich.errors import GitProtocolError, NotTreeError
from dulwich.index import build_index_from_tree
from dulwich.object_store import tree_lookup_path
from dulwich.objects import Commit, ObjectID, Tree
from dulwich.repo import Repo

from k8s_parsl.config.settings import Git
from k8s_parsl_runtime.shared.errors import ConfigurationError, Failure, PermissionDenied, Unavailable, UsageError

log = logging.getLogger(__name__)

# Where the chart puts what Secret `workflow.git.secret` holds, and a laptop's user the same.
USERNAME, PASSWORD = "K8S_PARSL_GIT_USERNAME", "K8S_PARSL_GIT_PASSWORD"
# Servers that go by the password alone, when it is a token, still want a name.
ANY_USER = "git"
# Of one connection, and of each read from it.
TIMEOUT_S = 30.0
# A server that may be well again in a moment.
UNWELL = (429, 500, 502, 503, 504)
# About a minute of pauses: 0, 2, 4, 8, 16, 30 seconds. Also after a POST, which changes nothing at the server.
PATIENCE = urllib3.Retry(
    6,
    backoff_factor=1,
    backoff_max=30,
    status_forcelist=UNWELL,
    allowed_methods=None,
    raise_on_status=False,
    retry_after_max=30,
)


def checkout(git: Git, folder: Path, environment: Mapping[str, str]) -> None:
    """Put the files of ``git.path`` at ``git.commit`` into ``folder``; once more does no harm.

    Raises:
        UsageError: a private repository's credentials are not in ``environment``.
        PermissionDenied: the server does not take them, or wants some; or ``folder`` cannot be written.
        ConfigurationError: there is no such repository, commit or folder.
        Unavailable: the server did not answer for a minute.
    """
    client = _Client(git, environment)
    # On disk, not in memory: an old server may send all of its history.
    with tempfile.TemporaryDirectory() as scratch, Repo.init_bare(scratch) as repository:
        try:
            _fetch(client, git, repository)
        except GitProtocolError as error:
            raise _failure(git, error) from None
        finally:
            client.pool_manager.clear()
        tree = _tree(git, repository)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            build_index_from_tree(str(folder), f"{scratch}/index", repository.object_store, tree)
        except OSError as error:
            raise PermissionDenied(f"{folder} cannot be written: {error.strerror}") from None
    log.info("workflow code: %s", git.described)


class _Client(HttpGitClient):
    """dulwich's, which patiently asks again, and says by which status it was refused."""

    def __init__(self, git: Git, environment: Mapping[str, str]) -> None:
        self._git, password = git, environment.get(PASSWORD)
        if git.secret and not password:
            raise UsageError(
                f"workflow.git.secret: {PASSWORD} (and {USERNAME}) are not set; in a pod they are read from Secret "
                f"{git.secret}, on a laptop set them yourself"
            )
        pool = default_urllib3_manager(_proxy_of(git.url), base_url=git.url, timeout=TIMEOUT_S)
        pool.connection_pool_kw["retries"] = PATIENCE
        user = (environment.get(USERNAME) or ANY_USER) if password else None
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
        # Else dulwich would take a page for the files of a server without a protocol, as there once were.
        if "/info/refs" in url and not str(response.content_type).startswith("application/x-git-"):
            response.close()
            raise ConfigurationError(f"workflow.git.url: {self._git.url} is no git repository, but a page")
        return response, read


def _proxy_of(url: str) -> ConfigDict:
    """As git's configuration: the environment's proxy, which dulwich itself looks for in small letters alone."""
    place, config = urlsplit(url), ConfigDict()
    proxy = getproxies().get(place.scheme)
    if proxy and not proxy_bypass(place.netloc):
        config.set(b"http", b"proxy", proxy.encode())
    return config


def _refused(git: Git, status: int) -> Failure:
    match status:
        case 401 | 403 if git.secret:
            return PermissionDenied(
                f"workflow.git.secret: {git.url} refuses the credentials of {git.secret} ({status})"
            )
        case 401 | 403:
            return PermissionDenied(
                f"workflow.git.url: {git.url} wants credentials ({status}): it is private (workflow.git.secret), or "
                "there is no such repository"
            )
        case 404:
            whom = f" for the credentials of {git.secret}" if git.secret else ""
            return ConfigurationError(f"workflow.git.url: there is no repository {git.url}{whom} (404)")
        case _ if status in UNWELL:
            return Unavailable(f"workflow.git.url: {git.url} answered {status} for a minute")
        case _:
            return ConfigurationError(f"workflow.git.url: {git.url} answers {status}, as no git server does")


def _fetch(client: _Client, git: Git, repository: Repo) -> None:
    """The one commit without its history; from a server that only gives what has a name, all branches and tags.

    Servers of protocol 2 (git 2.18, GitHub, GitLab) give any commit that they have.
    https://git-scm.com/docs/protocol-v2
    """
    commit = ObjectID(git.commit.encode())
    try:
        client.fetch("", repository, determine_wants=lambda *_, **__: [commit], depth=1)
    except GitProtocolError as error:
        if _no_answer(error):
            raise
        if client.protocol_version == 2:
            raise _unknown(git) from None
        client.fetch("", repository)


def _no_answer(error: GitProtocolError) -> Exception | None:
    """What kept the server from answering, where it did not."""
    cause = error.__cause__
    return getattr(cause, "reason", None) or cause if isinstance(cause, urllib3.exceptions.HTTPError) else None


def _failure(git: Git, error: GitProtocolError) -> Failure:
    reason = _no_answer(error)
    if isinstance(reason, urllib3.exceptions.SSLError):
        return ConfigurationError(f"workflow.git.url: {git.url}: {reason}")
    if reason:
        return Unavailable(f"workflow.git.url: {git.url} does not answer: {reason}")
    return ConfigurationError(f"workflow.git.url: {git.url}: {error}")


def _unknown(git: Git) -> ConfigurationError:
    return ConfigurationError(f"workflow.git.commit: {git.url} has no commit {git.commit} (is it pushed?)")


def _tree(git: Git, repository: Repo) -> ObjectID:
    store = repository.object_store
    commit = ObjectID(git.commit.encode())
    if commit not in store or not isinstance(found := store[commit], Commit):
        raise _unknown(git)
    try:
        _, tree = tree_lookup_path(store.__getitem__, found.tree, git.path.encode()) if git.path else (0, found.tree)
    except (KeyError, NotTreeError):
        tree = None
    if tree is None or not isinstance(store[tree], Tree):
        raise ConfigurationError(f"workflow.git.path: {git.url} has no folder {git.path} at {git.commit[:12]}")
    return tree
