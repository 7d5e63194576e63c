"""A run's working directory: writable, with the data beside the code, the same for all."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from k8s_parsl_runtime.shared import brought, workdir
from k8s_parsl_runtime.shared.errors import PermissionDenied
from k8s_parsl_runtime.worker import entry


@pytest.fixture
def code(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    return folder


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    workdir.make(folder)
    return folder


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_it_is_made_with_all_above_it_and_may_be_there(tmp_path):
    for _ in range(2):
        workdir.make(tmp_path / "runs" / "abc" / "work")
    assert (tmp_path / "runs" / "abc" / "work").is_dir()


def test_one_that_cannot_be_made_is_named_with_its_key(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        PermissionDenied,
        match=rf"^workflow.workDir: {tmp_path}/file/work cannot be created: Not a dir",
    ):
        workdir.make(tmp_path / "file" / "work")
    with pytest.raises(PermissionDenied, match=r"cannot be created: File exists"):
        workdir.make(tmp_path / "file")


@pytest.mark.skipif(os.getuid() != 0, reason="another user than root is needed")
def test_one_that_cannot_be_written_is_named_with_who_would_write(tmp_path):
    for folder in [tmp_path, *tmp_path.parents][:-1]:
        if str(folder) != "/tmp":
            folder.chmod(folder.stat().st_mode | 0o055)
    (tmp_path / "work").mkdir(mode=0o755)
    text = (
        "import os, sys; from pathlib import Path; from k8s_parsl_runtime.shared import workdir\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "workdir.make(Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", text, str(tmp_path / "work")], capture_output=True, text=True
    )
    assert (
        f"workflow.workDir: {tmp_path}/work cannot be written as uid 65534 gid 65534" in done.stderr
    )


def test_what_lies_beside_the_code_is_brought(code, work):
    """With its folders; not what is hidden, or made by Python."""
    for name in (
        "flow.py",
        "input.txt",
        "data/a/b.csv",
        "data/.hidden",
        ".git/config",
        "__pycache__/flow.pyc",
    ):
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text(name)
    (code / "data" / "empty").mkdir()
    assert workdir.bring(code, work) == []
    assert tree(work) == ["data", "data/a", "data/a/b.csv", "data/empty", "flow.py", "input.txt"]
    assert (work / "data/a/b.csv").read_text() == "data/a/b.csv"


def test_it_is_a_copy_that_may_be_written(code, work):
    """The code's own folder is read-only in a pod, and the user's checkout on a laptop."""
    (code / "data").mkdir()
    for name in ("one", "data/two"):
        (code / name).write_text("original")
        (code / name).chmod(0o444)
    workdir.bring(code, work)
    for name in ("one", "data/two"):
        assert (work / name).stat().st_mode & 0o200
        (work / name).write_text("changed")
        assert (code / name).read_text() == "original"
    (work / "data" / "new").write_text("")
    assert not (code / "data" / "new").exists()


def test_a_copy_has_the_time_of_its_source(code, work):
    """By it `makes` knows that an input is the same one as in an earlier run."""
    (code / "inside").mkdir()
    for name, second in (("old", 1), ("inside/new", 2_000_000_000)):
        (code / name).write_text("x")
        os.utime(code / name, ns=(second * 10**9, second * 10**9 + 123_456_789))
    workdir.bring(code, work)
    for name in ("old", "inside/new"):
        assert (work / name).stat().st_mtime_ns == (code / name).stat().st_mtime_ns


def test_what_is_written_to_a_copy_of_the_same_size_stays(code, again):
    """The copy has the time of its source, and what is written to it a later one."""
    (again / "edited").write_text((again / "edited").read_text().upper())
    written = (again / "edited").read_text()
    write(code, "edited", "edited 2")
    assert workdir.bring_again(code, again).kept == ["edited"]
    assert (again / "edited").read_text() == written


def test_what_is_there_already_stays(code, work):
    """A launcher that starts again must not undo what the workflow made of it.

    Links that lead nowhere stay too.
    """
    for name in ("a", "b", "c"):
        (code / name).write_text("original")
    workdir.bring(code, work)
    (work / "a").write_text("changed")
    (work / "b").unlink()
    (work / "b").symlink_to("nowhere")
    (code / "later").write_text("later")
    workdir.bring(code, work)
    assert (work / "a").read_text() == "changed"
    assert (work / "b").readlink() == Path("nowhere")
    assert (work / "later").read_text() == "later"


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def again(code, work):
    """A working directory that a run has used: what it brought, and what it has written."""
    for name in ("same", "edited", "gone", "written", "both", "in/same", "in/edited", "in/removed"):
        write(code, name, f"{name} 1")
    assert workdir.bring_again(code, work) == ([], [], [])
    for name in ("written", "both", "own", "in/own"):
        write(work, name, "by a task")
    (work / "in/removed").unlink()
    return work


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def test_copies_follow_what_has_changed_beside_the_code(code, again):
    """But not what the workflow or a task has written, or removed."""
    for name in ("edited", "both", "in/edited", "in/new", "new", "deep/er/new"):
        write(code, name, f"{name} 2")
    (code / "gone").unlink()
    found = workdir.bring_again(code, again)
    assert found == ([], ["edited", "gone", "in/edited"], ["both"])
    assert contents(again) == {
        "same": "same 1",
        "edited": "edited 2",
        "written": "by a task",
        "both": "by a task",
        "own": "by a task",
        "new": "new 2",
        "deep/er/new": "deep/er/new 2",
        "in/same": "in/same 1",
        "in/edited": "in/edited 2",
        "in/own": "by a task",
        "in/new": "in/new 2",
    }
    assert workdir.bring_again(code, again) == ([], [], ["both"])


def test_a_file_that_was_written_again_with_the_same_content_has_not_changed(code, again):
    for name in ("same", "in/same"):
        write(code, name, f"{name} 1")
        os.utime(code / name, ns=(1, 1))
    assert workdir.changed(code, again) == []
    assert workdir.bring_again(code, again) == ([], [], [])


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", '{"same": 7}', '{"same": [1]}', '{"/etc/passwd": [1, 1, "x", 1, 1]}'],
)
def test_a_list_that_is_none_takes_the_copies_as_they_are(code, again, text):
    brought.place(again).write_text(text)
    write(code, "edited", "edited 2")
    assert workdir.changed(code, again) == []
    assert workdir.bring_again(code, again) == ([], [], [])
    assert (again / "edited").read_text() == "edited 1"


def test_a_list_removes_nothing_outside_of_the_working_directory(code, work, tmp_path):
    """Any process that may write there may have made it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    write(outside, "file", "1")
    found = (outside / "file").stat()
    copied = [0, 0, "", found.st_size, found.st_mtime_ns]
    (work / "link").symlink_to(outside)
    names = ["../outside/file", str(outside / "file"), "link/file", "a/../../outside/file"]
    brought.place(work).write_text(json.dumps(dict.fromkeys(names, copied)))
    workdir.bring_again(code, work)
    assert (outside / "file").read_text() == "1"


