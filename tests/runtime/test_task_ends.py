"""What a task may do to its process: each end has a cause and a cost, and no run hangs."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
import threading

import pytest
from parsl.app.errors import RemoteExceptionWrapper, wrap_error
from parsl.executors.high_throughput.errors import WorkerLost
from parsl.serialize import deserialize, pack_apply_message, serialize

from k8s_parsl_runtime.shared import errors, exceptions
from k8s_parsl_runtime.shared.came import unpacked
from k8s_parsl_runtime.shared.measures import Measures
from k8s_parsl_runtime.shared.task_errors import PLACE, TaskExited, TaskFailed, WorkerDied
from k8s_parsl_runtime.worker import deaths, measured, packing, streams, task
from k8s_parsl_runtime.workflow.losses import RetryCost

FLOW = """
import ctypes, json, os, signal, sys
from parsl import python_app

class Own(Exception):
    def __init__(self, one, two):
        super().__init__(one)
        self.rows = (row for row in ())

class Mute(Exception):
    def __str__(self):
        return self.no_such_thing

class Rude(Exception):
    def __repr__(self):
        raise SystemExit("from repr")

class OnlyThere:
    def __reduce__(self):
        return _only_there, ()

def _only_there():
    raise RuntimeError("not here")

def deep():
    found = []
    for _ in range(100_000):
        found = [found]
    return found

def endless(n=0):
    return endless(n + 1)

def caused():
    try:
        1 / 0
    except ZeroDivisionError as error:
        raise ValueError("bad tile") from error

def fill_shared_memory():
    os.kill(os.getpid(), signal.SIGBUS)

def die(*_):
    raise SystemExit("a handler's")

class Evil:
    def __eq__(self, other):
        raise ValueError("what is equal?")

DOINGS = {
    "exit_text": lambda: sys.exit("no input file given"),
    "exit_zero": lambda: sys.exit(0),
    "exit_status": lambda: os._exit(3),
    "segfault": lambda: ctypes.string_at(0),
    "bus": fill_shared_memory,
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "terminated": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "aborted": os.abort,
    "interrupted": lambda: exec("raise KeyboardInterrupt"),
    "generator": lambda: exec("raise GeneratorExit"),
    "endless": endless,
    "unpicklable_exception": lambda: exec("raise Own(1, 2)"),
    "mute": lambda: exec("raise Mute('x')"),
    "rude": lambda: exec("raise Rude('x')"),
    "deep": deep,
    "unpicklable_result": lambda: (number for number in range(3)),
    "unreadable_result": OnlyThere,
    "caused": caused,
    "several": lambda: exec("raise ExceptionGroup('both', [ValueError(1), KeyError(2)])"),
    "fine": lambda: "fine",
}

@python_app
def do(name, folder):
    import flow
    with open(f"{folder}/{name}", "a") as ledger:
        ledger.write("begun\\n")
    return flow.DOINGS[name]()

def main(folder):
    os.makedirs(folder)
    futures = {name: do(name, folder) for name in DOINGS}
    ends = {}
    for name, future in futures.items():
        try:
            ends[name] = ["result", str(future.result())]
        except Exception as error:
            try:
                text = str(error)
            except Exception:
                text = "(no text)"
            ends[name] = [type(error).__name__, text, repr(error.__cause__)]
    print("ENDS", json.dumps(ends), flush=True)
