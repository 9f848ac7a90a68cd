"""A table of parts, one a row: name, good images, and options of its own."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blemish.errors import DatasetError, ParameterError
from blemish.scale.packages import needed
from blemish.scale.storage import first_line

SUFFIXES = (".csv", ".jsonl", ".parquet")
NAME, GOOD = "name", "good"

# What a cell of each option is; the names are those of `blemish fit`.
OPTIONS: dict[str, type] = {
    "method": str,
    "backbone": str,
    "sheets": int,
    "memory": int,
    "windows": str,
    "size": int,
    "align": str,
    "aspect": str,
    "roi": Path,
    "ignore": Path,
    "tile": int,
    "device": str,
    "seed": int,
    "set": list,
    "false_alarm_rate": float,
    "confidence": float,
    "review_rate": float,
    "bit_depth": int,
    "max_pixels": int,
    "no_pictures": bool,
}
_NAME = re.compile(r"^[^\W_][^/\\:\0]*$")  # a file's name anywhere; hidden ones and `_` are ours
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class Row:
    """One part: its `number` in the table, its name, folder and options, or what is wrong."""

    number: int
    name: str
    good: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


def read_table(path: Path) -> list[Row]:
    """The rows of a table; folders and files in it are relative to it.

    Raises DatasetError for what concerns the whole table: it cannot be read, has unknown columns,
    a name that no file can have, or one twice. A cell that makes no sense is its row's problem.
    """
    rows = [_row(path, number, fields) for number, fields in _lines(path)]
    if not rows:
        raise DatasetError(f"{path} has no rows; give a row with name and good for each part")
    seen: dict[str, int] = {}
    for row in rows:
        key = row.name.casefold()  # two bundles that some disks would make one
        if key in seen:
            raise DatasetError(
                f"{path}: rows {seen[key]} and {row.number} are both called '{row.name}'; each "
                "part needs a name of its own"
            )
        seen[key] = row.number
    return rows


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in SUFFIXES:
        state = "is not" if path.exists() else "does not exist and is not"
        raise DatasetError(f"{path} {state} a {', '.join(SUFFIXES)} file; give the file of a table")
    read = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}[suffix]
    try:
        lines = list(read(path))
    except (OSError, ValueError, csv.Error) as error:  # UnicodeDecodeError, JSON's and Arrow's
        raise DatasetError(
            f"{path} cannot be read ({first_line(error)}); write it again"
        ) from error
    for number, line in enumerate(lines, start=1):
        fields = {
            str(key).strip().replace("-", "_"): value
            for key, value in line.items()
            if value not in (None, "", [])
        }
        if fields:
            yield number, fields


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, restkey="a column without a name")


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        if line.strip():
            value = json.loads(line)
            if not isinstance(value, dict):
                raise ValueError("a line is not an object")
            yield value


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        yield from needed("pyarrow.parquet").ParquetFile(file).read().to_pylist()


def _row(path: Path, number: int, fields: dict[str, Any]) -> Row:
    unknown = sorted(set(fields) - set(OPTIONS) - {NAME, GOOD})
    if unknown:
        known = ", ".join([NAME, GOOD, *OPTIONS])
        raise DatasetError(f"{path} has the column '{unknown[0]}'; those known are {known}")
    name = str(fields.pop(NAME, ""))
    if not _NAME.match(name) or len(name.encode()) > 200 or not name.isprintable():
        raise DatasetError(
            f"{path}: row {number} has the name '{name}', which cannot be a bundle's; give one "
            "without slashes that begins with a letter or digit"
        )
    if GOOD not in fields:
        return Row(number, name, problem="it has no folder of good images; fill in the column good")
    good = str(path.absolute().parent / str(fields.pop(GOOD)))
    options: dict[str, Any] = {}
    for key, value in fields.items():
        try:
            options[key] = _cell(OPTIONS[key], value, path)
        except (ValueError, KeyError):
            kind = {int: "a whole number", float: "a number", bool: "true or false"}
            told = kind.get(OPTIONS[key], "text")
            return Row(number, name, good, problem=f"{key} is '{value}'; it must be {told}")
    return Row(number, name, good, options)


def _cell(kind: type, value: Any, path: Path) -> Any:
    """A cell, which in a CSV is text, as the option's kind."""
    if kind is list:
        return value if isinstance(value, list) else str(value).split(";")
    if kind is Path:
        return str(path.absolute().parent / str(value))
    if kind is bool:
        return _TRUTH[str(value).strip().casefold()]
    if kind is int and isinstance(value, float):  # a column with gaps becomes floats in pandas
        if not value.is_integer():
            raise ValueError(value)
        return int(value)
    return kind(value)


def asked_of(row: Row, defaults: dict[str, Any]) -> dict[str, Any]:
    """What `blemish fit` is asked for a row: the command's options under the row's own."""
    asked = {**defaults, **row.options}
    if "set" in row.options:
        asked["settings"] = asked.pop("set")
    if "no_pictures" in row.options:
        asked["keep_pictures"] = not asked.pop("no_pictures")
    if row.problem is not None:
        raise ParameterError(row.problem)
    return asked
