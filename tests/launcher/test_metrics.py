"""Metrics for Prometheus: what they say is what the state says, in a text that its parser reads."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from told import done, failed, kept, submitted, tried

from k8s_parsl.journal.apps import KEPT_APPS, OTHERS
from k8s_parsl.journal.journal import Journal
from k8s_parsl.journal.state import State
from k8s_parsl.journal.times import BOUNDS
from k8s_parsl.views import metrics
from k8s_parsl.views.server import Ports
from k8s_parsl.views.status import status
from launcher.web import ask, served

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "admin" / "metrics.md").read_text("utf-8")
DASHBOARD = json.loads((REPOSITORY / "deploy" / "grafana-dashboard.json").read_text("utf-8"))
# One that is chosen in Grafana.
CHOSEN = '{instance=~"$instance"}'


def parsed(text):
    """Return the samples by name, each with its labels as pairs; a repeated one is an error."""
    found = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in found[sample.name], (sample.name, labels)
            found[sample.name][labels] = sample.value
    return found


def said(state):
    return parsed(metrics.text(metrics.families(state)).decode())


@pytest.fixture
def journal():
    """Of a run in which everything happened at least once."""
    journal = Journal()
    journal.begin(
        run="1a2b3c4d",
        workflow="flow:main",
        versions="Python 3.13, Parsl 2026.10.26",
        workers={"cpu": 2, "gpu": 1},
    )
    for name, state, more in (
        ("a", "running", {}),
        ("b", "created", {"reason": "Unschedulable", "text": "no node"}),
        ("c", "created", {"reason": "Unschedulable"}),
        ("d", "ended", {"reason": "OOMKilled"}),
    ):
        journal.note("pod", executor="cpu", pod=name, state=state, **more)
    journal.note("workers", executor="cpu", pod="a", number=2)
    journal.take_tasks(
        [
            submitted("tile", 9),
            submitted("merge", 2),
            done("tile", 0.02, waited=0.5, cpu=0.01, peak=7 << 20, throttled=0.25),
            done("tile", 2.5, cpu=2.25, peak=5 << 20),
            done("tile", 20_000.0, cpu=1.0),
            kept("tile"),
            failed("tile", "ValueError: no"),
            tried("tile", "retried", 1.0, cpu=0.5),
            tried("tile", "lost"),
            tried("merge", "cancelled"),
            ("running", "tile", (7, 0, "cpu", "a", journal.started + 1)),
            ("running", "merge", (8, 0, "cpu", "a", journal.started + 1)),
        ]
    )
    journal.note("used", of="workflow", cpu=12.5, memory=300 << 20)
    journal.note("used", of="workflow", cpu=13.5, memory=200 << 20)
    journal.note("used", of="launcher", cpu=1.5, memory=60 << 20)
    journal.note("gap", lines=17)
    return journal


COUNTERS = ("submitted", "done", "kept", "failed", "retried", "lost", "cancelled")


def test_each_app_has_what_its_state_has(journal):
    with journal.locked() as state:
        found = said(state)
    for name, app in state.tasks.apps.items():
        labels = (("app", name),)
        for kind in COUNTERS:
            assert found[f"k8s_parsl_tasks_{kind}_total"][labels] == getattr(app, kind), kind
        assert found["k8s_parsl_task_cpu_seconds_total"][labels] == app.cpu
        assert found["k8s_parsl_task_waited_seconds_total"][labels] == app.waited
        assert found["k8s_parsl_task_throttled_seconds_total"][labels] == app.throttled
        assert found["k8s_parsl_task_memory_peak_bytes"][labels] == app.peak
        assert found["k8s_parsl_tasks_running"][labels] == 1
    # Those of the fixture, not zeros on both sides.
    tile = state.tasks.apps["tile"]
    assert [getattr(tile, kind) for kind in COUNTERS] == [9, 4, 1, 1, 1, 1, 0]
    assert (tile.peak, tile.throttled) == (7 << 20, 0.25)
    assert tile.waited > 0.4
    assert tile.cpu == pytest.approx(3.76)


def test_the_histogram_is_cumulative_and_its_count_and_sum_are_the_times(journal):
    with journal.locked() as state:
        found = said(state)
    times = state.tasks.apps["tile"].seconds
    buckets = {
        float(dict(labels)["le"]): value
        for labels, value in found["k8s_parsl_task_duration_seconds_bucket"].items()
        if ("app", "tile") in labels
    }
    assert list(buckets) == [*BOUNDS, float("inf")]
    below = {bound: sum(took <= bound for took in (0.02, 2.5, 20_000.0)) for bound in buckets}
    assert buckets == below
    assert found["k8s_parsl_task_duration_seconds_count"][("app", "tile"),] == times.number == 3
    assert found["k8s_parsl_task_duration_seconds_sum"][("app", "tile"),] == times.total


def test_pods_are_counted_by_executor_state_and_reason(journal):
    with journal.locked() as state:
        found = said(state)

    def pods(state, reason=""):
        return (("executor", "cpu"), ("reason", reason), ("state", state))

    assert found["k8s_parsl_pods"] == {pods("working"): 1, pods("created", "Unschedulable"): 2}
    assert found["k8s_parsl_pods_ended_total"] == {(("executor", "cpu"),): 1}
    assert found["k8s_parsl_pod_reasons_total"] == {
        (("reason", reason),): number for reason, number in state.pods.reasons.items()
    }
    assert state.pods.reasons == {"Unschedulable": 2, "OOMKilled": 1}
    both = {(("executor", "cpu"),): 2, (("executor", "gpu"),): 0}
    assert found["k8s_parsl_workers"] == found["k8s_parsl_workers_busy"] == both


def test_the_run_and_its_processes_are_named(journal):
    with journal.locked() as state:
        found = said(state)
    run = {
        "run": "1a2b3c4d",
        "workflow": "flow:main",
        "versions": "Python 3.13, Parsl 2026.10.26",
    }
    assert found["k8s_parsl_run_info"] == {tuple(sorted(run.items())): 1}
    assert found["k8s_parsl_run_start_time_seconds"][()] == pytest.approx(journal.started, abs=0.01)
    assert found["k8s_parsl_journal_lines_left_out_total"][()] == 17
    of = {name: (("process", name),) for name in ("launcher", "workflow")}
    assert found["k8s_parsl_process_cpu_seconds_total"] == {
        of["launcher"]: 1.5,
        of["workflow"]: 13.5,
    }
    assert found["k8s_parsl_process_memory_bytes"][of["workflow"]] == 200 << 20
    assert found["k8s_parsl_process_memory_peak_bytes"][of["workflow"]] == 300 << 20


def test_pods_that_the_state_forgot_stay_counted():
    state = State()
    for number in range(5000):
        event = {"event": "pod", "executor": "cpu", "pod": f"p{number}", "t": 1.0}
        state.take({**event, "state": "running"})
        state.take({**event, "state": "ended", "reason": "Completed"})
    assert state.pods.forgotten["cpu"] > 0
    assert said(state)["k8s_parsl_pods_ended_total"] == {(("executor", "cpu"),): 5000}


HOSTILE = [
    'a"b',
    "back\\slash",
    'end\\"} 1\nk8s_parsl_tasks_done_total{app="forged"} 7',
    "new\nline",
    "carriage\rreturn",
    "\udcff",
    "\udcfe",
    "\0",
    "\x1b[31mred",
    "名前",
    "",
    " ",
    "{}",
    "# HELP x y",
    "a" * 100_000,
    "a" * 100_001,
    "a" * 201,
    "\u2028",
    OTHERS,
]


def test_a_hostile_name_of_an_app_is_one_label_and_forges_nothing():
    journal = Journal()
    journal.begin(run="\udcff", workflow='"\n', versions="\\")
    journal.take_tasks([submitted(app, 1) for app in HOSTILE])
    journal.take_tasks(
        [("running", app, (number, 0, "c", "a", 0)) for number, app in enumerate(HOSTILE)]
    )
    with journal.locked() as state:
        found = said(state)
    assert len(state.tasks.apps) == len(HOSTILE)
    for name in ("k8s_parsl_tasks_submitted_total", "k8s_parsl_tasks_running"):
        assert list(found[name].values()) == [1] * len(HOSTILE)
    assert found["k8s_parsl_tasks_done_total"][("app", 'a"b'),] == 0
    assert ("app", "forged") not in {
        pair for key in found["k8s_parsl_tasks_done_total"] for pair in key
    }
    assert max(len(label) for key in found["k8s_parsl_tasks_running"] for _, label in key) < 300


def test_the_number_of_apps_is_bounded_and_so_is_the_text():
    journal = Journal()
    journal.begin()
    apps = [f"app-{number}-{'x' * 5000}" for number in range(3 * KEPT_APPS)]
    journal.take_tasks([submitted(app) for app in apps])
    journal.take_tasks([("running", app, (n, 0, "c", "p", 0)) for n, app in enumerate(apps)])
    with journal.locked() as state:
        text = metrics.text(metrics.families(state))
        found = parsed(text.decode())
    for name in ("k8s_parsl_tasks_submitted_total", "k8s_parsl_tasks_running"):
        assert len(found[name]) == KEPT_APPS + 1
        assert found[name][("app", OTHERS),] == 2 * KEPT_APPS
        assert sum(found[name].values()) == 3 * KEPT_APPS
    assert len(text) < 12 << 20


@pytest.mark.parametrize(
    "event",
    [
        {"event": "run"},
        {"event": "run", "run": None, "workflow": ["a"], "at": "soon", "versions": {"a": 1}},
        {"event": "pod", "executor": None, "pod": 3, "state": None, "t": 1},
        {"event": "used", "of": None, "cpu": 1e308, "memory": 10**30},
        {"event": "try", "app": "a", "of": ["x"], "t": 0},
    ],
)
def test_a_journal_of_anyone_makes_no_error(event):
    """As a launcher of another version may have written it."""
    state = State()
    state.take(event)
    assert said(state)["k8s_parsl_run_info"]


def test_names_follow_the_conventions_of_prometheus(journal):
    """https://prometheus.io/docs/practices/naming/."""
    with journal.locked() as state:
        families = list(metrics.families(state))
    for family in families:
        assert family.name.startswith("k8s_parsl_")
        assert family.documentation.endswith(".")
        assert not re.search(
            r"_(ms|milliseconds|minutes|mb|mib|kb|total|count|sum|bucket)$", family.name
        )
    assert len({family.name for family in families}) == len(families)


