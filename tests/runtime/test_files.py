"""Files of a volume: no link is followed, only a file is opened, and nothing is waited for."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.errors import ExitCode
from k8s_parsl_runtime.shared.files import Refused


@pytest.fixture
def volume(tmp_path):
    """A volume with a file in a folder, beside a secret that is not on it."""
    (tmp_path / "secret").write_bytes(b"s3cret")
    (tmp_path / "volume" / "a" / "b").mkdir(parents=True)
    (tmp_path / "volume" / "a" / "b" / "file").write_bytes(b"ours")
    return tmp_path / "volume"


def link_to_a_file(path):
    path.symlink_to(path.parents[3] / "secret")


def relative_link(path):
    path.symlink_to("../../../secret")


def link_inside(path):
    path.symlink_to("other")
    path.with_name("other").write_bytes(b"other")


def dangling_link(path):
    path.symlink_to("nowhere")


def endless_link(path):
    path.symlink_to(path)


def pipe(path):
    os.mkfifo(path)


def folder(path):
    path.mkdir()


def unix_socket(path):
    here = Path.cwd()
    os.chdir(path.parent)  # its path would be too long
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


LINKS = [link_to_a_file, relative_link, link_inside, dangling_link, endless_link]


@pytest.mark.parametrize("make", [*LINKS, pipe, unix_socket])
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_APPEND])
def test_only_a_regular_file_is_opened(volume, make, flags):
    """With any flags; it is neither followed nor waited for, and the line names it."""
    path = volume / "a" / "b" / "file"
    path.unlink()
    make(path)
    before = sorted(volume.rglob("*"))
    with pytest.raises(Refused) as caught:
        files.opened(path, volume, flags)
    assert str(caught.value).startswith(
        f"{path} is {'a link' if make in LINKS else 'no regular file'}"
    )
    assert caught.value.exit_code is ExitCode.PERMISSION
    assert sorted(volume.rglob("*")) == before


def test_a_folder_in_the_place_of_a_file_is_an_error_as_any(volume):
    """No other pod's content is read by it."""
    with pytest.raises(IsADirectoryError, match=str(volume / "a/b")):
        files.opened(volume / "a" / "b", volume, os.O_RDONLY)


@pytest.mark.parametrize("part", ["a", "a/b"])
@pytest.mark.parametrize(
    "act",
    [
        lambda path, root: files.read(path, root, 10),
        lambda path, root: files.names(path.parent, root),
        lambda path, root: files.entered(path.parent, root),
        lambda path, root: files.make_folder(path.parent / "new", root, parents=False),
        lambda path, root: files.write(path, root, b"x"),
        lambda path, root: files.opened(path, root, os.O_RDWR | os.O_CREAT),
        lambda path, root: files.make_folder(path.parent, root),
        lambda path, root: files.make_folder(path.parent / "new" / "newer", root, 0o777),
        files.refuse_link,
    ],
    ids=["read", "list", "enter", "make one", "write", "open", "make", "make below", "look"],
)
def test_no_folder_on_the_way_may_be_a_link(volume, part, act):
    """Nor one that leads back into the volume: who made it may turn it elsewhere a moment later."""
    (volume / part).rename(volume / "elsewhere")
    (volume / part).symlink_to(volume / "elsewhere")
    before = [(path, path.lstat().st_mode) for path in sorted(volume.rglob("*"))]
    with pytest.raises(
        Refused, match=f"^{volume / part} is a link, and k8s-parsl follows none there"
    ):
        act(volume / "a" / "b" / "file", volume)
    assert [(path, path.lstat().st_mode) for path in sorted(volume.rglob("*"))] == before


def test_the_volume_itself_may_be_a_link(tmp_path, volume):
    (tmp_path / "mounted").symlink_to(volume)
    assert files.read(tmp_path / "mounted/a/b/file", tmp_path / "mounted", 10) == b"ours"
    files.make_folder(tmp_path / "mounted/a/new", tmp_path / "mounted")
    assert (volume / "a/new").is_dir()


MIB = 1 << 20


@pytest.mark.parametrize("size", [MIB, MIB + 1, 2 << 30, 1 << 40])
def test_what_is_read_whole_has_a_bound(volume, size):
    """Also a file with holes, which takes no space of its maker's."""
    path = volume / "a/b/file"
    os.truncate(path, size)
    if size == MIB:
        assert len(files.read(path, volume, MIB)) == size
        return
    with pytest.raises(OSError, match=f"it is larger than 1 MiB: '{path}'"):
        files.read(path, volume, MIB)


def test_what_has_more_than_its_size_says_has_the_bound_too():
    """As one that grows while it is read: those of /proc say that they are empty."""
    path = Path(f"/proc/{os.getpid()}/status")
    assert files.read(path, Path("/proc"), MIB)
    with pytest.raises(OSError, match="larger"):
        files.read(path, Path("/proc"), 50)


def test_one_folder_is_made_and_none_above_it(volume):
    files.make_folder(volume / "a/one", volume, parents=False)
    files.make_folder(volume / "a/one", volume, parents=False)
    assert files.names(volume / "a", volume) == ["b", "one"]
    with pytest.raises(FileNotFoundError, match=f"{volume / 'none'}'$"):
        files.make_folder(volume / "none/one", volume, parents=False)
    with pytest.raises(NotADirectoryError, match=str(volume / "a/b/file")):
        files.make_folder(volume / "a/b/file", volume, parents=False)


