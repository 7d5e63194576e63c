"""A new run takes over what an older one has kept, where function and arguments are the same."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess

import pytest
from quick import quick

from k8s_parsl.config.settings import Settings
from k8s_parsl.folder import Folder
from k8s_parsl.journal import events
from k8s_parsl.journal.journal import Journal
from k8s_parsl.record.report import Record
from k8s_parsl.run import resuming
from k8s_parsl.run.attempts import Attempt
from k8s_parsl.views.history import Run
from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.errors import ConfigurationError, ExitCode, Temporary
from k8s_parsl_runtime.workflow import inherited
from k8s_parsl_runtime.workflow.store import Store
from runtime.laptop import run_command

FLOW = """
from parsl import python_app
from counting import given, note

def helper(x):
    return x * x

@python_app(cache=True)
def square(x):
    note("square")
    return helper(x)

@python_app(cache=True)
def add(a, b):
    note("add")
    return a + b

@python_app
def plain(x):
    note("plain")
    return x

def main():
    count, end = given()
    squares = [square(x).result() for x in range(count)]
    if end == "early":
        raise ValueError("no map")
    sums = [add(x, 1).result() for x in squares]
    plain(0).result()
    if end == "late":
        raise ValueError("no map")
    return sums
"""
COUNTING = """
import os

# Hidden files are no data of the workflow's.
HERE = os.path.dirname(__file__)

def note(name):
    with open(os.path.join(HERE, ".ran"), "a") as ran:
        ran.write(name + "\\n")

def given():
    with open(os.path.join(HERE, ".given")) as file:
        count, end = file.read().split()
    return int(count), end
"""
VALUES = """
workflow: {{call: "flow:main"{arguments}}}
executors: {{workers: {{maxWorkersPerNode: 2}}}}
parsl: {{strategyPeriod: 0.5, cache: {cache}, cacheKey: {key}}}
run: {{volume: data, resumeFrom: "{resume}", keepRuns: {keep}}}
storage: {{data: {{mountPath: /data, existingClaim: x}}}}
"""


USUAL = {
    "count": 4,
    "end": "well",
    "cache": "declared",
    "key": "arguments",
    "resume": "",
    "keep": "null",
}


class Laptop:
    """A folder with a workflow, which is run in it again and again."""

    def __init__(self, folder):
        self.folder = folder
        self.log = ""
        self.arguments = ""
        (folder / "flow.py").write_text(FLOW)
        (folder / "counting.py").write_text(COUNTING)

    def edit(self, before, after):
        text = (self.folder / "flow.py").read_text()
        assert before in text
        (self.folder / "flow.py").write_text(text.replace(before, after))

    def run(self, *more, **values):
        """Run it; return how often each app ran, and its exit code."""
        text = VALUES.format(arguments=self.arguments, **USUAL | values)
        (self.folder / "values.yaml").write_text(text)
        (self.folder / ".given").write_text("{count} {end}".format(**USUAL | values))
        ran = self.folder / ".ran"
        ran.write_text("")
        done = subprocess.run(
            run_command(*more), cwd=self.folder, capture_output=True, text=True, timeout=120
        )
        self.log = done.stderr
        apps = ran.read_text().split()
        return {app: apps.count(app) for app in set(apps)}, done.returncode

    @property
    def runs(self):
        return sorted((self.folder / "volumes" / "data" / "runs").iterdir())

    def record(self, run=-1):
        return json.loads((self.runs[run] / "record.json").read_text())


@pytest.fixture
def laptop(tmp_path):
    return Laptop(tmp_path)


ALL = {"square": 4, "add": 4, "plain": 1}


def test_a_run_after_one_that_failed_takes_its_results_over(laptop):
    """And the older one says so at its end, the new one at its beginning and at its end."""
    assert laptop.run(end="late") == (ALL, 1)
    assert (
        "the next run of this workflow takes over the results of apps with cache=True" in laptop.log
    )
    older = laptop.runs[0].name
    assert laptop.run(count=6) == ({"square": 2, "add": 2, "plain": 1}, 0)
    assert f"run {older} of this workflow was not done: this one takes over" in laptop.log
    assert f"run.resumeFrom: run {older} has 8 results" in laptop.log
    assert (
        f"this run went on from run {older}: 8 results taken over; ran: square (2: the older run"
        " has no result for these arguments); add (2: " in laptop.log
    )
    record = laptop.record()
    assert record["resumed_from"] == older
    assert {"app": "square", "taken": 4, "changed": 0, "other": 2, "new": 0} in record["resumed"]
    page = (laptop.runs[-1] / "report.html").read_text()
    assert f"The run went on from run {older}: 8 results taken over" in page
    assert laptop.run() == (ALL, 0), "the last run was done, so this one is new"
    assert "resumeFrom" not in laptop.log


FILES = """
from glob import glob
from pathlib import Path
from counting import given
from parsl import bash_app, python_app
from k8s_parsl.outputs import append

