"""`k8s-parsl checkout` and git servers: real git, behind an HTTP server that fails on demand."""

from __future__ import annotations

import contextlib
import errno
import os
import ssl
import subprocess
import sys
import zlib

import pytest
import urllib3
from quick import quick

from k8s_parsl.config.settings import Git, Settings
from k8s_parsl.run import checkout, git_client, git_tree
from k8s_parsl_runtime.shared.errors import (
    ConfigurationError,
    Failure,
    PermissionDenied,
    Temporary,
    Unavailable,
    UsageError,
)
from launcher.git_server import GitServer, git
from testbed import pki

NOWHERE = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def repository(tmp_path):
    """A bare one, `served/flows.git`; the ids of its two commits."""
    work = tmp_path / "work"
    (work / "flows").mkdir(parents=True)
    git(work, "init", "--quiet", "--initial-branch", "main")
    (work / "README").write_text("about\n")
    (work / "flows" / "flow.py").write_text("VERSION = 1\n")
    (work / "flows" / "run.sh").write_text("#!/bin/sh\n")
    (work / "flows" / "run.sh").chmod(0o755)
    (work / "flows" / "link.py").symlink_to("flow.py")
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "--message", "one")
    (work / "flows" / "flow.py").write_text("VERSION = 2\n")
    git(work, "commit", "--quiet", "--all", "--message", "two")
    git(tmp_path, "clone", "--quiet", "--bare", "work", "served/flows.git")
    return git(work, "rev-parse", "HEAD~1"), git(work, "rev-parse", "HEAD")


@pytest.fixture
def server(tmp_path, repository, monkeypatch):
    monkeypatch.setattr(
        git_client, "PATIENCE", urllib3.Retry(2, backoff_factor=0.01, allowed_methods=None)
    )
    # A proxy of this machine is not for the server here.
    monkeypatch.setenv("no_proxy", "127.0.0.1,127.0.0.2")
    server = GitServer(tmp_path / "served")
    yield server
    server.close()


@pytest.fixture
def fetch(server, repository, tmp_path):
    """Fetch the first commit, with `over`, into the folder `code`; that folder."""

    def fetch(environment=None, **over):
        given = {"url": f"{server.url}/flows.git", "commit": repository[0]} | over
        checkout.checkout(Git(**given), tmp_path / "code", environment or {})
        return tmp_path / "code"

    return fetch


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.parametrize("old", [False, True], ids=["protocol 2", "protocol 0"])
def test_the_files_are_those_of_the_commit_and_nothing_else(fetch, server, old):
    """Not the branch's newest; modes and links as they are, no history beside them."""
    server.old = old
    code = fetch()
    assert files(code) == ["README", "flows/flow.py", "flows/link.py", "flows/run.sh"]
    assert (code / "flows/flow.py").read_text() == "VERSION = 1\n"
    assert (code / "flows/link.py").readlink().name == "flow.py"
    assert os.access(code / "flows/run.sh", os.X_OK)


def test_only_that_commit_travels(fetch, server, repository, monkeypatch):
    """A long history would cost every worker pod its time."""
    fetched = []

    def noted(*arguments):
        store = arguments[2]
        fetched.extend(one for one in store if store[one].type_name == b"commit")

    monkeypatch.setattr(checkout, "build_index_from_tree", noted)
    fetch(commit=repository[1])
    assert fetched == [repository[1].encode()]


def test_a_folder_of_the_repository_takes_the_place_of_all_of_it(fetch):
    assert files(fetch(path="flows")) == ["flow.py", "link.py", "run.sh"]


def test_once_more_does_no_harm(fetch):
    """A pod whose sandbox is created again runs its init containers again, on the same emptyDir."""
    code = fetch()
    (code / "flows/flow.py").write_text("half of i")
    assert (fetch() / "flows/flow.py").read_text() == "VERSION = 1\n"


