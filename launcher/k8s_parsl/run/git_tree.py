"""What a commit's tree may hold: looked at before any of it is written, and once it is written."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from dulwich.errors import NotTreeError
from dulwich.index import validate_path_element_default
from dulwich.object_store import BaseObjectStore, tree_lookup_path
from dulwich.objects import S_ISGITLINK, Blob, Commit, ObjectID, ShaFile, Tree, parse_tree

from k8s_parsl.config.settings import Git
from k8s_parsl.run import git_client
from k8s_parsl_runtime.shared.errors import ConfigurationError, one_line

log = logging.getLogger(__name__)

# Git's own bound of a path is that of the system:
# https://man7.org/linux/man-pages/man3/limits.h.3posix.html
DEEPEST = 500
# The volume's sizeLimit (chart/templates/_mounts.tpl): kubelet evicts a pod that writes more into
# it.
MOST = 2**30
# Of an object's id.
SHA_BYTES = 20
POINTER = b"version https://git-lfs.github.com/spec/"
# Larger files are no Git LFS pointers.
POINTER_BYTES = 1024
# Names that a warning lists.
NAMED = 5

Entry = tuple[bytes, int, ObjectID]


def tree_of(git: Git, store: BaseObjectStore) -> ObjectID:
    """Return the id of the tree of ``git.path`` at ``git.commit``.

    Raises:
        ConfigurationError: there is no such commit, or no such folder in it.
    """
    commit = _object(store, ObjectID(git.commit.encode()))
    if not isinstance(commit, Commit):
        raise git_client.unknown(git)
    tree: ObjectID | None = commit.tree
    if git.path:
        tree = _folder(store, commit.tree, git.path)
    if tree is None or not isinstance(store[tree], Tree):
        raise ConfigurationError(
            f"workflow.git.path: {git.url} has no folder {git.path} at {git.commit[:12]}"
        )
    return tree


def _object(store: BaseObjectStore, sha: ObjectID) -> ShaFile | None:
    if sha not in store:
        return None
    return store[sha]


def _folder(store: BaseObjectStore, root: ObjectID, path: str) -> ObjectID | None:
    try:
        _, found = tree_lookup_path(store.__getitem__, root, path.encode())
    except (KeyError, NotTreeError):
        return None
    return found


def check(git: Git, store: BaseObjectStore, root: ObjectID) -> None:
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
        for entry, mode, sha in _checked_entries(git, store, path, tree):
            if stat.S_ISDIR(mode):
                folders.append((entry, sha))
            elif not S_ISGITLINK(mode):
                size += _checked_size(git, store, entry, mode, sha)
            if size > MOST:
                why = f"has more than {MOST >> 20} MiB of files, which is too much: use a volume"
                raise _bad(git, b"", why)


def _checked_entries(
    git: Git, store: BaseObjectStore, path: bytes, tree: ObjectID
) -> Iterator[Entry]:
    """Yield a folder's entries by their whole paths; refuse names that git does not allow."""
    seen: set[bytes] = set()
    for name, mode, sha in _entries(git, store, path, tree):
        entry = path + b"/" + name if path else name
        if not name or b"/" in name or not validate_path_element_default(name):
            raise _bad(git, entry, "is not a name that git allows")
        if name in seen:
            raise _bad(git, entry, "is listed twice")
        seen.add(name)
        yield entry, mode, sha


def _entries(git: Git, store: BaseObjectStore, path: bytes, sha: ObjectID) -> list[Entry]:
    tree = _object(store, sha)
    if not isinstance(tree, Tree):
        raise _bad(git, path, "is a folder that the repository does not hold")
    # Not by the object's own method, which keeps one of two entries of the same name.
    return list(cast("Iterator[Entry]", parse_tree(tree.as_raw_string(), SHA_BYTES)))


def _checked_size(git: Git, store: BaseObjectStore, entry: bytes, mode: int, sha: ObjectID) -> int:
    """Return a file's size in bytes; refuse what git would not check out."""
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise _bad(git, entry, f"is neither file, folder nor link (mode {mode:o})")
    if stat.S_ISLNK(mode) and entry.rpartition(b"/")[2].lower() == b".gitmodules":
        raise _bad(git, entry, "is a link, which git does not allow")
    blob = _object(store, sha)
    if not isinstance(blob, Blob):
        raise _bad(git, entry, "is a file that the repository does not hold")
    return int(blob.raw_length())


def _bad(git: Git, path: bytes, why: str) -> ConfigurationError:
    name = path[:200].decode(errors="replace") or "its root"
    return ConfigurationError(f"workflow.git: {git.described} cannot be checked out: {name} {why}")


def warn(folder: Path) -> None:
    """Warn of what was written, but is not as the authors of the code see it."""
    empty: list[Path] = []
    pointers: list[Path] = []
    leading_out: list[Path] = []
    for place, folders, files in os.walk(folder):
        here = Path(place)
        if not (folders or files) and here != folder:
            # Git keeps no empty folder.
            empty.append(here)
        for name in (*folders, *files):
            path = here / name
            if path.is_symlink():
                if not _stays(path, folder):
                    leading_out.append(path)
            elif _is_pointer(path):
                pointers.append(path)
    _warn_of(folder, empty, "submodules, which are not fetched, so that their folders are empty")
    _warn_of(folder, pointers, "Git LFS pointers, and not the files that they stand for")
    _warn_of(folder, leading_out, "links that lead out of the code")


def _warn_of(folder: Path, paths: list[Path], what: str) -> None:
    if not paths:
        return
    names = ", ".join(str(path.relative_to(folder)) for path in sorted(paths)[:NAMED])
    if len(paths) > NAMED:
        names += f" and {len(paths) - NAMED} more"
    log.warning("%s: %s", what, one_line(names))


def _is_pointer(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size >= POINTER_BYTES:
        return False
    return path.read_bytes().startswith(POINTER)


def _stays(link: Path, folder: Path) -> bool:
    target = os.path.normpath(link.parent / link.readlink())
    return Path(target).is_relative_to(folder)