def test_the_metrics_of_this_process_are_not_among_them(journal):
    """And no registry of the whole process is used."""
    before = set(REGISTRY._names_to_collectors)
    with journal.locked() as state:
        names = set(said(state))
    assert {name for name in names if not name.startswith("k8s_parsl_")} == set()
    assert set(REGISTRY._names_to_collectors) == before


def test_both_servers_have_the_same_metrics_with_prometheus_own_type(journal):
    with served(journal, Ports(page=0, metrics=0)) as ports:
        answers = [ask(port, "/metrics") for port in ports.values()]
    for code, headers, body in answers:
        assert code == 200
        assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert parsed(body.decode())["k8s_parsl_tasks_submitted_total"][("app", "tile"),] == 9


def test_metrics_and_status_agree_on_executors(journal):
    with journal.locked() as state:
        rows = status(state)["executors"]
        found = said(state)
    for row in rows:
        labels = (("executor", row["executor"]),)
        assert found["k8s_parsl_workers"][labels] == row["workers"]
        assert found["k8s_parsl_workers_busy"][labels] == row["busy"]


# The page and the dashboard -------------------------------------------------------------------------------------------

QUERIES = re.findall(r"^```promql\n(.+?)\n```$", PAGE, re.MULTILINE)
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def names_in(text):
    return set(re.findall(r"\bk8s_parsl_[a-z_]+", text))


