"""What is still open for writing when its block ends takes no output's place."""

# ruff: noqa: SIM115, PTH104, PTH105, PTH123, SIM117 (files are opened in each way that users do)
from __future__ import annotations

import contextlib
import csv
import gzip
import json
import logging
import mmap
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from k8s_parsl.outputs import OutputError, append, output
from k8s_parsl_runtime.outputs import open_files

OPEN = "is still open for writing, so it may not be whole: close every file, dataset and connection"


@pytest.fixture
def target(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "a"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def by_open(path):
    file = open(path, "w")
    json.dump([1, 2], file)
    return file


def by_csv(path):
    file = open(path, "a", newline="")
    csv.writer(file).writerow([1])
    return file


def by_os(path):
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT), "rb+")


def by_zip(path):
    archive = zipfile.ZipFile(path, "w")
    archive.writestr("a", "b")
    return archive


def by_gzip(path):
    file = gzip.open(path, "w")
    file.write(b"x")
    return file


def by_log(path):
    return logging.FileHandler(path)


def in_a_cycle(path):
    """Nothing but itself refers to what has the file: as garbage it may lose what it holds back."""

    class Holder:
        pass

    holder = Holder()
    holder.itself = holder
    holder.file = open(path, "w")
    holder.file.write("held back")
    return holder.file


def by_rename(path):
    file = open(f"{path}.part", "w")
    file.write("x")
    os.rename(f"{path}.part", path)
    return file


def by_another_name(path):
    """A file beside the output belongs to it, too."""
    Path(path).touch()
    return open(f"{path}.aux.xml", "w")


def in_a_folder(path):
    Path(path, "0", "1").mkdir(parents=True)
    return open(f"{path}/0/1/0.0", "wb")


def by_rasterio(path):
    rasterio = pytest.importorskip("rasterio")
    np = pytest.importorskip("numpy")
    size = {"width": 500, "height": 500, "count": 1, "dtype": "uint8"}
    place = rasterio.Affine(2, 0, 0, 0, -2, 0)
    image = rasterio.open(path, "w", driver="GTiff", transform=place, **size)
    image.write(np.full((500, 500), 7, "uint8"), 1)
    return image


def by_sqlite(journal, *, begin):
    def write(path):
        connection = sqlite3.connect(path)
        connection.execute(f"PRAGMA journal_mode={journal}")
        connection.execute("CREATE TABLE a (b)")
        connection.commit()
        if begin:
            connection.execute("INSERT INTO a VALUES (1)")
        return connection

    return write


