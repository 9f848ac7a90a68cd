"""`blemish inspect --watch --resume`: which files have their line in --json's file already."""

from __future__ import annotations

import json
import os
from pathlib import Path

from blemish.errors import ParameterError
from blemish.streams.source import moment


class Judged:
    """The parts whose whole line a file of results holds, by path and time of writing.

    No parts where there is no such file yet. A line that was broken off does not count: its part
    is judged again. Raises ParameterError for a file that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._known: set[int] = set()  # hashes, since there may be very many
        try:
            with path.open("rb") as file:
                for line in file:
                    self._add(line)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ParameterError(f"--resume: {path} cannot be read ({error.strerror})") from error

    def __len__(self) -> int:
        return len(self._known)

    def has(self, path: Path, time: float) -> bool:
        """Whether the file at `path`, last written at `time`, was judged."""
        return _key(os.fspath(path), moment(time)) in self._known

    def _add(self, line: bytes) -> None:
        try:
            part = json.loads(line)
        except (ValueError, RecursionError):
            return
        if not line.endswith(b"\n") or not isinstance(part, dict):
            return
        image, time = part.get("image"), part.get("time")
        if isinstance(image, str) and isinstance(time, str):
            self._known.add(_key(image, time))


def _key(path: str, time: str) -> int:
    return hash((os.path.abspath(path), time))
