"""The launcher's log: only a message begins without indent, with any text in it."""

from __future__ import annotations

import io
import logging
import subprocess
import sys

import pytest
from rich.console import Console

from k8s_parsl import log, untrusted
from k8s_parsl.run import messages
from k8s_parsl_runtime.shared import errors
from k8s_parsl_runtime.shared.errors import LINE_CHARACTERS, TERMINATION_LOG_BYTES, ExitCode
from k8s_parsl_runtime.shared.protocol import ProtocolError

# What another's text may have in it, and how it is shown.
TEXTS = {
    "a line of ours": (
        "x\n2026-01-01 00:00:00,000 INFO done",
        r"x\n2026-01-01 00:00:00,000 INFO done",
    ),
    "an empty line": ("x\n\ny", r"x\n\ny"),
    "a carriage return": ("x\r2026", r"x\r2026"),
    "an escape sequence": ("x\x1b[2J\x1b[1;1H", r"x\x1b[2J\x1b[1;1H"),
    "one of eight bits": ("x\x9b2J", r"x\x9b2J"),
    "a title": ("x\x1b]0;title\x07", r"x\x1b]0;title\x07"),
    "other ends of lines": ("x\x0b\x0c\x1c\x85\u2028\u2029y", r"x\x0b\x0c\x1c\x85\u2028\u2029y"),
    "backwards": ("x\u202etxt.exe", r"x\u202etxt.exe"),
    "half a character": ("x\udce9", r"x\udce9"),
    "a backspace": ("x\b\b\bfine", r"x\x08\x08\x08fine"),
    "markup": ("[bold red]x[/] :warning:", "[bold red]x[/] :warning:"),
    "broken markup": ("x[/]", "x[/]"),
    "a format": ("%s %d", "%s %d"),
}
HOSTILE = pytest.mark.parametrize(("text", "shown"), TEXTS.values(), ids=TEXTS)


@pytest.fixture(params=["plain", "terminal"])
def written(request, monkeypatch):
    """What the log has written, by the handler that standard error has in a pod or on a terminal."""
    stream = io.StringIO()
    monkeypatch.setattr(log, "on_terminal", lambda: request.param == "terminal")
    # As a terminal, but without colours, which are the launcher's own.
    monkeypatch.setattr(
        log, "console", lambda: Console(file=stream, color_system=None, width=100_000)
    )
    handler = log._handler()
    if request.param == "plain":
        handler.setStream(stream)
    # One without a parent: pytest sends what the others log between its processes, which take no
    # half a character.
    logger = logging.Logger("test", logging.INFO)  # noqa: LOG001 (see above)
    logger.addHandler(handler)

    def write(act):
        act(logger)
        return [line.rstrip(" ") for line in stream.getvalue().removesuffix("\n").split("\n")]

    return write


@HOSTILE
def test_a_message_is_one_line_in_which_nothing_acts_on_a_terminal(written, text, shown):
    (line,) = written(lambda logger: logger.info("said: %s", text))
    assert line.endswith(f"said: {shown}")


@HOSTILE
def test_a_traceback_is_below_its_message_and_indented(written, text, shown):
    def act(logger):
        try:
            raise ValueError(text)
        except ValueError:
            logger.exception("this should not happen")

    first, *rest = written(act)
    assert first.endswith("this should not happen")
    assert all(line.startswith(log.INDENT) for line in rest if line)
    assert any(line.strip().startswith('File "') for line in rest)
    said = shown.split(r"\n")
    assert [line.strip() for line in rest[-len(said) :]] == [f"ValueError: {said[0]}", *said[1:]]


@pytest.mark.parametrize(
    "text", ["x" * 10**6, "\x1b" * 10**6, "é" * (LINE_CHARACTERS + 1), "\n" * 9000 + "x"]
)
def test_a_message_has_a_bound_and_says_so(written, text):
    (line,) = written(lambda logger: logger.info("%s", text))
    assert line.endswith(f"… (cut here: it has {len(text)} characters)")
    assert len(line) < LINE_CHARACTERS + 200


