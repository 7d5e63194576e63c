"""The page of a run on a laptop: as it goes on, and as a real Prometheus sees it."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest

from runtime.laptop import VALUES, run_command

PAGE = (Path(__file__).parents[2] / "docs" / "admin" / "metrics.md").read_text("utf-8")
QUERIES = re.findall(r"^```promql\n(.+?)\n```$", PAGE, re.MULTILINE)
# Nothing waits for a pod on a laptop, and no pool is lost.
WITHOUT_PODS = "k8s_parsl_pod_reasons_total"
PATIENCE_S = 60

# It runs small tasks, of which some fail, until the test makes a file.
FLOW = """
import pathlib, time
from parsl import python_app

@python_app
def square(x):
    return x * x

@python_app
def fail():
    raise ValueError("this one cannot")

def main(out):
    out = pathlib.Path(out)
    out.mkdir()
    while not (out / "enough").exists():
        tasks = [square(x) for x in range(5)]
        assert [task.result() for task in tasks] == [0, 1, 4, 9, 16]
        assert isinstance(fail().exception(), ValueError)
        time.sleep(0.2)
    return "enough"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "values.yaml").write_text(VALUES)
    (tmp_path / "flow.py").write_text(FLOW)
    return tmp_path


def until(look, done=bool):
    """Return what ``look`` returns, once it is as wanted."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            found = look()
        except OSError as error:
            found = error
        if not isinstance(found, OSError) and done(found):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.1)


class Run:
    """A run of `k8s-parsl run`, with what it logs so far."""

    def __init__(self, folder, name, more=""):
        self._out = folder / "volumes" / "data" / name
        out = f'workflow: {{call: "flow:main", kwargs: {{out: /data/{name}}}}}\n'
        (folder / f"{name}.yaml").write_text(f"{out}{more}")
        command = run_command(files=("values.yaml", f"{name}.yaml"))
        self._process = subprocess.Popen(
            command, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.lines = []

    def address(self):
        """Return the page's address, from the log."""
        for line in self._process.stderr:
            self.lines.append(line)
            if found := re.search(r"page: (http://127\.0\.0\.1:\d+)/$", line):
                return found[1]
        pytest.fail("".join(self.lines))

    def end(self):
        """Let it come to its end; return its exit code."""
        until(self._out.is_dir)
        (self._out / "enough").touch()
        self.lines += self._process.communicate(timeout=PATIENCE_S)[1].splitlines(keepends=True)
        return self._process.returncode

    def kill(self):
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stderr.close()


@pytest.fixture
def start(folder):
    runs = []

    def begin(more=""):
        runs.append(Run(folder, f"run{len(runs)}", more))
        return runs[-1]

    yield begin
    for run in runs:
        run.kill()


def get(url):
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        return answer.read().decode()


def tasks(page):
    return json.loads(get(f"{page}/status.json"))["tasks"]


def test_the_page_has_the_run_while_it_goes_on_and_ends_with_it(start):
    """On a free port, which the log names: several runs may go on at once."""
    run, other = start(), start()
    page = run.address()
    assert other.address() != page
    found = until(lambda: tasks(page), lambda now: now["done"] >= 10 and now["failed"] >= 2)
    later = until(lambda: tasks(page), lambda now: now["done"] > found["done"])
    assert later["submitted"] >= later["done"] + later["failed"]
    document = json.loads(get(f"{page}/status.json"))
    assert document["run"]["workflow"] == "flow:main"
    assert set(document["used"]) == {"launcher", "workflow"}
    assert 'k8s_parsl_tasks_done_total{app="square"}' in get(f"{page}/metrics")
    # Its tasks failed without an exception that reached the workflow's end.
    assert run.end() == 0, "".join(run.lines)
    with pytest.raises(OSError, match="refused"):
        get(f"{page}/healthz")


