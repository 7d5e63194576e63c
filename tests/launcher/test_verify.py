"""`k8s-parsl verify` and the event that it reads: what others wrote on the volume harms neither."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from k8s_parsl.folder import Folder
from k8s_parsl.journal.journal import Journal
from k8s_parsl.run import messages
from k8s_parsl.views import verify
from k8s_parsl.views.history import Run
from k8s_parsl_runtime.shared.errors import DataError
from k8s_parsl_runtime.shared.protocol import MADE, ProtocolError

SHA = hashlib.sha256(b"tile").hexdigest()


def made(*rows, task=7, number=0):
    return ["made", "tile", [task, number, [list(row) for row in rows]]]


@pytest.fixture
def run(tmp_path):
    folder = Folder(tmp_path / "volume" / "runs" / "r1")
    folder.make(folder.path)
    (folder.path / "lock").touch()
    return Run(folder)


def journal_of(run, *events, attempt=1):
    journal = Journal()
    journal.begin(run="r1", attempt=attempt, settings={})
    journal.open(run.folder.path, attempt, run.folder.volume)
    journal.take_tasks(events)
    journal.finish()


def test_the_last_of_several_attempts_counts_and_any_of_them_is_whole(run, tmp_path):
    target = tmp_path / "a.tif"
    other = hashlib.sha256(b"other").hexdigest()
    journal_of(run, made([str(target), "file", 5, other]))
    journal_of(run, made([str(target), "file", 4, SHA], task=3), attempt=2)
    (one,) = verify.outputs(run).values()
    assert (one.task, one.attempt, len(one.noted)) == (3, 2, 2)
    for content, state in (
        (b"tile", verify.WHOLE),
        (b"other", verify.WHOLE),
        (b"til", verify.TRUNCATED),
        (b"TILE", verify.CHANGED),
        (b"tile and more", verify.CHANGED),
    ):
        target.write_bytes(content)
        assert verify.check(target, one)[0] == state, content
    target.unlink()
    assert verify.check(target, one)[0] == verify.MISSING


def test_a_device_in_the_place_of_an_output_is_not_read(run):
    journal_of(run, made(["/dev/zero", "file", 4, SHA]))
    (one,) = verify.outputs(run).values()
    assert verify.check(Path("/dev/zero"), one)[0] == verify.CHANGED


def test_a_task_of_which_the_journal_may_lack_outputs_is_named(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(verify, "OUTPUTS", 2)
    paths = [tmp_path / name for name in "abcd"]
    for path in paths:
        path.write_bytes(b"tile")
    rows = [[str(path), "file", 4, SHA] for path in paths]
    journal_of(run, made(*rows[:2]), made(rows[2], task=8), made(rows[3], task=0))
    verify.print_outputs(run, as_json=False)
    said = capsys.readouterr()
    assert "4 of 4 outputs whole" in said.out
    assert "of task 7, the journal lists 2 outputs, and no more" in said.err
    assert "task 8" not in said.err


def test_a_journal_that_others_wrote_is_read_as_far_as_it_is_ours(run, tmp_path, capsys):
    whole = tmp_path / "a"
    whole.write_bytes(b"tile")
    rows = [
        [str(whole), "file", 4, SHA],
        ["relative", "file", 4, SHA],
        ["/nul\0", "file", 4, SHA],
        [str(whole), "pipe", 4, SHA],
        [str(whole), "file", -1, SHA],
        [str(whole), "file", 1 << 70, SHA],
        [str(whole), "file", 4, "short"],
        [7],
        None,
    ]
    folder = run.folder.journals
    folder.mkdir()
    events = [{"event": "made", "t": 0, "app": "x", "outputs": rows}, {"event": "made"}]
    events += [{"event": "made", "outputs": what} for what in (7, None, {}, "x")]
    (folder / "1.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
    assert list(verify.outputs(run)) == [str(whole)]
    with pytest.raises(DataError, match="all 1 that it names are whole"):
        verify.print_outputs(run, as_json=False)
    assert "1 of 1 output whole" in capsys.readouterr().out


@pytest.mark.parametrize("cut", [0.0, 0.5, 0.9])
def test_a_damaged_journal_is_no_proof_that_all_is_whole(run, tmp_path, capsys, cut):
    whole = [tmp_path / f"tile-{number}" for number in range(300)]
    for path in whole:
        path.write_bytes(b"tile")
    journal_of(run, *(made([str(path), "file", 4, SHA]) for path in whole))
    verify.print_outputs(run, as_json=False)
    file = run.folder.journals / "1.jsonl.gz"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * cut)])
    with pytest.raises(DataError, match=r"^verify .*: the journal is not whole"):
        verify.print_outputs(run, as_json=False)
    assert "the journal is not whole" in capsys.readouterr().err


def test_a_run_without_outputs_says_so(run, capsys):
    journal_of(run)
    verify.print_outputs(run, as_json=False)
    assert "has no output" in capsys.readouterr().out


def test_what_is_wrong_is_an_exit_code_and_json(run, tmp_path, capsys):
    journal_of(run, made([str(tmp_path / "gone"), "file", 4, SHA]))
    with pytest.raises(DataError, match="1 of 1 output not as their tasks made them"):
        verify.print_outputs(run, as_json=True)
    (row,) = json.loads(capsys.readouterr().out)["not_whole"]
    assert (row["state"], row["app"], row["task"]) == ("missing", "tile", 7)


@pytest.mark.parametrize(
    "event",
    [
        made(["/a", "file", -1, SHA]),
        made(["/a", "file", 4, "x" * 64]),
        made(["/a", "pipe", 4, SHA]),
        made(["/" + "a" * 5000, "file", 4, SHA]),
        made(*[["/a", "file", 4, SHA]] * (MADE + 1)),
        made(["/a", "file", 4, SHA], task="7"),
        ["made", "tile", []],
        ["made", "tile"],
    ],
)
def test_the_launcher_refuses_what_is_out_of_bounds(event):
    def line(of):
        return json.dumps({"type": "tasks", "events": [of]}).encode()

    assert messages.checked("kernel", line(made(["/a", "file", 4, SHA]))).events
    with pytest.raises(ProtocolError):
        messages.checked("kernel", line(event))
