"""The page of a run in a cluster: through `kubectl port-forward`, in a real browser."""

from __future__ import annotations

import json
import time

import pytest
from browser import violations
from cluster.conftest import PATIENCE_S
from cluster.faults import host
from cluster.viewing import (
    BEGIN,
    END,
    data_of,
    folder_of,
    forwarded,
    free_port,
    pod_of,
    shown,
    watched_tiles,
)
from runtime.test_page import get

pytestmark = pytest.mark.testbed

# What a browser says of a page whose server has gone.
GONE = r"net::ERR_(CONNECTION_\w+|EMPTY_RESPONSE|SOCKET_NOT_CONNECTED)"
# Notes each value of the progress bar, and would be lost by a reload.
FOLLOW = """
    const seen = window.seen = [];
    const look = () => {
        const value = document.querySelector("progress").value;
        if (seen.at(-1) !== value) seen.push(value);
    };
    new MutationObserver(look).observe(document, {subtree: true, childList: true, attributes: true});
    look();
"""
HAS_END = "document.querySelector('header .badge').textContent === 'done'"
# What both the live page and the report say of the tasks.
SAME = ("tasks", "apps", "failures", "reasons")


def install(release, *more):
    """Install the tiles example with its gates; return what Helm prints."""
    port = ("--set", f"page.port={free_port()}")
    values = [*release.values, *watched_tiles(), *port, *more]
    return release.helm("install", release.name, "./chart", *values).out


def launcher(release):
    """The name of the newest launcher's pod, once there is one."""
    release.wait_for_pods(bool, component="launcher")
    return pod_of(release).name


def status_at(address):
    """The run's status as the launcher serves it."""
    return json.loads(get(f"{address}status.json"))


def until(page, expression):
    """Look at the page until an expression of JavaScript is true.

    Playwright's own wait_for_function needs `eval`, which the page's policy forbids.
    """
    end = time.monotonic() + 2 * PATIENCE_S
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"{expression}\n{page.inner_text('body')}"
        page.wait_for_timeout(100)


def until_all_done(page):
    """Look at the page until its last task is done: the example has more than 100."""
    until(
        page,
        "(([_, done, all]) => Number(done) > 100 && done === all)"
        "(/^(\\d+) of (\\d+)/.exec(document.title) || [0, 0, 1])",
    )


def table_of_apps(page):
    """The cells of the table of apps, as they are shown."""
    return page.locator("section[aria-labelledby=apps] td").all_text_contents()


def test_the_tiles_example_watched_from_start_to_end(opened, dev):
    """It grows without a reload, and the report has the same numbers as its last state."""
    said = install(dev)
    with (
        forwarded(dev, said, launcher(dev)) as address,
        opened(address, may_say=GONE) as page,
    ):
        page.evaluate(FOLLOW)
        assert status_at(address)["tasks"]["submitted"] == 0
        assert violations(page) == []
        (data_of(dev) / BEGIN).touch()
        until(page, "window.seen.length >= 3")
        assert violations(page) == []
        until_all_done(page)
        assert violations(page) == []
        seen = page.evaluate("window.seen")
        assert seen == sorted(seen)
        last, cells = status_at(address), table_of_apps(page)
        (data_of(dev) / END).touch()
        until(page, HAS_END)
        assert dev.wait_for_end() == "Complete", dev.describe()
    with opened(f"file://{folder_of(dev)}/report.html") as report:
        assert table_of_apps(report) == cells
        assert violations(report) == []
    (told,) = shown(folder_of(dev))["per_attempt"]
    assert {name: told[name] for name in SAME} == {name: last[name] for name in SAME}
    assert told["pods"]["number"] == last["pods"]["number"]


@pytest.mark.slow
def test_after_a_launchers_sigkill_the_page_comes_back_and_the_report_has_both_attempts(
    opened, dev
):
    said = install(dev)
    first = launcher(dev)
    with forwarded(dev, said, first) as address, opened(address, may_say=GONE) as page:
        page.evaluate(FOLLOW)
        (data_of(dev) / BEGIN).touch()
        until(page, "window.seen.at(-1) > 0")
        host.kill(host.main_process(pod_of(dev), "launcher"))
    dev.wait_for_pods(lambda pods: len(pods) == 2, component="launcher")
    second = launcher(dev)
    assert second != first
    with forwarded(dev, said, second) as address, opened(address) as page:
        until_all_done(page)
        last = status_at(address)
        assert "attempt 2" in page.inner_text("header")
        assert first in page.inner_text("section[aria-labelledby=attempts]")
    (data_of(dev) / END).touch()
    assert dev.wait_for_end() == "Complete", dev.describe()
    with opened(f"file://{folder_of(dev)}/report.html") as report:
        earlier = report.inner_text("section[aria-labelledby=attempts]")
        assert first in earlier
        assert "died" in earlier
    one, other = shown(folder_of(dev))["per_attempt"]
    assert (one["exit_code"], other["exit_code"]) == (None, 0)
    assert other["tasks"] == last["tasks"]
    assert one["tasks"]["done"] > 0
    kept = sum(app["kept"] for app in other["apps"])
    assert kept >= one["tasks"]["done"] - 4
