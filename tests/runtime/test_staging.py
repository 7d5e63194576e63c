"""Files of web and FTP servers arrive whole in the working directory (Parsl's staging).

Others are refused by name.
"""

from __future__ import annotations

import functools
import http.server
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import parsl
import pytest
from parsl import File, python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor
from parsl.serialize import deserialize, serialize

from k8s_parsl.config.settings import Settings
from k8s_parsl.run import plan
from k8s_parsl_runtime.shared.fetching import fetch
from k8s_parsl_runtime.workflow import staging
from k8s_parsl_runtime.workflow.executor import common_arguments

TEXT = "three small words\n"
FLOW = """
import os
from parsl import File, bash_app, python_app

@python_app
def words(inputs=()):
    with open(inputs[0]) as file:
        return [str(inputs[0]), os.getcwd(), len(file.read().split())]

@bash_app
def count(file, stdout="counts/n.txt"):
    return f"wc -w < {file}"

def main(url):
    count(File(url)).result()
    try:
        words(inputs=[File("globus://endpoint/a.txt")])
    except ValueError as error:
        refused = str(error)
    return [*words(inputs=[File(url)]).result(), open("counts/n.txt").read().strip(), refused]
"""


class Server(http.server.BaseHTTPRequestHandler):
    """One file; one that is cut short; and nothing else."""

    def do_GET(self):
        if self.path not in ("/words.txt", "/short.txt"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(TEXT) + (self.path == "/short.txt")))
        self.end_headers()
        self.wfile.write(TEXT.encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def web():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def ftp_session(listener):
    """One client's, as RFC 959 has it, for one file."""
    control, _ = listener.accept()
    data = socket.create_server(("127.0.0.1", 0))
    with control, data, control.makefile("rw", encoding="ascii", newline="") as talk:

        def say(line):
            talk.write(f"{line}\r\n")
            talk.flush()

        high, low = divmod(data.getsockname()[1], 256)
        simple = {
            "USER": "331 password",
            "PASS": "230 in",
            "TYPE": "200 yes",
            "CWD": "250 there",
            "QUIT": "221 bye",
        }
        say("220 here")
        for line in talk:
            word, _, name = line.strip().partition(" ")
            if word == "PASV":
                say(f"227 at (127,0,0,1,{high},{low})")
            elif word == "RETR" and name == "words.txt":
                say("150 comes")
                with data.accept()[0] as connection:
                    connection.sendall(TEXT.encode())
                say("226 done")
            else:
                say(simple.get(word, "550 no"))


@pytest.fixture
def ftp():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        session = threading.Thread(target=ftp_session, args=(listener,), daemon=True)
        session.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        session.join(10)


def test_a_web_servers_file_is_fetched(web, tmp_path):
    fetch(f"http://{web}/words.txt", str(tmp_path / "words.txt"))
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("words.txt", TEXT)]


def test_an_ftp_servers_file_is_fetched(ftp, tmp_path):
    fetch(f"ftp://me:t0ken@{ftp}/words.txt", str(tmp_path / "words.txt"))
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("words.txt", TEXT)]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/none.txt", "HTTP Error 404: Not Found"),
        ("/short.txt", f"the connection ended after {len(TEXT)} of {len(TEXT) + 1} bytes"),
    ],
)
def test_what_is_not_there_whole_is_no_file(web, tmp_path, path, why):
    """Parsl itself would take the page of the error for it."""
    (tmp_path / "a.txt").write_text("before")
    with pytest.raises(OSError, match="cannot be fetched") as caught:
        fetch(f"http://{web}{path}", str(tmp_path / "a.txt"))
    assert str(caught.value) == f"http://{web}{path} cannot be fetched: {why}"
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "before")]


