"""The workflow's code from a git repository at one commit, before launcher and workers start.

In a pod this is the init container's whole work; on a laptop the launcher calls it. Only files are
left: no history, no `.git`, no credentials. `git_client` fetches, `git_tree` checks; no other
module knows dulwich.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import resource
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from dulwich import pack
from dulwich.index import build_index_from_tree
from dulwich.repo import Repo

from k8s_parsl.config.settings import Git
from k8s_parsl.run import git_client, git_tree
from k8s_parsl_runtime.shared import memory
from k8s_parsl_runtime.shared.errors import (
    ConfigurationError,
    Failure,
    PermissionDenied,
    Temporary,
    describe,
)

log = logging.getLogger(__name__)

# Of the container's memory, what is not this process's data: its program, the kernel's own.
BESIDE = 32 * 2**20


def in_pod(git: Git, folder: Path, environment: Mapping[str, str]) -> None:
    """Do the init container's work.

    dulwich holds a file in memory two to five times. The kernel would kill a process that needs
    more than the container's limit, and no line would say so. So the process gets its own limit,
    beyond which Python raises.
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
        UsageError: a private repository's credentials are not in ``environment``.
        PermissionDenied: the server does not take them, or wants some; or ``folder`` cannot be
            written.
        ConfigurationError: there is no such repository, commit or folder, or it cannot be checked
            out.
        Unavailable: the server did not answer for a minute.
        Temporary: there is no room for it.
    """
    # Its warnings show addresses, in which a server that redirects may have put a token.
    logging.getLogger("urllib3").setLevel("ERROR")
    try:
        _checkout(git, folder, environment)
    except Failure as failure:
        raise type(failure)(_safe(str(failure), environment)) from None
    except MemoryError:
        raise _no_memory(git) from None
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise _no_memory(git) from None
        raise _not_written(error, folder) from None
    except Exception as error:  # noqa: BLE001 (of what the server sent: another try would get the same)
        text = f"workflow.git: {git.url} at {git.commit} cannot be checked out: {describe(error)}"
        raise ConfigurationError(_safe(text, environment)) from None
    git_tree.warn(folder)
    log.info("workflow code: %s", git.described)


def _checkout(git: Git, folder: Path, environment: Mapping[str, str]) -> None:
    # On disk, not in memory: an old server may send all of its history.
    with tempfile.TemporaryDirectory() as scratch, Repo.init_bare(scratch) as repository:
        git_client.fetch(git, environment, repository)
        store = repository.object_store
        tree = git_tree.tree_of(git, store)
        git_tree.check(git, store, tree)
        folder.mkdir(parents=True, exist_ok=True)
        build_index_from_tree(str(folder), f"{scratch}/index", store, tree)


def _safe(text: str, environment: Mapping[str, str]) -> str:
    """Return ``text`` without what may be a token.

    That is the password, and the user name and the query of an address.
    """
    password = environment.get(git_client.PASSWORD)
    if password:
        text = text.replace(password, "...")
        text = text.replace(quote(password, safe=""), "...")
    text = re.sub(r"(\w://)[^\s/'\"]*@", r"\1", text)
    return re.sub(r"(/[^\s?'\"]*)\?[^\s'\"]*", r"\1?...", text)


def _no_memory(git: Git) -> Failure:
    return ConfigurationError(
        f"workflow.git: {git.described}: its largest file needs more memory than"
        " launcher.resources.limits.memory lets checkout have: raise that to five times the file"
        " and 64Mi, or keep the file on a volume"
    )


def _not_written(error: OSError, folder: Path) -> Failure:
    """Return why the files could not be written.

    Only a lack of room is temporary, as another node's disk may have some; the folder would be the
    same in another pod.
    """
    where = os.fsdecode(error.filename or folder)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Temporary(f"workflow.git: there is no room for the code: {where}: {error.strerror}")
    if error.errno == errno.ENAMETOOLONG:
        return ConfigurationError(f"workflow.git: a name of its files is too long: {where}")
    return PermissionDenied(f"{folder} cannot be written: {error.strerror}")