def test_a_server_that_gives_only_what_has_a_name_is_asked_for_all_branches_and_tags(
    fetch, server, repository
):
    server.old = server.tips_only = True
    assert (fetch(commit=repository[0]) / "flows/flow.py").read_text() == "VERSION = 1\n"
    with pytest.raises(
        ConfigurationError, match=f"workflow.git.commit: .* has no commit {NOWHERE}"
    ):
        fetch(commit=NOWHERE)


# What can be wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("over", "status", "failure", "line"),
    [
        (
            {"commit": NOWHERE},
            0,
            ConfigurationError,
            "workflow.git.commit: {url}/flows.git has no commit 01234567",
        ),
        (
            {"path": "nope"},
            0,
            ConfigurationError,
            "workflow.git.path: {url}/flows.git has no folder nope at ",
        ),
        (
            {"path": "README"},
            0,
            ConfigurationError,
            "workflow.git.path: {url}/flows.git has no folder README at ",
        ),
        (
            {"path": "README/x"},
            0,
            ConfigurationError,
            "workflow.git.path: {url}/flows.git has no folder README/x at ",
        ),
        (
            {},
            404,
            ConfigurationError,
            "workflow.git.url: there is no repository {url}/flows.git (404)",
        ),
        (
            {},
            200,
            ConfigurationError,
            "workflow.git.url: {url}/flows.git is a web page, not a git repository",
        ),
        ({}, 400, ConfigurationError, "workflow.git.url: {url}/flows.git answered 400"),
        ({}, 401, PermissionDenied, "workflow.git.url: {url}/flows.git wants credentials (401)"),
        ({}, 403, PermissionDenied, "workflow.git.url: {url}/flows.git wants credentials (403)"),
        ({}, 429, Unavailable, "workflow.git.url: {url}/flows.git answered 429"),
        ({}, 503, Unavailable, "workflow.git.url: {url}/flows.git answered 503"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_key(fetch, server, over, status, failure, line):
    server.status = status
    with pytest.raises(failure) as caught:
        fetch(**over)
    assert str(caught.value).startswith(line.format(url=server.url))
    assert "\n" not in str(caught.value)


def test_a_repository_that_is_not_there(fetch, server):
    with pytest.raises(ConfigurationError, match="there is no repository"):
        fetch(url=f"{server.url}/none.git")


def test_a_dead_server_is_asked_again_then_unavailable(fetch, server):
    """A new launcher, or another worker pod, may find it back."""
    server.close()
    with pytest.raises(
        Unavailable, match=r"workflow\.git\.url: .* does not answer: .*Connection refused"
    ):
        fetch()


def test_a_server_that_comes_back_in_time_is_no_failure(fetch, server, monkeypatch):
    monkeypatch.setattr(git_client, "PATIENCE", git_client.PATIENCE.new(status_forcelist=[503]))
    server.answers = iter([503, 503])
    assert files(fetch())


def test_a_server_without_the_certificate_that_it_should_have_is_not_waited_for(fetch, server):
    with pytest.raises(ConfigurationError, match=r"workflow\.git\.url: https://.* \[SSL"):
        fetch(url=f"{server.url.replace('http', 'https')}/flows.git")


def test_a_folder_that_cannot_be_written(fetch, tmp_path):
    (tmp_path / "code").write_text("a file")
    with pytest.raises(PermissionDenied, match="code cannot be written: File exists"):
        fetch()


# Trees that git would not make ----------------------------------------------------------------------------------------

FILE, EXECUTABLE, FOLDER, LINK, SUBMODULE = b"100644", b"100755", b"40000", b"120000", b"160000"


class Forge:
    """Makes objects of any content in the served repository, by real git."""

    def __init__(self, folder):
        self.folder = folder
        git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
        self.file = self.made("blob", b"VERSION = 1\n")
        self.inner = self.tree((FILE, b"file", self.file))

    def made(self, kind, content):
        words = ["git", "hash-object", "-w", "-t", kind, "--stdin", "--literally"]
        done = subprocess.run(
            words, cwd=self.folder, input=content, capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    def link(self, target):
        return self.made("blob", target)

    def tree(self, *entries):
        return self.made(
            "tree",
            b"".join(b"%s %s\0%s" % (mode, name, bytes.fromhex(of)) for mode, name, of in entries),
        )

    def commit(self, *entries):
        who = b"a <a@example.org> 1 +0000"
        text = b"tree %s\nauthor %s\ncommitter %s\n\nm\n" % (self.tree(*entries).encode(), who, who)
        commit = self.made("commit", text)
        git(self.folder, "update-ref", f"refs/heads/{commit}", commit)
        return commit

    def deep(self):
        tree = self.inner
        for _ in range(600):
            tree = self.tree((FOLDER, b"d", tree))
        return (FOLDER, b"d", tree)


@pytest.fixture
def forge(server, tmp_path):
    return Forge(tmp_path / "served" / "flows.git")


@pytest.mark.parametrize(
    ("entries", "line"),
    [
        (lambda of: [(FOLDER, b"..", of.inner)], ".. is not a name that git allows"),
        (lambda of: [(FILE, b".", of.file)], ". is not a name that git allows"),
        (lambda of: [(FOLDER, b".git", of.inner)], ".git is not a name that git allows"),
        (lambda of: [(FILE, b".GIT", of.file)], ".GIT is not a name that git allows"),
        (lambda of: [(FILE, b"a/b", of.file)], "a/b is not a name that git allows"),
        (lambda of: [(FILE, b"/tmp/evil", of.file)], "/tmp/evil is not a name that git allows"),
        (
            lambda of: [(FOLDER, b"a", of.tree((FOLDER, b"..", of.inner)))],
            "a/.. is not a name that git allows",
        ),
        (lambda of: [(FILE, b"a", of.file), (FILE, b"a", of.link(b"x"))], "a is listed twice"),
        (
            lambda of: [(LINK, b"a", of.link(b"/tmp")), (FOLDER, b"a", of.inner)],
            "a is listed twice",
        ),
        (
            lambda of: [(LINK, b".gitmodules", of.link(b"/etc/passwd"))],
            ".gitmodules is a link, which git does not",
        ),
        (
            lambda of: [(b"10644", b"pipe", of.file)],
            "pipe is neither file, folder nor link (mode 10644)",
        ),
        (lambda of: [(FILE, b"a", of.inner)], "a is a file that the repository does not hold"),
        (lambda of: [of.deep()], "is too deep"),
        (lambda of: [(FILE, b"n" * 300, of.file)], "a name of its files is too long"),
    ],
)
def test_a_tree_that_cannot_be_checked_out_ends_the_run(fetch, forge, tmp_path, entries, line):
    """By a code that no launcher tries again, and a line that names the entry.

    Nothing is written beside the code.
    """
    before = {path for path in tmp_path.rglob("*") if "served" not in path.parts}
    with pytest.raises(ConfigurationError) as caught:
        fetch(commit=forge.commit(*entries(forge)))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 78
    made = {path for path in tmp_path.rglob("*") if "served" not in path.parts} - before
    assert all(path.is_relative_to(tmp_path / "code") for path in made)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (
            lambda of: [(FILE, b"f.py", of.file), (SUBMODULE, b"sub", NOWHERE)],
            "submodules, which are not fetched",
        ),
        (
            lambda of: [
                (
                    FILE,
                    b"sub",
                    of.made("blob", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
                )
            ],
            "Git LFS pointers, and not the files that they stand for: sub",
        ),
        (lambda of: [(LINK, b"sub", of.link(b"/data"))], "links that lead out of the code: sub"),
        (
            lambda of: [(LINK, b"sub", of.link(b"../../etc"))],
            "links that lead out of the code: sub",
        ),
    ],
    ids=["submodule", "LFS", "absolute link", "relative link"],
)
def test_what_is_not_what_it_looks_like_is_reported(fetch, forge, caplog, entries, said):
    """The code may do without it, so the run goes on."""
    assert os.path.lexists(fetch(commit=forge.commit(*entries(forge))) / "sub")
    assert said in caplog.text


def test_names_that_differ_by_case_alone_and_names_of_any_bytes_are_files_like_any_other(
    fetch, forge, caplog
):
    names = (b"A", b"a", b"\xe9.py", b"with\nnewline")
    code = fetch(commit=forge.commit(*((FILE, name, forge.file) for name in names)))
    assert sorted(os.fsencode(path.name) for path in code.iterdir()) == sorted(names)
    assert "WARNING" not in caplog.text


def test_nothing_is_written_through_a_link_that_is_there(fetch, forge, tmp_path):
    """An init container that runs again finds what the first one made."""
    (tmp_path / "elsewhere").mkdir()
    link = forge.link(os.fsencode(tmp_path / "elsewhere"))
    fetch(commit=forge.commit((LINK, b"a", link)))
    with contextlib.suppress(ConfigurationError):
        fetch(commit=forge.commit((FOLDER, b"a", forge.inner)))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_repository_without_a_commit(fetch, server, tmp_path):
    git(tmp_path, "init", "--quiet", "--bare", "served/empty.git")
    with pytest.raises(ConfigurationError, match=r"workflow\.git\.commit: .* has no commit"):
        fetch(url=f"{server.url}/empty.git")


@pytest.mark.parametrize("kind", ["tree", "blob", "tag"])
def test_an_id_of_something_else_is_no_commit(fetch, forge, repository, kind):
    git(forge.folder, "tag", "--annotate", "--message", "x", "one", repository[0])
    ids = {"tree": f"{repository[0]}^{{tree}}", "blob": f"{repository[0]}:README", "tag": "one"}
    with pytest.raises(ConfigurationError, match="has no commit"):
        fetch(commit=git(forge.folder, "rev-parse", ids[kind]))


@pytest.mark.parametrize(
    ("number", "failure"),
    [(errno.ENOSPC, Temporary), (errno.EDQUOT, Temporary), (errno.EACCES, PermissionDenied)],
)
def test_a_disk_without_room_is_another_nodes_to_try(fetch, monkeypatch, number, failure):
    def full(*_):
        raise OSError(number, os.strerror(number), "/checkout/a")

    monkeypatch.setattr(checkout, "build_index_from_tree", full)
    with pytest.raises(failure, match=os.strerror(number)):
        fetch()


@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
def test_a_connection_that_breaks_off_is_tried_again(fetch, server, part):
    """By the next launcher: the commit may well be there."""
    server.cut = part
    with pytest.raises(Unavailable, match="the connection broke off"):
        fetch()


def test_what_git_cannot_read_ends_the_run(fetch, monkeypatch):
    def unreadable(*_):
        raise zlib.error("Error -3 while decompressing data")

    monkeypatch.setattr(git_tree, "tree_of", unreadable)
    with pytest.raises(
        ConfigurationError, match="cannot be checked out: error: Error -3 while decompressing"
    ):
        fetch()


# Networks ------------------------------------------------------------------------------------------------------------


def test_a_private_ca(fetch, tmp_path, monkeypatch):
    """As docs/user/own-workflow.md says: by the variable that OpenSSL reads."""
    authority = pki.Authority(tmp_path / "pki")
    authority.issue("git", "git", names=("127.0.0.1",))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "pki" / "git.crt", tmp_path / "pki" / "git.key")
    server = GitServer(tmp_path / "served", tls=tls)
    try:
        with pytest.raises(ConfigurationError, match="CERTIFICATE_VERIFY_FAILED"):
            fetch(url=f"{server.url}/flows.git")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "pki" / "ca.crt"))
        assert files(fetch(url=f"{server.url}/flows.git"))
    finally:
        server.close()


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
def test_a_proxy(fetch, server, monkeypatch, variable):
    """By the variable of docs/user/own-workflow.md, in upper case or lower case."""
    monkeypatch.setenv(variable, server.url)
    assert files(fetch(url="http://git.example.org/flows.git"))
    assert server.requests[0].startswith("http://git.example.org/flows.git/info/refs")


