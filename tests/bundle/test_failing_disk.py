"""Full, read-only and failing disks: the old version stays whole, and one sentence says why."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from steps import Steps

from blemish import HETMM, Inspector
from blemish.bundle import pack_bundle
from blemish.demo.parts import render
from blemish.errors import BundleError


def part(seed: int) -> np.ndarray:
    """One good made-up part [32, 32, 3], uint8."""
    return np.ascontiguousarray(render(seed, size=64).image[::2, ::2])


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle, to be copied."""
    folder = tmp_path_factory.mktemp("shelf") / "part.blemish"
    inspector = Inspector(
        HETMM(sheets=None, backbone="filterbank", preset="paper"), size=32, device="cpu"
    )
    inspector.fit([part(seed) for seed in range(4)]).calibrate(false_alarm_rate=0.25).save(folder)
    return folder


@pytest.fixture
def folder(shelf: Path, tmp_path: Path) -> Path:
    """That bundle, to change."""
    return Path(shutil.copytree(shelf, tmp_path / "part.blemish"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        pytest.skip("there is no mount here; the limit on a file's size is tested instead")
    if done.returncode:
        pytest.skip("only root may mount a disk; the limit on a file's size is tested instead")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def said(folder: Path) -> tuple[Any, ...]:
    """What a bundle says, to the last bit, and the files it has."""
    inspector = Inspector.load(folder, device="cpu")
    result = inspector.inspect(part(99))
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.name != ".lock")
    return inspector.version, result.score, result.threshold, result.anomaly_map.tobytes(), files


def update(folder: Path) -> None:
    """Add a template."""
    with Inspector.changing(folder, device="cpu") as inspector:
        inspector.update(add=[part(50)])


@pytest.mark.parametrize("room", [0, 4, 16, 24, 40])
def test_a_full_disk(shelf: Path, small_disk: Path, room: int) -> None:
    """However much fits before the disk is full, the old version stays, and what fitted goes."""
    folder = Path(shutil.copytree(shelf, small_disk / "part.blemish"))
    Inspector.load(folder, device="cpu")
    (folder / ".lock").touch()
    before = said(folder)
    free = shutil.disk_usage(small_disk).free
    (small_disk / "filler").write_bytes(bytes(max(0, free - room * 1024)))
    with pytest.raises(BundleError, match=r"No space left on device.*nothing was changed"):
        update(folder)
    assert said(folder) == before
    (small_disk / "filler").unlink()
    update(folder)
    assert Inspector.load(folder, device="cpu").version == 2


def test_a_read_only_disk(shelf: Path, small_disk: Path, tmp_path: Path) -> None:
    """A bundle on a read-only disk inspects and packs; a change is refused in one sentence."""
    folder = Path(shutil.copytree(shelf, small_disk / "part.blemish"))
    before = said(folder)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert said(folder) == before
    with pytest.raises(BundleError, match=r"cannot be written \(Read-only file system\)"):
        update(folder)
    with pytest.raises(BundleError, match="could not be written"):
        pack_bundle(folder, small_disk / "part.zip")
    assert pack_bundle(folder, tmp_path / "part.zip").versions == 1


FILE_LIMIT = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_failing_disk import update
from blemish.errors import BundleError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    update(Path(sys.argv[1]))
except BundleError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit on a file's size there")
def test_a_file_that_cannot_be_written_whole(folder: Path) -> None:
    """Where a file stops growing half-way, as on a full disk, the old version stays."""
    before = said(folder)
    done = subprocess.run(
        [sys.executable, "-c", FILE_LIMIT, str(folder), str(Path(__file__).parent), "3000"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "could not be written (File too large); nothing was changed" in done.stdout, done.stderr
    assert said(folder) == before


def test_a_failure_at_any_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the disk at any step of a change is one sentence, and the bundle is old or new.

    It is new, and said to be, only where the disk fails after the manifest is in place.
    """
    counter = Steps()
    with pytest.MonkeyPatch.context() as counting:
        counter.install(counting.setattr)
        update(Path(shutil.copytree(folder, folder.parent / "first")))
    kept = Path(shutil.copytree(folder, folder.parent / "kept"))
    old, new = said(folder), said(folder.parent / "first")
    for step in range(1, len(counter.done) + 1):
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        kind = (errno.ENOSPC, errno.EIO, errno.EROFS)[step % 3]

        def fail(kind: int = kind) -> None:
            raise OSError(kind, os.strerror(kind))

        message = ""
        with pytest.MonkeyPatch.context() as failing:
            Steps(step, fail).install(failing.setattr)
            try:
                update(folder)
            except BundleError as error:
                message = str(error)
        left = said(folder)
        where = f"step {step}, {counter.done[step - 1]}: {message}"
        if "nothing was changed" in message:
            assert left == old, where
        else:
            assert left[:4] == new[:4], where
            assert not message or "was written, but the disk reports an error" in message, where
        update(folder) if left == old else None
        assert Inspector.load(folder, device="cpu").version == 2, where


TWO = """
import sys
from blemish import Inspector
sys.path.insert(0, sys.argv[2])
from test_failing_disk import part
print("ready", flush=True)
sys.stdin.readline()
for seed in range(int(sys.argv[3]), int(sys.argv[3]) + 4):
    with Inspector.changing(sys.argv[1], device="cpu") as inspector:
        inspector.update(add=[part(seed)], recalibrate=False, by=sys.argv[3])
"""


def test_two_processes_update_one_bundle(folder: Path) -> None:
    """Each of their eight changes is a version of its own, and none is lost."""
    first, here = Inspector.load(folder, device="cpu"), str(Path(__file__).parent)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, str(folder), here, start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for start in ("50", "60")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("go\n", timeout=120)
    assert [process.returncode for process in processes] == [0, 0]
    made = Inspector.load(folder, device="cpu")
    assert [entry.version for entry in made.history] == list(range(1, 10))
    assert sorted(entry.by for entry in made.history[1:]) == ["50"] * 4 + ["60"] * 4
    first.update(add=[part(s) for s in (*range(50, 54), *range(60, 64))], recalibrate=False)
    assert {t.id for t in made.templates} == {t.id for t in first.templates}