"""
RECURSION = "maximum recursion depth exceeded"
# What the workflow gets, and a part of the text. All run twice, as `retries` is 1, but for what
# needs no second try.
EXPECTED = {
    "exit_text": ("TaskExited", "the app called sys.exit('no input file given')"),
    "exit_zero": ("TaskExited", "the app called sys.exit(0)"),
    "exit_status": ("WorkerDied", "the task's process ended with exit status 3"),
    "segfault": (
        "WorkerDied",
        "was ended by SIGSEGV (a crash in compiled code), in <lambda> (flow.py:",
    ),
    "bus": ("WorkerDied", "SIGBUS (a file in memory could not grow: /dev/shm is full"),
    "killed": ("WorkerDied", "was ended by SIGKILL"),
    "terminated": ("WorkerDied", "was ended by SIGTERM"),
    "aborted": ("WorkerDied", "was ended by SIGABRT"),
    "interrupted": ("TaskExited", "the app ended itself by KeyboardInterrupt"),
    "generator": ("TaskExited", "the app ended itself by GeneratorExit"),
    "endless": ("RecursionError", RECURSION),
    "unpicklable_exception": ("TaskFailed", "Own: 1"),
    "mute": ("Mute", "(no text)"),
    "rude": ("TaskExited", "SystemExit: from repr"),
    "deep": ("RecursionError", RECURSION),
    "unpicklable_result": ("TypeError", "cannot pickle 'generator' object"),
    "unreadable_result": (
        "TaskFailed",
        "the workflow cannot read what the task returned: RuntimeError: not here",
    ),
    "caused": ("ValueError", "bad tile"),
    "several": ("ExceptionGroup", "both (2 sub-exceptions)"),
    "fine": ("result", "fine"),
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """One run of all of them, on two workers."""
    folder = tmp_path_factory.mktemp("ends")
    (folder / "flow.py").write_text(FLOW)
    (folder / "values.yaml").write_text(
        'workflow: {call: "flow:main", kwargs: {folder: '
        + json.dumps(str(folder / "ledger"))
        + "}}\n"
        "executors: {workers: {maxWorkersPerNode: 2, heartbeatPeriod: 1}}\n"
        "parsl: {retries: 1}\n"
    )
    words = [sys.executable, "-m", "k8s_parsl", "run", "-f", "values.yaml", "--path", str(folder)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300)
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("ENDS ")] or [
        done.stdout + done.stderr
    ]
    return folder, done, json.loads(said.removeprefix("ENDS "))


@pytest.mark.parametrize("name", EXPECTED)
def test_each_end_of_a_task_is_an_exception_with_its_cause(ended, name):
    _, _, ends = ended
    kind, text = EXPECTED[name]
    assert (ends[name][0], text in ends[name][1]) == (kind, True), ends[name]


@pytest.mark.parametrize("name", sorted(EXPECTED.keys() - {"fine", "rude"}))
def test_it_is_tried_as_often_as_retries_says(ended, name):
    """And not more often: a one-hour task that kills itself must not take eleven hours."""
    folder, _, _ = ended
    tries = 3 if name == "killed" else 2
    # One that SIGKILL ended may have been ended from outside: that try costs no retry.
    assert (folder / "ledger" / name).read_text().count("begun") in (2, tries), name


def test_the_run_ends_by_itself_and_the_cause_of_a_cause_is_kept(ended):
    _, done, ends = ended
    assert done.returncode == 0, done.stderr
    assert ends["caused"][2] == "ZeroDivisionError('division by zero')"


def test_the_log_names_each_death(ended):
    _, done, _ = ended
    assert "SIGSEGV (a crash in compiled code)" in done.stderr
    assert "no input file given" in done.stderr


# By themselves -------------------------------------------------------------------------------------------------------


def ran(function, *arguments, monkeypatch, tmp_path):
    """What the workflow makes of what a worker sends."""
    monkeypatch.setenv(deaths.FOLDER, str(tmp_path))
    monkeypatch.setenv("PARSL_WORKER_RANK", "0")
    monkeypatch.setattr(task, "_note_crashes", lambda: None)
    buffer = pack_apply_message(function, arguments, {}, buffer_threshold=1 << 20)
    return unpacked(task.run(buffer)).value


@pytest.mark.parametrize("value", [None, 0, "x" * 3_000_000, [1, {"a": (2,)}], b"\0" * 10, {1, 2}])
def test_a_result_comes_out_as_it_went_in(value, monkeypatch, tmp_path):
    assert ran(lambda given: given, value, monkeypatch=monkeypatch, tmp_path=tmp_path) == value


def test_a_result_says_how_long_the_app_ran(monkeypatch, tmp_path):
    """And not how long its process waited for it."""
    monkeypatch.setattr(task, "_note_crashes", lambda: None)
    moments = iter([100.0, 107.5, 108.0])
    monkeypatch.setattr(measured.clock, "monotonic", lambda: next(moments))
    buffer = pack_apply_message(lambda: None, (), {}, buffer_threshold=1 << 20)
    assert unpacked(task.run(buffer)).measures.seconds == 7.5


def test_what_a_task_raises_is_printed_as_the_workflow_may_catch_it(monkeypatch, tmp_path, capsys):
    """Also an exception whose `__str__` raises; and no text without end."""

    class Mute(Exception):
        def __str__(self):
            raise KeyboardInterrupt

    def app(error):
        raise error

    for error in (ValueError("bad tile"), Mute(), ValueError("x" * 100_000)):
        ran(app, error, monkeypatch=monkeypatch, tmp_path=tmp_path)
    said = capsys.readouterr().err
    assert "ValueError: bad tile" in said
    assert "Mute" in said
    assert len(said) < 2 * streams.SHOWN_CHARACTERS


@pytest.mark.parametrize("method", ["__str__", "__repr__", "__reduce__", "unpickled"])
@pytest.mark.parametrize("kind", [Exception, ValueError, OSError])
def test_an_exception_that_does_not_answer_keeps_no_worker_and_no_workflow(
    monkeypatch, tmp_path, kind, method
):
    """Its text, its pickle, and what comes of that, are waited for a while.

    Then its type says what it was.
    """
    for module in (packing, streams, errors):
        monkeypatch.setattr(module, "TEXT_S", 0.1)

    def never(*_):
        threading.Event().wait()

    called = {"unpickled": ("__reduce__", lambda _: (never, ()))}
    name, body = called.get(method, (method, never))

    def app():
        raise type("Mute", (kind,), {name: body})("x")

    came = ran(app, monkeypatch=monkeypatch, tmp_path=tmp_path)
    assert isinstance(came.e_value, TaskFailed)
    assert str(came.e_value).startswith("Mute")
    assert ("Mute: x" in str(came.e_value)) == (method != "__str__")


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_end_that_does_not_answer_is_named(monkeypatch, tmp_path, end):
    monkeypatch.setattr(task, "TEXT_S", 0.1)
    mute = type("Mute", (), {"__repr__": lambda _: threading.Event().wait()})

    def app():
        raise end(mute())

    came = ran(app, monkeypatch=monkeypatch, tmp_path=tmp_path)
    assert (type(came.e_value), str(came.e_value)) == (
        TaskExited,
        f"the app ended itself by {end.__name__}",
    )


def test_what_the_app_itself_returns_as_an_exception_keeps_its_type_cause_and_notes(
    monkeypatch, tmp_path
):
    def app():
        error = ValueError("bad tile")
        error.add_note("of row 3")
        raise error from KeyError("row")

    came = ran(app, monkeypatch=monkeypatch, tmp_path=tmp_path)
    assert isinstance(came, RemoteExceptionWrapper)
    with pytest.raises(ValueError, match="bad tile") as raised:
        came.reraise()
    assert raised.value.__notes__ == ["of row 3"]
    assert isinstance(raised.value.__cause__, KeyError)


def test_a_result_that_cannot_be_sent_is_named(monkeypatch, tmp_path):
    came = ran(lambda: (n for n in "ab"), monkeypatch=monkeypatch, tmp_path=tmp_path)
    assert came.e_value.__notes__ == [
        "the app returned a generator that cannot be sent to the workflow"
    ]


def test_a_deep_traceback_keeps_its_ends(monkeypatch, tmp_path):
    def fall(depth):
        if depth == 0:
            raise ValueError("below")
        fall(depth - 1)

    came = ran(fall, 900, monkeypatch=monkeypatch, tmp_path=tmp_path)
    trace, depth = came.e_traceback, 0
    while trace:
        trace, depth = trace.tb_next, depth + 1
    assert depth == 2 * task.SHOWN_FRAMES


@pytest.mark.parametrize(
    ("exitcode", "place", "said"),
    [
        (3, "", "the task's process ended with exit status 3; worker p-0"),
        (0, "", "the task's process ended with exit status 0; worker p-0"),
        (
            -11,
            "fill (flow.py:12)",
            "the task's process was ended by SIGSEGV (a crash in compiled code), in fill (flow.py:12); worker p-0",
        ),
        (-64, "", "the task's process was ended by SIGRTMAX; worker p-0"),
        (-50, "", "the task's process was ended by signal 50; worker p-0"),
    ],
)
def test_a_death_says_how_and_where(exitcode, place, said):
    error = WorkerDied("p-0", exitcode, place)
    assert str(error) == said
    assert str(deserialize(serialize(error))) == said


@pytest.mark.parametrize(
    ("exitcode", "grown", "kind"),
    [(3, 0, WorkerDied), (-9, 0, WorkerDied), (-9, 1, WorkerLost), (None, 0, WorkerLost)],
)
def test_a_death_for_memory_is_the_pods(monkeypatch, tmp_path, exitcode, grown, kind):
    """The pod ends with it, and says so."""
    monkeypatch.setenv(deaths.FOLDER, str(tmp_path))
    monkeypatch.setattr(deaths, "_exitcodes", {} if exitcode is None else {4: exitcode})
    monkeypatch.setattr(deaths, "oom_kills", lambda: deaths._KILLED_BEFORE + grown)
    assert isinstance(deaths.lost(4, "p-0"), kind)


@pytest.mark.parametrize(
    ("exitcode", "note"), [(-6, ""), (3, ""), (None, ""), (-9, f"app f: 2 s{deaths.OVER}")]
)
def test_a_death_says_in_which_pod_and_worker_it_was(monkeypatch, tmp_path, exitcode, note):
    """The journal has it from there: no worker is left that could send it."""
    monkeypatch.setenv(deaths.FOLDER, str(tmp_path))
    monkeypatch.setattr(deaths, "_exitcodes", {} if exitcode is None else {1: exitcode})
    if note:
        deaths.walltime_note(1).write_text(note)
    error = deserialize(serialize(deaths.lost(1, "laptop", name="cpu-7")))
    assert getattr(error, PLACE) == ("cpu-7", 1)


def test_a_death_by_itself_costs_a_retry_and_one_by_sigkill_does_only_the_second_time():
    cost = RetryCost(2, 10)
    one, other = (
        {"id": number, "func_name": "f", "args": (), "kwargs": {}, "fail_cost": 0}
        for number in (1, 2)
    )
    assert cost(WorkerDied("p", -11), one) == 1
    assert cost(TaskExited("x"), one) == cost(TaskFailed("x"), one) == 1
    assert [cost(WorkerDied("p", -9), other) for _ in range(2)] == [0, 3]
    assert RetryCost(2, 10, "none")(WorkerDied("p", -9), one) == 3


# Exceptions on their way ----------------------------------------------------------------------------------------------

MADE = {
    UnicodeDecodeError: lambda: UnicodeDecodeError("utf-8", b"a\xffb", 1, 2, "invalid start byte"),
    UnicodeEncodeError: lambda: UnicodeEncodeError(
        "ascii", "aé", 1, 2, "ordinal not in range(128)"
    ),
    UnicodeTranslateError: lambda: UnicodeTranslateError("aé", 1, 2, "no such character"),
    ImportError: lambda: ImportError("no tiles here", name="tiles", path="/data/tiles.py"),
    ModuleNotFoundError: lambda: ModuleNotFoundError("no tiles here", name="tiles"),
    NameError: lambda: NameError("tile is not defined", name="tile"),
    AttributeError: lambda: AttributeError("no tile", name="tile", obj=(n for n in ())),
    ExceptionGroup: lambda: ExceptionGroup(
        "both", [SyntaxError("bad", ("f.py", 3, 1, "x y")), ValueError("two")]
    ),
    BaseExceptionGroup: lambda: BaseExceptionGroup(
        "both", [KeyboardInterrupt("now"), ValueError("two")]
    ),
    KeyError: lambda: KeyError("tile"),
    SystemExit: lambda: SystemExit(3),
}


def typical(cls):
    if cls in MADE:
        return MADE[cls]()
    if issubclass(cls, SyntaxError):
        return cls("invalid syntax", ("flow.py", 7, 3, "x y", 7, 4))
    if issubclass(cls, OSError):
        return cls(2, "No such file", "/data/in.txt", None, "/data/out.txt")
    return cls("bad tile", 3)


NO_MEASURES = Measures("0", 0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0, 0.0, 0.0, 0)
BUILTIN = sorted(
    {
        one
        for one in vars(builtins).values()
        if isinstance(one, type) and issubclass(one, BaseException)
    },
    key=lambda cls: cls.__name__,
)


def sent(error):
    """What the workflow raises where a task raised this."""
    return unpacked(packing.failure(error, NO_MEASURES)).value.get_exception()


@pytest.mark.parametrize("cls", BUILTIN, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize(
    "make", [typical, lambda cls: cause(ValueError("tile"), typical(cls))], ids=["raised", "cause"]
)
def test_each_exception_of_python_keeps_type_text_and_fields(cls, make):
    """Itself, and as the cause of another one."""
    error, came = make(cls), sent(make(cls))
    while error:
        assert type(came) is type(error)
        assert (str(came), repr(came.args)) == (str(error), repr(error.args))
        for name in exceptions._field_names(type(error)):
            assert repr(getattr(came, name, None)) == repr(getattr(error, name, None)), name
        error, came = error.__cause__, came.__cause__


def test_fields_that_were_set_later_arrive_too():
    error = UnicodeDecodeError("utf-8", b"a\xff", 1, 2, "bad")
    error.reason = "bad byte, in tile 7"
    assert str(sent(error)).endswith("bad byte, in tile 7")
    assert [str(one) for one in sent(MADE[ExceptionGroup]()).exceptions] == [
        "bad (f.py, line 3)",
        "two",
    ]


def cause(error, of):
    error.__cause__ = of
    return error


class Two(Exception):
    """Not made by its `args`."""

    def __init__(self, row, column):
        super().__init__(f"row {row}, column {column}")
        self.row = row


class Decoding(UnicodeDecodeError):
    """Of a class that fills its own fields."""

    def __init__(self, tile):
        super().__init__("utf-8", b"\xff", 0, 1, f"in tile {tile}")
        self.tile = tile


class Slots(Exception):
    __slots__ = ("tile",)

    def __init__(self, tile):
        super().__init__()
        self.tile = tile

    def __str__(self):
        return f"tile {self.tile}"


class Here(Exception):
    """Says another thing in each copy."""

    def __str__(self):
        return self.args[0] if self.args[1] == id(self) else "?"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Two(1, 2), "row 1, column 2"),
        (Decoding(7), "'utf-8' codec can't decode byte 0xff in position 0: in tile 7"),
        (Slots(7), "tile 7"),
        (ValueError(object()), "<object object at "),
    ],
    ids=["args", "decoding", "slots", "address"],
)
def test_a_class_of_the_users_keeps_type_and_text(error, text):
    came = sent(error)
    assert type(came) is type(error)
    assert str(came).startswith(text)
    assert not hasattr(came, "__notes__")


def test_a_text_that_cannot_travel_is_a_note():
    error = Here("lost")
    error.args = ("lost", id(error))
    came = sent(error)
    assert type(came) is Here
    assert came.__notes__ == ["on the worker it was Here: lost"]


def chain(length, link):
    error = KeyError("the root")
    for number in range(length):
        above = ValueError(f"level {number}")
        setattr(above, link, error)
        error = above
    return error


def circle(length):
    errors = [ValueError(f"level {number}") for number in reversed(range(length))]
    for one, other in zip(errors, [*errors[1:], errors[0]], strict=True):
        one.__cause__ = other
    return errors[0]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: chain(5000, "__cause__"), "level 4999"),
        (lambda: chain(5000, "__context__"), "level 4999"),
        (lambda: circle(1), "level 0"),
        (lambda: circle(3), "level 2"),
    ],
    ids=["causes", "contexts", "itself", "circle"],
)
def test_causes_without_end_cost_no_text(monkeypatch, tmp_path, make, text):
    def app(make):
        raise make()

    with pytest.raises(ValueError, match=text) as raised:
        ran(wrap_error(app), make, monkeypatch=monkeypatch, tmp_path=tmp_path).reraise()
    below, depth = raised.value, 0
    while below.__cause__ or below.__context__:
        below, depth = below.__cause__ or below.__context__, depth + 1
    assert depth < 2 * exceptions.SHOWN_CAUSES
    assert text != "level 4999" or isinstance(below, KeyError)


# Processes that an app forks ------------------------------------------------------------------------------------------

FORKING = """
import multiprocessing, os, sys
from parsl import python_app