@python_app(cache=True)
def tile(n):
    Path(f"tile{n}.txt").write_text(str(n))

@python_app(cache=True)
def count(n):
    with append("counts.csv") as file:
        file.write(f"{n}\\n")

@bash_app(cache=True)
def say(stdout="said.txt"):
    return "echo said"

def main():
    count, end = given()
    from flow import count as counted
    tasks = [say(), *(app(n) for n in range(4) for app in (tile, counted))]
    [task.result() for task in tasks]
    if end == "late":
        raise ValueError("no map")
    [app(4).result() for app in (tile, counted)]
    return [Path("said.txt").read_text().strip(), sorted(glob("tile*.txt"))]
"""


def added_to(laptop):
    (path,) = (laptop.folder / "volumes/data/runs").glob("*/work/counts.csv")
    return path.read_text().split()


def test_files_of_tasks_by_relative_paths_are_there_when_a_run_goes_on(laptop):
    """And what tasks add to a file by a relative path is in it once."""
    (laptop.folder / "flow.py").write_text(FILES)
    assert laptop.run(end="late")[1] == 1
    assert laptop.run(end="late")[1] == 1
    assert laptop.run()[1] == 0, laptop.log
    assert laptop.record()["result"] == ["said", [f"tile{n}.txt" for n in range(5)]]
    assert added_to(laptop) == [str(n) for n in range(5)]
    assert laptop.record()["work_of"] == laptop.runs[0].name
    assert laptop.run("--fresh")[1] == 0
    assert laptop.record()["work_of"] == ""
    assert (laptop.runs[-1] / "work/tile0.txt").exists()


def test_a_run_in_whose_working_directory_another_goes_on_is_kept(laptop):
    (laptop.folder / "flow.py").write_text(FILES)
    laptop.run(end="late")
    first = laptop.runs[0].name
    laptop.run(end="late", keep=1)
    assert laptop.run(keep=1)[1] == 0
    assert laptop.runs[0].name == first
    assert len(laptop.runs) == 2
    for _ in range(2):
        laptop.run("--fresh", keep=1)
    assert len(laptop.runs) == 1


@pytest.mark.parametrize("name", ["", "..", "../../etc", "gone", "/etc"])
def test_a_working_directory_of_no_older_run_is_the_runs_own(tmp_path, name):
    own = Folder(tmp_path / "runs" / "own")
    own.path.mkdir(parents=True)
    record = Record("own", "laptop", "flow:main", "", "", work_of=name)
    assert resuming.working_folder(own, record) == own


MADE = """
from pathlib import Path
from parsl import python_app
from counting import given, note
from k8s_parsl.outputs import makes, output

@python_app(cache=True)
@makes("path")
def make(path, n):
    note("make")
    with output(path) as temporary:
        Path(temporary).write_text(str(n))
    return n

def main():
    count, end = given()
    done = [make(f"/data/made-{n}.txt", n).result() for n in range(count)]
    if end == "late":
        raise ValueError("no map")
    return done