JOURNALS = ["delete", "truncate", "persist", "memory", "wal", "off"]
WRITERS = {
    "open": by_open,
    "csv": by_csv,
    "os": by_os,
    "zip": by_zip,
    "gzip": by_gzip,
    "logging": by_log,
    "in a cycle": in_a_cycle,
    "renamed": by_rename,
    "beside it": by_another_name,
    "in a folder": in_a_folder,
    "rasterio": by_rasterio,
    **{
        f"sqlite {journal} {begin}": by_sqlite(journal, begin=begin == "in a transaction")
        for journal in JOURNALS
        for begin in ("committed", "in a transaction")
    },
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_still_open_is_refused_and_the_target_stays(target, writer):
    (target.mkdir() if writer == "in a folder" else target.write_text("old"))
    with pytest.raises(OutputError, match=re.escape(OPEN)) as refused, output(target) as path:
        still_open = WRITERS[writer](str(path))
    assert str(refused.value).startswith(f"output {target}: a")
    assert "\n" not in str(refused.value)
    # Of a library that misses its file.
    with contextlib.suppress(Exception):
        still_open.close()
    assert names(target.parent) == ["a"]
    assert (names(target) == []) if target.is_dir() else (target.read_text() == "old")


@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_closed_in_the_block_takes_its_place(target, writer):
    with output(target) as path:
        WRITERS[writer](str(path)).close()
    assert target.exists()


def test_of_several_outputs_none_takes_its_place_if_one_is_open(target):
    with pytest.raises(OutputError, match=f"output {target}: a is still open"):
        with output(target.with_name("b"), target) as (first, second):
            first.touch()
            still_open = open(second, "w")
    still_open.close()
    assert names(target.parent) == []


# What is no reason to refuse -----------------------------------------------------------------------


def reads(path):
    Path(path).write_text("x")
    return open(path)


class Folder:
    def __init__(self, path):
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def close(self):
        os.close(self._descriptor)


def reads_by_rasterio(path):
    by_rasterio(path).close()
    return pytest.importorskip("rasterio").open(path)


def reads_by_sqlite(path):
    by_sqlite("delete", begin=False)(path).close()
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    connection.execute("SELECT * FROM a").fetchall()
    return connection


def maps(path):
    with open(path, "wb+") as file:
        file.truncate(4096)
        mapped = mmap.mmap(file.fileno(), 4096)
    mapped[:5] = b"whole"
    return mapped


class Numpy:
    """An array in a file that is mapped into memory, as `numpy.memmap` leaves it."""

    def __init__(self, path):
        self._array = pytest.importorskip("numpy").memmap(path, "uint8", "w+", shape=(10,))
        self._array[:] = 7

    def close(self):
        del self._array


def removed(path):
    Path(path).touch()
    return tempfile.TemporaryFile(dir=Path(path).parent)


def replaced(path):
    file = open(path, "w")
    Path(f"{path}.new").write_text("x")
    os.replace(f"{path}.new", path)
    return file


def elsewhere(path):
    Path(path).touch()
    return tempfile.NamedTemporaryFile()


@pytest.mark.parametrize(
    "holder",
    [reads, Folder, reads_by_rasterio, reads_by_sqlite, maps, Numpy, removed, replaced, elsewhere],
)
def test_what_cannot_change_the_output_may_be_open(target, holder):
    with output(target) as path:
        if holder is Folder:
            Path(path).mkdir()
        held = holder(str(path))
    held.close()
    assert names(target.parent) == ["a"]


@pytest.mark.parametrize("name", ["a (deleted)", "a b", "\udcff", "ö\n", "a\\012"])
def test_any_name_is_found(target, name):
    with pytest.raises(OutputError, match="is still open"), output(target.with_name(name)) as path:
        file = open(path, "w")
    file.close()


def test_a_mapped_file_that_is_also_open_is_refused(target):
    with pytest.raises(OutputError, match="a is still open"), output(target) as path:
        file = open(path, "wb+")
        file.truncate(4096)
        mapped = mmap.mmap(file.fileno(), 4096)
        file.write(b"in a buffer")
    mapped.close()
    file.close()


def test_the_descriptors_of_another_process_are_its_own(target):
    """A child that inherits one, and lives on, holds nothing back of what this process wrote."""
    with output(target) as path:
        file = open(path, "w")
        file.write("whole")
        child = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[file.fileno()]
        )
        file.close()
    child.communicate(b"\n")
    assert target.read_text() == "whole"


def test_an_output_in_an_output_s_block_is_another_one(target):
    with output(target) as outer:
        file = open(outer, "w")
        with output(target.with_name("b")) as inner:
            inner.touch()
        file.close()
    assert names(target.parent) == ["a", "b"]


def test_an_append_s_own_file_may_be_open(target):
    with append(target) as file, output(target.with_name("b")) as path:
        file.write("x\n")
        path.touch()
    assert target.read_text() == "x\n"


def test_without_proc_nothing_is_refused(target, monkeypatch):
    monkeypatch.setattr(open_files, "_FOLDER", "/missing")
    with output(target) as path:
        file = open(path, "w")
    file.close()
    assert target.exists()


# What the messages say -----------------------------------------------------------------------------


def test_a_library_that_changes_the_name_is_named_with_what_it_wrote(target):
    def save(path):
        """As `numpy.save` does."""
        Path(f"{path}.npy").write_bytes(b"")

    with pytest.raises(OutputError) as refused, output(target) as path:
        save(path)
    assert "nothing was written to" in str(refused.value)
    assert "but to a.npy beside it: some libraries change the name" in str(refused.value)
    assert str(refused.value).endswith(f"give output() the path that is written, {target}.npy")


def test_several_files_in_place_of_an_output_are_counted(target):
    with pytest.raises(OutputError, match=r"but to a\.dbf beside it and 2 more: "):
        with output(target) as path:
            for end in ("shp", "shx", "dbf"):
                path.with_name(f"a.{end}").touch()


def test_nothing_at_all_says_to_close(target):
    with pytest.raises(OutputError, match=r"write to that one, .* and close what you write"):
        with output(target):
            pass


def test_a_home_is_not_expanded_and_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("~/x", "~root/a/x"):
        for use in (output, append):
            with pytest.raises(OutputError, match=r"there is no folder ~.* os\.path\.expanduser"):
                with use(path):
                    pass
    # As for `open`.
    for path in ("~x", "~/x"):
        Path(path).parent.mkdir(exist_ok=True)
        with output(path) as temporary:
            Path(temporary).touch()
        assert Path(path).exists()


@pytest.mark.parametrize("use", [output, append])
def test_a_folder_that_takes_no_file_is_not_called_missing(use):
    with pytest.raises(OutputError, match="no file can be made in /proc: write elsewhere"):
        with use("/proc/x") as file:
            getattr(file, "write", str)("x")
