"""Outputs of whole runs, with real workers: noted, checked, kept, merged, and nothing left over."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from k8s_parsl.outputs import makes, output
from k8s_parsl_runtime.outputs import current, merging
from k8s_parsl_runtime.outputs.temporaries import PREFIX, REGISTERS
from k8s_parsl_runtime.shared.errors import DataError
from k8s_parsl_runtime.workflow import kernel, made_outputs
from k8s_parsl_runtime.workflow.losses import RetryCost
from runtime.laptop import VALUES, run_command

FLOW = """
import hashlib, os, pathlib, random, signal, sqlite3, time
from parsl import python_app, bash_app
from k8s_parsl.outputs import append, makes, merged, output

@python_app
@makes("target")
def tile(number, target, deadly=False):
    with output(target, target + ".d") as (file, folder):
        os.mkdir(folder)
        for path in (file, folder + "/0"):
            content = os.urandom(random.randrange(1, 100_000))
            with open(path, "wb") as stream:
                stream.write(hashlib.sha256(content).digest() + content[:100])
                stream.flush()
                if deadly and not os.path.exists(target + ".died"):
                    open(target + ".died", "w").close()
                    os.kill(os.getpid(), signal.SIGKILL)
                stream.write(content[100:])
    print("made", number, flush=True)
    return number

@python_app(cache=True)
def add(number, target, die=""):
    with append(target) as file:
        file.write(f"{number}\\n" * 10)
    if die and not os.path.exists(die):
        open(die, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)

@bash_app
@makes("target")
def by_bash(target):
    return f"touch {target}"

def main(out, number=30, deadly=5):
    os.makedirs(out, exist_ok=True)
    tiles = [tile(i, f"{out}/{i}.bin", deadly=i % 10 == deadly) for i in range(number)]
    lines = [add(i, f"{out}/all.txt", f"{out}/{i}.died" if i == 3 else "") for i in range(number)]
    assert [one.result() for one in tiles] == list(range(number))
    [one.result() for one in lines]
    text = pathlib.Path(merged(f"{out}/all.txt")).read_text()
    add(number, f"{out}/all.txt").result()
    return {"at once": text.split()}

def wrong(out):
    by_bash(f"{out}/x").result()

def fails(out):
    main(out, 5, 99)
    raise ValueError("no")

@python_app
def line(number, target):
    with append(target) as file:
        file.write(f"{number}\\n")
    if number % 50 == 7:
        raise ValueError(number)

def mapped(out):
    import k8s_parsl.tasks
    os.makedirs(out, exist_ok=True)
    ends = k8s_parsl.tasks.map(line, range(200), target=f"{out}/mapped.txt", return_exceptions=True)
    return {"failed": [number for number, end in enumerate(ends) if end is not None]}

@python_app
def fails_after(number, target):
    with append(target) as file:
        file.write(f"{number}\\n")
    raise ValueError("after")

@python_app
def dies_after(target):
    with append(target) as file:
        file.write("lost\\n")
    os.kill(os.getpid(), signal.SIGKILL)

def all_fail(out):
    for folder in ("", "/failed", "/died"):
        os.makedirs(out + folder, exist_ok=True)
    for task in (fails_after(0, f"{out}/failed/x.csv"), dies_after(f"{out}/died/x.csv")):
        try:
            task.result()
        except Exception as error:
            print(repr(error))

def header_and_footer(out):
    os.makedirs(out, exist_ok=True)
    target = f"{out}/x.csv"
    with append(target) as file:
        file.write("header\\n")
    seen = []
    for text in ("middle", "footer"):
        [add(number, target).result() for number in range(2)]
        seen.append(pathlib.Path(merged(target)).read_text().count(text))
        with append(target) as file:
            file.write(f"{text}\\n")
        if not os.path.exists(f"{out}/{text}"):
            open(f"{out}/{text}", "w").close()
            merged(target)
            os.kill(os.getpid(), signal.SIGKILL)
    return seen

@python_app
def slow(out):
    with output(f"{out}/slow") as file:
        open(f"{out}/began", "w").close()
        time.sleep(600)

def endless(out):
    os.makedirs(out, exist_ok=True)
    slow(out).result()
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "values.yaml").write_text(VALUES)
    return tmp_path


def out_of(folder):
    return folder / "volumes" / "data" / "out"