"""


def test_a_declared_output_that_has_changed_is_made_again_although_its_result_is_kept(laptop):
    (laptop.folder / "flow.py").write_text(MADE.replace("/data", str(laptop.folder)))
    assert laptop.run(end="late") == ({"make": 4}, 1)
    (laptop.folder / "made-1.txt").unlink()
    (laptop.folder / "made-2.txt").write_text("x")
    assert laptop.run() == ({"make": 2}, 0), laptop.log
    assert [(laptop.folder / f"made-{n}.txt").read_text() for n in range(4)] == list("0123")


CHANGED = """
import lib, os
from pathlib import Path
from parsl import python_app
from counting import given, note

@python_app(cache=True)
def first():
    note("first")

@python_app(cache=True)
def third(x):
    note("third")
    return lib.f(x)

def main():
    count, end = given()
    first().result()
    if end == "late":
        here = Path(__file__).parent / "lib.py"
        here.write_text(here.read_text().replace("2", "1000"))
    value = third(1).result()
    if end == "late":
        raise ValueError("no map")
    return value
"""


def test_a_module_that_has_changed_while_a_run_used_it_gives_no_result_to_another(laptop):
    """What the run had imported is not known any more."""
    (laptop.folder / "flow.py").write_text(CHANGED)
    (laptop.folder / "lib.py").write_text("def f(x):\n    return x * 2\n")
    assert laptop.run(end="late") == ({"first": 1, "third": 1}, 1)
    assert "lib.py has changed since this run began" in laptop.log
    assert laptop.run() == ({"third": 1}, 0), laptop.log
    assert laptop.record()["result"] == 1000


DATA_FLOW = """
from pathlib import Path
from counting import given, note
from parsl import bash_app, python_app

@python_app(cache=True)
def scaled(n):
    note("scaled")
    return n * int(Path("data/factor.txt").read_text())

def main(word="none"):
    count, end = given()
    sums = [scaled(n).result() for n in range(count)]
    Path(f"{word}.txt").touch()
    if end == "late":
        raise ValueError("no map")
    return [sums, sorted(path.name for path in Path().rglob("*.txt"))]