def test_of_a_long_traceback_the_last_lines_are_shown(written):
    def act(logger):
        try:
            raise ValueError("line\n" * 10_000 + "last")
        except ValueError:
            logger.exception("this should not happen")

    lines = written(act)
    assert lines[1].strip().endswith(" lines are left out)")
    assert lines[-1].strip() == "last"
    assert len(lines) == 2 + log.TRACEBACK_LINES


@HOSTILE
def test_the_log_in_the_runs_folder_is_that_of_standard_error(tmp_path, monkeypatch, text, shown):
    with monkeypatch.context() as alone:
        # pytest would send a copy of each line between its processes, which takes no surrogate.
        alone.setattr(logging.getLogger(), "handlers", [])
        with log.kept(str(tmp_path / "logs")):
            logging.getLogger("k8s_parsl").warning("said: %s", text)
    _, *lines = (tmp_path / "logs" / "launcher.log").read_text().removesuffix("\n").split("\n")
    assert [line.partition("WARNING ")[2] for line in lines] == [f"said: {shown}"]


@HOSTILE
def test_the_last_line_and_the_termination_message_are_one_line(
    tmp_path, monkeypatch, capsys, text, shown
):
    """White space is folded, as in every failure."""
    file = tmp_path / "termination-log"
    file.touch()
    monkeypatch.setattr(errors.write_termination_message, "__defaults__", (file,))
    assert errors.last_word(f"said: {text}", ExitCode.USAGE) == 64
    folded = errors.one_line(f"said: {text}")
    assert capsys.readouterr().err == f"k8s-parsl: {folded}\n"
    assert file.read_text() == folded
    assert folded.isprintable()


@pytest.mark.parametrize(
    "text", ["x" * 10**6, "é" * 10**6, "\x1b" * 10**6, "a" + "€" * TERMINATION_LOG_BYTES]
)
def test_the_last_line_and_the_termination_message_have_a_bound(
    tmp_path, monkeypatch, capsys, text
):
    file = tmp_path / "termination-log"
    file.touch()
    monkeypatch.setattr(errors.write_termination_message, "__defaults__", (file,))
    errors.last_word(text, ExitCode.USAGE)
    assert len(capsys.readouterr().err) < LINE_CHARACTERS + 200
    assert TERMINATION_LOG_BYTES - 4 < len(file.read_bytes()) <= TERMINATION_LOG_BYTES
    assert file.read_text().endswith("…")


@HOSTILE
def test_what_ends_a_thread_is_a_line_of_the_log_too(text, shown):
    """Python would print it without our format."""
    code = (
        "import sys, threading; from k8s_parsl import log; log.to_stderr()\n"
        "def act(): raise ValueError(eval(sys.argv[1]))\n"
        "thread = threading.Thread(target=act, name='watch'); thread.start(); thread.join()\n"
        "thread = threading.Thread(target=sys.exit); thread.start(); thread.join()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, ascii(text)], capture_output=True, timeout=60
    )
    first, *rest = done.stderr.decode().removesuffix("\n").split("\n")
    assert first.endswith("ERROR thread watch has ended; please report it")
    assert all(line.startswith(log.INDENT) for line in rest if line)
    assert rest[-1].strip().endswith(shown.rpartition(r"\n")[2])
    assert done.returncode == 0


@pytest.mark.parametrize(
    "line",
    [
        b'{"type": "stopped", "%s": 1}' % (b"k" * 900_000),
        b'{"type": "stopped", "a\\u001b[2J\\nforged": 1}',
        b'{"type": "%s"}' % (b"t" * 900_000),
        b'{"type": "a\\nforged \\u001b[2J"}',
        b'{"type": "ended", "status": 0, "signal": "%s"}' % (b"s" * 900_000),
        b"x" * 900_000,
    ],
    ids=["key", "key with a line", "type", "type with a line", "text", "no JSON"],
)
def test_of_what_is_no_message_a_line_names_no_more_than_fits(line):
    with pytest.raises(ProtocolError) as caught:
        messages.checked("supervisor", line)
    assert len(str(caught.value)) < 2 * untrusted.SAID_CHARACTERS + 200
    assert str(caught.value).isprintable()