ENDS = {
    "returns": (lambda: "child", 0), "raises": (lambda: 1 / 0, 1), "exits": (lambda: sys.exit(7), 7),
    "exits_text": (lambda: sys.exit("a child's word"), 1), "interrupted": (lambda: exec("raise KeyboardInterrupt"), 1),
}

@python_app
def fork(name, folder):
    import flow
    child = os.fork()
    if not child:
        return flow.ENDS[name][0]()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

@python_app
def squares(numbers):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(abs, numbers)

def main(folder):
    for _ in range(3):
        ends = {name: fork(name, folder) for name in ENDS for _ in "abc"}
        pools = [squares([-1, 2]) for _ in "ab"]
        assert {name: end.result() for name, end in ends.items()} == {name: ENDS[name][1] for name in ENDS}
        assert [pool.result() for pool in pools] == [[1, 2]] * 2
"""


def test_a_process_that_an_app_forks_ends_with_the_app(tmp_path):
    """However it leaves the app, it never takes a task as a second worker."""
    (tmp_path / "flow.py").write_text(FORKING)
    (tmp_path / "values.yaml").write_text(
        f'workflow: {{call: "flow:main", kwargs: {{folder: "{tmp_path}"}}}}\n'
        "executors: {workers: {maxWorkersPerNode: 2, coresPerWorker: 0.1}}\n"
    )
    words = [sys.executable, "-m", "k8s_parsl", "run", "-f", "values.yaml", "--path", str(tmp_path)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = "".join(log.read_text(errors="replace") for log in (tmp_path / "local").rglob("*.log"))
    assert "ZeroDivisionError: division by zero" in said
    assert "a child's word" in said


# What an app may not be given, and may not do ------------------------------------------------------------------------

REFUSED = """
import json, os, sys, threading
from parsl import python_app