"""


def beside(laptop, name="data/factor.txt", text="1"):
    """Write a file beside the code; None removes it."""
    path = laptop.folder / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True) if text is None else path.write_text(text)


NO_DATA = ["README.md", "run.log", "other.py", "flow.py~", ".hidden"]


@pytest.fixture
def with_data(laptop):
    """A workflow whose tasks read a file beside it; its first run has failed."""
    (laptop.folder / "flow.py").write_text(DATA_FLOW)
    beside(laptop)
    for name in NO_DATA:
        beside(laptop, name, "as it was")
    assert laptop.run(end="late") == ({"scaled": 4}, 1)
    return laptop


@pytest.mark.parametrize(
    ("name", "text"),
    quick([("data/factor.txt", "2"), ("step.sh", "echo 2"), ("data/factor.txt", "22")], 2),
)
def test_what_was_edited_beside_the_code_is_used_and_no_result_from_before_it(laptop, name, text):
    """Without `run.resumeFrom` a run then starts from the beginning, and says why."""
    (laptop.folder / "flow.py").write_text(DATA_FLOW)
    beside(laptop)
    beside(laptop, "step.sh", "echo 1")
    assert laptop.run(end="late") == ({"scaled": 4}, 1)
    beside(laptop, name, text)
    assert laptop.run() == ({"scaled": 4}, 0), laptop.log
    assert f"what lies beside the code has changed since: {name}; this one starts" in laptop.log
    assert laptop.record()["result"][0][1] == int(text if "factor" in name else "1")
    assert laptop.record()["work_of"] == ""


def test_a_file_that_is_gone_beside_the_code_is_not_there_either(laptop):
    (laptop.folder / "flow.py").write_text(DATA_FLOW)
    beside(laptop)
    beside(laptop, "data/old.txt")
    laptop.run(end="late")
    beside(laptop, "data/old.txt", None)
    assert laptop.run()[1] == 0
    assert "has changed since: data/old.txt; this one starts" in laptop.log
    assert laptop.record()["result"][1] == ["factor.txt", "none.txt"]


def test_a_file_that_is_new_beside_the_code_is_there_when_a_run_goes_on(with_data):
    for name in ("data/new.txt", "data/more/new2.txt", "new3.txt"):
        (with_data.folder / name).parent.mkdir(exist_ok=True)
        beside(with_data, name)
    assert with_data.run() == ({}, 0), with_data.log
    names = ["factor.txt", "new.txt", "new2.txt", "new3.txt", "none.txt"]
    assert with_data.record()["result"][1] == names


def test_where_the_values_name_the_older_run_an_edited_file_is_used_with_a_warning(with_data):
    beside(with_data, text="2")
    assert with_data.run(count=5, resume="latest") == ({"scaled": 1}, 0)
    assert with_data.record()["result"][0] == [0, 1, 2, 3, 8]
    assert "WARNING changed beside the code since the run before, and in " in with_data.log
    assert "data/factor.txt; results that are taken over are of what was" in with_data.log


def test_what_no_task_reads_or_has_not_changed_keeps_no_run_from_going_on(with_data):
    for name in NO_DATA:
        beside(with_data, name, "edited")
    beside(with_data)
    # A new one is written for each run.
    assert with_data.run(key="arguments ") == ({}, 0), with_data.log


def test_what_the_run_itself_wrote_beside_the_code_keeps_none_from_going_on(with_data):
    code = DATA_FLOW.replace('Path(f"{word}.txt").touch()', WRITES_BESIDE)
    (with_data.folder / "flow.py").write_text(code)
    for _ in range(3):
        assert with_data.run(end="late") == ({}, 1), with_data.log


WRITES_BESIDE = 'Path(__file__).with_name("sums.txt").open("a").write(str(sums))'


def test_with_other_arguments_a_run_is_another_computation(laptop):
    """Files of the one are no files of the other."""
    (laptop.folder / "flow.py").write_text(DATA_FLOW)
    beside(laptop)
    laptop.arguments = ", kwargs: {word: a}"
    laptop.run(end="late")
    laptop.arguments = ", kwargs: {word: b}"
    assert laptop.run(end="late") == ({"scaled": 4}, 1)
    assert not (laptop.runs[-1] / "work/a.txt").exists()
    laptop.arguments = ", kwargs: {word: a}"
    assert laptop.run() == ({}, 0), laptop.log
    assert laptop.record()["resumed_from"] == laptop.runs[0].name
    assert laptop.record()["result"][1] == ["a.txt", "factor.txt"]


def test_with_fresh_a_run_starts_from_the_beginning(laptop):
    laptop.run(end="late")
    assert laptop.run("--fresh") == (ALL, 0)
    assert laptop.record()["resumed_from"] == ""
    assert laptop.run("--fresh", resume="latest") == (ALL, 0)


@pytest.mark.parametrize(
    ("key", "before", "after", "ran"),
    quick(
        [
            ("arguments", "return x * x", "return x ** 2", {"square": 4, "plain": 1}),
            ("source", "return x * x", "# as before\n    return x * x", {"plain": 1}),
            ("arguments", "return a + b", "return b + a", {"add": 4, "plain": 1}),
            ("arguments", "return x * x", "# as before\n    return x * x", {"plain": 1}),
            ("arguments", "    return x\n", "    return 1 * x\n", {"plain": 1}),
            ("source", "return x * x", "return x ** 2", {"square": 4, "plain": 1}),
        ],
        2,
    ),
)
def test_what_was_edited_runs_again_and_nothing_else(laptop, key, before, after, ran):
    laptop.run(end="late", key=key)
    laptop.edit(before, after)
    assert laptop.run(key=key) == (ran, 0)
    changed = set(ran) - {"plain"}
    for app in changed:
        assert (
            f"app {app} runs, as the function, or what it uses, has changed: {app}(" in laptop.log
        )
    assert ("has changed" in laptop.log) == bool(changed)
    assert laptop.record()["result"] == [1, 2, 5, 10]


def test_what_a_run_did_not_come_to_is_still_there_for_the_next(laptop):
    """Also where the run that had it is removed, by hand or by `run.keepRuns`."""
    assert laptop.run(end="late") == (ALL, 1)
    assert laptop.run(count=0, end="early") == ({}, 1)
    shutil.rmtree(laptop.runs[0])
    assert laptop.run(count=0, end="early", keep=1) == ({}, 1)
    assert len(laptop.runs) == 1
    assert laptop.run() == ({"plain": 1}, 0)


@pytest.mark.parametrize("resume", quick(["", "latest"], 1))
def test_a_run_that_ended_at_its_start_is_passed_over(laptop, resume):
    """It came to no results, its own or an older run's."""
    laptop.run(end="late")
    code = laptop.folder / "flow.py"
    code.rename(laptop.folder / "elsewhere.py")
    assert laptop.run(resume=resume)[1] != 0
    (laptop.folder / "elsewhere.py").rename(code)
    code.write_text("import nosuchmodule\n" + code.read_text())
    assert laptop.run(resume=resume)[1] != 0
    code.write_text(FLOW)
    assert len(laptop.runs) == 3
    assert laptop.run(resume=resume) == ({"plain": 1}, 0)


