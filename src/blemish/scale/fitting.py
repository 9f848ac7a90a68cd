"""Many inspectors at once: a bundle a row of a table, whatever becomes of the other rows."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from blemish.bundle import read_manifest, try_lock_file
from blemish.errors import BlemishError, BundleError
from blemish.imaging import Progress, atomic_write, silent
from blemish.scale.engines import Report, Signals, engine_of
from blemish.scale.storage import first_line
from blemish.scale.table import Row, asked_of, read_table

RECORDS = "_rows"  # the folder of what was made of each row
SUMMARY = "_summary"
LOCK = ".lock"
THERE = "made before"
COLUMNS = (
    "name",
    "status",
    "message",
    "images",
    "templates",
    "threshold",
    "false_alarm_rate",
    "seconds",
    "bundle",
)

# Learns from a folder into a bundle by options, and gives the summary that `blemish fit` prints.
Learn = Callable[[Path, Path, dict[str, Any]], dict[str, Any]]


def fit_rows(
    table: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    learn: Learn,
    defaults: dict[str, Any],
    *,
    engine: str = "local",
    workers: int | None = None,
    progress: Progress = silent,
) -> list[Report]:
    """A bundle NAME.blemish in `folder` for each row of `table`; what became of each, in order.

    Options of a row stand before `defaults`. A row that fails has a sentence instead. A row whose
    bundle was made with the same options before is left as it is. The list is also written as
    `_summary.json` and `_summary.csv`.
    """
    rows = read_table(Path(table))
    device = str(defaults["device"])
    gpu = False if device == "cpu" else True if device.startswith("cuda") else None
    runner = engine_of(engine, workers, gpu=gpu)
    target = Path(folder).absolute()
    handle = _locked(target)
    try:
        (target / RECORDS).mkdir(exist_ok=True)
        done: dict[int, Report] = {}
        progress("fitting", 0, len(rows))
        make = partial(Fitter, learn, defaults, target)
        with closing(runner.map(make, list(map(asdict, rows)), lambda _: None)) as found:
            for report in found:
                done[report.pop("number")] = report
                progress("fitting", len(done), len(rows))
        reports = [done[row.number] for row in rows]
        _write_summary(target, reports)
    finally:
        os.close(handle)
    return reports


class Fitter:
    """The worker: one row after the other; what goes wrong in one is told and goes no further."""

    def __init__(
        self, learn: Learn, defaults: dict[str, Any], folder: Path, signals: Signals
    ) -> None:
        self._learn, self._defaults, self._folder = learn, defaults, folder
        self._signals = signals

    def __call__(self, fields: dict[str, Any]) -> Report:
        """Fit one row; its line of the summary, and its number."""
        row, started = Row(**fields), time.perf_counter()
        self._signals.check()
        try:
            report = self._fitted(row)
        except BlemishError as error:
            report = _failed(row, str(error), started)
        except Exception as error:  # any library's: one part never stops the rest
            told = f"{type(error).__name__}: {first_line(error)}"
            report = _failed(row, f"an error that Blemish does not know ({told})", started)
        return {**report, "number": row.number}

    def _fitted(self, row: Row) -> Report:
        asked = asked_of(row, self._defaults)
        bundle = self._folder / f"{row.name}.blemish"
        record = self._folder / RECORDS / f"{row.name}.json"
        digest = _digest({"good": row.good, **asked})
        before = _record(record)
        if before.get("asked") == digest and _is_bundle(bundle):
            return {**{key: before.get(key) for key in COLUMNS}, "message": THERE}
        summary = self._learn(Path(row.good), bundle, asked)
        report = {
            "name": row.name,
            "status": "ok",
            "message": None,
            "images": summary["images"],
            "templates": summary["templates"],
            "threshold": summary["calibration"]["threshold"],
            "false_alarm_rate": summary["calibration"]["false_alarm_rate"],
            "seconds": summary["seconds"],
            "bundle": str(bundle),
        }
        # After the bundle: a kill between the two makes the row be done again.
        atomic_write(record, json.dumps({**report, "asked": digest}).encode())
        return report


def _failed(row: Row, message: str, started: float) -> Report:
    report = dict.fromkeys(COLUMNS)
    seconds = round(time.perf_counter() - started, 2)
    return {**report, "name": row.name, "status": "failed", "message": message, "seconds": seconds}


def _digest(asked: dict[str, Any]) -> str:
    """What was asked of a row, but for the device, which changes no more than rounding."""
    told = {key: value for key, value in asked.items() if key != "device"}
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def _record(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):  # none yet, or damaged: the row is done again
        return {}
    return found if isinstance(found, dict) else {}


def _is_bundle(path: Path) -> bool:
    try:
        read_manifest(path)
    except BundleError:
        return False
    return True


def _write_summary(folder: Path, reports: list[Report]) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, COLUMNS)
    writer.writeheader()
    writer.writerows(reports)
    try:
        atomic_write(folder / f"{SUMMARY}.csv", buffer.getvalue().encode())
        atomic_write(folder / f"{SUMMARY}.json", (json.dumps(reports, indent=2) + "\n").encode())
    except OSError as error:
        raise BlemishError(
            f"{folder} could not be written ({error.strerror or error}); the bundles are made"
        ) from error


def _locked(folder: Path) -> int:
    """A folder for this command alone, by a handle to close at the end."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = try_lock_file(folder / LOCK)
    except OSError as error:
        raise BlemishError(
            f"{folder} cannot be written ({error.strerror or error}); give another folder"
        ) from error
    if handle is None:
        raise BlemishError(f"{folder} is being written by another process; wait for it, or end it")
    return handle