def test_what_is_too_large_is_linked_and_named(code, work, monkeypatch):
    """By bytes and by files; what fits into the rest is still copied."""
    monkeypatch.setattr(workdir, "COPIED_BYTES", 1000)
    monkeypatch.setattr(workdir, "COPIED_FILES", 5)
    (code / "big").write_bytes(b"x" * 1001)
    (code / "many").mkdir()
    for number in range(6):
        (code / "many" / str(number)).write_text("")
    (code / "small").write_bytes(b"x" * 900)
    (code / "small2").write_bytes(b"x" * 200)
    (code / "tiny").write_bytes(b"x" * 100)
    assert workdir.bring(code, work) == ["big", "many", "small2"]
    assert (work / "big").readlink() == code / "big"
    assert (work / "many").readlink() == code / "many"
    assert not (work / "small").is_symlink()
    assert not (work / "tiny").is_symlink()


def test_links_are_followed_to_files_and_not_into_folders(code, work, tmp_path):
    """A ConfigMap's files are links; a link to a folder may lead to a volume, or round in a circle."""
    (tmp_path / "volume" / "deep").mkdir(parents=True)
    (tmp_path / "volume" / "deep" / "huge").write_text("huge")
    (code / "..2026").mkdir()
    (code / "..2026" / "flow.py").write_text("flow")
    (code / "..data").symlink_to("..2026")
    (code / "flow.py").symlink_to("..data/flow.py")
    (code / "data").mkdir()
    (code / "data" / "volume").symlink_to(tmp_path / "volume")
    (code / "data" / "round").symlink_to("../data")
    (code / "data" / "nowhere").symlink_to("nowhere")
    (code / "data" / "file").symlink_to("../flow.py")
    assert workdir.bring(code, work) == []
    assert not (work / "flow.py").is_symlink()
    assert (work / "flow.py").read_text() == (work / "data" / "file").read_text() == "flow"
    assert (work / "data" / "volume").readlink() == tmp_path / "volume"
    assert (work / "data" / "round").readlink() == code / "data"
    assert not (work / "data" / "nowhere").exists()
    assert (work / "data" / "volume" / "deep" / "huge").read_text() == "huge"


