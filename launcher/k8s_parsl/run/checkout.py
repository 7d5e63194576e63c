"""The workflow's code from a git repository at one commit, before launcher and workers start.

The only module that knows dulwich. In a pod it is the init container's whole work; on a laptop the
launcher calls it. Nothing but files is left: no history, no `.git`, no credentials.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import resource
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from dulwich import pack
from dulwich.client import HttpGitClient, default_urllib3_manager
from dulwich.config import ConfigDict
from dulwich.errors import GitProtocolError, HangupException, NotTreeError
from dulwich.index import build_index_from_tree, validate_path_element_default
from dulwich.object_store import BaseObjectStore, tree_lookup_path
from dulwich.objects import S_ISGITLINK, Blob, Commit, ObjectID, Tree, parse_tree
from dulwich.repo import Repo

from k8s_parsl.config.settings import Git
from k8s_parsl_runtime.shared import memory
from k8s_parsl_runtime.shared.errors import (
    ConfigurationError,
    Failure,
    PermissionDenied,
    Temporary,
    Unavailable,
    UsageError,
    describe,
    one_line,
)

log = logging.getLogger(__name__)

# Where the chart puts what Secret `workflow.git.secret` holds, and a laptop's user the same.
USERNAME, PASSWORD = "K8S_PARSL_GIT_USERNAME", "K8S_PARSL_GIT_PASSWORD"
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


# Of the container's memory, what is not this process's data: its program, the kernel's own.
BESIDE = 32 * 2**20


def in_pod(git: Git, folder: Path, environment: Mapping[str, str]) -> None:
    """Do the init container's work.

    dulwich holds a file in memory two to five times. The kernel would kill a process that needs
    more than the container's limit, and no line would say so: so the process gets a limit of its
    own, beyond which Python raises.
    """
    limit = memory.limit()
    if limit is not None:
        most = max(limit - BESIDE, BESIDE)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        # Rust's, which dulwich takes where it can, ends the process where there is no memory.
        pack.apply_delta = pack._apply_delta_py  # noqa: SLF001
    checkout(git, folder, environment)


def checkout(git: Git, folder: Path, environment: Mapping[str, str]) -> None:
    """Put the files of ``git.path`` at ``git.commit`` into ``folder``; once more does no harm.

    Raises:
        UsageError: a private repository's credentials are not in ``environment``. PermissionDenied:
        the server does not take them, or wants some; or ``folder`` cannot be written.
        ConfigurationError: there is no such repository, commit or folder, or it cannot be checked
        out. Unavailable: the server did not answer for a minute. Temporary: there is no room for
        it.
    """
    # Its warnings show addresses, in which a server that sends on may have put a token.
    logging.getLogger("urllib3").setLevel("ERROR")
    try:
        _checkout(git, folder, environment)
    except Failure as failure:
        raise type(failure)(_safe(str(failure), environment)) from None
    except OSError as error:
        raise (
            _no_memory(git) if error.errno == errno.ENOMEM else _no_room(error, folder)
        ) from None
    except MemoryError:
        raise _no_memory(git) from None
    except Exception as error:  # noqa: BLE001 (of what the server sent: another try would get the same)
        raise ConfigurationError(
            _safe(
                f"workflow.git: {git.url} at {git.commit} cannot be checked out: {describe(error)}",
                environment,
            )
        ) from None
    _warn(folder)
    log.info("workflow code: %s", git.described)


def _checkout(git: Git, folder: Path, environment: Mapping[str, str]) -> None:
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
        _check(git, repository.object_store, tree)
        folder.mkdir(parents=True, exist_ok=True)
        build_index_from_tree(str(folder), f"{scratch}/index", repository.object_store, tree)


def _safe(text: str, environment: Mapping[str, str]) -> str:
    """Return ``text`` without what may be a token: the credentials, and of an address its user and
    its query.
    """
    for hidden in filter(
        None, (environment.get(PASSWORD), quote(environment.get(PASSWORD, ""), safe=""))
    ):
        text = text.replace(hidden, "...")
    text = re.sub(r"(\w://)[^\s/'\"]*@", r"\1", text)
    return re.sub(r"(/[^\s?'\"]*)\?[^\s'\"]*", r"\1?...", text)


def _no_memory(git: Git) -> Failure:
    return ConfigurationError(
        f"workflow.git: {git.described}: its largest file needs more memory than launcher.resources.limits.memory lets "
        "checkout have: raise that to five times the file and 64Mi, or keep the file on a volume"
    )


def _no_room(error: OSError, folder: Path) -> Failure:
    """Another node's disk may have room; in another pod the folder is as it is here."""
    where = os.fsdecode(error.filename or folder)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Temporary(f"workflow.git: there is no room for the code: {where}: {error.strerror}")
    if error.errno == errno.ENAMETOOLONG:
        return ConfigurationError(f"workflow.git: a name of its files is too long: {where}")
    return PermissionDenied(f"{folder} cannot be written: {error.strerror}")


