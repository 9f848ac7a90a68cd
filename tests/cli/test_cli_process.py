"""The command as a process: exit statuses, pipes, Ctrl-C, and help."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-c", "from blemish.cli import main; main()"]


def blemish(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command run to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


def test_help_lists_every_verb() -> None:
    """`--help` names each verb with a sentence, and every verb has help of its own."""
    done = blemish("--help")
    assert done.returncode == 0
    for verb in ("fit", "inspect", "calibrate", "evaluate", "weights", "demo", "doctor"):
        assert f" {verb} " in done.stdout


def test_version_and_usage() -> None:
    """--version prints one line; an unknown verb is a usage error on stderr, status 2."""
    assert blemish("--version").stdout.startswith("blemish ")
    done = blemish("frobnicate")
    assert (done.returncode, done.stdout) == (2, "")
    assert "frobnicate" in done.stderr
    assert "Traceback" not in done.stderr


def test_statuses_and_streams(bundle: Path, parts: Path, tmp_path: Path) -> None:
    """A real process gives JSON lines on stdout, nothing on stderr, and the exit status."""
    good = parts / "train" / "good" / "000.png"
    done = blemish("inspect", bundle, good)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["verdict"] == "pass"
    done = blemish("inspect", bundle, good, tmp_path / "gone.png")
    assert done.returncode == 2
    assert [json.loads(line)["verdict"] for line in done.stdout.splitlines()] == ["pass", "error"]
    assert done.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_during_fit(parts: Path, tmp_path: Path) -> None:
    """Ctrl-C in the middle of fitting exits with 130 and leaves nothing half-written."""
    slow = (
        "import os, signal, sys, time\n"
        # A test run in a shell's background has SIGINT ignored, and so would have its children.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import blemish.imaging.view as view\n"
        "plain = view.View.see\n"
        "def slowly(self, *image):\n"
        "    os.write(1, b'started\\n')\n"  # in one piece: several threads read ahead
        "    time.sleep(0.5)\n"
        "    return plain(self, *image)\n"
        "view.View.see = slowly\n"
        "from blemish.cli import main\n"
        "main()\n"
    )
    arguments = ["fit", str(parts / "train" / "good"), "-o", str(tmp_path / "b"), "--size", "64"]
    process = subprocess.Popen(
        [sys.executable, "-c", slow, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "nothing half-written" in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
