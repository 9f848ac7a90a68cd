"""A folder that another program writes images into: each is taken once, when it is complete.

The folder is looked at again and again rather than asking the system to report changes: that
works the same on every system, and on network shares, which report nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from blemish.errors import ImageError, ImageMissingError, ParameterError, SourceError
from blemish.imaging import IMAGE_SUFFIXES, read_samples
from blemish.streams.ledger import UNKNOWN, Ledger, Stamp
from blemish.streams.source import BaseSource, Frame, log

_REST = 2  # times the processor time of a look: a folder of very many files takes a third at most


class WatchedFolder(BaseSource):
    """The images that appear in a folder, by time of writing and then name, each decoded once.

    A file is taken when it has kept its size and time for `settle` seconds and decodes; one that
    still does not decode `timeout` seconds after its last change comes as an error. A name whose
    file is replaced is a new part. Files that are there already are taken too unless `existing`
    is False, or `judged` says of their path and time of writing that they were before. Names
    beginning with `.` or `~`, and without an image's suffix, are ignored.

    When the folder itself is out of reach, this is tried again for `patience` seconds (None: for
    ever) before SourceError. `read` turns a path into what `Frame.image` holds; left
    out, that is what `inspect_stream` reads, and by itself `read_samples`.

    `health.counts`: `waiting` files not complete yet; `vanished` before they could be taken;
    `renamed` after they were taken.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        settle: float = 0.5,
        timeout: float = 10.0,
        poll: float = 0.1,
        existing: bool = True,
        recursive: bool = False,
        patience: float | None = None,
        judged: Callable[[Path, float], bool] | None = None,
        read: Callable[[Path], Any] | None = None,
    ) -> None:
        for name, value, least in (
            ("settle", settle, 0),
            ("timeout", timeout, 0),
            ("poll", poll, 1e-3),
        ):
            if not least <= value < float("inf"):
                raise ParameterError(f"{name} is {value}; give seconds, at least {least:g}")
        super().__init__(os.fspath(folder))
        self.folder = Path(folder)
        self.poll = poll
        self.existing = existing
        self.recursive = recursive
        self.patience = patience
        self.judged = judged
        self.read = read
        self._ledger = Ledger(settle, timeout)
        self._closed_to_us: set[str] = set()  # subfolders, each named once
        self._begun_looking = False
        self._lost_at: float | None = None

    def check(self) -> None:
        """Raise SourceError where there is no such folder."""
        try:
            os.scandir(self.folder).close()
        except FileNotFoundError as error:
            raise SourceError(
                f"{self.folder}: the folder does not exist; check the path"
            ) from error
        except NotADirectoryError as error:
            raise SourceError(f"{self.folder}: this is a file; give a folder") from error
        except OSError as error:
            raise SourceError(_unreadable(self.folder, error)) from error

    def _frames(self) -> Generator[Frame, None, None]:
        while not self._closing.is_set():
            worked = time.thread_time()
            try:
                due = self._look()
            except _Closed:
                return
            rest = _REST * (time.thread_time() - worked)
            yield from self._take(due)
            self._show_counts()
            self._closing.wait(max(self.poll, rest))

    # Looking --------------------------------------------------------------------------------

    def _look(self) -> list[tuple[str, Stamp]]:
        """What is due now; nothing while the folder is out of reach."""
        now = time.monotonic()
        due: list[tuple[str, Stamp]] = []
        try:
            if not self._begun_looking and self.judged is not None:
                self._ledger.skip(self._judged_names(self.judged), self._stamp)
                self.judged = None  # has been asked of all that was there, and may be large
            if self._begun_looking or self.existing:
                due = self._ledger.look(self._names(), self._stamp, now)
            else:
                self._ledger.skip(self._names(), self._stamp)
            self._begun_looking = True
        except OSError as error:
            self._lost_at = now if self._lost_at is None else self._lost_at
            self._lost(error, self._lost_at)
        else:
            if self._lost_at is not None:
                self._lost_at = None
                self._found()
        return due

    def _names(self) -> Iterator[str]:
        """All image files, as paths below the folder."""
        folders = [""]
        while folders:
            below = folders.pop()
            for entry in self._entries(below):
                if self._closing.is_set():
                    raise _Closed
                if entry.name.startswith((".", "~")):
                    continue
                name = os.path.join(below, entry.name)
                # Links to folders are not followed: they can lead back up and never end.
                if self.recursive and entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                elif os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not _is_folder(entry):
                    yield name

    def _judged_names(self, judged: Callable[[Path, float], bool]) -> Iterator[str]:
        """The files that were judged before, as paths below the folder."""
        for name in self._names():
            stamp = self._stamp(name)
            if stamp is not None and judged(self.folder / name, _time(stamp)):
                yield name

    def _stamp(self, name: str) -> Stamp | None:
        """How a file looks now; None when it is not there."""
        try:
            # Not DirEntry.stat: Windows keeps old sizes there while a file is being written.
            found = os.stat(os.path.join(self.name, name))
        except FileNotFoundError:
            return None
        except OSError:
            return UNKNOWN  # reading it will say what is wrong
        return Stamp(found.st_size, found.st_mtime_ns, found.st_ino)

    def _entries(self, below: str) -> Iterator[os.DirEntry[str]]:
        """What is in a folder: nothing for a subfolder that is gone, or not for us to read."""
        try:
            with os.scandir(self.folder / below) as entries:
                yield from entries
        except (FileNotFoundError, PermissionError) as error:
            if not below:
                raise
            if isinstance(error, PermissionError) and below not in self._closed_to_us:
                self._closed_to_us.add(below)
                log.warning("%s", _unreadable(self.folder / below, error))

    def _lost(self, error: OSError, since: float) -> None:
        message = _unreadable(error.filename or self.folder, error)
        if self.patience is not None and time.monotonic() - since >= self.patience:
            raise SourceError(message) from error
        if self.health.state != "retrying":
            log.warning("%s; trying again", message)
        self._note(state="retrying", last_error=message)

    def _found(self) -> None:
        log.warning("%s: the folder can be read again", self.folder)
        self._note(state="running")

    def _show_counts(self) -> None:
        ledger = self._ledger
        self._count(waiting=ledger.waiting, vanished=ledger.vanished, renamed=ledger.renamed)

    # Taking ---------------------------------------------------------------------------------

    def _take(self, due: list[tuple[str, Stamp]]) -> Iterator[Frame]:
        for name, stamp in due:
            if self._closing.is_set():
                return
            frame = self._frame(name, stamp)
            self._show_counts()
            if frame is not None:
                yield frame

    def _frame(self, name: str, stamp: Stamp) -> Frame | None:
        """The file as a frame; None while it is not complete, and when it is gone."""
        path = self.folder / name
        started = time.perf_counter()
        image, error = None, None
        try:
            image = (self.read or read_samples)(path)
        except ImageError as caught:
            error = caught
        # The look may be long ago: the frames before this one were inspected meanwhile.
        now = self._stamp(name)
        if now is not None and not now.agrees(stamp):
            self._ledger.changed(name, now, time.monotonic())
            return None
        if error is not None and (now is None or isinstance(error, ImageMissingError)):
            self._ledger.gone(name)
            return None
        if error is not None and not self._ledger.unreadable(name, time.monotonic()):
            return None
        # A picture that was whole when it was read counts, even when its file is gone by now.
        self._ledger.taken(name, stamp)
        return Frame(
            str(path),
            image,
            _time(stamp),
            read_ms=(time.perf_counter() - started) * 1e3,
            error=error,
        )


def _time(stamp: Stamp) -> float:
    """When a file was last written, in seconds since 1970."""
    return stamp.modified / 1e9


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle: its reading will say so
        return False


class _Closed(Exception):
    """The source was closed in the middle of a look, which therefore says nothing."""


def _unreadable(folder: str | os.PathLike[str], error: OSError) -> str:
    why = error.strerror or error
    return (
        f"{folder}: the folder cannot be read ({why}); check that it is there, and its permissions"
    )