def test_an_edit_that_is_taken_back_costs_the_tasks_that_ran_meanwhile(laptop):
    laptop.run(end="late")
    laptop.edit("return x * x", "return x ** 2")
    assert laptop.run(count=2, end="early") == ({"square": 2}, 1)
    laptop.edit("return x ** 2", "return x * x")
    assert laptop.run() == ({"square": 2, "plain": 1}, 0)
    assert "app square runs, as the function, or what it uses, has changed: square(0)" in laptop.log


def test_the_latest_run_is_taken_also_where_it_was_done(laptop):
    assert laptop.run() == (ALL, 0)
    assert laptop.run(count=5, resume="latest") == ({"square": 1, "add": 1, "plain": 1}, 0)
    (first, second) = laptop.runs
    assert laptop.record()["resumed_from"] == first.name
    assert laptop.run(resume=first.name) == ({"plain": 1}, 0)
    assert laptop.run(count=5, resume=second.name) == ({"plain": 1}, 0)
    assert laptop.run(count=5, resume=second.name, cache="none")[0]["square"] == 5


def test_with_all_cached_each_call_has_the_result_of_the_same_call(laptop):
    laptop.run(end="late", cache="all")
    assert laptop.run(cache="all") == ({}, 0)


def test_there_may_be_no_older_run(laptop):
    assert laptop.run(resume="latest") == (ALL, 0)
    assert "run.resumeFrom: no older run has kept a result; this one starts from the" in laptop.log


def test_a_volume_may_have_had_no_run_at_all(tmp_path):
    """On a cluster, the folder of the runs is made after the older run is looked for."""
    own = Folder(tmp_path / "volume" / "runs" / "own")
    record = Record("own", "laptop", "flow:main", "", "")
    assert resuming.older_run("latest", own, record) is None
    with pytest.raises(ConfigurationError, match=r"there is no run abc in .*; no other has kept"):
        resuming.older_run("abc", own, record)
    resuming.refuse_beside(own, record)


def test_a_run_that_is_not_there_ends_the_new_one_with_a_line_that_names_others(laptop):
    laptop.run(count=0, end="early")
    laptop.run(count=0, end="early")
    first = laptop.runs[0].name
    for name in ("nosuch", "..", "20", "a/b", "20010101-000000", "latest "):
        assert laptop.run(resume=name) == ({}, ExitCode.CONFIGURATION)
        last = laptop.log.splitlines()[-1]
        assert last.startswith("k8s-parsl: run.resumeFrom: ")
        assert first in last


def test_a_run_whose_launcher_works_is_not_taken(tmp_path):
    """A run that goes on from it would not have all of it."""
    runs = tmp_path / "runs"
    older, own = Folder(runs / "older"), Folder(runs / "own")
    with older.held(), own.held():
        record = Record("own", "laptop", "flow:main", "", "")
        record.write(own.record)
        Record("older", "laptop", "flow:main", "", "").write(older.record)
        for name in ("older", "latest"):
            with pytest.raises(Temporary, match="the launcher of run older still works"):
                resuming.older_run(name, own, record)
        assert resuming.unfinished(own, record) is None
        with pytest.raises(ConfigurationError, match="there is no run own but this one"):
            resuming.older_run("own", own, record)


