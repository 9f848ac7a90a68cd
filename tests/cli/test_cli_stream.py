"""`blemish inspect --watch`, `--video` and `--camera`: a line a part, and how a stream ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from blemish import streams
from blemish.cli._streaming import JsonLines, stopped_by
from blemish.errors import BlemishError

resource = pytest.importorskip("resource", reason="Windows has neither limits nor such signals")

DEADLINE = 100.0  # s: processes are frozen now and then while something else is measured


@pytest.fixture(autouse=True)
def _ctrl_c_is_not_ignored() -> Iterator[None]:
    """As it is in a test run in a shell's background; all handlers are as before at the end."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def passing(parts: Path) -> Path:
    """An image that surely passes: one of the templates."""
    return parts / "train" / "good" / "000.png"


@pytest.fixture
def failing(passing: Path, tmp_path: Path) -> Path:
    """The same part with a foreign patch."""
    with Image.open(passing) as opened:
        image = np.array(opened)
    image[20:40, 20:40] = (255, 0, 255)
    Image.fromarray(image).save(tmp_path / "patched.png")
    return tmp_path / "patched.png"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder to watch."""
    (tmp_path / "line").mkdir()
    return tmp_path / "line"


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file so far."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, or fail."""
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def while_watching(target: Path, *steps: Callable[[], object], number: int) -> None:
    """In the background, one step after each further line in `target`, and then the signal."""

    def run() -> None:
        try:
            for count, step in enumerate(steps, start=1):
                eventually(lambda count=count: len(lines(target)) >= count)
                step()
            eventually(lambda: len(lines(target)) > len(steps))
        finally:
            assert signal.getsignal(number) not in (signal.SIG_DFL, signal.default_int_handler)
            os.kill(os.getpid(), number)

    threading.Thread(target=run).start()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_watch_until_a_signal(
    cli, bundle: Path, passing: Path, failing: Path, folder: Path, tmp_path: Path, number: int
) -> None:
    """Parts are judged as they appear; Ctrl-C and SIGTERM end with the results' own status."""
    target, out = tmp_path / "results.jsonl", tmp_path / "out"
    shutil.copy(passing, folder / "1.png")
    while_watching(target, lambda: shutil.copy(failing, folder / "2.png"), number=number)
    options = ("--watch", folder, "--settle", "0.05", "--json", target, "--out", out)
    outcome = cli("inspect", bundle, *options)
    assert outcome.status == 1
    assert [(part["image"], part["verdict"]) for part in lines(target)] == [
        (str(folder / "1.png"), "pass"),
        (str(folder / "2.png"), "fail"),
    ]
    assert sorted(path.name for path in out.iterdir()) == ["1.png", "2.png"]
    assert outcome.stdout == ""
    assert f"inspecting {folder}; stop with Ctrl-C" in outcome.stderr
    assert "2 images: 1 pass, 1 fail" in outcome.stderr
    stages = [line.split()[0] for line in outcome.stderr.splitlines() if " p95 " in line]
    assert stages[:4] == ["wait", "read", "queue", "inspect"]


def test_status_of_all_pass_and_of_an_error(
    cli, bundle: Path, passing: Path, folder: Path, tmp_path: Path, monkeypatch
) -> None:
    """Ended by Ctrl-C, the status is 0 when all passed, and 2 when a file was unreadable."""
    soon = partial(streams.WatchedFolder, timeout=0.1)
    monkeypatch.setattr(streams, "WatchedFolder", soon)
    shutil.copy(passing, folder / "1.png")
    for content, status in ((passing.read_bytes(), 0), (b"no image", 2)):
        target = tmp_path / f"{status}.jsonl"
        while_watching(
            target,
            lambda content=content: (folder / "2.png").write_bytes(content),
            number=signal.SIGINT,
        )
        outcome = cli("inspect", bundle, "--watch", folder, "--settle", "0", "--json", target)
        assert outcome.status == status
        (folder / "2.png").unlink()
    assert lines(target)[1]["error"]["code"] == "image_format"


