"""Retention: pictures, maps and rows go when their time is over, but never what people still need.

Kept whatever the rules say: pictures of parts that await review, are proposed or approved as
templates, or are in the regression set, and what was written or asked for in the last hour.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import delete, exists, or_, select

from blemish.imaging import TEMPORARY_NAME
from blemish.station.errors import StoreError
from blemish.station.settings import Retention
from blemish.station.store.opening import Database
from blemish.station.store.pictures import PictureStore
from blemish.station.store.tables import (
    CandidateRow,
    DecisionRow,
    DeliveryRow,
    InspectionRow,
    QueueRow,
    RegressionRow,
)
from blemish.station.store.types import least_id

log = logging.getLogger("blemish.station")

HOUR, DAY, GIB = 3600.0, 86400.0, 2**30
BATCH = 200  # rows or files that are looked at in one transaction
_PAUSE = 0.01  # s after each batch: inspections go on
_MOST_ORPHANS = (
    1000  # that kills can leave; more, and the database is another one than the folder's
)
_TIME_AND_SIZE = np.dtype([("touched", np.float64), ("size", np.float64)])
_CONSUMED = ("waiting", "working", "approved")  # candidates whose picture people or bundles need


@dataclass
class Swept:
    """What one sweep took away."""

    images: int = 0
    maps: int = 0
    orphans: int = 0  # pictures without an inspection, and what a kill left half written
    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class _File:
    path: Path
    key: str  # the checksum it is kept by; empty: half written
    touched: float
    size: int


class Sweeper:
    """Applies the rules of `[retention]` to one database and its pictures, again and again."""

    def __init__(
        self,
        database: Database,
        pictures: PictureStore,
        rules: Retention,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database, self.pictures, self.rules = database, pictures, rules
        self.total = Swept()  # since the start
        self._clock = clock
        self._halted = threading.Event()
        self._orphans_sought = -DAY

    def halt(self) -> None:
        """Let a sweep that is running end after its batch."""
        self._halted.set()

    def sweep(self) -> Swept:
        """Take away what has had its time; returns how much that was.

        Raises StoreError for pictures of which hardly any belongs to this database.
        """
        found, moment = Swept(), self._clock()
        try:
            if self.rules.rows_days is not None:
                self._sweep_rows(moment - self.rules.rows_days * DAY, found)
            self._sweep_old("images", self.rules.images_days, moment, found)
            self._sweep_old("maps", self.rules.maps_days, moment, found)
            if self.rules.images_gib is not None:
                self._sweep_large(self.rules.images_gib * GIB, moment, found)
            if moment - self._orphans_sought >= DAY:
                self._sweep_orphans(moment, found)
                self._orphans_sought = moment
        finally:
            for one in fields(Swept):
                sum_ = getattr(self.total, one.name) + getattr(found, one.name)
                setattr(self.total, one.name, sum_)
        return found

    # Rows -----------------------------------------------------------------------------------

    def _sweep_rows(self, before: float, found: Swept) -> None:
        """Old inspections with their decisions and deliveries; tallies stay."""
        last = ""
        end = least_id(datetime.fromtimestamp(before, UTC))
        while not self._halted.is_set():
            keys = select(InspectionRow.id).where(InspectionRow.id > last, InspectionRow.id < end)
            with self.database.writing() as session:
                old = list(session.scalars(keys.order_by(InspectionRow.id).limit(BATCH)))
                if not old:
                    return
                needed = set(session.scalars(_needed(select(InspectionRow.id), old)))
                gone = [key for key in old if key not in needed]
                for table in (DecisionRow, DeliveryRow):
                    session.execute(delete(table).where(table.inspection_id.in_(gone)))
                session.execute(delete(InspectionRow).where(InspectionRow.id.in_(gone)))
            found.rows += len(gone)
            last = old[-1]
            self._pause()

    # Pictures -------------------------------------------------------------------------------

    def _sweep_old(self, kind: str, days: float | None, moment: float, found: Swept) -> None:
        before = -math.inf if days is None else moment - days * DAY

        def is_over(file: _File) -> bool:
            return file.touched < (before if file.key else moment - DAY)

        for files in self._batches(kind, moment, is_over):
            old = self._unneeded(kind, [file for file in files if file.key])
            setattr(found, kind, getattr(found, kind) + self._remove(old, found))
            found.orphans += self._remove([file for file in files if not file.key], found)

    def _sweep_large(self, limit: float, moment: float, found: Swept) -> None:
        """The images that were touched longest ago, until the rest is no more than `limit`."""
        kept = 0.0  # of those that may not go
        while not self._halted.is_set():
            listed = np.fromiter(
                ((file.touched, file.size) for file in self._files("images")), _TIME_AND_SIZE
            )
            listed = np.sort(listed, order="touched")[::-1]
            total = np.cumsum(listed["size"])
            if not total.size or total[-1] <= limit:
                return
            # The newest that fit beside those that must stay; at least the oldest one goes.
            fitting = int(np.searchsorted(total, limit - kept, side="right"))
            first_gone = min(fitting, total.size - 1)
            last = float(listed["touched"][first_gone])
            removed, stayed = 0, 0.0
            for files in self._batches("images", moment, lambda file: file.touched <= last):  # noqa: B023
                gone = self._unneeded("images", [file for file in files if file.key])
                removed += self._remove(gone, found)
                stayed += sum(file.size for file in files) - sum(file.size for file in gone)
            found.images += removed
            if stayed <= kept and not removed:
                log.warning("more images than images_gib must be kept, or are of the last hour")
                return
            kept = max(kept, stayed)

    def _sweep_orphans(self, moment: float, found: Swept) -> None:
        """Pictures that no inspection has: a kill left them, or rows that have had their time."""
        newest = moment - DAY
        oldest = moment - (self.rules.rows_days or math.inf) * DAY
        orphans: list[_File] = []
        for kind in ("images", "maps"):
            for files in self._batches(kind, moment, lambda file: file.touched < newest):
                alone = self._without_row(kind, [file for file in files if file.key])
                old = [file for file in alone if file.touched < oldest]
                found.orphans += self._remove(old, found)
                orphans += [file for file in alone if file.touched >= oldest]
                if len(orphans) > _MOST_ORPHANS:
                    raise StoreError(
                        f"more than {_MOST_ORPHANS} pictures in {self.pictures.folder} belong to "
                        f"no inspection of {self.database.where}; is it the right one? They were "
                        "left alone"
                    )
        found.orphans += self._remove(orphans, found)

    def _unneeded(self, kind: str, files: Sequence[_File]) -> list[_File]:
        """Without those whose inspection people still need."""
        if not files:
            return []
        column = _column(kind)
        keys = [file.key for file in files]
        with self.database.reading() as session:
            needed = set(session.scalars(_still_looked_at(select(column).where(column.in_(keys)))))
        return [file for file in files if file.key not in needed]

    def _without_row(self, kind: str, files: Sequence[_File]) -> list[_File]:
        column = _column(kind)
        keys = [file.key for file in files]
        with self.database.reading() as session:
            known = set(session.scalars(select(column).where(column.in_(keys))))
        return [file for file in files if file.key not in known]

    def _remove(self, files: Sequence[_File], found: Swept) -> int:
        removed = 0
        for file in files:
            if self._removed(file):
                removed += 1
                found.bytes += file.size
        return removed

    def _removed(self, file: _File) -> bool:
        """Take a file away unless it has been asked for since it was listed.

        It is renamed before it is looked at again: a part that comes now with the same picture
        either touched it before, and gets it back, or writes it anew.
        """
        aside = file.path.with_name(f".{file.path.name}.retired0.tmp")
        try:
            os.rename(file.path, aside)
            if aside.stat().st_mtime > file.touched:
                os.rename(aside, file.path)
                return False
            os.unlink(aside)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(
                f"{file.path} cannot be removed ({error.strerror or error}); look at the "
                "permissions of its folder"
            ) from error
        return True

    def _batches(
        self, kind: str, moment: float, wanted: Callable[[_File], bool]
    ) -> Iterator[list[_File]]:
        """The wanted files that nobody has touched for an hour, some at a time."""
        batch: list[_File] = []
        for file in self._files(kind):
            if file.touched < moment - HOUR and wanted(file):
                batch.append(file)
            if len(batch) == BATCH:
                yield batch
                batch = []
                self._pause()
        if batch:
            yield batch

    def _files(self, kind: str) -> Iterator[_File]:
        """All files of a kind, folder by folder; ends early when the sweeper is halted."""
        for folder in _folders(self.pictures.folder / kind):
            if self._halted.is_set():
                return
            for entry in _entries(folder):
                key = "" if TEMPORARY_NAME.match(entry.name) else entry.name.partition(".")[0]
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield _File(Path(entry.path), key, status.st_mtime, status.st_size)

    def _pause(self) -> None:
        self._halted.wait(_PAUSE)


def _needed(query: Any, keys: Sequence[str]) -> Any:
    """Of these inspections those that retention leaves: people or sinks still need the rows.

    Whatever is or was a candidate or a regression part stays on record: they are few.
    """
    row = InspectionRow
    return query.where(
        row.id.in_(keys),
        or_(
            exists().where(QueueRow.inspection_id == row.id),
            exists().where(CandidateRow.inspection_id == row.id),
            exists().where(RegressionRow.inspection_id == row.id),
            exists().where(DeliveryRow.inspection_id == row.id, DeliveryRow.state != "sent"),
        ),
    )


def _still_looked_at(query: Any) -> Any:
    """Of a query of inspections those whose pictures are still looked at."""
    row = InspectionRow
    return query.where(
        or_(
            exists().where(QueueRow.inspection_id == row.id),
            exists().where(CandidateRow.inspection_id == row.id, CandidateRow.state.in_(_CONSUMED)),
            exists().where(
                RegressionRow.inspection_id == row.id, RegressionRow.removed_at.is_(None)
            ),
        )
    )


def _column(kind: str) -> Any:
    return InspectionRow.image_sha256 if kind == "images" else InspectionRow.map_sha256


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir())
    except FileNotFoundError:
        return []


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return [entry for entry in found if entry.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return []
