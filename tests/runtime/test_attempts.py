"""What must not run twice does not, after the death of launcher, workflow or worker pod."""

from __future__ import annotations

import os
import signal

import pytest

from runtime.installation import Installation

# A task leaves a line for each time that it begins. The last two of five begin and do not end,
# until `again` is there.
FLOW = """
from parsl import python_app

@python_app
def append(folder, i):
    import os
    with open(f"{folder}/{i}.txt", "a") as file:
        file.write("begun\\n")
    waits = i >= 3 and not os.path.exists(f"{folder}/again")
    with open(f"{folder}/begun", "w") as pipe:
        pipe.write(f"{i}\\n")
    if waits:
        with open(f"{folder}/go") as pipe:
            pipe.read(1)
    return i

def main(folder, count):
    return sum(future.result() for future in [append(folder, i) for i in range(count)])
"""
CACHED = FLOW.replace("@python_app", "@python_app(cache=True)")
ONCE = dict.fromkeys(range(5), 1)

# Each takes two launchers' lives.
SLOW = pytest.mark.slow


@pytest.fixture
def installation(tmp_path, server, identity, token):
    made = Installation(tmp_path, server, identity, token)
    yield made
    made.close()


def killed(installation, flow, lost_tasks=None, who="pod", keep=None):
    """An attempt that dies with three tasks done and two begun."""
    attempt = installation.attempt(flow, lost_tasks, keep=keep)
    assert installation.begun(5) == [0, 1, 2, 3, 4]
    installation.known(3)
    if who == "launcher":
        attempt.launcher.kill()
        attempt.ended()
    elif who == "workflow":
        os.kill(attempt.kernel(), signal.SIGKILL)
        assert attempt.ended() == 1
    elif who == "stopped":
        attempt.launcher.terminate()
        assert attempt.ended() == 143
    else:
        attempt.kill()
    return attempt


@pytest.mark.parametrize(
    "lost_tasks", [None, *(pytest.param(one, marks=SLOW) for one in ("none", ["apend"], []))]
)
def test_an_app_that_may_not_run_twice_ends_the_next_attempt(installation, lost_tasks):
    """The launcher's pod was deleted.

    No task begins a second time, and the last line says what to do.
    """
    killed(installation, FLOW, lost_tasks)
    assert installation.record["status"] == "running"
    assert (
        "its launcher (pod, or k8s-parsl's process) is gone, it died"
        in installation.record["message"]
    )
    second = installation.attempt(FLOW, lost_tasks)
    assert second.ended() == 78
    assert installation.starts() == ONCE
    last = second.lines[-1]
    assert "k8s-parsl: an earlier launcher of this run began 5 tasks of app append" in last
    assert "parsl.retryLostTasks" in last
    assert "run.id" in last
    assert "attempt 2 of run abc12345" in second.lines[0]
    assert (
        "never run again, so the run ends where it comes to them: tasks of append (5)"
        in second.lines[0]
    )
    record = installation.record
    assert (record["status"], record["exit_code"], record["attempt"]) == ("failed", 78, 2)
    (first,) = record["attempts"]
    assert (first["attempt"], first["status"], first["launcher"]) == (
        1,
        "died",
        "pdgrun-launcher-abc12345-1",
    )
    assert [(row["app"], row["submitted"], row["done"]) for row in first["tasks"]] == [
        ("append", 5, 3)
    ]
    assert "Earlier attempts" in (installation.folder / "report.html").read_text()
    # A third one, too.
    third = installation.attempt(FLOW, lost_tasks)
    assert third.ended() == 78
    assert installation.starts() == ONCE
    assert [one["status"] for one in installation.record["attempts"]] == ["died", "failed"]


@pytest.mark.parametrize("who", ["launcher", "workflow", "stopped"])
def test_whichever_died_the_next_attempt_knows_what_had_begun(installation, who):
    """The launcher alone, the workflow's process, or both, by a drain or `helm upgrade`."""
    killed(installation, FLOW, who=who)
    second = installation.attempt(FLOW)
    assert second.ended() == 78
    assert installation.starts() == ONCE
    status = {"launcher": "died", "workflow": "failed", "stopped": "stopped"}[who]
    assert installation.record["attempts"][0]["status"] == status
    assert f" {status}" in second.lines[0]


