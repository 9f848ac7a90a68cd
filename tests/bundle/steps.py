"""Every step by which a file or folder changes, counted, so that something can happen at any one.

A file's content counts twice: before it is written, and when half of it is.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

CALLS = ("open", "mkdir", "rmdir", "rename", "replace", "unlink", "remove", "chmod", "fsync")


class Steps:
    """Counts steps; at number `at` (from 1; 0: never) it calls `act` before the step is done."""

    def __init__(self, at: int = 0, act: Callable[[], None] = lambda: None) -> None:
        self.at, self.act = at, act
        self.done: list[str] = []

    def count(self, name: str) -> None:
        """One step more."""
        self.done.append(name)
        if len(self.done) == self.at:
            self.act()

    def install(self, put: Callable[[Any, str, Any], None] = setattr) -> None:
        """Count from now on; `put` is setattr, or a test's that undoes it."""
        for name in CALLS:
            put(os, name, self._counting(name, getattr(os, name)))
        put(os, "fdopen", self._opening)

    def _counting(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.count(name)
            return call(*arguments, **options)

        return counted

    def _opening(self, handle: int, mode: str) -> io.BufferedWriter:
        return _Halting(io.FileIO(handle, mode), self)


class _Halting(io.BufferedWriter):
    def __init__(self, raw: io.FileIO, steps: Steps) -> None:
        super().__init__(raw)
        self._steps = steps

    def write(self, data: Any) -> int:
        self._steps.count("write")
        half = len(data) // 2
        super().write(data[:half])
        super().flush()
        self._steps.count("half")
        return half + super().write(data[half:])