class _Client(HttpGitClient):
    """dulwich's, which patiently asks again, and says by which status it was refused."""

    # The last answer has come to the files themselves (https://git-scm.com/docs/protocol-v2,
    # fetch).
    begun = False

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
        # Else dulwich would take a page for the files of a server without a protocol, as there once
        # were.
        if "/info/refs" in url and not str(response.content_type).startswith("application/x-git-"):
            response.close()
            raise ConfigurationError(
                f"workflow.git.url: {self._git.url} is no git repository, but a page"
            )
        self.begun = False

        def looked_at(size: int) -> bytes:
            content = read(size)
            self.begun = self.begun or content.startswith(b"packfile")
            return content

        return response, looked_at


def _proxy_of(url: str) -> ConfigDict:
    """As git's configuration: the environment's proxy, which dulwich itself looks for in small
    letters alone.
    """
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
            return ConfigurationError(
                f"workflow.git.url: there is no repository {git.url}{whom} (404)"
            )
        case _ if status in UNWELL:
            return Unavailable(f"workflow.git.url: {git.url} answered {status} for a minute")
        case _:
            return ConfigurationError(
                f"workflow.git.url: {git.url} answers {status}, as no git server does"
            )


def _fetch(client: _Client, git: Git, repository: Repo) -> None:
    """The one commit without its history; from a server that only gives what has a name, all
    branches and tags.

    Servers of protocol 2 (git 2.18, GitHub, GitLab) give any commit that they have.
    https://git-scm.com/docs/protocol-v2
    """
    commit = ObjectID(git.commit.encode())
    try:
        client.fetch("", repository, determine_wants=lambda *_, **__: [commit], depth=1)
    except GitProtocolError as error:
        if _no_answer(error):
            raise
        # Git itself says no more than that to a commit that it does not have.
        if client.begun and (
            isinstance(error, HangupException) or str(error).startswith("Length of pkt read")
        ):
            raise Unavailable(
                f"workflow.git.url: {git.url}: the connection broke off: {error}"
            ) from None
        if client.protocol_version == 2:
            as_usual = isinstance(error, HangupException) or "not our ref" in str(error)
            said = "" if as_usual else f"; the server says: {error}"
            raise _unknown(git, said) from None
        client.fetch("", repository)


def _no_answer(error: GitProtocolError) -> Exception | None:
    """What kept the server from answering, where it did not."""
    cause = error.__cause__
    return (
        getattr(cause, "reason", None) or cause
        if isinstance(cause, urllib3.exceptions.HTTPError)
        else None
    )


def _failure(git: Git, error: GitProtocolError) -> Failure:
    reason = _no_answer(error)
    if isinstance(reason, urllib3.exceptions.SSLError):
        return ConfigurationError(f"workflow.git.url: {git.url}: {reason}")
    if reason:
        return Unavailable(f"workflow.git.url: {git.url} does not answer: {reason}")
    return ConfigurationError(f"workflow.git.url: {git.url}: {error}")


def _unknown(git: Git, said: str = "") -> ConfigurationError:
    return ConfigurationError(
        f"workflow.git.commit: {git.url} has no commit {git.commit} (is it pushed?){said}"
    )


def _tree(git: Git, repository: Repo) -> ObjectID:
    store = repository.object_store
    commit = ObjectID(git.commit.encode())
    if commit not in store or not isinstance(found := store[commit], Commit):
        raise _unknown(git)
    try:
        _, tree = (
            tree_lookup_path(store.__getitem__, found.tree, git.path.encode())
            if git.path
            else (0, found.tree)
        )
    except (KeyError, NotTreeError):
        tree = None
    if tree is None or not isinstance(store[tree], Tree):
        raise ConfigurationError(
            f"workflow.git.path: {git.url} has no folder {git.path} at {git.commit[:12]}"
        )
    return tree