class Own:
    def __reduce__(self):
        raise OSError("no copies")

def deep():
    found = []
    for _ in range(100_000):
        found = [found]
    return found

def with_cell():
    rows = (row for row in ())
    @python_app
    def around(value):
        return rows
    return around

@python_app
def one(value=None, *more, rows=None):
    return value

@python_app
def inner():
    return 1

@python_app
def outer():
    import flow
    return flow.inner().result()

@python_app
def closes(how):
    import os, sys
    {"stdout": sys.stdout.close, "stderr": sys.stderr.close, "fd": lambda: os.close(1)}[how]()
    return "closed"

@python_app
def says(word):
    import sys
    print(word)
    print(word, file=sys.stderr, flush=True)
    return word

def main():
    calls = {
        "generator": lambda: one((row for row in ())),
        "second": lambda: one(1, (row for row in ())),
        "name": lambda: one(1, rows=[(row for row in ())]),
        "own": lambda: one(Own()),
        "deep": lambda: one(deep()),
        "cell": lambda: with_cell()(1),
        "inner": outer,
        "futures": lambda: one([says("first"), says("second")]),
        "futures by name": lambda: one({"rows": (says("first"),)}),
    }
    said = {}
    for name, call in calls.items():
        try:
            call().result()
        except Exception as error:
            said[name] = [type(error).__name__, str(error), getattr(error, "__notes__", [])]
    for how in ("stdout", "stderr", "fd"):
        assert closes(how).result() == "closed"
        assert says(f"after-{how}").result() == f"after-{how}"
    print("SAID", json.dumps(said))