@pytest.mark.parametrize(
    ("flow", "lost_tasks", "taken_over", "again"),
    [
        (CACHED, None, 3, {3, 4}),
        pytest.param(CACHED, ["append"], 3, {3, 4}, marks=SLOW),
        (FLOW, "all", 0, {0, 1, 2, 3, 4}),
    ],
)
def test_an_app_that_may_run_twice_goes_on(installation, flow, lost_tasks, taken_over, again):
    """Results that are kept are taken over, and the first line says what runs again."""
    killed(installation, flow, lost_tasks)
    (installation.volume / "again").touch()
    second = installation.attempt(flow, lost_tasks)
    assert second.ended() == 0, second.lines
    assert installation.starts() == {number: 1 + (number in again) for number in range(5)}
    assert f"taken over: {taken_over} kept result" in second.lines[0]
    assert f"run again: tasks of append ({len(again)})" in second.lines[0]
    record = installation.record
    assert (record["status"], record["result"], record["attempts"][0]["status"]) == (
        "done",
        10,
        "died",
    )


def test_a_call_with_a_kept_result_is_no_second_time(installation):
    """With `none`, too: three results are reused, and only the other tasks end the run."""
    killed(installation, CACHED, "none")
    second = installation.attempt(CACHED, "none")
    assert second.ended() == 78
    assert installation.starts() == ONCE
    assert "taken over: 3 kept results; never run again" in second.lines[0]
    assert [line[0] for line in installation.list[0]].count("kept") == 3


def test_a_call_that_had_not_begun_may_begin(installation):
    """An app with cache=True is known by its arguments: here other ones."""
    killed(installation, CACHED, "none")
    (installation.volume / "again").touch()
    second = installation.attempt(CACHED.replace("range(count)", "range(10, 13)"), "none")
    assert second.ended() == 0, second.lines
    assert installation.starts() == ONCE | dict.fromkeys(range(10, 13), 1)


NEVER_SOON = {"checkpointDelay": 600}


def died_before_the_disk(installation, lost_tasks):
    """An attempt whose node dies: what is in a file and not on the disk is lost with it."""
    attempt = installation.attempt(CACHED, lost_tasks, keep=NEVER_SOON)
    assert installation.begun(5) == [0, 1, 2, 3, 4]
    (store,) = installation.until(lambda: list(installation.folder.glob("parsl/results-1.store")))
    installation.until(lambda: store.stat().st_size > 3 * 40)
    attempt.kill()
    store.unlink()


def test_a_task_whose_result_was_lost_with_the_node_counts_as_begun(installation):
    """If it may run twice, it runs again."""
    died_before_the_disk(installation, None)
    assert [line[0] for line in installation.list[0]] == ["begun"] * 5
    (installation.volume / "again").touch()
    second = installation.attempt(CACHED)
    assert second.ended() == 0, second.lines
    assert installation.starts() == dict.fromkeys(range(5), 2)
    assert "taken over: 0 kept results; run again: tasks of append (5)" in second.lines[0]


def test_a_task_that_may_not_run_twice_is_on_the_disk_without_the_delay(installation):
    """As the next launcher would have to end the run without its result."""
    attempt = installation.attempt(CACHED, "none", keep=NEVER_SOON)
    assert installation.begun(5) == [0, 1, 2, 3, 4]
    installation.known(3)
    attempt.kill()
    assert [line[0] for line in installation.list[0]].count("kept") == 3


def test_with_all_an_app_without_cache_goes_on_too(installation):
    """Where it may run twice: that is a statement of its own."""
    attempt = installation.attempt(FLOW, "all", keep={"cache": "all"})
    assert installation.begun(5) == [0, 1, 2, 3, 4]
    installation.known(3)
    attempt.kill()
    (installation.volume / "again").touch()
    second = installation.attempt(FLOW, "all", keep={"cache": "all"})
    assert second.ended() == 0, second.lines
    assert installation.starts() == {0: 1, 1: 1, 2: 1, 3: 2, 4: 2}


@SLOW
def test_with_all_an_app_that_may_not_run_twice_does_not(installation):
    killed(installation, FLOW, keep={"cache": "all"})
    second = installation.attempt(FLOW, keep={"cache": "all"})
    assert second.ended() == 78
    assert installation.starts() == ONCE


