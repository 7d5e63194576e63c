"""A real browser: Debian's Chromium, headless, driven by Playwright; and axe-core, from npm."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from testbed.layout import cache_dir

CHROMIUM = "/usr/bin/chromium"
# It asks hosts of its maker's otherwise.
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = "axe-core@4.11.0"
DESKTOP = (1200, 900)
PHONE = (390, 844)


class Opened(Protocol):
    """Opens a page; see `opened`."""

    def __call__(
        self,
        url: str,
        size: tuple[int, int] = DESKTOP,
        scheme: str = "light",
        *,
        scripts: bool = True,
        may_say: str = "",
    ) -> contextlib.AbstractContextManager[Page]: ...


@pytest.fixture(scope="module")
def opened() -> Iterator[Opened]:
    """Open pages, each without what the one before has kept, in one browser for a file of tests.

    Nothing on a page's console may be an error, but for lines that match ``may_say``.
    """
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no {CHROMIUM} (on Debian: apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield functools.partial(_opened, browser)
        browser.close()


@contextlib.contextmanager
def _opened(
    browser: Browser,
    url: str,
    size: tuple[int, int] = DESKTOP,
    scheme: Any = "light",
    *,
    scripts: bool = True,
    may_say: str = "",
) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        java_script_enabled=scripts,
    )
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda line: said.append(f"{line.type}: {line.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    try:
        page.goto(url)
        yield page
    finally:
        context.close()
    bad = [line for line in said if line.startswith(("error", "warning"))]
    assert [line for line in bad if not (may_say and re.search(may_say, line))] == []


def violations(page: Page) -> list[str]:
    """What axe-core finds on a page: rule and element."""
    page.evaluate(_axe().read_text())
    found = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'best-practice']})")
    return [
        f"{rule['id']}: {node['html'][:200]}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


def _axe() -> Path:
    """Return axe-core's program; npm brings it once."""
    folder = cache_dir() / AXE
    program = folder / "axe.min.js"
    if program.exists():
        return program
    if shutil.which("npm") is None:
        pytest.skip("there is no npm, which brings axe-core")
    folder.mkdir(parents=True, exist_ok=True)
    command = ["npm", "pack", "--json", "--pack-destination", str(folder), AXE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    archive = folder / json.loads(done.stdout)[0]["filename"]
    with tarfile.open(archive) as tar:
        member = tar.extractfile("package/axe.min.js")
        assert member
        program.write_bytes(member.read())
    return program
