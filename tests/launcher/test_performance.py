"""The frame of `make bench`: what it publishes, what it refuses, and what its page is made of."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace

import breathing
import pytest

from bench import machine, page, plots, store
from bench.entries import ENTRIES
from bench.figures import Figure, Plot, Result, Table, in_turns

QUIET = machine.Load(before=0.1, after=0.2, foreign_cpus=0.02, stolen_cpus=0.0, foreign=())
PAIRS = ((2.0, 4.0), (3.0, 4.0), (2.0, 2.0), (1.0, 4.0), (2.0, 4.0))
FIGURE = Figure("speed", "ours", "theirs", "tasks/s", "higher", PAIRS, 0.9)
LINES = {"ours | x": ((0.0, 1.0), (1.0, 2.0)), "theirs": ((0.0, 2.0), (1.0, 1.0))}
RESULT = Result(
    figures=(FIGURE, replace(FIGURE, name="cost", better="lower")),
    tables=(Table("Sizes", ("name", "MiB"), (("a|b", 1.25), ("c", None))),),
    plots=(Plot("Workers & tasks", "s", "number", LINES, is_step=True),),
    notes=("Measured once.",),
)


@pytest.fixture
def run():
    made = store.run_of("throughput", store.FULL, 12.0, QUIET, RESULT)
    return replace(made, versions={"k8s-parsl": "0a1b2c3d4e5f", "parsl": "1"})


def test_a_figure_is_the_median_of_its_ratios_with_their_spread():
    assert (FIGURE.median, FIGURE.spread) == (0.5, (0.25, 1.0))
    assert [one.meets_goal for one in RESULT.figures] == [False, True]
    assert replace(FIGURE, goal=None).meets_goal is None


@pytest.mark.parametrize("pairs", [(), ((1.0, 0.0),)])
def test_a_figure_without_something_to_compare_with_is_an_error(pairs):
    with pytest.raises(ValueError, match=r"^speed: "):
        replace(FIGURE, pairs=pairs)


def test_the_sides_of_a_pair_run_in_turns():
    order = []
    pairs = in_turns(3, lambda: order.append("ours"), lambda: order.append("theirs"))
    assert order == ["theirs", "ours", "ours", "theirs", "theirs", "ours"]
    assert len(pairs) == 3


def test_what_is_published_is_read_as_it_was(run, tmp_path):
    file = tmp_path / "performance.json"
    store.write([run], file)
    other = replace(run, benchmark="status")
    assert store.write([other], file) == [other, run]
    assert store.read(file) == [other, run]
    again = replace(run, seconds=99.0)
    assert store.write([again], file) == [other, again]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"version": 2, "runs": []}', "version 2, not 1"),
        ("{}", "version None, not 1"),
        ('{"version": 1, "runs": [{}]}', "not what make bench writes"),
    ],
)
def test_another_file_is_refused(tmp_path, text, why):
    file = tmp_path / "performance.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=why):
        store.read(file)


BUSY = replace(QUIET, foreign_cpus=0.9, foreign=(machine.Foreign(7, "go build ./...", 0.8),))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"load": BUSY.as_json()}, r"process 7 \(go build ./...\) used 0.80 CPUs; end it"),
        ({"load": replace(QUIET, stolen_cpus=0.5).as_json()}, "hypervisor gives 0.50 CPUs"),
        ({"size": "small"}, "a small run; run it with --size full"),
        ({"versions": {"k8s-parsl": "0a1b2c3d4e5f+"}}, "the checkout has changes"),
        (
            {"result": Result(figures=(replace(FIGURE, pairs=PAIRS[:4]),))},
            "speed has 4 pairs, and a figure needs 5",
        ),
    ],
)
def test_what_says_little_is_not_published(run, change, why):
    store.refuse(run)
    with pytest.raises(store.NotPublishable, match=f"^throughput: .*{why}"):
        store.refuse(replace(run, **change))


def test_a_process_of_others_is_named_and_one_of_ours_is_not(monkeypatch):
    """A child in its own session is ours by its mark; a process without it is another's."""
    monkeypatch.setenv(machine.MARKER, "this-test")
    # For a minute at most, should this test be killed.
    spins = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
    plain = {key: value for key, value in os.environ.items() if key != machine.MARKER}
    # Its parent has ended, as that of a laptop's worker pool.
    orphan = (
        "import subprocess, sys\n"
        "words = [sys.executable, '-c', sys.argv[1]]\n"
        "print(subprocess.Popen(words, stdout=subprocess.DEVNULL).pid)"
    )

    def start(environment):
        words = [sys.executable, "-W", "ignore", "-c", orphan, spins]
        done = subprocess.run(
            words, env=environment, stdout=subprocess.PIPE, start_new_session=True, check=True
        )
        return int(done.stdout)

    pids = []
    try:
        pids = [start(plain), start(dict(os.environ))]
        watch = machine.Watch()
        while pids[0] not in (found := {one.pid: one for one in watch.foreign()}):
            watch.sample()
        assert pids[1] not in found
        assert "import time end = time.monotonic() + 60" in found[pids[0]].command
    finally:
        for pid in pids:
            os.kill(pid, 9)