@SLOW
def test_with_source_an_edited_comment_makes_nothing_run_again(installation):
    killed(installation, CACHED, keep={"cacheKey": "source"})
    (installation.volume / "again").touch()
    commented = CACHED.replace("import os\n", "import os  # more\n")
    second = installation.attempt(commented, keep={"cacheKey": "source"})
    assert second.ended() == 0, second.lines
    assert installation.starts() == {0: 1, 1: 1, 2: 1, 3: 2, 4: 2}


@SLOW
def test_with_source_an_edited_app_runs_again(installation):
    killed(installation, CACHED, keep={"cacheKey": "source"})
    (installation.volume / "again").touch()
    edited = CACHED.replace("return i\n", "return i + 1\n")
    second = installation.attempt(edited, keep={"cacheKey": "source"})
    assert second.ended() == 0, second.lines
    assert installation.starts() == dict.fromkeys(range(5), 2)


@SLOW
def test_a_workflow_that_does_not_come_to_the_app_again_goes_on(installation):
    """One that looks for itself at what is there."""
    killed(installation, FLOW)
    second = installation.attempt(FLOW.replace("range(count)", "[]"))
    assert second.ended() == 0, second.lines
    assert installation.starts() == ONCE


@SLOW
def test_it_may_die_more_than_once(installation):
    """Each attempt counts what all before it had begun."""
    killed(installation, CACHED)
    second = installation.attempt(CACHED)
    assert installation.begun(2) == [3, 4]
    second.kill()
    (installation.volume / "again").touch()
    third = installation.attempt(CACHED)
    assert third.ended() == 0, third.lines
    assert "attempt 3 of run abc12345; attempt 2" in third.lines[0]
    assert [one["status"] for one in installation.record["attempts"]] == ["died", "died"]
    assert installation.starts() == {0: 1, 1: 1, 2: 1, 3: 3, 4: 3}


@pytest.mark.parametrize("lost_tasks", [None, "none"])
def test_a_lost_worker_pod_does_not_run_an_app_twice_either(installation, lost_tasks):
    """By default, too: the first minute's log has said so, and the last line names the key."""
    attempt = installation.attempt(FLOW, lost_tasks)
    installation.begun(5)
    (name,) = installation.server.pods
    installation.kubelet.kill(name)
    assert attempt.ended() == 1
    assert installation.starts() == ONCE
    assert "parsl.retryLostTasks" in attempt.lines[-1]
    assert any("app append may not run twice" in line for line in attempt.lines)


@pytest.mark.parametrize(
    ("flow", "lost_tasks"),
    [(CACHED, None), *(pytest.param(FLOW, one, marks=SLOW) for one in ("all", ["append"]))],
)
def test_a_lost_worker_pod_runs_others_again(installation, flow, lost_tasks):
    attempt = installation.attempt(flow, lost_tasks)
    installation.begun(5)
    (installation.volume / "again").touch()
    (name,) = installation.server.pods
    installation.kubelet.kill(name)
    assert attempt.ended() == 0, attempt.lines
    assert installation.starts() == {0: 1, 1: 1, 2: 1, 3: 2, 4: 2}
    assert not any("may not run twice" in line for line in attempt.lines)


def spoil(installation, how):
    """Damage a list of begun tasks in one of the ways that may happen."""
    (file,) = installation.folder.glob("parsl/begun-*.jsonl")
    text = file.read_bytes()
    match how:
        case "cut":
            file.write_bytes(text + b'["beg')
        case "zeros":
            file.write_bytes(text[:20] + b"\0" * 4096)
        case "garbage":
            file.write_bytes(b"garbage\n")
        case "numbers":
            file.write_bytes(b'["begun", 1]\n')
        case "one long line":
            file.write_bytes(b"x" * 100_000)
        case "folder":
            file.unlink()
            file.mkdir()
        case "link":
            file.rename(installation.volume / "elsewhere")
            file.symlink_to(installation.volume / "elsewhere")
        case "next is a folder":
            (file.parent / "begun-2.jsonl").mkdir()
        case "no place":
            file.parent.rename(installation.volume / "elsewhere")
            file.parent.write_text("a file")


