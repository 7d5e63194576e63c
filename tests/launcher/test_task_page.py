"""The page of one task, and the last lines of failed tasks in the report."""

from __future__ import annotations

import json
import re
import threading

import pytest
from browser import DESKTOP, PHONE, violations
from told import done, failed, retried, submitted, tried

from k8s_parsl.folder import Folder
from k8s_parsl.journal.journal import Journal
from k8s_parsl.record.report import Record
from k8s_parsl.views import page, site, task
from k8s_parsl.views.history import Run
from k8s_parsl.views.server import Ports
from k8s_parsl.views.status import status
from launcher.web import ask, served

HOSTILE = "</pre></script><script>alert(1)</script>\x1b[31m{{7*7}}&\"'"
POD = "pdgrun-cpu-a1b2c-0"
TRACEBACK = ["Traceback (most recent call last):", '  File "flow.py", line 7, in tile']
LINES = [
    "a line of the pool",
    "[task 3] reads land.tif",
    "[task 4] another task's",
    *(f"[task 3] {line}" for line in TRACEBACK),
    "[task 3] ValueError: no land",
    "the pool ends",
]


def a_run(volume, lines=LINES, app="tile", pod=POD, text="tile(3): ValueError: no land"):
    """The journal of a run with a failed task 3, and what its pod printed."""
    folder = Folder(volume / "runs" / "r1")
    folder.make(folder.path)
    folder.make(folder.logs)
    journal = Journal()
    journal.begin(run="r1", attempt=1, workflow="tiles:main", workers={"cpu": 2})
    journal.open(folder.path, 1, folder.volume)
    journal.note("pod", executor="cpu", pod=pod, state="running")
    journal.take_tasks([submitted(app, 6), done(app, 2.0, id=1, pod=pod, call=f"{app}(1)")])
    facts = {"id": 3, "pod": pod, "worker": 1, "call": f"{app}(land.tif)", "error": "ValueError"}
    journal.take_tasks([failed(app, text, **facts, cpu=0.5, peak=3 << 20)])
    journal.take_tasks([["running", app, [5, 0, "cpu", pod, journal.started + 1]]])
    journal._writer.finish(30)
    if "/" not in pod:
        (folder.logs / f"{pod}.log").write_text("".join(f"{line}\n" for line in lines))
    return journal, folder


@pytest.fixture
def made(tmp_path):
    return a_run(tmp_path)


def get(journal, path):
    with served(journal, Ports(page=0)) as ports:
        status_, headers, body = ask(ports["page"], path)
    return status_, headers, body.decode()


# The page ------------------------------------------------------------------------------------------


