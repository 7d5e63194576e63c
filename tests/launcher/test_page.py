"""The page of a run in a real browser: on a desktop and a phone, light and dark, by keyboard."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from browser import DESKTOP, PHONE, violations
from told import done, failed, retried, submitted

from k8s_parsl.journal.journal import Journal
from k8s_parsl.record.report import Record
from k8s_parsl.views.page import write_page
from k8s_parsl.views.server import Ports
from k8s_parsl.views.status import status
from launcher.web import PATIENCE_S, served

HOSTILE = "</script><img src=x onerror=alert(1)>{{7*7}}"


def record_of(**more):
    facts = {
        "run": "a936de73",
        "installation": "23e0daf7",
        "workflow": "tiles:main",
        "versions": "py3.11/parsl2026.10.26",
        "started": "2026-11-27T10:00:00+00:00",
        "status": "done with failures",
        "ended": "2026-11-27T10:05:00+00:00",
        "seconds": 300.0,
        "exit_code": 0,
        "message": "1 task failed",
        "result": {"tiles": 455},
        "workers": ["executors.workers: 2 workers in each pod, up to 1 CPU for each"],
        "reasons": {"Unschedulable": 1},
    }
    return Record(**facts | more)


def a_run(name="stage", tasks=200):
    """The status of a run with two apps on two pods."""
    chance = random.Random(5)
    journal = Journal()
    settings = {"executors": {"workers": {"maxBlocks": 2}}}
    journal.begin(run="a936de73", workflow="tiles:main", workers={"workers": 2}, settings=settings)
    with journal.locked() as state:
        for pod in ("pdgrun-workers-a1b2c-0", "pdgrun-workers-a1b2c-1"):
            for kind, at in (("asked", 0.0), ("created", 1.0), ("running", 8.0)):
                event = {"event": "pod", "t": at, "pod": pod, "executor": "workers", "state": kind}
                more = (
                    {"reason": "Unschedulable", "text": "0/3 nodes fit"}
                    if kind == "created"
                    else {}
                )
                state.take(event | more)
            state.take(
                {"event": "workers", "t": 10.0, "pod": pod, "executor": "workers", "number": 2}
            )
    journal.started -= 300
    journal._clock -= 300
    journal.take_tasks([submitted(name, tasks), submitted("merge", 3, tasks)])
    for number in range(tasks):
        seconds = 2 + chance.random() * 3
        begin = journal.started + 10 + (number // 4) * 5
        pod = f"pdgrun-workers-a1b2c-{number % 2}"
        facts = {"id": number, "pod": pod, "worker": number // 2 % 2, "call": f"{name}({number})"}
        times = {
            "launched": begin - 1,
            "began": begin,
            "ended": begin + seconds,
            "cpu": seconds * 0.8,
        }
        journal.take_tasks([done(name, seconds, **facts, **times, peak=200 << 20)])
    journal.take_tasks(
        [retried("merge"), failed("merge", f"merge(1): ValueError: {name}", error="E")]
    )
    with journal.locked() as state:
        return status(state)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The file of a report."""
    folder = tmp_path_factory.mktemp("volume") / "runs" / "r"
    folder.mkdir(parents=True)
    write_page(record_of(), folder / "report.html", (), a_run())
    return f"file://{folder}/report.html"


IMAGES = Path(__file__).resolve().parents[2] / "docs" / "user" / "images"
LOOKS = [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")]


@pytest.mark.parametrize(("size", "scheme"), LOOKS, ids=str)
def test_it_fits_and_a_screen_reader_finds_its_way(opened, report, size, scheme):
    """No error on the console, no scrolling to the side, and no complaint of axe-core."""
    with opened(report, size, scheme) as page:
        page.wait_for_selector("#drawn-why svg")
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert violations(page) == []
        if "UPDATE_SCREENSHOTS" in os.environ:
            name = f"{'desktop' if size == DESKTOP else 'phone'}-{scheme}"
            page.screenshot(path=IMAGES / f"page-{name}.png")


@pytest.mark.parametrize("name", ["desktop-light", "desktop-dark", "phone-light", "phone-dark"])
def test_the_docs_show_it(name):
    """Pictures that the test above takes (UPDATE_SCREENSHOTS=1)."""
    assert (IMAGES / f"page-{name}.png").read_bytes().startswith(b"\x89PNG")
    assert f"images/page-{name}.png" in (IMAGES.parent / "results.md").read_text()


def test_every_plot_is_drawn(opened, report):
    with opened(report) as page:
        page.wait_for_selector("#drawn-why svg")
        for name in ("tasks", "workers", "rows", "why", "durations"):
            assert page.locator(f"#drawn-{name} svg").count() >= 1, name


def test_without_javascript_it_tells_all_but_the_plots(opened, report):
    with opened(report, scripts=False) as page:
        text = page.inner_text("main")
    assert "200 of 203" in text
    assert "the workers' time" in text
    assert "merge(1): ValueError: stage" in text
    assert "The plots need JavaScript; the tables below do not." in text


def test_nothing_that_a_workflow_names_runs_in_the_browser(opened, tmp_path):
    folder = tmp_path / "runs" / "r"
    folder.mkdir(parents=True)
    hostile = record_of(
        workflow=HOSTILE, message=HOSTILE, result={HOSTILE: HOSTILE}, last_lines=[HOSTILE]
    )
    write_page(hostile, folder / "report.html", (), a_run(HOSTILE, 20))
    with opened(f"file://{folder}/report.html") as page:
        page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        page.wait_for_selector("#drawn-why svg")
        assert page.locator("img").count() == 0
        assert "49" not in page.inner_text("h1")


def test_by_keyboard_its_details_open(opened, report):
    with opened(report) as page:
        page.focus("summary")
        page.keyboard.press("Enter")
        assert page.locator("details[open]").count() == 1


def test_it_asks_no_other_host(opened, report):
    asked = []
    with opened(report) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.reload()
        page.wait_for_selector("#drawn-why svg")
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_it_is_no_larger_than_two_megabytes(report):
    assert Path(report.removeprefix("file://")).stat().st_size < 2_000_000


def until(page, holds):
    """Look at a page until something holds of it."""
    end = time.monotonic() + PATIENCE_S
    while not holds(page):
        assert time.monotonic() < end, page.inner_text("body")
        page.wait_for_timeout(50)


def test_an_open_page_follows_the_run_to_its_end_without_a_reload(opened):
    journal = Journal()
    journal.begin(run="1a2b3c4d", workflow="tiles:main", workers={"cpu": 2})
    journal.take_tasks([submitted("tile", 3)])
    with (
        served(journal, Ports(page=0)) as ports,
        opened(f"http://127.0.0.1:{ports['page']}/") as page,
    ):
        page.evaluate("window.same = true")
        for number in (1, 2, 3):
            journal.take_tasks([done("tile", 0.1, id=number)])
            until(page, lambda page, number=number: page.title().startswith(f"{number} of 3"))
        journal.end(status="done", exit_code=0)
        until(page, lambda page: "running" not in page.inner_text("header"))
        assert page.evaluate("window.same")
        assert page.inner_text("#connection") == ""