@pytest.mark.parametrize("scheme", ["http", "ftp"])
def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path, scheme):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(OSError, match="cannot be fetched") as caught:
        fetch(f"{scheme}://me:t0ken@127.0.0.1:{port}/a.txt", str(tmp_path / "a.txt"))
    assert str(caught.value).startswith(f"{scheme}://127.0.0.1:{port}/a.txt cannot be fetched: ")
    assert "t0ken" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_files_come_into_the_run_and_not_beside_the_code(web, tmp_path):
    """By their own relative names, as a task's output does; Globus is refused by name."""
    (tmp_path / "flow.py").write_text(FLOW)
    values = {
        "workflow": {"call": "flow:main", "kwargs": {"url": f"http://{web}/words.txt"}},
        "executors": {"w": {}},
    }
    (tmp_path / "values.yaml").write_text(json.dumps(values | {"parsl": {"strategyPeriod": 0.2}}))
    command = [
        sys.executable,
        "-m",
        "k8s_parsl",
        "run",
        "-f",
        "values.yaml",
        "--path",
        ".",
        "--volumes",
        "local",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("local/runs/*")
    name, work, number, counted, refused = json.loads((folder / "record.json").read_text())[
        "result"
    ]
    assert (name, work, number, counted) == ("words.txt", str(folder / "work"), 3, "3")
    assert (folder / "work" / "words.txt").read_text() == TEXT
    assert sorted(file.name for file in tmp_path.iterdir() if file.name != "__pycache__") == [
        *("flow.py", "local", "values.yaml")
    ]
    assert refused.startswith(
        "the file globus://endpoint/a.txt cannot be fetched: files come by http, https, ftp or from"
    )


@python_app
def read(*files, inputs=()):
    return [Path(file).read_text() for file in (*files, *inputs)]


@python_app
def write(outputs=()):
    return Path(outputs[0]).write_text("x")


@pytest.fixture(params=[True, False], ids=["a shared folder", "each pod's own folder"])
def kernel(request, tmp_path, monkeypatch):
    """Parsl with these providers, and tasks that are threads in their own folder."""
    monkeypatch.chdir(tmp_path)
    executor = ThreadPoolExecutor(
        label="w", storage_access=staging.providers(shared=request.param), working_dir=None
    )
    config = Config(
        executors=[executor],
        run_dir=str(tmp_path / "parsl"),
        initialize_logging=False,
        usage_tracking=0,
    )
    with parsl.load(config) as kernel:
        yield kernel


def test_a_file_is_there_before_the_task(kernel, web):
    """As an input, and as an argument."""
    url = f"http://{web}/words.txt"
    assert read(File(url), inputs=[File(url)]).result(30) == [TEXT, TEXT]


def test_a_path_is_a_path(kernel, tmp_path):
    made = write(outputs=[File("made.txt")]).outputs[0]
    assert read(made).result(30) == ["x"]
    assert (tmp_path / "made.txt").read_text() == "x"


@pytest.mark.parametrize(
    "url", ["globus://endpoint/a.txt", "s3://bucket/a.txt", "ftps://host/a.txt"]
)
def test_what_cannot_come_or_go_is_refused_by_name(kernel, url):
    scheme = url.partition(":")[0]
    with pytest.raises(
        ValueError,
        match=rf"^the file {url} cannot be fetched: .* not by {scheme}; transfer it to a volume",
    ):
        read(File(url))
    with pytest.raises(
        ValueError, match=rf"^the file {url} cannot be sent: .* go nowhere by {scheme}$"
    ):
        write(outputs=[File(url)])


def test_a_task_that_fetches_its_file_travels():
    """It is pickled for another machine."""
    task = functools.partial(staging.after_fetching, len, "http://h/a", "a")
    assert deserialize(serialize(task)).args == task.args


@pytest.mark.parametrize(
    ("address", "work", "kind"),
    [
        ("10.0.0.1", "/data/runs/r/work", staging.Apart),
        ("10.0.0.1", "/tmp/k8s-parsl/work", staging.InTask),
        ("", "/tmp/k8s-parsl/work", staging.Apart),
    ],
)
def test_who_fetches_goes_by_the_working_directory(address, work, kind):
    """A separate task fetches into its own pod: other pods have the file only on a volume."""
    values = {
        "workflow": {"call": "a:b"},
        "executors": {"w": {}},
        "storage": {"d": {"mountPath": "/data"}},
    }
    settings = Settings.parse(values, "test")
    order = plan.start(
        settings,
        path=Path("/p"),
        work=Path(work),
        run_dir=Path("/r"),
        folders={"/data": Path("/data")},
        address=address,
    )
    arguments = common_arguments("w", order["executors"]["w"], encrypted=False)
    assert [type(one) for one in arguments["storage_access"]][1] is kind
