"""The frozen list of images, one row group a part, and the bytes of each image of a part."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from blemish.errors import BlemishError, ImageEmptyError, ImageError, ParameterError, SourceError
from blemish.scale.fetching import fetch
from blemish.scale.packages import needed
from blemish.scale.sources import BYTES_COLUMN, Kind, WorkList
from blemish.scale.storage import Place, first_line

NAME = "_work.parquet"
THREADS = 8  # that read ahead: waiting for a disk or a store takes no processor


@dataclass(frozen=True)
class Item:
    """One image of the list: its position there, its name, and where it lies."""

    position: int
    id: str
    place: Place
    row: int | None = None  # of the Parquet file at `place`


Loaded = tuple[Item, bytes | ImageError]


def freeze(work: WorkList, rows_per_part: int, out: Place) -> None:
    """Write the list into the folder `out`, in row groups that are the parts."""
    arrow, parquet = needed("pyarrow"), needed("pyarrow.parquet")
    table = arrow.table(
        {
            "id": arrow.array(map(printable, work.ids), arrow.string()),
            # As bytes: a local name need not be text.
            "place": arrow.array(map(os.fsencode, work.places), arrow.binary()),
            "row": arrow.array(work.rows, arrow.int64()),
        }
    )
    with out.child(NAME).writing() as file:
        parquet.write_table(table, file, row_group_size=rows_per_part)


def printable(name: str) -> str:
    """A name as text that every reader takes: bytes that are no UTF-8 as `\\udc..`."""
    return name.encode("utf-8", "backslashreplace").decode()


class FrozenList:
    """The list in the folder `out`, read a part at a time."""

    def __init__(self, out: Place) -> None:
        self._place = out.child(NAME)

    def part(self, number: int, rows_per_part: int) -> list[Item]:
        """The images of one part."""
        parquet = needed("pyarrow.parquet")
        try:
            with self._place.opened() as file:
                table = parquet.ParquetFile(file).read_row_group(number)
        except (OSError, ValueError, IndexError) as error:
            raise ParameterError(
                f"{self._place.address} is missing or damaged; start again with another folder"
            ) from error
        columns = [table.column(name).to_pylist() for name in ("id", "place", "row")]
        first = number * rows_per_part
        return [
            Item(first + index, name, Place(os.fsdecode(place)), row)
            for index, (name, place, row) in enumerate(zip(*columns, strict=True))
        ]


def loaded(items: list[Item], kind: Kind, *, ahead: int, max_pixels: int) -> Iterator[Loaded]:
    """Each image's bytes, or its error, in order; at most `ahead` are in memory before their turn.

    Raises SourceError where a store cannot be reached.
    """
    if kind == "bytes":
        yield from _from_tables(items, ahead)
        return
    pool = ThreadPoolExecutor(min(ahead, THREADS))
    waiting: deque[tuple[Item, Future[bytes]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(fetch, item.place, max_pixels)))
            if len(waiting) > ahead:
                yield _taken(*waiting.popleft())
        while waiting:
            yield _taken(*waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _taken(item: Item, future: Future[bytes]) -> Loaded:
    try:
        return item, future.result()
    except ImageError as error:
        return item, error


def _from_tables(items: list[Item], ahead: int) -> Iterator[Loaded]:
    for place, group in groupby(items, lambda item: item.place):
        wanted = list(group)
        rows = [item.row for item in wanted if item.row is not None]
        values = _bytes_of(place, min(rows), max(rows), ahead)
        for item, data in zip(wanted, values, strict=True):
            if data:
                yield item, data
            else:
                yield item, ImageEmptyError(f"{item.id}: it holds no bytes; write the row again.")


def _bytes_of(place: Place, first: int, last: int, batch: int) -> Iterator[bytes | None]:
    """The column `bytes` of the rows from `first` to `last`, read a few rows at a time."""
    parquet = needed("pyarrow.parquet")
    with place.opened() as file, _readable(place):
        table = parquet.ParquetFile(file, buffer_size=2**20, pre_buffer=False)
        before, wanted, skipped = 0, [], 0
        for group in range(table.num_row_groups):
            count = table.metadata.row_group(group).num_rows
            if before + count <= first:
                skipped = before + count
            elif before <= last:
                wanted.append(group)
            before += count
        if before <= last:
            raise BlemishError(
                f"{place.address} has {before} rows now and had more when the run began; restore "
                "it, or start again with another folder"
            )
        yield from _sliced(table, wanted, first - skipped, last - skipped, batch)


@contextmanager
def _readable(place: Place) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{place.address} cannot be read any more ({first_line(error)}); restore it and run "
            "the same command again: it goes on where it stopped"
        ) from error


def _sliced(table: Any, groups: list[int], first: int, last: int, batch: int) -> Iterator[Any]:
    """Rows `first` to `last` of some row groups."""
    at = 0
    for rows in table.iter_batches(batch, row_groups=groups, columns=[BYTES_COLUMN]):
        start, stop = max(first - at, 0), min(last + 1 - at, len(rows))
        if start < stop:
            yield from (value.as_py() for value in rows.column(0)[start:stop])
        at += len(rows)
        if at > last:
            return
