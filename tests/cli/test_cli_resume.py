"""`blemish inspect --watch --resume`: a stream that is killed goes on where its file ends."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from blemish.cli._resuming import Judged
from blemish.errors import ParameterError
from blemish.streams import WatchedFolder
from blemish.streams.source import moment

pytest.importorskip("resource", reason="Windows has no such signals")

DEADLINE = 100.0  # s: the machine may be busy
# The command with an inspector that takes 5 ms, and no PyTorch to import.
VICTIM = """
import sys, time
from pathlib import Path
import numpy as np
import typer
from blemish.cli import _streaming as streaming
from blemish.imaging import read_samples
from blemish.verdict import Inspection

class Stub:
    def raster(self, image):
        return read_samples(image)

    def inspect(self, image):
        time.sleep(0.005)
        return Inspection(1.0, 0.5, 2.0, "pass", np.zeros((4, 4), np.float32))

folder, target = map(Path, sys.argv[1:])
wanted = streaming.Wanted([], folder, 0.0, False, True, None, None, None, False)
source = streaming.source_of(wanted, None, target, quiet=False)
try:
    streaming.run(Stub(), source, target, None, quiet=False)
except typer.Exit as done:
    sys.exit(done.exit_code)
"""


def write(path: Path, written: float) -> None:
    """A small image that was written at this time."""
    cv2.imwrite(str(path), np.full((8, 8, 3), 99, np.uint8))
    os.utime(path, (written, written))


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of results that can be read."""
    found = []
    for line in path.read_text().splitlines(keepends=True) if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, or fail."""
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


@contextmanager
def running(folder: Path, target: Path, how: signal.Signals) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process of its own, ended by a signal."""
    command = [sys.executable, "-c", VICTIM, str(folder), str(target)]
    said = target.with_suffix(".said")
    with said.open("w") as stderr, subprocess.Popen(command, stderr=stderr) as process:
        try:
            yield process
        finally:
            process.send_signal(how)
            process.wait(DEADLINE)


def test_killed_at_any_moment_each_part_has_one_line(tmp_path: Path) -> None:
    """Whatever was judged is not judged again, and what was not, is: new and replaced files too."""
    folder, target = tmp_path / "line", tmp_path / "results.jsonl"
    folder.mkdir()
    for number in range(60):
        write(folder / f"{number:02d}.png", 1e9 + number / 7)  # not whole milliseconds
    rng = random.Random(3)
    for _ in range(3):
        before = len(whole_lines(target))
        with running(folder, target, signal.SIGKILL):
            eventually(lambda before=before: len(whole_lines(target)) > before + rng.randint(2, 9))
    target.write_bytes(target.read_bytes()[:-5])  # a line that the disk never got whole
    judged = len(whole_lines(target))
    write(folder / "new.png", 1e9 + 100)
    write(folder / "00.png", 1e9 + 200)  # another part under a name that was judged
    with running(folder, target, signal.SIGINT) as process:
        eventually(lambda: "00.png" in whole_lines(target)[-1]["image"])
    assert process.returncode == 0
    said = target.with_suffix(".said").read_text()
    assert f"{judged} parts are in {target} already" in said
    found = Counter((part["image"], part["time"]) for part in whole_lines(target))
    assert set(found.values()) == {1}
    assert Counter(Path(image).name for image, _ in found) == {
        **{f"{number:02d}.png": 1 for number in range(1, 60)},
        "00.png": 2,
        "new.png": 1,
    }


def test_only_whole_lines_of_parts_count(tmp_path: Path) -> None:
    """A file of other things, of broken lines or none at all has judged nothing."""
    target, part = tmp_path / "results.jsonl", tmp_path / "a.png"
    assert len(Judged(target)) == 0
    line = json.dumps({"image": str(part), "verdict": "error", "time": moment(12.5)})
    for text in (
        "",
        "\n\n",
        "[1]\nnull\n{}\n\xff\n",
        '{"image": 3, "time": 4}\n',
        line,
        "[" * 9999,
    ):
        target.write_text(text, encoding="latin-1")
        assert len(Judged(target)) == 0
    target.write_text(f'{{"image": "bro\n{line}\n')
    judged = Judged(target)
    assert judged.has(part, 12.5)
    assert judged.has(tmp_path / "x" / ".." / "a.png", 12.5)
    assert not judged.has(part, 12.502)
    assert not judged.has(tmp_path / "b.png", 12.5)
    with pytest.raises(ParameterError, match=r"--resume: .* cannot be read"):
        Judged(tmp_path)


def test_a_folder_out_of_reach_at_the_start_is_asked_when_it_is_back(tmp_path: Path) -> None:
    """What was judged is left out also when the first look at the folder fails."""
    folder = tmp_path / "share"
    folder.mkdir()
    for number in range(4):
        write(folder / f"{number}.png", 1e9 + number)
    asked: list[str] = []

    def judged(path: Path, written: float) -> bool:
        asked.append(path.name)
        return written < 1e9 + 2

    source = WatchedFolder(folder, settle=0.0, poll=0.01, judged=judged)
    names, fails = source._names, [True]

    def failing() -> Iterator[str]:
        if fails.pop() if fails else False:
            raise OSError("gone")
        yield from names()

    source._names = failing  # type: ignore[method-assign]
    frames = iter(source)
    assert [Path(next(frames).name).name for _ in range(2)] == ["2.png", "3.png"]
    source.close()
    assert sorted(asked) == ["0.png", "1.png", "2.png", "3.png"]
    assert source.judged is None