def test_new_only(cli, bundle: Path, passing: Path, folder: Path, tmp_path: Path) -> None:
    """--new-only leaves out what was in the folder before."""
    shutil.copy(passing, folder / "old.png")
    target = tmp_path / "results.jsonl"

    def add_until_seen() -> None:
        count = 0
        while not lines(target):
            shutil.copy(passing, folder / f"new{count}.png")
            count += 1
            time.sleep(0.3)

    adding = threading.Thread(target=add_until_seen)
    adding.start()
    while_watching(target, number=signal.SIGINT)
    cli("inspect", bundle, "--watch", folder, "--new-only", "--settle", "0", "--json", target)
    adding.join(DEADLINE)
    assert all("/new" in part["image"] for part in lines(target))


def test_ctrl_c_in_a_process(bundle: Path, passing: Path, folder: Path) -> None:
    """A real process gives a line a part at once, and ends with 0 and no word at Ctrl-C."""
    code = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from blemish.cli import main\n"
        "main()\n"
    )
    shutil.copy(passing, folder / "1.png")
    command = [sys.executable, "-c", code, "inspect", str(bundle), "--watch", str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        shutil.copy(passing, folder / "2.png")
        second = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=DEADLINE)
    assert [first["image"], second["image"]] == [str(folder / name) for name in ("1.png", "2.png")]
    assert (process.returncode, rest, said) == (0, "", "")


# Where lines go --------------------------------------------------------------------------


@pytest.fixture
def video(parts: Path, tmp_path: Path) -> Path:
    """Five good parts as a Motion JPEG."""
    path = tmp_path / "parts.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 64))
    for good in sorted((parts / "train" / "good").iterdir())[:5]:
        writer.write(cv2.imread(str(good)))
    writer.release()
    return path


def test_video(cli, bundle: Path, video: Path, tmp_path: Path) -> None:
    """--video gives each frame's verdict as JSON, --every some frames', --out their overlays."""
    outcome = cli("inspect", bundle, "--video", video)
    found = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert [part["image"] for part in found] == [f"{video}#{n}" for n in range(5)]
    assert outcome.stderr == ""
    assert outcome.status == int(any(part["verdict"] != "pass" for part in found))
    out = tmp_path / "out"
    outcome = cli("inspect", bundle, "--video", video, "--every", "2", "--json", "-", "--out", out)
    assert [json.loads(line)["image"][-1] for line in outcome.stdout.splitlines()] == list("024")
    assert sorted(path.name for path in out.iterdir()) == [f"parts.avi#{n}.png" for n in (0, 2, 4)]


def test_video_that_is_cut_off(cli, bundle: Path, video: Path) -> None:
    """What could be read of it is printed, then one sentence and status 2."""
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    outcome = cli("inspect", bundle, "--video", video)
    assert outcome.status == 2
    assert 0 < len(outcome.stdout.splitlines()) < 5
    assert "cut off after" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