"""
DO = ": pass numbers, texts, lists or paths, and make the rest inside the app"
GENERATOR = f"cannot be sent to a worker (TypeError: cannot pickle 'generator' object){DO}"
FUTURES = "has futures in it: Parsl waits for futures that are arguments of their own, as in app(*futures)"
SENTENCES = {
    "generator": f"app one: its argument 1, of type generator, {GENERATOR}",
    "second": f"app one: its argument 2, of type generator, {GENERATOR}",
    "name": f"app one: its argument rows, of type list, {GENERATOR}",
    "own": f"app one: its argument 1, of type flow.Own, cannot be sent to a worker (OSError: no copies){DO}",
    "futures": f"app one: its argument 1, of type list, {FUTURES}",
    "futures by name": f"app one: its argument 1, of type dict, {FUTURES}",
    "deep": "app one: its argument 1, of type list, cannot be sent to a worker (RecursionError: ",
    "cell": "app around: it uses something of the code around it that cannot be sent to a worker (TypeError: cannot ",
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refused")
    (folder / "flow.py").write_text(REFUSED)
    (folder / "values.yaml").write_text(
        'workflow: {call: "flow:main"}\nexecutors: {workers: {maxWorkersPerNode: 1, coresPerWorker: 0.1}}\n'
    )
    words = [sys.executable, "-m", "k8s_parsl", "run", "-f", "values.yaml", "--path", str(folder)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("SAID ")] or [
        done.stdout + done.stderr
    ]
    return folder, json.loads(said.removeprefix("SAID "))


@pytest.mark.parametrize("name", SENTENCES)
def test_what_cannot_be_sent_to_a_worker_is_named(refused, name):
    _, said = refused
    kind, text, _ = said[name]
    assert (kind, text[: len(SENTENCES[name])]) == ("NotSendable", SENTENCES[name])


def test_the_error_of_an_app_that_calls_an_app_names_join_apps(refused):
    _, said = refused
    kind, _, notes = said["inner"]
    assert (kind, len(notes)) == ("NoDataFlowKernelError", 1)
    assert "make it a @join_app" in notes[0]


@pytest.mark.parametrize("how", ["stdout", "stderr", "fd"])
def test_a_closed_output_costs_the_next_task_nothing(refused, how):
    """It prints where it would have, on both."""
    folder, _ = refused
    logs = "".join(log.read_text() for log in (folder / "local").rglob("workers-*.log"))
    assert logs.count(f"after-{how}") == 2
