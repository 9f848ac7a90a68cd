"""Finished cells as lines of JSON, added one at a time, so that a stopped run goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from blemish.errors import ParameterError
from blemish.train.paper.cells import Key

Line = dict[str, Any]


class Results:
    """The lines of one file (None: kept in memory only).

    A line's `work` says what was computed, all options spelled out; lines of other options,
    seeds or presets live in the same file and are not mixed up.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._whole = 0  # bytes of whole lines; what a killed run left after them is cut off
        self.lines: list[Line] = []
        if path is not None:
            self._read(path)

    def find(self, key: Key, work: Line) -> Line | None:
        """The latest line of this cell computed in this way."""
        return next(
            (line for line in reversed(self.lines) if _key(line) == key and line["work"] == work),
            None,
        )

    def same_work(self, work: Line) -> Line | None:
        """The latest line, of whatever cell, computed in this way."""
        return next((line for line in reversed(self.lines) if line["work"] == work), None)

    def add(self, line: Line) -> None:
        """Keep a finished cell; on return its line is on the disk."""
        if self.path is not None:
            self._append(self.path, json.dumps(line) + "\n")
        self.lines.append(line)

    def _append(self, path: Path, text: str) -> None:
        try:
            if path.exists() and not path.read_bytes().endswith(b"\n"):
                os.truncate(path, self._whole)
            with path.open("a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ParameterError(
                f"--results {path} could not be written ({error.strerror})"
            ) from error

    def _read(self, path: Path) -> None:
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise ParameterError(f"--results {path}: give a file's name in a folder that exists")
        try:
            content = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise ParameterError(
                f"--results {path} could not be read ({error.strerror})"
            ) from error
        for number, raw in enumerate(content.split(b"\n")[:-1], start=1):
            if raw.strip():
                self.lines.append(_parsed(raw, path, number))
        self._whole = content.rfind(b"\n") + 1


def _parsed(raw: bytes, path: Path, number: int) -> Line:
    try:
        line = json.loads(raw)
        if not (isinstance(line["work"], dict) and isinstance(line["figures"], dict)):
            raise TypeError("work or figures")
        _key(line)
    except (ValueError, KeyError, TypeError) as error:
        raise ParameterError(
            f"--results {path}, line {number} is not a result of `blemish bench paper`; "
            "give another file, or take the line out"
        ) from error
    return dict(line)


def _key(line: Line) -> Key:
    return line["table"], line["row"], line["category"]