def run(folder, call="main"):
    values = VALUES.replace("flow:main", f"flow:{call}")
    (folder / "values.yaml").write_text(values)
    return subprocess.run(
        run_command(), cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


def verify(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "k8s_parsl", "verify", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def last_run(folder):
    return max((folder / "volumes" / "data" / "runs").iterdir())


def left_over(folder):
    return list((folder / "volumes").rglob(f"{PREFIX}*"))


def are_whole(out):
    number = 0
    for path in [*out.glob("*.bin"), *out.glob("*.d/0")]:
        content = path.read_bytes()
        assert hashlib.sha256(content[32:]).digest() == content[:32], path
        number += 1
    return number


def test_a_run_whose_workers_are_killed_has_whole_outputs_and_each_line_once(folder):
    done = run(folder)
    assert done.returncode == 0, done.stderr
    out = out_of(folder)
    assert are_whole(out) == 60
    lines = (out / "all.txt").read_text().split()
    assert lines == [str(number) for number in range(31) for _ in range(10)]
    at_once = json.loads((last_run(folder) / "record.json").read_text())["result"]["at once"]
    assert at_once == lines[:300]
    assert left_over(folder) == []
    assert list((last_run(folder) / "parsl" / REGISTERS).glob("*.folders")) == []
    checked = verify(folder, last_run(folder), "--json")
    assert checked.returncode == 0
    assert json.loads(checked.stdout)["outputs"] == 61


def test_a_second_run_makes_only_what_was_changed(folder):
    assert run(folder).returncode == 0
    out = out_of(folder)
    before = {path: path.stat().st_ino for path in out.glob("*.bin")}
    os.truncate(out / "4.bin", 50)
    (out / "7.bin").unlink()
    # As from another machine, to which only the volume's files were copied.
    shutil.copy(out / "11.bin", out / "copy")
    (out / "copy").replace(out / "11.bin")
    again = run(folder)
    assert again.returncode == 0, again.stderr
    changed = {path.name for path in before if path.stat().st_ino != before[path]}
    assert changed == {"4.bin", "7.bin", "11.bin"}
    assert are_whole(out) == 60
    printed = "".join(log.read_text() for log in (last_run(folder) / "logs").rglob("*.log"))
    assert f"output {out / '4.bin'} was truncated since its task made it" in printed
    # A new run adds its own lines.
    assert len((out / "all.txt").read_text().split()) == 620
    assert verify(folder, last_run(folder)).returncode == 0


def test_verify_names_what_was_changed_since(folder):
    assert run(folder).returncode == 0
    out = out_of(folder)
    os.truncate(out / "1.bin", 40)
    (out / "2.bin").unlink()
    content = bytearray((out / "3.bin").read_bytes())
    content[-1] ^= 1
    (out / "3.bin").write_bytes(content)
    (out / "4.bin.d" / "more").touch()
    (out / "5.bin").unlink()
    (out / "5.bin").symlink_to("6.bin")
    os.mkfifo(out / "pipe")
    (out / "pipe").replace(out / "6.bin")
    checked = verify(folder, last_run(folder))
    assert checked.returncode == 65
    said = dict(line.split(": ", 1) for line in checked.stdout.splitlines() if ": " in line)
    states = [line.split(" (")[0] for line in checked.stdout.splitlines()[:-1]]
    assert sorted(states) == sorted(
        [
            f"truncated: {out / '1.bin'}",
            f"missing: {out / '2.bin'}",
            f"changed: {out / '3.bin'}",
            f"changed: {out / '4.bin.d'}",
            f"changed: {out / '5.bin'}",
            f"changed: {out / '6.bin'}",
        ]
    ), said
    assert "6 of 61 outputs not as their tasks made them" in checked.stderr
    rows = json.loads(verify(folder, last_run(folder), "--json").stdout)["not_whole"]
    assert {row["app"] for row in rows} == {"tile"}


def test_a_volume_that_is_mounted_elsewhere_is_verified_there(folder):
    """In a pod the paths are those of the mount; here it is the folder of the laptop, moved."""
    assert run(folder).returncode == 0
    volume = folder / "volumes" / "data"
    moved = folder / "moved"
    volume.rename(moved)
    (journal,) = (max((moved / "runs").iterdir()) / "journal").iterdir()
    text = subprocess.run(["zcat", journal], capture_output=True, check=True).stdout.decode()
    journal.unlink()
    journal.with_suffix("").write_text(text.replace(str(volume), "/data"))
    checked = verify(folder, max((moved / "runs").iterdir()))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "61 of 61 outputs whole" in checked.stdout


def test_parts_of_a_run_that_fails_stay_for_the_next_attempt_and_temporaries_do_not(folder):
    failed = run(folder, "fails")
    assert failed.returncode == 1
    # Of six tasks that are done, whether merged or not, and of the try that was killed.
    assert [path.name.split("-")[2] for path in left_over(folder)] == ["part"] * 7


def test_a_bash_app_has_one_line(folder):
    refused = run(folder, "wrong")
    assert refused.returncode == 1
    assert "@makes is for a @python_app" in refused.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_launcher_that_is_ended_leaves_no_temporary(folder, number):
    (folder / "values.yaml").write_text(VALUES.replace("flow:main", "flow:endless"))
    process = subprocess.Popen(run_command(), cwd=folder, stderr=subprocess.DEVNULL)
    wait_for((out_of(folder) / "began").exists)
    assert len(left_over(folder)) == 1
    process.send_signal(number)
    process.wait(60)
    # Of a killed launcher, the supervisor removes them when the workers have ended.
    wait_for(lambda: left_over(folder) == [])


def wait_for(is_so, seconds=60):
    for _ in range(seconds * 20):
        if is_so():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it has not come")


# The formats of docs/user/outputs.md ---------------------------------------------------------------


def test_a_geopackage_as_staging_writes_it(tmp_path):
    """A GeoPackage is a database of SQLite with an application id."""
    target = tmp_path / "2.gpkg"
    for rows in (3, 5):
        with output(target) as temporary:
            connection = sqlite3.connect(temporary)
            connection.execute("PRAGMA application_id = 1196444487")
            connection.execute("PRAGMA journal_mode = wal")
            connection.execute(f"CREATE TABLE '{temporary.stem}' (id INTEGER, geom BLOB)")
            for row in range(rows):
                connection.execute("INSERT INTO '2' VALUES (?, ?)", (row, b"GP\0\1" + bytes(20)))
            connection.commit()
            connection.close()
    assert [path.name for path in tmp_path.iterdir()] == ["2.gpkg"]
    connection = sqlite3.connect(target)
    assert connection.execute("SELECT count(*) FROM '2'").fetchone() == (5,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_geotiff_with_its_statistics_beside_it(tmp_path):
    pixels = b"II*\0" + bytes(1000)
    with output(str(tmp_path / "2.tif")) as temporary:
        Path(temporary).write_bytes(pixels)
        Path(f"{temporary}.aux.xml").write_text("<PAMDataset/>")
    assert (tmp_path / "2.tif").read_bytes() == pixels
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.tif", "2.tif.aux.xml"]


def test_a_zarr_and_a_parquet_folder(tmp_path):
    chance = random.Random(1)
    for _ in range(2):
        with output(tmp_path / "t.zarr", tmp_path / "s.parquet") as (zarr, parquet):
            (zarr / "t2m").mkdir(parents=True)
            (zarr / ".zmetadata").write_text("{}")
            for chunk in range(50):
                (zarr / "t2m" / f"{chunk}.0").write_bytes(chance.randbytes(1000))
            (parquet / "year=2026").mkdir(parents=True)
            (parquet / "year=2026" / "part.0.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
            (parquet / "_metadata").write_bytes(b"PAR1")
    assert len(list((tmp_path / "t.zarr" / "t2m").iterdir())) == 50
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.parquet", "t.zarr"]


# The code of the page ------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "user" / "outputs.md"


class Library:
    """In place of rasterio, geopandas, xarray and dask: each writes what that writes, as far as files go."""

    @staticmethod
    @contextlib.contextmanager
    def open(path, mode, **_):
        assert mode == "w"
        yield Library
        Path(path).write_bytes(b"II*\0" + Library.pixels)

    @staticmethod
    def write(pixels, band):
        assert band == 1
        Library.pixels = pixels

    @staticmethod
    def to_file(path, driver):
        assert driver == "GPKG"
        connection = sqlite3.connect(path)
        # geopandas names the layer by the file.
        connection.execute(f"CREATE TABLE '{Path(path).stem}' (id INTEGER)")
        connection.commit()
        connection.close()

    @staticmethod
    def to_zarr(path):
        Path(path, "t2m").mkdir(parents=True)
        Path(path, "t2m", "0.0").write_bytes(b"0")

    @staticmethod
    def to_parquet(path):
        Path(path).mkdir()
        Path(path, "part.0.parquet").write_bytes(b"PAR1")


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "rasterio", Library)
    for folder in ("staged/3/1", "tiles/3/1"):
        Path(folder).mkdir(parents=True)
    known = {
        "rasterio": Library,
        "polygons": Library,
        "dataset": Library,
        "stations": Library,
        "profile": {},
        "pixels": b"pixels",
        "pixels_of": lambda source: source.encode(),
        "number_of_polygons": len,
    }
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), known)
        if "pixels_of(source)" in block:
            known["rasterize"].func("a source", "one.tif")
    known["count"].func("tile")
    assert Path("one.tif").read_bytes() == b"II*\0a source"
    assert Path("tiles/3/1/2.tif").read_bytes() == b"II*\0pixels"
    layers = sqlite3.connect("staged/3/1/2.gpkg")
    assert layers.execute("SELECT name FROM sqlite_master").fetchall() == [("2",)]
    layers.close()
    assert Path("temperature.zarr/t2m/0.0").exists()
    assert Path("stations.parquet/part.0.parquet").exists()
    assert Path("counts.csv").read_text() == "tile,4\n"
    assert list(tmp_path.rglob(f"{PREFIX}*")) == []


# Appending -----------------------------------------------------------------------------------------


def test_nothing_is_left_where_every_task_that_appended_has_failed(folder):
    """In a run that ends well all the same: the workflow caught what they raised."""
    ran = run(folder, "all_fail")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert left_over(folder) == []
    assert names_in(out_of(folder)) == ["died", "failed"]


def test_what_the_workflow_appends_is_there_once_however_often_it_is_killed(folder):
    """Before a merge, after one, and at the end; a kill comes after each."""
    for _ in range(2):
        assert run(folder, "header_and_footer").returncode != 0
    ran = run(folder, "header_and_footer")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    text = (out_of(folder) / "x.csv").read_text().split()
    assert text == ["header", *["0"] * 10, *["1"] * 10, "middle", "footer"]
    assert left_over(folder) == []


def names_in(path):
    return sorted(one.name for one in path.iterdir())


# Between attempts ----------------------------------------------------------------------------------

WRITER = """
import json, sys
from k8s_parsl.outputs import append, output
from k8s_parsl_runtime.outputs import current
from k8s_parsl_runtime.outputs.current import OfRun
current.begin(OfRun(*json.loads(sys.argv[1])), 7, 0)
with append("lost.txt") as file:
    file.write("lost")
with output("a.tif"):
    print("in it", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "volume" / "runs" / "r1" / "parsl"
    folder.mkdir(parents=True)
    yield folder
    current.begin_workflow(None)
    merging.install(None)


def plan(run_dir, attempt, *, volume=True):
    return {"keep_results": volume, "run_dir": str(run_dir), "attempt": attempt}


def test_the_next_attempt_removes_what_a_killed_one_has_left(tmp_path, run_dir):
    first = made_outputs.of_run(plan(run_dir, 1))
    made_outputs.begin(first)
    killed = subprocess.Popen(
        [sys.executable, "-c", WRITER, json.dumps(first)],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert killed.stdout.readline() == b"in it\n"
    left = [path for path in tmp_path.glob(f"{PREFIX}*") if path.is_dir()]
    assert len(left) == 1
    second = made_outputs.of_run(plan(run_dir, 2))
    assert second.key == first.key
    made_outputs.begin(second)
    assert left[0].is_dir()
    killed.kill()
    killed.communicate()
    made_outputs.begin(second)
    assert not left[0].exists()
    # What is added counts when a result has arrived: no result came of this one.
    assert merging._Ours.merger.counting() == []


def test_the_folder_of_the_registers_is_as_open_as_the_run_s(run_dir):
    run_dir.chmod(0o2770)
    made_outputs.begin(made_outputs.of_run(plan(run_dir, 1)))
    assert (run_dir / REGISTERS).stat().st_mode == run_dir.stat().st_mode


def test_without_a_volume_each_run_has_a_key_of_its_own(run_dir):
    one, other = (made_outputs.of_run(plan(run_dir, 1, volume=False)) for _ in range(2))
    assert one.key != other.key
    assert one.folder == ""
    made_outputs.begin(one)
    assert list(run_dir.iterdir()) == []


def test_a_list_of_parts_that_cannot_be_read_is_an_error_of_the_data(run_dir):
    (run_dir / REGISTERS).mkdir()
    (run_dir / REGISTERS / "parts-1.jsonl").write_text("[]\n")
    with pytest.raises(DataError, match=r"parts-1\.jsonl, line 1: what tasks have added"):
        made_outputs.begin(made_outputs.of_run(plan(run_dir, 2)))


def test_an_app_with_makes_may_run_twice():
    @makes("target")
    def tile(target):
        pass

    @functools.wraps(tile)
    def with_walltime(*args):
        return tile(*args)

    def plain(target):
        pass

    records = [
        {"hashsum": None, "func": func, "func_name": "tile", "memoize": False}
        for func in (tile, with_walltime, functools.partial(tile), plain)
    ]
    calls = [kernel._call(record) for record in records]
    assert calls == ["outputs of tile", "outputs of tile", "outputs of tile", None]
    assert kernel._call(records[0] | {"hashsum": "x", "memoize": True}) == "x"
    cost = RetryCost(0, 3, "cached")
    assert [cost._may_run_twice(record) for record in records] == [
        *(True, True, True),
        False,
    ]


def test_a_call_that_fails_in_a_batch_adds_nothing_to_a_file(folder):
    """As the same call alone: only what succeeds counts, and once."""
    done = run(folder, "mapped")
    assert done.returncode == 0, done.stderr
    found = json.loads((last_run(folder) / "record.json").read_text())["result"]
    assert found["failed"] == [7, 57, 107, 157]
    lines = [int(line) for line in (out_of(folder) / "mapped.txt").read_text().split()]
    assert lines == [number for number in range(200) if number not in found["failed"]]