@pytest.fixture
def there(journal):
    """Names of all metrics that there are."""
    with journal.locked() as state:
        return set(said(state))


@pytest.mark.parametrize("query", [*QUERIES, *EXPRESSIONS])
def test_a_query_asks_for_metrics_that_there_are(there, query):
    assert names_in(query)
    assert names_in(query) - there == set()


def test_the_dashboards_queries_are_those_of_the_page():
    """In the dashboard, of the launchers that are chosen there."""
    assert len(QUERIES) > 10
    assert [expression.replace(CHOSEN, "") for expression in EXPRESSIONS] == QUERIES
    for expression in EXPRESSIONS:
        assert expression.count(CHOSEN) == len(re.findall(r"\bk8s_parsl_", expression))
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            assert names_in(variable["query"]["query"]) == {"k8s_parsl_run_info"}


def test_the_page_lists_each_metric_and_no_other(there):
    """A histogram by its family's name."""
    listed = names_in("\n".join(line for line in PAGE.splitlines() if line.startswith("|")))
    parts = {f"k8s_parsl_task_duration_seconds_{part}" for part in ("bucket", "count", "sum")}
    assert listed == there - parts | {"k8s_parsl_task_duration_seconds"}


def test_each_panel_of_the_dashboard_has_its_place():
    """Grafana draws one over the other otherwise."""
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert len({(place["x"], place["y"]) for place in places}) == len(places)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
    for place in places:
        assert place["x"] % place["w"] == place["y"] % place["h"] == 0
