"""One writer a bundle: the second waits, or is told."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from blemish.bundle import locked
from blemish.errors import BundleError

HOLDER = (
    "import sys\n"
    "from blemish.bundle import locked\n"
    "with locked(sys.argv[1]):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.readline()\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that looks like a bundle."""
    (tmp_path / "manifest.json").touch()
    return tmp_path


def holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock until it is written to."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_is_told(folder: Path) -> None:
    """While a process holds the lock another gets one sentence; once it is gone, the lock is."""
    with holder(folder) as process:
        with (
            pytest.raises(BundleError, match="is being changed by another process"),
            locked(folder, wait=0.1),
        ):
            pytest.fail("two processes hold the lock")
        process.kill()  # a process that dies must not leave the bundle locked
        process.wait()
    with locked(folder, wait=5):
        pass


def test_a_second_writer_waits(folder: Path) -> None:
    """A writer that comes second goes on when the first is done."""
    done: list[str] = []

    def second() -> None:
        with locked(folder, wait=10):
            done.append("second")

    with locked(folder):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        assert done == []
        done.append("first")
    thread.join(10)
    assert done == ["first", "second"]


def test_a_thread_may_enter_twice(folder: Path) -> None:
    """Who holds the lock may take it again, and keeps it until the outer block ends."""
    with locked(folder, wait=0.1):
        with locked(folder, wait=0.1):
            pass
        assert is_refused(folder)
    assert not is_refused(folder)


def is_refused(folder: Path) -> bool:
    """Whether another thread cannot have the lock now."""
    refused: list[BundleError] = []

    def attempt() -> None:
        try:
            with locked(folder, wait=0.1):
                pass
        except BundleError as error:
            refused.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join(10)
    return bool(refused)