def test_a_server_that_needs_no_proxy(fetch, server, monkeypatch):
    """By `no_proxy`, which the fixture sets."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert files(fetch())


# Private repositories ------------------------------------------------------------------------------------------------

SECRET = {git_client.USERNAME: "ada", git_client.PASSWORD: "t0ken"}


def test_a_private_repository(fetch, server):
    server.credentials = "ada:t0ken"
    assert files(fetch(SECRET, secret="pdg-git"))


def test_a_token_needs_no_name(fetch, server):
    """Servers that know a user by the token take any."""
    server.credentials = "git:t0ken"
    assert files(fetch({git_client.PASSWORD: "t0ken"}, secret="pdg-git"))


def test_credentials_that_are_refused(fetch, server):
    """The line names the Secret, and shows nothing of what is in it."""
    server.credentials = "ada:another"
    with pytest.raises(
        PermissionDenied,
        match=r"workflow\.git\.secret: .* refuses the credentials of pdg-git \(401\)",
    ):
        fetch(SECRET, secret="pdg-git")


def test_a_secret_that_is_not_handed_over(fetch, server):
    """On a laptop: there is no Secret."""
    with pytest.raises(
        UsageError, match=r"workflow\.git\.secret: K8S_PARSL_GIT_PASSWORD .* Secret pdg-git"
    ):
        fetch(secret="pdg-git")
    assert server.requests == []


def test_another_server_does_not_get_the_credentials(fetch, server):
    """That of a redirection."""
    other = GitServer(server.root, "127.0.0.2")
    try:
        server.credentials, server.redirect = "ada:t0ken", other.url
        assert files(fetch(SECRET, secret="pdg-git"))
        assert len(other.requests) > 1
        assert other.authorizations == {None}
    finally:
        other.close()


TOKENS = [
    "https://ada:t0ken@git.example.org/flows.git",
    "https://t0ken@git.example.org/flows.git",
    "https://git.example.org/flows.git?private_token=t0ken",
    "https://git.example.org/flows.git#t0ken",
    "http://ada:t0ken%40git.example.org/flows.git",
    "ssh://ada:t0ken@git.example.org/flows.git",
    "ada:t0ken@git.example.org:flows.git",
]


@pytest.mark.parametrize("url", TOKENS)
def test_an_address_with_a_token_is_refused_and_not_shown(tmp_path, url):
    """It would stand in the Job and in each pod."""
    words = ["checkout", f"--url={url}", f"--commit={NOWHERE}", str(tmp_path / "code")]
    done = subprocess.run(
        [sys.executable, "-m", "k8s_parsl", *words], capture_output=True, text=True
    )
    assert done.returncode == 64
    assert done.stderr.splitlines()[-1].startswith("k8s-parsl: workflow.git: url must be https://")
    assert "t0ken" not in done.stdout + done.stderr
    with pytest.raises(UsageError) as caught:
        Settings.parse(
            {"workflow": {"call": "a:b", "git": {"url": url, "commit": NOWHERE}}}, "values"
        )
    assert "t0ken" not in str(caught.value)


@pytest.mark.parametrize(
    "place", ["http://me:t0ken@127.0.0.1:9/x?token=t0ken", "{url}/none.git/info/refs?token=t0ken"]
)
def test_a_token_in_a_redirection_is_not_shown(fetch, server, caplog, capfd, place):
    server.credentials, server.redirect = "ada:t0ken", place.format(url=server.url) + "#"
    with pytest.raises(Failure) as caught:
        fetch(SECRET, secret="pdg-git")
    assert "t0ken" not in f"{caught.value}{caplog.text}{capfd.readouterr()}"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("at https://ada:p%40ss@h/x failed", "at https://h/x failed"),
        ("url: /x?token=abc (Caused by 'no')", "url: /x?... (Caused by 'no')"),
        ("'http://h/x?a=b'", "'http://h/x?...'"),
        ("p@ss and p%40ss", "... and ..."),
        ("has no commit (is it pushed?)", "has no commit (is it pushed?)"),
    ],
)
def test_what_may_be_a_token_is_cut_out_of_others_words(text, safe):
    assert checkout._safe(text, {git_client.PASSWORD: "p@ss"}) == safe


# Sizes ---------------------------------------------------------------------------------------------------------------

MIB = 2**20
RUN = """
import pathlib, sys
from k8s_parsl import __main__
from k8s_parsl_runtime.shared import memory
memory._LIMITS = (pathlib.Path(sys.argv.pop(1)),)
__main__.main()
"""


def in_container(server, folder, limit, files):
    """How `checkout` ends in a container with this memory limit, on a commit with these files."""
    work, given = folder / "work", folder / "memory.max"
    given.write_text(limit)
    for name, content in files.items():
        (work / name).write_bytes(content)
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "--message", "large")
    git(work, "push", "--quiet", "../served/flows.git", "main")
    commit = git(work, "rev-parse", "HEAD")
    words = [
        str(given),
        "checkout",
        f"--url={server.url}/flows.git",
        f"--commit={commit}",
        str(folder / "code"),
    ]
    return subprocess.run([sys.executable, "-c", RUN, *words], capture_output=True, text=True)


SIZES = {
    "zeros": lambda: {"a": bytes(40 * MIB)},
    "a text": lambda: {"a": b"a line of many\n" * (3 * MIB)},
    "what no one can compress": lambda: {"a": os.urandom(32 * MIB)},
    "two that differ by a byte": lambda: (
        dict.fromkeys("a", block := os.urandom(16 * MIB)) | {"b": block + b"x"}
    ),
}


@pytest.mark.parametrize("files", quick([*SIZES.values()], 2), ids=SIZES.keys())
def test_a_file_that_no_memory_is_there_for_ends_in_a_line(server, repository, tmp_path, files):
    """As the kernel would kill the process, and no line would say why."""
    done = in_container(server, tmp_path, str(96 * MIB), files())
    assert done.returncode == 78, done.stderr
    assert (
        "its largest file needs more memory than launcher.resources.limits.memory"
        in done.stderr.splitlines()[-1]
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "limit", quick([str(96 * MIB), "max\n", str(2**63 - 4096), "", "no number"], 1)
)
def test_a_file_that_memory_is_there_for_arrives(server, repository, tmp_path, limit):
    done = in_container(server, tmp_path, limit, {"a": os.urandom(4 * MIB), "b": bytes(8 * MIB)})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "code" / "b").stat().st_size == 8 * MIB


def test_code_that_its_volume_has_no_room_for_is_refused(fetch, monkeypatch):
    """Before any of it is written: kubelet would evict the pod."""
    monkeypatch.setattr(git_tree, "MOST", 20)
    with pytest.raises(
        ConfigurationError,
        match="its root has more than 0 MiB of files, which is too much: use a vol",
    ):
        fetch()


# The command ---------------------------------------------------------------------------------------------------------


def command(server, commit, folder, *more, **environment):
    words = ["checkout", f"--url={server.url}/flows.git", f"--commit={commit}", *more, str(folder)]
    return subprocess.run(
        [sys.executable, "-m", "k8s_parsl", *words],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def test_the_command_of_the_init_container(server, repository, tmp_path):
    server.credentials = "ada:t0ken"
    done = command(
        server, repository[1], tmp_path / "code", "--path=flows", "--secret=pdg-git", **SECRET
    )
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "code") == ["flow.py", "link.py", "run.sh"]
    (said,) = done.stderr.splitlines()
    assert f"workflow code: {server.url}/flows.git at {repository[1]}, folder flows" in said
    assert "t0ken" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("commit", "code", "line"),
    [
        (
            "main",
            64,
            "workflow.git: commit must be a full commit id, 40 hex digits: a branch or a tag may move, not",
        ),
        (NOWHERE, 78, "has no commit"),
    ],
)
def test_the_command_ends_with_its_code_and_one_last_line(server, tmp_path, commit, code, line):
    done = command(server, commit, tmp_path / "code")
    assert done.returncode == code
    assert line in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
