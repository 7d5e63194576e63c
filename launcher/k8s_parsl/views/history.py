"""The runs of a volume: found by their folders, told by their records and journals."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from k8s_parsl.folder import RUNS, Folder
from k8s_parsl.identity import MOUNTED
from k8s_parsl.journal import reader
from k8s_parsl.journal.events import Event
from k8s_parsl.journal.reader import Wanted
from k8s_parsl.journal.state import State
from k8s_parsl.record.report import Record
from k8s_parsl_runtime.shared.errors import DataError, UsageError

# Where a laptop's runs are, by default (`k8s-parsl run --volumes`).
LAPTOP = Path("local")
LAST = "last"
NO_END = "no end is known"


@dataclass(frozen=True)
class Run:
    """A run, as its folder tells it."""

    folder: Folder

    @property
    def name(self) -> str:
        """That of its folder."""
        return self.folder.name

    @property
    def record(self) -> Record | None:
        """The record of its last attempt; None where there is none that can be read."""
        return Record.read(self.folder.record)

    def is_alive(self) -> bool:
        """Return whether a launcher works on it now: it holds the folder's lock."""
        return self.folder.is_held()

    def journals(self) -> dict[int, Path]:
        """Return the journal of each attempt that has one, by its number.

        Raises:
            OSError: their folder cannot be read.
            Refused: it is a link.
        """
        return reader.journals(self.folder.path, self.folder.volume)

    def states(self, but: Container[int] = ()) -> dict[int, State]:
        """Return the state of each attempt that has a journal, by its number.

        Args:
            but: attempts whose journals are not read.

        Raises:
            DataError: a journal cannot be read.
        """
        with self._readable():
            return {
                attempt: self._state(file)
                for attempt, file in self.journals().items()
                if attempt not in but
            }

    def attempts(self) -> list[int]:
        """Return the numbers of the attempts that have a journal, in their order.

        Raises:
            DataError: the folder of the journals cannot be read.
        """
        with self._readable():
            return list(self.journals())

    def events(self, attempt: int, wanted: Wanted = lambda _: True) -> Iterator[Event]:
        """Yield the events of an attempt; none where it has no journal.

        Args:
            attempt: its number.
            wanted: says of a line whether its event is.

        Raises:
            DataError: the journal cannot be read.
        """
        with self._readable():
            journals = self.journals()
            if attempt in journals:
                yield from reader.read(journals[attempt], self.folder.volume, wanted)

    def looks_whole(self, attempt: int) -> bool:
        """Return whether a quick look at the journal of an attempt finds nothing wrong.

        Raises:
            DataError: the journal cannot be read.
        """
        with self._readable():
            return reader.looks_whole(self.journals()[attempt], self.folder.volume)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = error.filename or self.folder.path
            raise DataError(f"{where}: the journal cannot be read: {error.strerror}") from None

    def _state(self, journal: Path) -> State:
        state = State()
        unread = reader.Unread()
        for event in reader.read(journal, self.folder.volume, unread=unread):
            state.take(event)
        state.unread = unread.lines
        state.is_cut = unread.is_cut
        return state


def places() -> list[Path]:
    """Return the folders where runs are looked for if none is named."""
    settings = MOUNTED / "settings.yaml"
    if not settings.exists():
        return [LAPTOP]
    from k8s_parsl.config.settings import Settings

    found = Settings.from_file(settings)
    return [Path(volume.mount_path) for volume in found.storage.values()]


def runs(folder: Path) -> list[Run]:
    """Return the runs of a volume, of a folder with one folder a volume, or of a `runs` folder.

    Returns:
        The latest one last.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    folder = folder.absolute()
    parents = [folder] if folder.name == RUNS else [folder / RUNS, *folder.glob(f"*/{RUNS}")]
    found = [
        Run(Folder(path))
        for parent in parents
        if parent.is_dir() and not parent.is_symlink()
        for path in parent.iterdir()
        if path.is_dir() and not path.is_symlink()
    ]
    return sorted(found, key=_began)


def find(name: str) -> Run:
    """Return a run by its folder or a file in it, by the beginning of its name, or the `last` one.

    Raises:
        UsageError: there is no such run, or several.
    """
    if name and (around := _around(Path(name).absolute())):
        return Run(around)
    where = [place for place in places() if place.is_dir()]
    known = [run for place in where for run in runs(place)]
    looked = ", ".join(map(str, where)) or f"{LAPTOP}, which does not exist"
    if name == LAST and known:
        return max(known, key=_began)
    found = [run for run in known if name and run.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(run.name for run in found[:10])
        raise UsageError(f"{name}: several runs begin like this: {names}")
    if name and Path(name).is_dir() and runs(Path(name)):
        raise UsageError(f"{name}: not a run, but a folder of some; see k8s-parsl runs {name}")
    shown = name or repr(name)
    raise UsageError(
        f"{shown}: no such run in {looked}; name the run's folder, or see k8s-parsl runs"
    )


def _around(path: Path) -> Folder | None:
    """Return the folder of the run that this path is or is in; None where there is none."""
    if not path.exists():
        return None
    around = [place for place in path.parents if place.parent.name == RUNS]
    for folder in map(Folder, (path, *around)):
        if folder.record.exists() or folder.journals.is_dir():
            return folder
    return None


def _began(run: Run) -> float:
    """Return when a run began: its lock is made then, and is never written again."""
    try:
        return run.folder.lock.lstat().st_mtime
    except OSError:
        return run.folder.path.lstat().st_mtime