UNREADABLE = ("zeros", "garbage", "numbers", "one long line", "folder", "link", "next is a folder")


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ("cut", 78, "began 5 tasks of app append"),
        *(pytest.param(how, 78, "cannot be read: ", marks=SLOW) for how in UNREADABLE),
        ("no place", 77, "begun-2.jsonl: the list of what has begun cannot be written"),
    ],
)
def test_a_list_that_cannot_be_read_lets_nothing_begin_twice(installation, how, code, words):
    """Where it is not known what has begun, an app that may not run twice does not begin."""
    killed(installation, FLOW)
    spoil(installation, how)
    second = installation.attempt(FLOW)
    assert second.ended() == code
    assert words in second.lines[-1]
    assert installation.starts() == ONCE
    assert not any("Traceback" in line for line in second.lines)


@pytest.mark.parametrize(
    "content", [None, *(pytest.param(one, marks=SLOW) for one in ("{", '{"unknown": 1}'))]
)
def test_a_record_that_is_gone_hides_nothing(installation, content):
    killed(installation, FLOW)
    file = installation.folder / "record.json"
    file.unlink()
    if content is not None:
        file.write_text(content)
    second = installation.attempt(FLOW)
    assert second.ended() == 78
    assert installation.starts() == ONCE
    assert installation.record["attempt"] == 2
    assert installation.record["attempts"][0]["message"] == "its record cannot be read"


JOINED = """
import sys
from parsl import bash_app, join_app, python_app

class Manager:
    def __init__(self):
        self.made = object()

@python_app
def stage(manager, folder, i):
    with open(f"{folder}/{i}.txt", "a") as file:
        file.write("begun\\n")
    with open(f"{folder}/begun", "w") as pipe:
        pipe.write(f"{i}\\n")
    with open(f"{folder}/go") as pipe:
        pipe.read(1)

@bash_app
def other(folder, i):
    return f"echo begun >> {folder}/{i}.txt; echo {i} > {folder}/begun; read line < {folder}/go"

@join_app
def both(folder):
    return [stage(Manager(), folder, 0), other(folder, 1)]

def main(folder, count):
    return both(folder).result()
"""


def test_a_join_app_is_the_workflows_own_and_what_it_calls_is_not(installation):
    """It may run again, as main does.

    An argument that cannot be compared changes nothing; a bash_app is an app.
    """
    attempt = installation.attempt(JOINED)
    assert installation.begun(2) == [0, 1]
    attempt.kill()
    second = installation.attempt(JOINED)
    assert second.ended() == 78
    assert installation.starts() == {0: 1, 1: 1}
    assert "both" not in second.lines[0]
    assert "tasks of other (1), stage (1)" in second.lines[0]


@SLOW
def test_retries_do_not_open_the_door_again(installation):
    """A task that was refused is not tried once more, and nothing begins after it."""
    killed(installation, FLOW)
    flow = FLOW.replace("range(count)", "range(count)] + [extra(folder, i) for i in range(50, 60)")
    flow += FLOW[FLOW.index("@python_app") : FLOW.index("def main")].replace("append", "extra")
    second = installation.attempt(flow, parsl={"encrypted": False, "retries": 3})
    assert second.ended() == 78
    assert installation.starts() == ONCE


def test_names_that_no_app_has_are_reported(installation):
    """A typo in the list costs a run at its first loss: the log names it early, and at the end."""
    (installation.volume / "again").touch()
    attempt = installation.attempt(FLOW, ["apend", "tile"])
    assert attempt.ended() == 0
    text = "\n".join(attempt.lines)
    assert "app append: parsl.retryLostTasks names apend; is that this app?" in text
    assert (
        "parsl.retryLostTasks names tile, but the workflow called no such app (it called append)"
        in text
    )


def test_the_list_of_a_whole_run(installation):
    """Each begin is there, and each end; a task that a kept result has done is not."""
    (installation.volume / "again").touch()
    attempt = installation.attempt(CACHED.replace("range(count)", "[*range(count), 1]"))
    assert attempt.ended() == 0
    (lines,) = installation.list
    kinds = [line[0] for line in lines]
    assert kinds.count("begun") == kinds.count("kept") + kinds.count("done")
    assert set(map(len, lines)) == {2, 3}
