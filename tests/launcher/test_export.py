"""`show --html`: where the page goes, which pictures it has, and how often the logs are read."""

from __future__ import annotations

import base64
import dataclasses
import os
import re
import stat
import subprocess
import sys

import pytest
from told import failed, submitted

from k8s_parsl.folder import Folder
from k8s_parsl.journal.journal import Journal
from k8s_parsl.record.report import Record
from k8s_parsl.views import export, output, page
from k8s_parsl.views.history import Run
from k8s_parsl.views.status import status
from k8s_parsl_runtime.shared.protocol import PICTURE_BYTES, PICTURES

PNG = b"\x89PNG picture of the run"


def a_run(tmp_path, result=None, tasks=0, mounted="/data"):
    """A run on the volume `data` whose tasks have failed and printed, and that returned this."""
    folder = Folder(tmp_path / "local" / "data" / "runs" / "r1")
    for one in (folder.path, folder.work, folder.logs):
        folder.make(one)
    folder.lock.touch()
    journal = Journal()
    settings = {"run": {"volume": "data"}, "storage": {"data": {"mountPath": mounted}}}
    journal.begin(run="r1", attempt=1, workflow="flow:main", settings=settings)
    journal.open(folder.path, 1, folder.volume)
    journal.take_tasks([submitted("tile", max(tasks, 1))])
    of = [failed("tile", "no land", id=n, error="ValueError", pod="pod-0") for n in range(tasks)]
    journal.take_tasks(of)
    lines = [f"[task {n}] line {place} of {n}\n" for place in range(50) for n in range(tasks)]
    (folder.logs / "pod-0.log").write_text("".join(lines) + "[task 0 try 1] another\nthe end\n")
    journal.end(status="done", exit_code=0)
    journal._writer.finish(30)
    record = Record("r1", "i", "flow:main", "", "2026-11-27T10:00:00+00:00", result=result)
    record = dataclasses.replace(record, status="done", exit_code=0, ended="2026-11-27T10:01:00")
    record.write(folder.record)
    return Run(folder)


# Where ----------------------------------------------------------------------------------------------


def show(*words, cwd, **more):
    command = [sys.executable, "-m", "k8s_parsl", "show", "r1", *map(str, words)]
    return subprocess.run(command, capture_output=True, cwd=cwd, check=False, **more)