@pytest.mark.parametrize("make", [*LINKS, pipe, unix_socket])
def test_in_a_folder_that_is_held_only_a_regular_file_is_opened(volume, make):
    """And that folder, even where another now has its name."""
    folder = files.entered(volume / "a/b", volume)
    make(volume / "a/b/other-file")
    try:
        with pytest.raises(Refused, match=f"^{volume}/a/b/other-file is "):
            files.opened_in(folder, volume / "a/b/other-file", os.O_RDWR | os.O_CREAT)
        (volume / "a/b").rename(volume / "a/moved")
        (volume / "a/b").symlink_to(volume.parent)
        os.close(files.opened_in(folder, volume / "a/b/new", os.O_RDWR | os.O_CREAT))
        assert (volume / "a/moved/new").is_file()
    finally:
        os.close(folder)


def test_a_hard_link_is_a_file(volume):
    os.link(volume / "a/b/file", volume / "a/b/second")
    assert files.read(volume / "a/b/second", volume, 10) == b"ours"


def test_dots_lead_nowhere(volume):
    with pytest.raises(Refused, match=r"\.\. in it"):
        files.read(volume / ".." / "secret", volume, 10)
    with pytest.raises(Refused, match=r"\.\. in it"):
        files.make_folder(volume / "a" / ".." / ".." / "new", volume)
    with pytest.raises(ValueError, match="not in the subpath"):
        files.read(volume.parent / "secret", volume, 10)


def test_a_mode_is_given_to_the_folder_and_not_to_what_a_link_names(volume):
    files.make_folder(volume / "a" / "open", volume, 0o777)
    assert (volume / "a" / "open").stat().st_mode & 0o777 == 0o777
    (volume / "a" / "open").rename(volume / "private")
    (volume / "private").chmod(0o700)
    (volume / "a" / "open").symlink_to(volume / "private")
    with pytest.raises(Refused):
        files.make_folder(volume / "a" / "open", volume, 0o777)
    assert (volume / "private").stat().st_mode & 0o777 == 0o700


def test_an_error_names_the_whole_path(volume):
    with pytest.raises(FileNotFoundError, match=f"{volume / 'a/none'}'$"):
        files.read(volume / "a/none/file", volume, 10)
    with pytest.raises(FileNotFoundError, match=f"{volume / 'a/b/none'}'$"):
        files.read(volume / "a/b/none", volume, 10)
    with pytest.raises(NotADirectoryError, match=str(volume / "a/b/file")):
        files.make_folder(volume / "a/b/file/inner", volume)
    files.refuse_link(volume / "none" / "file", volume)


def test_a_file_is_written_whole_or_not_at_all(volume, monkeypatch):
    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = volume / "a/b/file"
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
            files.write(path, volume, b"new")
    assert [one.read_bytes() for one in path.parent.iterdir()] == [b"ours"]
    files.write(path, volume, b"new")
    assert [one.read_bytes() for one in path.parent.iterdir()] == [b"new"]


# Where links may be followed, but only so far ---------------------------------------------------------------------


def picture(volume):
    return volume / "map.png"


@pytest.mark.parametrize("target", ["a/b/file", "{volume}/a/b/file", "first"])
def test_a_link_that_stays_in_a_volume_is_followed(volume, target):
    (volume / "first").symlink_to("a/b/file")
    picture(volume).symlink_to(target.format(volume=volume))
    assert files.read_inside(picture(volume), [volume], 10) == b"ours"


def test_a_link_from_one_volume_to_another_is_followed(tmp_path, volume):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "map.png").symlink_to(volume / "a/b/file")
    assert (
        files.read_inside(tmp_path / "other" / "map.png", [volume, tmp_path / "other"], 10)
        == b"ours"
    )
    with pytest.raises(Refused):
        files.read_inside(tmp_path / "other" / "map.png", [tmp_path / "other"], 10)


def to_a_file(volume):
    picture(volume).symlink_to(volume.parent / "secret")


def by_two_links(volume):
    (volume / "first").symlink_to("../secret")
    picture(volume).symlink_to("first")


def by_proc(volume):
    picture(volume).symlink_to("/proc/self/environ")


def by_a_similar_name(volume):
    (volume.parent / "volume-2").mkdir()
    (volume.parent / "volume-2" / "secret").write_bytes(b"s3cret")
    picture(volume).symlink_to(volume.parent / "volume-2" / "secret")


@pytest.mark.parametrize("make", [to_a_file, by_two_links, by_proc, by_a_similar_name])
def test_a_link_that_leads_out_is_not_followed(volume, make):
    make(volume)
    with pytest.raises(
        Refused,
        match=f"^{picture(volume)} is, or is reached by, a link that leads out of the run's",
    ):
        files.read_inside(picture(volume), [volume], 10_000)


def test_a_folder_that_is_a_link_leads_out_as_well(volume):
    (volume / "maps").symlink_to(volume.parent)
    with pytest.raises(Refused, match="leads out"):
        files.read_inside(volume / "maps" / "secret", [volume], 10)


def test_a_file_that_no_link_led_to_may_be_anywhere(tmp_path, volume):
    """Of the container itself, where no other pod writes."""
    assert files.read_inside(tmp_path / "secret", [volume], 10) == b"s3cret"


@pytest.mark.parametrize("make", [pipe, folder, unix_socket])
def test_what_is_no_file_is_not_read(volume, make):
    make(picture(volume))
    with pytest.raises(Refused, match="is no regular file"):
        files.read_inside(picture(volume), [volume], 10)


def test_a_device_is_not_read(volume):
    with pytest.raises(Refused, match="is no regular file"):
        files.read_inside(volume / ".." / ".." / "/dev/zero", [volume], 10)


def test_one_that_is_too_large_is_not_read(volume):
    assert files.read_inside(volume / "a/b/file", [volume], 3) is None