# What a tree may hold ------------------------------------------------------------------------------------------------

# Git's own bound of a path is that of the system:
# https://man7.org/linux/man-pages/man3/limits.h.3posix.html
DEEPEST = 500
# The volume's sizeLimit (chart/templates/_mounts.tpl): kubelet evicts a pod that writes more into
# it.
MOST = 2**30
# Of an object's id.
SHA_BYTES = 20
POINTER = b"version https://git-lfs.github.com/spec/"
# Names that a warning lists.
NAMED = 5


def _check(git: Git, store: BaseObjectStore, root: ObjectID) -> None:
    """Look at all of a tree before any of it is written.

    Raises:
        ConfigurationError: git itself would not make such a tree, or not check it out; names the
        entry.
    """
    folders = [(b"", root)]
    size = 0
    while folders:
        path, tree = folders.pop()
        if path.count(b"/") > DEEPEST:
            raise _bad(git, path, "is too deep")
        seen: set[bytes] = set()
        for name, mode, sha in _entries(git, store, path, tree):
            entry = path + b"/" + name if path else name
            if not name or b"/" in name or not validate_path_element_default(name):
                raise _bad(git, entry, "is no name that git allows")
            if name in seen:
                raise _bad(git, entry, "is there twice")
            seen.add(name)
            if stat.S_ISDIR(mode):
                folders.append((entry, sha))
            elif not S_ISGITLINK(mode):
                size += _checked_size(git, store, entry, mode, sha)
                if size > MOST:
                    raise _bad(
                        git,
                        b"",
                        f"has more than {MOST >> 20} MiB of files, which is too much: use a volume",
                    )


def _entries(
    git: Git, store: BaseObjectStore, path: bytes, sha: ObjectID
) -> list[tuple[bytes, int, ObjectID]]:
    if sha not in store or not isinstance(tree := store[sha], Tree):
        raise _bad(git, path, "is no folder that the repository holds")
    # Not by the object's own method, which keeps one of two entries of the same name.
    return list(
        cast("Iterator[tuple[bytes, int, ObjectID]]", parse_tree(tree.as_raw_string(), SHA_BYTES))
    )


def _checked_size(git: Git, store: BaseObjectStore, entry: bytes, mode: int, sha: ObjectID) -> int:
    """Return a file's bytes."""
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise _bad(git, entry, f"is neither file, folder nor link (mode {mode:o})")
    if stat.S_ISLNK(mode) and entry.rpartition(b"/")[2].lower() == b".gitmodules":
        raise _bad(git, entry, "is a link, which git does not allow")
    if sha not in store or not isinstance(blob := store[sha], Blob):
        raise _bad(git, entry, "is no file that the repository holds")
    return int(blob.raw_length())


def _bad(git: Git, path: bytes, why: str) -> ConfigurationError:
    name = path[:200].decode(errors="replace") or "its root"
    return ConfigurationError(f"workflow.git: {git.described} cannot be checked out: {name} {why}")


def _warn(folder: Path) -> None:
    """Say what is there, but not as who wrote the code has it."""
    empty, pointers, out = [], [], []
    for place, folders, files in os.walk(folder):
        here = Path(place)
        if not (folders or files) and here != folder:
            # Git keeps no empty folder.
            empty.append(here)
        for path in (here / name for name in (*folders, *files)):
            if path.is_symlink():
                if not _stays(path, folder):
                    out.append(path)
            elif (
                path.is_file()
                and path.stat().st_size < 1024
                and path.read_bytes().startswith(POINTER)
            ):
                pointers.append(path)
    for paths, what in (
        (empty, "submodules, which are not fetched, so that their folders are empty"),
        (pointers, "Git LFS pointers, and not the files that they stand for"),
        (out, "links that lead out of the code"),
    ):
        if paths:
            names = ", ".join(str(path.relative_to(folder)) for path in sorted(paths)[:NAMED])
            more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
            log.warning("%s: %s", what, one_line(f"{names}{more}"))


def _stays(link: Path, folder: Path) -> bool:
    target = os.path.normpath(link.parent / link.readlink())
    return Path(target).is_relative_to(folder)