def test_the_next_attempt_goes_on_from_the_same_run(tmp_path):
    """Whatever is the latest by then, and also if the older run is gone."""
    runs = tmp_path / "runs"
    own = Folder(runs / "own")
    for name in ("older", "later", "own"):
        with Folder(runs / name).held():
            Record(name, "laptop", "flow:main", "", "").write(runs / name / "record.json")
    record = Record("own", "laptop", "flow:main", "", "", resumed_from="older")
    assert resuming.of_attempt("latest", own, record).name == "older"
    shutil.rmtree(runs / "older")
    assert resuming.of_attempt("latest", own, record) is None
    assert record.resumed_from == "older"
    hostile = Record("own", "laptop", "flow:main", "", "", resumed_from="../../etc")
    assert resuming.of_attempt("latest", own, hostile) is None


def test_the_first_attempt_may_have_failed_before_it_knew_the_run(tmp_path):
    """Its record has none, and is read once more when the next attempt begins."""
    own = Folder(tmp_path / "runs" / "own")
    with own.held():
        failed = Record("own", "laptop", "flow:main", "", "", status="failed", exit_code=75)
        failed.write(own.record)
        journal = Journal()
        record = Record("own", "laptop", "flow:main", "", "", resumed_from="older")
        settings = Settings.parse({"workflow": {"call": "a:b"}, "executors": {"cpu": {}}}, "values")
        assert not Attempt(journal).begin(own, record, settings, {})
        journal.finish()
    assert (record.attempt, record.resumed_from) == (2, "older")


def test_an_older_run_with_a_link_in_it_does_not_keep_a_new_one_from_its_start(laptop):
    laptop.run(end="late")
    parsl = laptop.runs[0] / "parsl"
    parsl.rename(laptop.folder / "moved")
    parsl.symlink_to(laptop.folder / "moved")
    assert laptop.run() == (ALL, 0)
    assert f"run {laptop.runs[0].name} is passed over: " in laptop.log


def test_another_workflows_run_is_not_the_latest(laptop):
    laptop.run(end="late")
    (laptop.folder / "other.py").write_text(FLOW)
    values = (laptop.folder / "values.yaml").read_text()
    (laptop.folder / "other.yaml").write_text(values.replace("flow:main", "other:main"))
    done = subprocess.run(
        run_command(files=("other.yaml",)), cwd=laptop.folder, capture_output=True, text=True
    )
    assert "was not done" not in done.stderr


def test_show_says_beforehand_what_can_be_taken_over(laptop):
    laptop.run(end="late")
    show = [*run_command()[:3], "show", str(laptop.runs[0]), "--resumable"]
    done = subprocess.run(show, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"run {laptop.runs[0].name}: 8 kept results",
        "  add: 4 results, 20 B",
        "  square: 4 results, 20 B",
        "  plain: 0 results, 0 B; 1 task done without a kept result, to run again",
        (
            f"a later run with run.resumeFrom: {laptop.runs[0].name} takes over each result whose"
            " function and arguments are still the same"
        ),
    ]
    document = json.loads(subprocess.check_output([*show, "--json"]))
    assert document["results"] == 8
    wrong = subprocess.run([*show, "--failed"], capture_output=True, text=True)
    assert wrong.returncode == ExitCode.USAGE


def test_a_run_that_kept_nothing_says_so(laptop):
    laptop.run(count=0, end="early")
    assert "the next run of this workflow" not in laptop.log
    show = [*run_command()[:3], "show", str(laptop.runs[0]), "--resumable"]
    done = subprocess.run(show, capture_output=True, text=True, check=True)
    assert "only apps with cache=True keep results" in done.stdout


def test_the_journal_has_what_was_taken_over(laptop):
    laptop.run(end="late")
    laptop.run()
    run = Run(Folder(laptop.runs[-1]))
    told = [event for event in run.events(1) if event["event"] == "resumed"]
    assert ["square", 4, 0, 0, 0] in told[-1]["apps"]
    assert run.states()[1].resumed["add"].taken == 4


