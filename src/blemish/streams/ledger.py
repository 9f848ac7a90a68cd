"""Which files of a watched folder were taken, and which are not complete yet; without a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

_CHECKED = 5000  # taken files that one look checks for replacement; with more, they take turns


class Stamp(NamedTuple):
    """What tells that a file has changed; `inode` is 0 where the system has none."""

    size: int
    modified: int  # ns since 1970
    inode: int

    def agrees(self, other: Stamp) -> bool:
        """Whether a file of one name has not changed between two looks.

        Without the inode: some network shares give a file another one from time to time.
        """
        return self[:2] == other[:2]


UNKNOWN = Stamp(-1, 0, 0)  # of a file that is there, but that the system does not describe
StampOf: TypeAlias = Callable[[str], Stamp | None]  # how a file looks; None when it is gone


class _Waiting:
    """A file that has not been taken: how it looked, since when, and when to try it next."""

    __slots__ = ("due", "since", "stamp", "tries")

    def __init__(self, stamp: Stamp, now: float, settle: float) -> None:
        self.stamp = stamp
        self.since = now
        self.due = now + settle
        self.tries = 0


class Ledger:
    """Remembers a folder's files between looks at it.

    A file is due once it has not changed for `settle` seconds, and again now and then until
    `timeout` seconds after its last change. A name with another size or time is a new part; a
    taken file under a new name is not. A taken file costs two integers, not its name; and of very
    many taken files each look checks a share only.
    """

    def __init__(self, settle: float, timeout: float) -> None:
        self.settle = settle
        self.timeout = timeout
        self.vanished = 0  # files gone before they were taken
        self.renamed = 0  # taken files that have another name now
        self._taken: dict[int, int] = {}  # by the hash of the name, what the file is
        self._missing: set[int] = set()  # taken files whose names the last look did not find
        self._turn = 0
        self._waiting: dict[str, _Waiting] = {}

    @property
    def waiting(self) -> int:
        """How many files are not complete or not taken yet."""
        return len(self._waiting)

    def look(self, names: Iterable[str], stamp_of: StampOf, now: float) -> list[tuple[str, Stamp]]:
        """Take in the names of all files that are there now; those due, by time and name.

        When `names` raises, all is as before.
        """
        left, kept = self._taken, {}
        found: dict[str, Stamp] = {}
        shares = len(left) // _CHECKED + 1
        self._turn = (self._turn + 1) % shares
        try:
            for name in names:
                key = hash(name)
                known = left.get(key)
                if known is not None and key % shares != self._turn:
                    kept[key] = left.pop(key)
                elif (stamp := stamp_of(name)) is None:
                    continue
                elif known is not None and (stamp == UNKNOWN or _agreeing(stamp) == known >> 64):
                    kept[key] = left.pop(key)
                elif key not in kept:
                    found[name] = stamp
        except BaseException:
            left.update(kept)
            raise
        # A look that ran while a file was renamed may have seen neither of its names.
        missing, before = {_content(file) for file in left.values()} - {0}, self._missing
        if kept or found:  # an empty folder may be a share that is not mounted: forget nothing
            self._taken, self._missing = kept, missing
        self._follow_renamed(found, missing | before)
        self._wait_for(found, now)
        due = [(name, file.stamp) for name, file in self._waiting.items() if file.due <= now]
        return sorted(due, key=lambda item: (item[1].modified, item[0]))

    def skip(self, names: Iterable[str], stamp_of: StampOf) -> None:
        """Count files as taken that were there before us."""
        for name in names:
            if (stamp := stamp_of(name)) is not None:
                self._taken[hash(name)] = _what(stamp)

    def taken(self, name: str, stamp: Stamp) -> None:
        """The file was given on, as a picture or as an error."""
        self._waiting.pop(name, None)
        self._taken[hash(name)] = _what(stamp)

    def gone(self, name: str) -> None:
        """The file was not there any more when it was to be read."""
        if self._waiting.pop(name, None) is not None:
            self.vanished += 1

    def changed(self, name: str, stamp: Stamp, now: float) -> None:
        """The file changed between the look and its reading: wait for it anew."""
        self._waiting[name] = _Waiting(stamp, now, self.settle)

    def unreadable(self, name: str, now: float) -> bool:
        """Whether it is time to give up on a file that could not be read; else it is due later."""
        file = self._waiting[name]
        if now >= file.since + self.timeout:
            return True
        # Ever less often, because a large damaged file takes long to read.
        pause = max(self.settle, 0.1) * 2**file.tries
        file.tries += 1
        file.due = min(now + pause, file.since + self.timeout)
        return False

    def _follow_renamed(self, found: dict[str, Stamp], missing: set[int]) -> None:
        """Files whose old name is missing keep what is known of them."""
        for name, stamp in list(found.items()):
            if _content(what := _what(stamp)) in missing:
                del found[name]
                self._taken[hash(name)] = what
                self.renamed += 1

    def _wait_for(self, found: dict[str, Stamp], now: float) -> None:
        """Bring what waits up to date with what was found."""
        gone = {name: file for name, file in self._waiting.items() if name not in found}
        moved = {file.stamp: name for name, file in gone.items() if file.stamp.inode}
        for name, stamp in found.items():
            file = self._waiting.get(name)
            if file is None or not file.stamp.agrees(stamp):
                old = moved.pop(stamp, None)
                # A file that was only renamed has been waiting under its old name.
                self._waiting[name] = (
                    _Waiting(stamp, now, self.settle) if old is None else gone.pop(old)
                )
        self.vanished += len(gone)
        self._waiting = {name: self._waiting[name] for name in found}


def _what(stamp: Stamp) -> int:
    """What a taken file is: 64 bits that a look compares, and 64 that tell it under a new name."""
    content = hash(stamp) % 2**64 if stamp.inode else 0
    return _agreeing(stamp) << 64 | content


def _agreeing(stamp: Stamp) -> int:
    return hash(stamp[:2]) % 2**64  # without the inode, as in Stamp.agrees


def _content(what: int) -> int:
    return what % 2**64
