"""Results as lines of CSV, in a file a day: each line is on the disk before it counts as sent."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import Any

from blemish.imaging import sync_folder
from blemish.station.results import result_to_dict
from blemish.station.sinks.sink import SinkDownError
from blemish.station.store import Judged

COLUMNS = (
    "id",
    "recorded_at",
    "station",
    "source",
    "inspector",
    "version",
    "part_id",
    "correlation_id",
    "verdict",
    "reason",
    "score",
    "p_value",
    "threshold",
    "review_threshold",
    "regions",
    "latency_ms",
    "image",
    "image_sha256",
    "bundle_sha256",
    "error_code",
    "error_message",
    "metadata",
)
_END = "\r\n"  # of a record, and nowhere else: fields have no carriage return
_HEADER = (",".join(COLUMNS) + _END).encode()
_TAIL = 2**20  # bytes at a file's end in which what was just written is looked for
_REMEMBERED = 10_000  # ids: more than can be on their way to be noted as sent
_FORMULA = ("=", "+", "-", "@", "\t", "\n")  # what a spreadsheet would run


class CsvFiles:
    """`STATION-NAME-YYYY-MM-DD.csv` in a folder, by the day (UTC) of recording.

    After a kill, a line that was cut off is removed, and one that was written is not written
    again. A file that other columns begin is left alone: `…-2.csv` follows.
    """

    tries = 1  # nothing is ever refused

    def __init__(self, name: str, folder: Path, station: str) -> None:
        self.name, self.folder = name, folder
        self._stem = f"{station}-{name}"
        self._path: Path | None = None
        self._day = ""
        self._written: dict[str, None] = {}  # the newest ids in the file of `_path`, in order

    @property
    def trouble(self) -> str | None:
        """Known only by writing."""
        return None

    def open(self) -> None:
        """The folder is made when there is something to write."""

    def close(self) -> None:
        """Nothing is kept open."""

    def send(self, judged: Judged, stopping: threading.Event) -> None:
        """Append a line and wait for the disk; raises SinkDownError where that fails."""
        result = result_to_dict(judged)
        day = judged.row.recorded_at.astimezone(UTC).date().isoformat()
        try:
            if self._path is None or day != self._day or not self._path.exists():
                self._begin(day)
            assert self._path is not None
            if result["id"] not in self._written:
                _append(self._path, line(result))
                self._remember(result["id"])
        except OSError as error:
            self._path = None  # look at the file again: the line may be there, or half of it
            raise SinkDownError(
                f"{error.filename or self.folder} cannot be written ({error.strerror or error}); "
                "make room, or look at its permissions and its disk"
            ) from error

    def _remember(self, key: str) -> None:
        self._written[key] = None
        if len(self._written) > _REMEMBERED:
            del self._written[next(iter(self._written))]

    def _begin(self, day: str) -> None:
        self._path, self._day = None, day
        self.folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, 1000):
            more = "" if number == 1 else f"-{number}"
            path = self.folder / f"{self._stem}-{day}{more}.csv"
            if (written := _mended(path)) is not None:
                self._path, self._written = path, written
                return
        raise OSError(f"there are {number} files of other columns for {day}")


def line(result: Mapping[str, Any]) -> bytes:
    """A result as one record of CSV, its end included."""
    error = result.get("error") or {}
    values = {
        **result,
        "regions": json.dumps(result["regions"]),
        "metadata": json.dumps(result["metadata"]),
        "error_code": error.get("code"),
        "error_message": error.get("message"),
    }
    text = io.StringIO()
    csv.writer(text, lineterminator=_END).writerow([_cell(values[name]) for name in COLUMNS])
    return text.getvalue().encode("utf-8", "backslashreplace")


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value  # numbers may be negative; None is an empty cell
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return "'" + text if text.startswith(_FORMULA) else text


def _mended(path: Path) -> dict[str, None] | None:
    """Make a file whole; the ids at its end. None where it is another program's or version's."""
    try:
        with path.open("rb") as file:
            begins = file.read(len(_HEADER))
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            tail = file.read()
    except FileNotFoundError:
        begins, size, tail = b"", 0, b""
    if begins != _HEADER[: len(begins)]:
        return None
    whole = tail[: tail.rfind(_END.encode()) + len(_END)] if _END.encode() in tail else b""
    if len(begins) < len(_HEADER):
        _replace(path)
        return {}
    if len(whole) < len(tail):
        _cut(path, size - len(tail) + len(whole))
    records = whole.decode("utf-8", "replace").split(_END)
    return dict.fromkeys(record.partition(",")[0] for record in records)


def _replace(path: Path) -> None:
    """A file that has only its header."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(descriptor, _HEADER)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


def _cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def _append(path: Path, record: bytes) -> None:
    # Not O_CREAT: a file that was moved away begins anew, with its header.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        if os.write(descriptor, record) != len(record):
            raise OSError(f"{path}: the line was cut off")  # and is mended at the next try
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