@pytest.mark.parametrize("rows", [None, [[]], [["a", -1, 0, 0, 0]], [[1, 2]], "x", [["a", "b"]]])
def test_a_wrong_event_changes_nothing(rows):
    from k8s_parsl.journal.state import State

    state = State()
    state.take(events.event_of(events.line({"event": "resumed", "t": 1.0, "apps": rows})))
    assert not state.resumed


# The files ----------------------------------------------------------------------------------------


def ignore(_is_kept):
    pass


def key(number):
    return number.to_bytes(16, "big")[::-1]


@pytest.fixture
def older(tmp_path):
    """Return Parsl's folder of a run with three results."""
    folder = tmp_path / "runs" / "older" / "parsl"
    folder.mkdir(parents=True)
    store = Store(folder, 1, 1.0)
    for number in range(3):
        store.add(key(number), "app", b"%d" % number, ignore, "source")
    store.close()
    return folder


@pytest.fixture
def new(tmp_path):
    return tmp_path / "runs" / "new" / "parsl"


def taken(folder):
    store = Store(folder, 1, 1.0)
    found = {number: store.get(key(number)) for number in range(3)}
    store.close()
    assert all(one.is_inherited and one.source == "source" for one in found.values() if one)
    return {number: one.body for number, one in found.items() if one}


EVERY = {0: b"0", 1: b"1", 2: b"2"}


@pytest.mark.parametrize("why", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP])
def test_where_a_file_can_have_no_second_name_it_is_copied(older, new, monkeypatch, why):
    def refused(*_, **__):
        raise OSError(why, os.strerror(why))

    monkeypatch.setattr(os, "link", refused)
    inherited.take(older, new)
    assert taken(new) == EVERY
    assert (older / "results-1.store").stat().st_nlink == 1


def test_an_interrupted_start_is_completed_by_the_next_attempt(older, new, monkeypatch):
    """A copy that is not whole has another name."""
    new.mkdir(parents=True)
    (new / f"inherited-1.store{inherited.NEW}").write_bytes(b"half")
    inherited.take(older, new)
    assert taken(new) == EVERY
    before = (new / "inherited-1.store").stat().st_ino
    inherited.take(older, new)
    assert (new / "inherited-1.store").stat().st_ino == before


def test_what_is_appended_later_is_of_the_new_run_alone(older, new):
    size = (older / "results-1.store").stat().st_size
    inherited.take(older, new)
    store = Store(new, 1, 1.0)
    store.add(key(7), "app", b"7", ignore, "source")
    store.close()
    assert (older / "results-1.store").stat().st_size == size


def test_damage_of_an_older_file_costs_what_it_hits(older, new):
    file = older / "results-1.store"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    inherited.take(older, new)
    assert taken(new) == {0: b"0", 1: b"1"}