def test_what_cannot_be_copied_does_not_keep_the_rest_away(code, work):
    """A pipe or a socket is no data; nothing half done is left."""
    (code / "data").mkdir()
    (code / "data" / "good").write_text("good")
    os.mkfifo(code / "data" / "pipe")
    os.mkfifo(code / "pipe")
    (code / "gone").symlink_to("nowhere")
    assert workdir.bring(code, work) == []
    assert tree(work) == ["data", "data/good"]


def no_data(kind, place):
    """Put something there that is neither a file nor a folder with an end."""
    match kind:
        case "zero":
            place.symlink_to("/dev/zero")
        case "tty":
            place.symlink_to("/dev/tty")
        case "pipe":
            os.mkfifo(place)
        case "a link to a pipe":
            os.mkfifo(place.with_name(".pipe"))
            place.symlink_to(".pipe")
        case "socket":
            # The path of a socket has at most 107 characters.
            with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(place.parent):
                listener.bind(place.name)
        case "a link to itself":
            place.symlink_to(place.name)
        case "links in a circle":
            place.symlink_to(".other")
            place.with_name(".other").symlink_to(place.name)
        case "nowhere":
            place.symlink_to("nowhere")


KINDS = (
    "zero",
    "tty",
    "pipe",
    "a link to a pipe",
    "socket",
    "a link to itself",
    "links in a circle",
    "nowhere",
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("inside", [False, True], ids=["beside the code", "in a folder"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_data_is_left_where_it_is(code, work, kind, inside):
    """It is neither opened nor linked, and the rest comes."""
    folder = code / "data" if inside else code
    folder.mkdir(exist_ok=True)
    (folder / "good").write_text("good")
    no_data(kind, folder / "bad")
    assert workdir.bring(code, work) == []
    assert tree(work) == (["data", "data/good"] if inside else ["good"])


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(code, work, monkeypatch):
    os.mkfifo(code / "data")
    monkeypatch.setattr(workdir, "_mode", lambda path: stat.S_IFREG)
    assert workdir.bring(code, work) == []
    assert tree(work) == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("inside", [False, True], ids=["beside the code", "in a folder"])
def test_a_link_to_a_huge_file_counts_as_that_file(code, work, tmp_path, inside):
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 1 << 40)
    folder = code / "data" if inside else code
    folder.mkdir(exist_ok=True)
    (folder / "link").symlink_to(tmp_path / "huge")
    name = "data" if inside else "link"
    assert workdir.bring(code, work) == [name]
    assert (work / name).readlink() == code / name


def test_of_a_file_no_more_is_read_than_its_size_says(code, work):
    """A file of /proc says that it is empty; its content may have no end."""
    (code / "pages").symlink_to("/proc/self/pagemap")
    (code / "good").write_text("good")
    assert workdir.bring(code, work) == []
    assert (work / "pages").read_bytes() == b""
    assert (work / "good").read_text() == "good"


@pytest.mark.parametrize("kind", ["folders", "pipes", "links"])
def test_what_is_no_file_takes_time_to_look_at_and_counts_too(code, work, monkeypatch, kind):
    """A tree of a million empty folders has no byte."""
    monkeypatch.setattr(workdir, "COPIED_FILES", 5)
    (code / "many").mkdir()
    make = {
        "folders": Path.mkdir,
        "pipes": os.mkfifo,
        "links": lambda place: place.symlink_to("nowhere"),
    }[kind]
    for number in range(6):
        make(code / "many" / str(number))
    assert workdir.bring(code, work) == ["many"]


@pytest.mark.timeout(60)
def test_folders_within_folders_have_an_end(code, work):
    """Deeper than Python's own calls may be: it is linked, or left where it is, and the rest comes."""
    with contextlib.chdir(code):
        (code / "good").write_text("good")
        for _ in range(1500):
            Path("d").mkdir()
            os.chdir("d")
    try:
        workdir.bring(code, work)
        assert (work / "good").read_text() == "good"
    finally:
        # Python's own removal of the test's folder, much later, would not get to the bottom of it.
        subprocess.run(["rm", "-rf", code, work], check=True)


AS_NOBODY = """
import os, sys
from pathlib import Path
from k8s_parsl_runtime.shared import brought, workdir
os.setgroups([]), os.setgid(65534), os.setuid(65534)
print(workdir.bring(Path("code"), Path("work")))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="another user than root is needed")
@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111, 0o555], ids=oct)
@pytest.mark.parametrize("inside", [False, True], ids=["beside the code", "in a folder"])
def test_a_folder_without_permission_does_not_keep_the_rest_away(code, work, mode, inside):
    """What this user may not list, enter or read is left out."""
    closed = code / "data" / "closed" if inside else code / "closed"
    closed.mkdir(parents=True)
    (closed / "file").write_text("file")
    (code / "link").symlink_to(closed / "file")
    (code / "secret").write_text("secret")
    (code / "secret").chmod(0o000)
    (code / "good").write_text("good")
    closed.chmod(mode)
    work.chmod(0o777)
    # The link is absolute: pytest's own folders, down from that of all its runs, are in its way.
    for above in code.parents[:4]:
        if above.name != "tmp":
            above.chmod(0o755)
    # By relative names: the folders above belong to others.
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY], cwd=code.parent, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert (work / "good").read_text() == "good"
    assert not (work / "secret").exists()
    enters = bool(mode & 0o001)
    assert (work / "link").exists() is enters
    if mode == 0o555:
        assert (work / closed.relative_to(code) / "file").read_text() == "file"


def test_a_working_directory_inside_the_code_or_the_same_folder(code):
    """`workDir` may be one of the user's own; nothing is copied into itself."""
    (code / "input").write_text("input")
    assert workdir.bring(code, code) == []
    assert tree(code) == ["input"]
    (code / "out" / "work").mkdir(parents=True)
    workdir.bring(code, code / "out" / "work")
    assert tree(code) == ["input", "out", "out/work", "out/work/input"]


def test_code_that_is_not_there_brings_nothing(tmp_path, work):
    """The workflow may be in the image alone."""
    assert workdir.bring(tmp_path / "none", work) == []


def test_two_that_bring_at_once_leave_whole_files(code, work):
    """Workers of one node that share a folder."""
    (code / "data").mkdir()
    for number in range(50):
        (code / "data" / str(number)).write_text("x" * 1000)
        (code / str(number)).write_text("x" * 1000)
    # Each has its own process there: the same id would be the same name.
    text = (
        "import sys; from pathlib import Path; from k8s_parsl_runtime.shared import workdir; "
        "workdir.bring(*map(Path, sys.argv[1:]))"
    )
    words = [sys.executable, "-c", text, str(code), str(work)]
    threads = [threading.Thread(target=subprocess.run, args=(words,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tree(work) == tree(code)
    assert {path.stat().st_size for path in work.rglob("*") if path.is_file()} == {1000}


def test_a_worker_enters_it(code, tmp_path, monkeypatch):
    """Where it is the pod's own, it brings the data there first."""
    monkeypatch.chdir(tmp_path)
    (code / "input").write_text("input")
    options = entry._parser().parse_args(["--work", str(tmp_path / "own"), "--data", str(code)])
    entry.enter(options)
    assert Path.cwd() == tmp_path / "own"
    assert Path("input").read_text() == "input"
    shared = tmp_path / "shared"
    entry.enter(entry._parser().parse_args(["--work", str(shared)]))
    assert (Path.cwd(), tree(shared)) == (shared, [])


def test_a_worker_that_cannot_write_it_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(PermissionDenied, match=r"workflow.workDir: .*/file/work cannot be created"):
        entry.enter(entry._parser().parse_args(["--work", str(tmp_path / "file" / "work")]))