def test_a_busy_machine_is_refused_before_anything_is_measured():
    assert machine.why_not_quiet(QUIET) == ""
    cores = os.cpu_count() or 1
    assert "the load average is" in machine.why_not_quiet(QUIET, load_average=cores)


# The page.


def test_the_page_is_what_the_published_figures_make():
    """`make bench-page` writes it; no other hand does."""
    made = page.files(store.read())
    assert {path: path.read_text("utf-8") for path in made} == made
    assert set(page.FOLDER.glob("*")) <= set(made)


def test_the_same_results_make_the_same_bytes(run):
    assert page.files([run]) == page.files([run])
    assert set(page.files([run])) == {
        page.PAGE,
        page.FOLDER / "ratios.svg",
        page.FOLDER / "throughput-workers-tasks.svg",
    }


def test_the_page_shows_ratio_spread_goal_machine_and_load(run):
    text = page.files([run])[page.PAGE]
    assert (
        "| speed | **0.5** | 0.25 to 1 of 5 | ≥ 0.9 | **no** | ours 2, theirs 4 tasks/s |" in text
    )
    assert "| cost | **0.5** | 0.25 to 1 of 5 | ≤ 0.9 | yes |" in text
    assert "| a\\|b | 1.25 |\n| c |  |" in text
    for said in ("0a1b2c3d4e5f", "Load average 0.1 before and 0.2 after", "- Measured once."):
        assert said in text
    assert f"on {os.cpu_count()} cores" in text


def test_the_page_says_what_is_not_measured(run):
    assert "No figure is published yet" in page.files([])[page.PAGE]
    text = page.files([run])[page.PAGE]
    assert "No figure is published yet" not in text
    named = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert named == set(ENTRIES) - {"throughput"}


def test_a_plot_is_an_svg_with_its_texts(run):
    svg = plots.lines(RESULT.plots[0])
    for text in ("Workers &amp; tasks", "ours | x", "theirs", "number"):
        assert text in svg
    assert ">speed<" in plots.ratios(RESULT.figures)


def test_a_plot_of_steps_names_its_rows_from_the_top():
    lines = {"run 1": ((0.5, 0.0), (2.0, 1.0))}
    plot = Plot("A start", "s", "", lines, rows=("pod made", "pod runs"))
    assert Result.of_json(Result((), plots=(plot,)).as_json()).plots == (plot,)
    svg = plots.lines(plot)
    y = {name: float(re.search(rf'y="([0-9.]+)"[^>]*>{name}<', svg)[1]) for name in plot.rows}
    assert y["pod made"] < y["pod runs"]


def test_what_is_published_names_no_process_of_the_machine(run, tmp_path):
    others = [{"pid": 1, "command": "/opt/secret --token x", "cpus": 0.01}]
    file = tmp_path / "performance.json"
    store.write([replace(run, load=run.load | {"foreign": others})], file)
    assert "secret" not in file.read_text()
    assert all(one.load["foreign"] == [] for one in store.read())


def test_every_benchmark_has_its_module():
    modules = (store.ROOT / "benchmarks").glob("*.py")
    there = {path.stem for path in modules if "\ndef bench(" in path.read_text("utf-8")}
    assert there == set(ENTRIES)


# What a journal says of waves of tasks.


def journal(*tries, workers=(), scaling=()):
    columns = [None] * 24
    events = []
    for pod, submitted, began, ended, outcome in tries:
        of = list(columns)
        of[2], of[4], of[7], of[8], of[10], of[11] = (
            outcome,
            submitted,
            ended,
            pod,
            began,
            ended - began,
        )
        events.append({"event": "try", "t": ended, "of": of})
    events += [{"event": "workers", "t": t, "pod": pod, "number": n} for t, pod, n in workers]
    events += [{"event": "scaling", "t": t, "from": 0, "to": n} for t, n in scaling]
    return breathing.breath(sorted(events, key=lambda event: event["t"]))


def test_waves_are_read_from_a_journal():
    found = journal(
        ("cpu-0", 1.0, 3.0, 5.0, "done"),
        ("cpu-1", 10.0, 12.0, 14.0, "done"),
        workers=[(2.9, "cpu-0", 1), (8.0, "cpu-0", 0), (11.9, "cpu-1", 1), (20.0, "cpu-1", 0)],
        scaling=[(1.1, 1), (10.3, 1)],
    )
    assert found.asked_s == pytest.approx([0.1, 0.3])
    assert found.idle_s == pytest.approx([3.0, 6.0])
    assert (found.unused, found.lost, found.task_s) == (0, 0, 4.0)
    assert found.open_tasks[-1][1] == found.workers[-1][1] == 0.0


def test_a_pod_without_a_task_and_a_lost_task_are_counted():
    found = journal(
        ("cpu-0", 1.0, 3.0, 5.0, "lost"),
        workers=[(2.9, "cpu-0", 1), (3.0, "cpu-1", 1), (9.0, "cpu-1", 0)],
        scaling=[(1.1, 2)],
    )
    assert (found.unused, found.lost) == (1, 1)