@pytest.mark.skipif(bool(list(Path("/dev").glob("video*"))), reason="this machine has a camera")
def test_camera_that_is_not_there(cli, bundle: Path) -> None:
    """--camera 0 on a machine without one is one sentence and status 2."""
    outcome = cli("inspect", bundle, "--camera", "0")
    assert (outcome.status, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith("blemish: camera 0 cannot be opened; ")


def test_json_is_added_to(cli, bundle: Path, video: Path, tmp_path: Path) -> None:
    """A stream's --json adds to the file, and begins a new line after one that was broken off."""
    target = tmp_path / "results.jsonl"
    target.write_text('{"image": "old"}\n{"image": "bro')
    cli("inspect", bundle, "--video", video, "--json", target)
    text = target.read_text().splitlines()
    assert text[:2] == ['{"image": "old"}', '{"image": "bro']
    assert [json.loads(line)["image"] for line in text[2:]] == [f"{video}#{n}" for n in range(5)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk(cli, bundle: Path, video: Path) -> None:
    """Lines that cannot be written stop the stream with one sentence and status 2."""
    outcome = cli("inspect", bundle, "--video", video, "--json", "/dev/full", "--quiet")
    assert (outcome.status, outcome.stdout) == (2, "")
    assert outcome.stderr == (
        "blemish: /dev/full could not be written (No space left on device); no part is in it\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_behind_stdout() -> None:
    """So do lines that stdout does not take, without a word more from Python at its end."""
    code = (
        "from blemish.cli import app, main\n"
        "from blemish.cli._streaming import JsonLines\n"
        "app.command('write')(lambda: JsonLines(None).write({'image': '1.png'}))\n"
        "main()\n"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, "write"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == (
        "blemish: the standard output could not be written (No space left on device); "
        "no part is in it\n"
    )


def test_last_part_is_named_and_whole(tmp_path: Path) -> None:
    """When the disk fills up, the error names the last part, and the file ends with its line."""
    target = tmp_path / "results.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with JsonLines(target) as log:
            for number in range(2):
                log.write({"image": f"{number}.png", "verdict": "pass"})
            with pytest.raises(BlemishError, match=r"the last part in it is 1\.png"):
                log.write({"image": "2.png", "verdict": "x" * 50})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [part["image"] for part in lines(target)] == ["0.png", "1.png"]
    assert target.read_text().endswith("}\n")


# What is asked for -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give images or folders, or one of --watch, --video and --camera"),
        (["--watch", "{tmp}", "--camera", "0"], "one of --watch, --video and --camera"),
        (["{tmp}", "--watch", "{tmp}"], "one of --watch, --video and --camera"),
        (["--watch", "{tmp}/none"], "does not exist"),
        (["--watch", "{tmp}/file"], "this is a file"),
        (["--watch", "{tmp}", "--settle", "-1"], "settle is -1"),
        (["--watch", "{tmp}", "--out", "{tmp}/out"], "lies in the watched folder"),
        (["--watch", "{tmp}", "--every", "2"], "--every goes with --video"),
        (["--video", "{tmp}/none.avi"], "does not exist"),
        (["--video", "{tmp}/file", "--every", "0"], "every is 0"),
        (["--video", "{tmp}/file", "--new-only"], "--new-only goes with --watch"),
        (["--video", "{tmp}/file", "--resume"], "--resume goes with --watch"),
        (["--watch", "{tmp}", "--resume"], "goes on where --json FILE ends"),
        (["--watch", "{tmp}", "--resume", "--json", "-"], "goes on where --json FILE ends"),
        (["--watch", "{tmp}", "--resume", "--new-only"], "give one"),
        (["--camera", "0", "--settle", "1"], "--settle goes with --watch"),
        (["{tmp}/file", "--reconnect"], "--reconnect goes with --camera"),
    ],
)
def test_what_does_not_go_together(cli, tmp_path: Path, options: list[str], said: str) -> None:
    """Options that cannot work are refused in one line, before the bundle is even loaded."""
    (tmp_path / "file").touch()
    outcome = cli("inspect", "no.blemish", *(option.format(tmp=tmp_path) for option in options))
    assert (outcome.status, outcome.stdout) == (2, "")
    assert said in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


def test_second_signal_acts_as_always() -> None:
    """The first Ctrl-C asks for the end, the second interrupts."""
    stopped = threading.Event()

    def twice() -> None:
        with stopped_by(stopped.set):
            os.kill(os.getpid(), signal.SIGINT)
            assert stopped.wait(DEADLINE)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(DEADLINE)

    with pytest.raises(KeyboardInterrupt):
        twice()


def test_ignored_signals_stay_ignored() -> None:
    """What nohup or a shell's background has set to be ignored is not caught."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stopped_by(lambda: None):
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)
