"""Scripts of different habits (tests/scripts) end as with plain Python in `k8s-parsl run -f`."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from scripts import cases

VALUES = """
run: {volume: data}
executors: {workers: {initBlocks: 1, maxBlocks: 1, maxWorkersPerNode: 2, coresPerWorker: 0.5}}
parsl: {strategyPeriod: 0.5}
storage: {data: {mountPath: /data, existingClaim: x}}
"""
# A line of the launcher's own, which may come while a line of the script's is not ended yet.
OURS = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ |k8s-parsl: ).*\n")


@pytest.fixture(scope="session")
def url(tmp_path_factory):
    """That of a text file on a web server."""
    with web_server(tmp_path_factory.mktemp("web")) as url:
        yield url


@contextlib.contextmanager
def web_server(folder, address="127.0.0.1"):
    """Serve one text file from the folder; its URL."""
    (folder / "words.txt").write_text("three small words\n")
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer((address, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{address}:{server.server_port}/words.txt"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


# One of each kind; `-m slow` runs all others.
QUICK = (
    *(
        "after_the_end",
        "arguments",
        "asyncio_main",
        "atexit_handlers",
        "beside_file",
        "config_kubernetes",
    ),
    *("custom_exception", "exit_text", "guard_globals", "os_exit", "package", "relative_files"),
    *("sigterm_handled", "spawn_pool", "staging", "uncaught"),
)
ALL = [
    pytest.param(case, id=case.name, marks=[] if case.name in QUICK else [pytest.mark.slow])
    for case in cases.CASES
]


@pytest.mark.parametrize("case", ALL)
def test_it_is_as_with_plain_python(case, tmp_path, url):
    """Output, files and exit status."""
    with ThreadPoolExecutor() as pool:
        plain = pool.submit(cases.plain, case, tmp_path / "plain", url)
        ours = run(case, tmp_path, url)
    assert ours == plain.result()


def run(case, tmp_path, url):
    """Run it by k8s-parsl."""
    folder = cases.copied(case, tmp_path / "code")
    (tmp_path / "values.yaml").write_text(VALUES)
    over = {"workflow": {"script": case.script, "args": cases.arguments(case, url)}}
    (tmp_path / "over.yaml").write_text(json.dumps(over))
    words = [
        "run",
        "-f",
        "values.yaml",
        "-f",
        "over.yaml",
        "--path",
        str(folder),
        "--volumes",
        "volumes",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "k8s_parsl", *words],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=cases.PATIENCE_S,
    )
    stdout, stderr = (text.decode() for text in (done.stdout, done.stderr))
    (record,) = (tmp_path / "volumes/data/runs").glob("*/record.json")
    kept = json.loads(record.read_text())
    assert kept["workflow_status"] is not None, stderr
    assert done.returncode == kept["exit_code"] == min(kept["workflow_status"], 1), stderr
    said = cases.comparable(case, OURS.sub("", stderr), folder)
    made = cases.files(record.parent / "work", case, folder)
    assert cases.files(folder, case, folder) == {}, "it writes beside its code"
    return cases.Told(kept["workflow_status"], stdout, said, made)