def test_no_link_is_followed(older, new, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes((older / "results-1.store").read_bytes())
    (older / "results-1.store").unlink()
    (older / "results-1.store").symlink_to(secret)
    with pytest.raises(files.Refused):
        inherited.take(older, new)


def test_a_folder_without_results_is_no_error(new, tmp_path):
    inherited.take(tmp_path / "runs" / "none" / "parsl", new)
    assert not new.exists()


# What tasks add to files --------------------------------------------------------------------------

ADDING = """
from parsl import python_app
from counting import given, note
from k8s_parsl.outputs import append, merged

@python_app(cache=True)
def square(x):
    note("square")
    with append("/data/sums.csv".replace("/data", DATA)) as file:
        file.write(f"cached {x * x}\\n")
    return x

@python_app
def plain(x):
    note("plain")
    with append("/data/sums.csv".replace("/data", DATA)) as file:
        file.write(f"plain {x}\\n")
    return x

def main():
    count, end = given()
    for x in range(count):
        square(x).result()
    if end == "merged":
        merged(f"{DATA}/sums.csv")
        raise ValueError("no map")
    for x in range(count):
        plain(x).result()
    if end != "well":
        raise ValueError("no map")
"""


class Adding(Laptop):
    """A workflow whose tasks add to a file."""

    def __init__(self, folder):
        super().__init__(folder)
        data = folder / "volumes" / "data"
        self.data = data
        (folder / "flow.py").write_text(f"DATA = {str(data)!r}\n{ADDING}")

    @property
    def lines(self):
        return sorted((self.data / "sums.csv").read_text().splitlines())

    def leftovers(self):
        return [path.name for path in self.data.iterdir() if path.name.startswith(".k8s-parsl")]


def lines_of(count, text="cached"):
    return sorted([f"{text} {x * x}" for x in range(count)] + [f"plain {x}" for x in range(count)])


ENDS = (["merged", "early"], ["early"], ["well"], ["merged"])


@pytest.mark.parametrize(
    ("ends", "key"), quick([(ends, key) for key in ("arguments", "source") for ends in ENDS], 3)
)
def test_what_an_older_runs_tasks_have_added_is_there_once(tmp_path, ends, key):
    """Whether their results are taken over or they run again, and whether it was merged."""
    laptop = Adding(tmp_path)
    for end in ends:
        laptop.run(end=end, key=key, resume="latest")
    assert laptop.run(count=5, key=key, resume="latest") == ({"square": 1, "plain": 5}, 0)
    assert laptop.lines == lines_of(5)
    assert laptop.leftovers() == []


@pytest.mark.parametrize(
    ("end", "key"),
    quick(
        [
            ("merged", "source"),
            ("early", "arguments"),
            ("merged", "arguments"),
            ("early", "source"),
        ],
        2,
    ),
)
def test_what_an_edited_app_adds_takes_the_place_of_what_it_added_before(tmp_path, end, key):
    laptop = Adding(tmp_path)
    laptop.run(end=end, key=key)
    laptop.edit("cached {x * x}", "edited {x * x}")
    assert laptop.run(key=key)[0]["square"] == 4
    assert laptop.lines == lines_of(4, "edited")


def test_it_is_there_also_where_the_older_run_is_removed(tmp_path):
    laptop = Adding(tmp_path)
    assert laptop.run(end="early")[0]["square"] == 4
    assert laptop.run(count=0, end="early")[1] == 1
    shutil.rmtree(laptop.runs[0])
    assert laptop.run() == ({"plain": 4}, 0)
    assert laptop.lines == lines_of(4)


def test_without_an_older_run_a_new_one_adds_again(tmp_path):
    """As a script does that is started again."""
    laptop = Adding(tmp_path)
    laptop.run()
    laptop.run("--fresh")
    assert laptop.lines == sorted(2 * lines_of(4))


def test_a_file_that_was_changed_since_is_not_guessed_at(tmp_path):
    """It is said before any task runs; what the line says to do helps."""
    laptop = Adding(tmp_path)
    laptop.run(end="merged")
    with (laptop.data / "sums.csv").open("a") as file:
        file.write("by hand\n")
    counts, code = laptop.run()
    assert (counts, code) == ({}, 65)
    assert (
        "another program has changed it since this run added to it, or the run that" in laptop.log
    )
    assert "move it away, and the run that goes on from this one makes it again" in laptop.log
    assert laptop.lines == sorted([*(f"cached {x * x}" for x in range(4)), "by hand"])
    (laptop.data / "sums.csv").rename(laptop.data / "mine.csv")
    assert laptop.run() == ({"plain": 4}, 0)
    assert laptop.lines == lines_of(4)
    assert laptop.leftovers() == []


def test_a_file_that_was_removed_since_is_made_again_of_its_parts(tmp_path):
    laptop = Adding(tmp_path)
    laptop.run(end="merged")
    (laptop.data / "sums.csv").unlink()
    assert laptop.run() == ({"plain": 4}, 0)
    assert laptop.lines == lines_of(4)
    assert laptop.leftovers() == []


def test_a_file_that_was_removed_with_its_parts_ends_the_run_before_other_tasks(tmp_path):
    laptop = Adding(tmp_path)
    laptop.run(end="merged")
    for path in (laptop.data / "sums.csv", *laptop.data.glob(".k8s-parsl-part-*")):
        path.unlink()
    assert laptop.run() == ({}, 1)
    assert "what it has added to the file is gone: put the file back" in laptop.log
    assert laptop.run("--fresh") == ({"square": 4, "plain": 4}, 0)
    assert laptop.lines == lines_of(4)
