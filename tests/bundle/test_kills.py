"""kill -9 at any step of save, update, calibrate, rollback, unpack, export: old or new, whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
OPERATIONS = ("save", "replace", "update", "calibrate", "rollback", "export", "unpack")


@pytest.fixture(scope="module")
def kills() -> list[dict[str, Any]]:
    """What every kill left (kills.py); in memory, since a process that dies loses no disk."""
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork here, and a process a kill would take too long")
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with TemporaryDirectory(prefix="kills-", dir=fast) as place:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "tests.bundle.kills", place],
            cwd=ROOT,
            env={**os.environ, "BLEMISH_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_there_are_two_hundred(kills: list[dict[str, Any]]) -> None:
    """200 processes were killed before they had done, those of every operation among them."""
    assert sum(kill["killed"] for kill in kills) >= 200
    assert {kill["operation"] for kill in kills} == set(OPERATIONS)
    assert all(kill["killed"] for kill in kills if kill["step"])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_kill_leaves_the_old_version_or_the_new(
    kills: list[dict[str, Any]], operation: str
) -> None:
    """What is left loads and is, to the last bit of map, threshold, pictures and history, one."""
    mine = [kill for kill in kills if kill["operation"] == operation]
    wrong = [kill for kill in mine if kill["left"] not in ("old", "new")]
    assert not wrong
    assert {kill["left"] for kill in mine} == {"old", "new"}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_next_change_works_and_clears_up(kills: list[dict[str, Any]], operation: str) -> None:
    """After a kill the bundle can be changed as ever, and then nothing of the kill remains."""
    followed = [kill for kill in kills if kill["operation"] == operation and "next" in kill]
    assert len(followed) > 4
    assert [kill for kill in followed if kill["next"] != "clean"] == []