def test_a_dash_is_standard_output_and_nothing_else_is_printed(tmp_path):
    a_run(tmp_path)
    done = show("--html", "-", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"<!doctype html>") and done.stdout.rstrip().endswith(b"</html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["local"]


@pytest.mark.parametrize(("more", "name"), [([], "r1.html"), (["--task", "0"], "r1-task-0.html")])
def test_a_folder_gets_a_file_named_after_the_run(tmp_path, more, name):
    a_run(tmp_path, tasks=1)
    (tmp_path / "pages").mkdir()
    done = show("--html", "pages", *more, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"pages/{name}\n".encode())
    assert (tmp_path / "pages" / name).read_bytes().startswith(b"<!doctype html>")


def test_a_file_that_is_there_is_replaced_and_a_link_is_not_followed(tmp_path):
    a_run(tmp_path)
    (tmp_path / "other").write_text("the user's")
    (tmp_path / "page.html").symlink_to("other")
    assert show("--html", "page.html", cwd=tmp_path).returncode == 0
    assert (tmp_path / "other").read_text() == "the user's"
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_a_folder_that_is_missing_is_named(tmp_path):
    a_run(tmp_path)
    done = show("--html", "no/such/page.html", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        64,
        b"k8s-parsl: --html: there is no folder no/such\n",
    )


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    """As of `>(...)` in a shell; a device would be gone for every program of the machine."""
    run = a_run(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with (tmp_path / "read").open("wb") as read, subprocess.Popen(["cat", pipe], stdout=read):
        export.write_run(run, pipe)
    assert (tmp_path / "read").read_bytes().startswith(b"<!doctype html>")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


# Pictures ---------------------------------------------------------------------------------------------


def pictures_of(run):
    target = run.folder.path / "page.html"
    export.write_run(run, target)
    found = re.findall(r'src="data:([^;]*);base64,([^"]*)"', target.read_text())
    return [(media, base64.b64decode(content)) for media, content in found]


@pytest.mark.parametrize(
    "result",
    [
        "/data/out/map.png",
        {"map": ["/data/out/map.png"]},
        "{volume}/out/map.png",
        "../../../out/map.png",
    ],
)
def test_a_picture_of_the_result_is_found_where_the_volume_is_now(tmp_path, result):
    """By the path that it had in the run, by the one that it has here, and from `work`."""
    if isinstance(result, str):
        result = result.format(volume=tmp_path / "local" / "data")
    run = a_run(tmp_path, result)
    (run.folder.volume / "out").mkdir()
    (run.folder.volume / "out" / "map.png").write_bytes(PNG)
    assert pictures_of(run) == [("image/png", PNG)]


def planted(run, kind):
    """A picture that is none of the run's, named by its result."""
    outside = run.folder.volume.parent / "secret.png"
    outside.write_bytes(PNG)
    inside = run.folder.volume / "map.png"
    if kind == "link":
        inside.symlink_to(outside)
    elif kind == "pipe":
        os.mkfifo(inside)
    elif kind == "folder":
        inside.mkdir()
    elif kind == "empty":
        inside.touch()
    elif kind == "link to a folder":
        (run.folder.volume / "out").symlink_to(outside.parent)
    return outside


KINDS = {
    "link": "/data/map.png",
    "pipe": "/data/map.png",
    "folder": "/data/map.png",
    "empty": "/data/map.png",
    "link to a folder": "/data/out/secret.png",
    "outside": "{outside}",
    "dots": "/data/../secret.png",
    "more dots": "../../../../secret.png",
    "dots behind the volume": "/data/out/../../secret.png",
    "gone": "/data/gone.png",
    "nul": "/data/a\0b.png",
    "endless": "/data/" + "x" * 5000 + ".png",
    "device": "/dev/zero.png",
}


@pytest.mark.parametrize("mounted", ["/data", "/", "relative", 7])
@pytest.mark.parametrize("kind", KINDS)
def test_no_other_file_gets_into_the_page(tmp_path, kind, mounted):
    """The record and the journal may be anyone's who could write to the volume."""
    outside = tmp_path / "local" / "secret.png"
    run = a_run(tmp_path, KINDS[kind].format(outside=outside), mounted=mounted)
    planted(run, kind)
    assert pictures_of(run) == []


def test_number_and_size_of_pictures_have_a_bound(tmp_path):
    names = [f"/data/{number}.png" for number in range(PICTURES + 5)]
    run = a_run(tmp_path, ["/data/large.png", *names, *names])
    for name in names:
        (run.folder.volume / name.removeprefix("/data/")).write_bytes(PNG)
    with (run.folder.volume / "large.png").open("wb") as large:
        large.truncate(PICTURE_BYTES + 1)
    assert len(pictures_of(run)) == PICTURES - 1, "the one that is too large counts, by its name"


def test_a_pictures_name_is_escaped(tmp_path):
    name = '"><script>alert(1)</script>.png'
    run = a_run(tmp_path, f"/data/{name}".replace("</", "<\\u002f"))
    (run.folder.volume / name.replace("</", "<\\u002f")).write_bytes(PNG)
    pictures_of(run)
    assert "<script>alert" not in (run.folder.path / "page.html").read_text()


# Logs -------------------------------------------------------------------------------------------------


def test_a_pods_log_is_read_once_for_all_its_failed_tasks(tmp_path, monkeypatch):
    """It may have megabytes, and a report has the last lines of 20 tasks."""
    run = a_run(tmp_path, tasks=20)
    (state,) = run.states().values()
    read = []
    plain = output.Logs._lines_of
    monkeypatch.setattr(
        output.Logs, "_lines_of", lambda self, path: read.append(path.name) or plain(self, path)
    )
    tails = page._tails(status(state)["failed_tasks"], run)
    assert read == ["pod-0.log"]
    assert list(tails) == list(range(20))
    for number, ((printed, lines), (end, last)) in tails.items():
        assert (printed, end) == ("printed", "the last lines of pod-0")
        wanted = [f"line {place} of {number}" for place in range(50)][-page.TAIL_LINES :]
        assert lines.splitlines() == wanted
        assert last.splitlines()[-2:] == ["[task 0 try 1] another", "the end"]
