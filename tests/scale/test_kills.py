"""Stopped in the middle, by SIGKILL, a dead worker or Ctrl-C: gone on with, each image once."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from blemish.scale import score

from .scale_tools import command, positions, repeated

COUNT = 200  # images, in parts of five
PARTS = 40


@pytest.fixture
def source(parts: Path, tmp_path: Path) -> Path:
    """A list of 200 images."""
    return repeated(sorted((parts / "test").rglob("*.png")), COUNT, tmp_path / "list.txt")


def begin(quick_bundle: Path, source: Path, out: Path, workers: int) -> subprocess.Popen[str]:
    """`blemish score` in a process of its own, returned when three parts are there."""
    process = command(
        "score", quick_bundle, source, "-o", out, "--rows-per-part", 5, "--num-workers", workers,
        "--device", "cpu",
    )  # fmt: skip
    end = time.monotonic() + 60
    while len(list(out.glob("part-*"))) < 3:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "nothing was scored in a minute"
        time.sleep(0.01)
    return process


def go_on(quick_bundle: Path, source: Path, out: Path) -> list[int]:
    """Finish here; the parts that this took."""
    done: list[int] = []
    score(
        quick_bundle, source, out, rows_per_part=5, workers=1, device="cpu",
        told=lambda report: done.append(report["part"]),
    )  # fmt: skip
    return done


def numbers(out: Path) -> set[int]:
    """The parts that are there."""
    return {int(path.name.split("-")[1]) for path in out.glob("part-*")}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_sigkill_in_the_middle(
    quick_bundle: Path, source: Path, tmp_path: Path, workers: int
) -> None:
    """After kill -9 the same command scores the rest, nothing that was there, each image once."""
    out = tmp_path / "out"
    process = begin(quick_bundle, source, out, workers)
    scoring = children(process.pid)
    process.kill()
    process.communicate()
    wait_until_still(out)
    assert not [pid for pid in scoring if b"spawn_main" in cmdline(pid)], "a worker goes on alone"
    there = numbers(out)
    assert 3 <= len(there) < PARTS
    times = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert set(go_on(quick_bundle, source, out)) == set(range(PARTS)) - there
    assert positions(out) == list(range(COUNT))
    assert all(path.stat().st_mtime_ns == then for path, then in times.items())
    assert not list(out.glob(".part*"))


def wait_until_still(out: Path) -> None:
    """Workers of a killed command end by themselves; wait until no file changes any more."""
    state, seen = None, {path.name for path in out.iterdir()}
    while state != seen:
        time.sleep(1.0)
        state, seen = seen, {path.name for path in out.iterdir()}


@pytest.mark.slow
def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(
    quick_bundle: Path, source: Path, tmp_path: Path
) -> None:
    """SIGINT to all processes, as a terminal sends it: status 130, a sentence, no half file."""
    out = tmp_path / "out"
    process = begin(quick_bundle, source, out, 2)
    for child in children(process.pid):
        os.kill(child, signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "the same command goes on with the rest" in said
    assert not list(out.glob(".part*"))
    assert 3 <= len(numbers(out)) < PARTS
    go_on(quick_bundle, source, out)
    assert positions(out) == list(range(COUNT))


@pytest.mark.slow
def test_a_worker_that_dies_is_one_sentence(
    quick_bundle: Path, source: Path, tmp_path: Path
) -> None:
    """A worker killed as if for want of memory ends the run with status 2 and what to do."""
    out = tmp_path / "out"
    process = begin(quick_bundle, source, out, 2)
    scoring = [child for child in children(process.pid) if b"spawn_main" in cmdline(child)]
    os.kill(scoring[-1], signal.SIGKILL)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 2, said
    assert "Traceback" not in said
    assert "a worker process died" in said
    assert "--num-workers" in said
    go_on(quick_bundle, source, out)
    assert positions(out) == list(range(COUNT))


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if not path.is_file():
        pytest.skip("this system does not tell a process's children")
    return [int(child) for child in path.read_text().split()]


def cmdline(pid: int) -> bytes:
    """How a process was started."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""  # it has ended