def test_a_tasks_page_has_its_traceback_while_the_run_goes_on(start, folder):
    """And the run's status says which code runs, and why it asked for workers."""
    run = start()
    page = run.address()
    failed = until(lambda: json.loads(get(f"{page}/status.json")), lambda now: now["failed_tasks"])
    task = failed["failed_tasks"][0]["task"]
    text = until(lambda: get(f"{page}/task/{task}"), lambda text: "ValueError: this one" in text)
    assert "Traceback (most recent call last):" in text
    document = json.loads(get(f"{page}/status.json"))
    first = document["scalings"][0]
    assert (first["executor"], first["before"], first["why"]) == ("workers", 0, "initBlocks")
    assert re.fullmatch(r"sha256:[0-9a-f]{64} of \d files", document["run"]["code"])
    (used,) = document["resources"]
    assert (used["executor"], used["of"]) == ("workers", "pool")
    assert run.end() == 0
    record = next(folder.glob("volumes/data/runs/*/record.json"))
    assert json.loads(record.read_text())["code"] == document["run"]["code"]
    report = (record.parent / "report.html").read_text()
    assert f'id="task-{task}"' in report
    assert "Traceback (most recent call last):" in report


def test_a_taken_port_is_a_warning_with_its_key_and_the_run_goes_on(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = start(f"page: {{port: {port}}}")
        assert run.end() == 0
    (warning,) = [line for line in run.lines if "WARNING" in line]
    assert f"page.port: port {port}: Address already in use" in warning


def test_without_a_page_nothing_listens(start):
    """`metrics.enabled` is for the launcher's pod: a laptop's network gets nothing."""
    run = start("page: {enabled: false}\nmetrics: {enabled: true}")
    assert run.end() == 0
    said = "".join(run.lines)
    assert "page: http" not in said
    assert "metrics:" not in said


# A real Prometheus ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """The program, of Debian's package."""
    folder = tmp_path_factory.mktemp("prometheus")
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        pytest.skip("no Debian: there is no package of Prometheus")
    got = subprocess.run(
        ["apt-get", "download", "prometheus"], cwd=folder, capture_output=True, text=True
    )
    packages = list(folder.glob("prometheus_*.deb"))
    if got.returncode or not packages:
        pytest.skip(f"apt-get download prometheus: {got.stderr.strip()[-200:]}")
    subprocess.run(["dpkg", "-x", packages[0], folder], check=True)
    return folder / "usr" / "bin" / "prometheus"


@contextmanager
def scraping(program, folder, **found):
    """Run a Prometheus that scrapes a launcher, found by these configurations; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        own = f"127.0.0.1:{free.getsockname()[1]}"
    job = {"job_name": "k8s-parsl", **found}
    config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [job]}
    (folder / "prometheus.yaml").write_text(json.dumps(config))
    command = [
        program,
        "--config.file=prometheus.yaml",
        "--storage.tsdb.path=tsdb",
        f"--web.listen-address={own}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stderr=log)
    try:
        until(lambda: get(f"http://{own}/-/ready"))
        yield f"http://{own}"
    finally:
        process.terminate()
        process.wait()


def answer(prometheus, query):
    """Return the numbers that a query gives now, of each of its series."""
    said = json.loads(get(f"{prometheus}/api/v1/query?{urlencode({'query': query})}"))
    assert said["status"] == "success", said
    return [(row["metric"], float(row["value"][1])) for row in said["data"]["result"]]


def has_numbers(rows):
    """Whether there are rows, with a number where tasks are done: a rate needs two samples."""
    numbers = [value for metric, value in rows if metric.get("app", "square") == "square"]
    return numbers and not any(map(math.isnan, numbers))


@pytest.mark.slow
def test_prometheus_scrapes_a_run_and_the_queries_of_the_page_answer(prometheus, start, folder):
    run = start()
    page = run.address()
    target = {"targets": [page.removeprefix("http://")]}
    with scraping(prometheus, folder, static_configs=[target]) as asked:
        until(lambda: answer(asked, "up == 1"))
        for query in QUERIES:
            if WITHOUT_PODS in query:
                answer(asked, query)
                continue
            until(lambda: answer(asked, query), has_numbers)
        done = "sum by (app) (k8s_parsl_tasks_done_total)"
        ((metric, number),) = [row for row in answer(asked, done) if row[0]["app"] == "square"]
        assert metric == {"app": "square"}
        assert 0 < number <= tasks(page)["done"]
        targets = json.loads(get(f"{asked}/api/v1/targets"))["data"]["activeTargets"]
        assert [target["lastError"] for target in targets] == [""]
    assert run.end() == 0