def test_it_has_the_tries_the_output_the_traceback_and_the_workers_last_lines(made):
    code, headers, text = get(made[0], "/task/3")
    assert (code, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "Try 0: failed" in text
    assert f"<dt>ran in</dt><dd>{POD}, worker 1</dd>" in text
    assert "<dt>call</dt><dd>tile(land.tif)</dd>" in text
    assert "<dt>memory</dt><dd>up to 3 MiB</dd>" in text
    printed, end = re.findall(r"<pre[^>]*>(.*?)</pre>", text, re.DOTALL)
    quoted = TRACEBACK[1].replace('"', "&#34;")
    assert printed.splitlines() == [
        "reads land.tif", TRACEBACK[0], quoted, "ValueError: no land"]  # fmt: skip
    assert end.splitlines()[-1] == "the pool ends"


def test_a_task_that_runs_has_what_it_printed_so_far(tmp_path):
    journal, _ = a_run(tmp_path, ["[task 5] half way"])
    _, _, text = get(journal, "/task/5")
    assert "Try 0: running" in text
    assert re.search(r"<pre[^>]*>half way</pre>", text)


def test_a_task_that_ran_again_has_all_its_tries(tmp_path):
    _, folder = a_run(tmp_path)
    again = Journal()
    again.begin(run="r1")
    again.open(folder.path, 2, folder.volume)
    again.take_tasks([retried("f"), done("f", 1.0, number=1)])
    again._writer.finish(30)
    _, _, text = get(again, "/task/0")
    assert re.findall(r'<h2 id="try-\d">(.*?)</h2>', text) == ["Try 0: retried", "Try 1: done"]


@pytest.mark.parametrize("number", [99, 999999999])
def test_a_task_that_there_is_not_is_one_line(made, number):
    code, _, text = get(made[0], f"/task/{number}")
    assert (code, text) == (404, f"attempt 1 has no task {number}\n")


def test_a_task_that_has_not_begun_waits(made):
    code, _, text = get(made[0], "/task/2")
    assert (code, "<title>Task 2 of tile · waiting</title>" in text) == (200, True)


@pytest.mark.parametrize(
    "path", ["/task/", "/task/x", "/task/-1", "/task/3/", "/task/3/../4", "/task/1e9", "/task/%33x"]
)
def test_what_is_no_number_is_no_task(made, path):
    code, _, text = get(made[0], path)
    assert code == 404
    assert text.startswith("no such path; there are: /, ")


def test_before_the_run_has_begun_there_is_no_task():
    assert get(Journal(), "/task/0")[::2] == (404, "the run has not begun\n")


def test_the_metrics_port_has_no_tasks(made):
    with served(made[0], Ports(metrics=0)) as ports:
        assert ask(ports["metrics"], "/task/3")[0] == 404


def test_nothing_that_a_task_names_is_markup(tmp_path):
    lines = [f"[task 3] {HOSTILE}", HOSTILE]
    journal, _ = a_run(tmp_path, lines, app=HOSTILE, text=HOSTILE)
    _, headers, text = get(journal, "/task/3")
    assert "<script" not in text
    assert text.count("{{7*7}}") >= 5
    assert "\x1b" not in text
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("pod", ["../../secret", "/etc/passwd", "x/../../../secret"])
def test_the_name_of_a_pod_leads_nowhere_else(tmp_path, pod):
    (tmp_path / "secret.log").write_text("[task 3] TOP SECRET\n")
    journal, _ = a_run(tmp_path, pod=pod)
    code, _, text = get(journal, "/task/3")
    assert code == 200
    assert "TOP SECRET" not in text


def test_a_log_that_is_a_link_is_not_read(made, tmp_path):
    journal, folder = made
    (tmp_path / "secret").write_text("[task 3] TOP SECRET\n")
    log = folder.logs / f"{POD}.log"
    log.unlink()
    log.symlink_to(tmp_path / "secret")
    code, _, text = get(journal, "/task/3")
    assert code == 200
    assert "TOP SECRET" not in text
    assert "is a link, and k8s-parsl follows none there" in text


def test_a_page_is_small_whatever_a_task_prints(tmp_path):
    """100 tries, each with 200 long lines of characters that HTML escapes."""
    _, folder = a_run(tmp_path)
    again = Journal()
    again.begin(run="r1")
    again.open(folder.path, 2, folder.volume)
    text = '"' * 4000
    again.take_tasks(
        tried("f", "retried", 1.0, number=number, text=text, call='"' * 1000, pod=POD)
        for number in range(100)
    )
    again._writer.finish(30)
    with (folder.logs / f"{POD}.log").open("w") as log:
        for number in range(90, 100):
            log.write(f"[task 0 try {number}] {text}\n" * 200)
    code, _, text = get(again, "/task/0")
    assert code == 200
    assert len(text) < 2_000_000
    assert "The tries before number 92 are left out here" in text
    assert "(earlier lines are left out here: k8s-parsl show has more)" in text


def test_a_volume_that_does_not_answer_holds_up_two_clients_and_no_other(made, monkeypatch):
    """Nor do more than two reads wait for it."""
    journal, _ = made
    answers, reads = threading.Event(), []

    def stalled(*_, **__):
        reads.append(threading.current_thread())
        assert answers.wait(60)
        return []

    monkeypatch.setattr(site, "TASK_S", 0.2)
    monkeypatch.setattr(site.task, "tell", stalled)
    with served(journal, Ports(page=0)) as ports:
        for _ in range(2):
            said = ask(ports["page"], "/task/3")
            assert said[::2] == (503, b"the volume does not answer; ask again\n")
        said = ask(ports["page"], "/task/3")
        assert said[::2] == (503, b"other tasks are being read; ask again\n")
        assert ask(ports["page"], "/")[0] == 200
        answers.set()
        for thread in reads:
            thread.join(60)
        assert len(reads) == 2
        assert ask(ports["page"], "/task/3")[0] == 404


def test_a_journal_that_cannot_be_read_is_one_line(made, tmp_path):
    journal, folder = made
    (file,) = (folder.path / "journal").iterdir()
    file.unlink()
    file.symlink_to(tmp_path)
    code, _, text = get(journal, "/task/3")
    assert code == 500
    assert text.count("\n") == 1
    assert "is a link" in text


def test_a_journal_with_other_columns_is_read_by_them(tmp_path):
    """As that of a newer version may be."""
    folder = Folder(tmp_path / "runs" / "r1")
    folder.make(folder.path / "journal")
    columns = ["outcome", "unknown", "id", "number", "executor", "submitted", "sent"]
    columns += ["launched", "ended"]
    lines = [
        {"event": "run", "t": 0, "columns": {"try": columns}},
        {
            "event": "try",
            "t": 9,
            "app": "f",
            "of": ["done", "?", 17, 0, "cpu", 1.0, None, None, 2.0],
        },
    ]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    (folder.path / "journal" / "1.jsonl").write_text(text)
    ((app, one),) = task.tries(Run(folder), 1, 17, is_over=False)
    assert (app, one.id, one.outcome, one.ended) == ("f", 17, "done", 2.0)


# Links to it ---------------------------------------------------------------------------------------


def test_the_live_page_links_failed_slow_and_running_tasks(made):
    with made[0].locked() as state:
        text = page.whole(page.record_of(state), status(state))
    for number in (1, 3, 5):
        assert f'<a href="task/{number}">{number}</a>' in text


def report_of(journal, folder):
    with journal.locked() as state:
        document = status(state)
    record = Record("r1", "i", "tiles:main", "v", "now", status="failed", ended="then")
    page.write_page(record, folder.page, (), document)
    return folder.page.read_text()


def test_the_report_has_the_last_lines_of_failed_tasks_inside_it(made):
    text = report_of(*made)
    assert 'href="task/' not in text
    assert '<a href="#task-3">3</a>' in text
    assert 'Task <a href="#task-3">3</a>: tile(3): ValueError: no land' in text
    (tail,) = re.findall(r'<details id="task-3">(.*?)</details>', text, re.DOTALL)
    assert "ValueError: no land" in tail
    assert f"the last lines of {POD}" in tail


def test_the_report_has_the_last_lines_of_20_tasks_at_most_first_one_of_each_kind(tmp_path):
    journal, folder = a_run(tmp_path)
    first, last = 100, 400
    journal.take_tasks(
        failed("merge", "?" * 500, id=number, pod=POD, error="OSError")
        for number in range(first, last)
    )
    journal.take_tasks([failed("rare", "rare", id=999, pod=POD, error="KeyError")])
    quotes = '"' * 2000
    lines = [f"[task {number}] {quotes}" for number in (*range(first, last), 999)]
    (folder.logs / f"{POD}.log").write_text("\n".join(line for line in lines for _ in range(5)))
    text = report_of(journal, folder)
    found = [int(number) for number in re.findall(r'<details id="task-(\d+)">', text)]
    assert found[:3] == [3, 100, 999]
    assert len(found) == page.TAILS
    assert len(text) < 2_500_000


def test_a_report_without_logs_is_made(tmp_path):
    journal, folder = a_run(tmp_path)
    (folder.logs / f"{POD}.log").unlink()
    folder.logs.rmdir()
    text = report_of(journal, folder)
    assert "ValueError: no land" in text
    # There is nothing that a link could lead to.
    assert 'href="#task-' not in text


# In a browser --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_a_screen_reader_finds_its_way(opened, tmp_path, size, scheme):
    journal, _ = a_run(tmp_path)
    with served(journal, Ports(page=0)) as ports:
        url = f"http://127.0.0.1:{ports['page']}/"
        with opened(url, size, scheme) as browser:
            browser.click("a[href='task/3']")
            browser.wait_for_url(f"{url}task/3")
            assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]
            assert violations(browser) == []
            browser.click("text=the run")
            browser.wait_for_url(url)


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_last_lines_in_the_report_open_and_fit(opened, tmp_path, size):
    journal, folder = a_run(tmp_path)
    report_of(journal, folder)
    with opened(f"file://{folder.page}", size) as browser:
        browser.click("#task-3 summary")
        assert "reads land.tif" in browser.inner_text("#task-3")
        assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert violations(browser) == []
