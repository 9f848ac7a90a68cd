"""The command `blemish score`: statuses, the summary, and one sentence for what cannot be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from blemish import scale

from .scale_tools import SOURCES, positions


@pytest.fixture
def images(parts: Path, tmp_path: Path) -> Path:
    """Four good images."""
    return Path(shutil.copytree(parts / "test" / "good", tmp_path / "images"))


def test_status_0_although_parts_fail(cli, quick_bundle: Path, parts: Path, tmp_path: Path) -> None:
    """Batch scoring reports and does not gate: failing parts leave the status 0."""
    outcome = cli(
        "score", quick_bundle, parts / "test", "-o", tmp_path / "out", "--num-workers", 1,
        "--json", "-",
    )  # fmt: skip
    summary = json.loads(outcome.stdout)
    assert outcome.status == 0, outcome.stderr
    assert summary["verdicts"]["fail"] > 0
    assert summary == json.loads((tmp_path / "out" / "_summary.json").read_text())
    assert list(summary) == [
        "out", "inspector", "version", "bundle_sha256", "images", "verdicts", "parts", "scored",
        "seconds", "images_per_second", "engine", "workers",
    ]  # fmt: skip


def test_status_2_for_unreadable_images(
    cli, quick_bundle: Path, images: Path, tmp_path: Path
) -> None:
    """Some image could not be read: status 2, also when asked again, and a line for people."""
    (images / "bad.png").write_text("no image")
    arguments = ["score", quick_bundle, images, "-o", tmp_path / "out", "--num-workers", 1]
    outcome = cli(*arguments)
    assert outcome.status == 2
    assert "Scored 5 images" in outcome.stderr
    assert "1 error" in outcome.stderr
    again = cli(*arguments)
    assert again.status == 2
    assert "Scored 0 images" in again.stderr
    assert "(5 were there)" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--engine", "spark"], "must be one of local, ray"),
        (["--num-workers", "0"], "'--num-workers'"),
        (["--rows-per-part", "0"], "'--rows-per-part'"),
        (["--json", "no/such/folder.json"], "does not exist"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_options_that_cannot_be(
    cli, bundle: Path, images: Path, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    """A wrong option is one sentence and status 2, and scores nothing."""
    given = [*arguments] if "--num-workers" in arguments else [*arguments, "--num-workers", 1]
    outcome = cli("score", bundle, images, "-o", tmp_path / "out", *given)
    assert outcome.status == 2
    assert sentence in outcome.stderr
    assert not list((tmp_path / "out").glob("part-*"))
    # Nothing was scored yet, so the slip does not bind the next try.
    assert cli("score", bundle, images, "-o", tmp_path / "out", "--num-workers", 1).status == 0


def test_ctrl_c_says_how_to_go_on(
    cli, quick_bundle: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle: status 130, what is done is kept, and the same command ends it."""
    arguments = [
        "score", quick_bundle, images, "-o", tmp_path / "out", "--num-workers", 1,
        "--rows-per-part", 1,
    ]  # fmt: skip
    score = scale.score

    def interrupted(*given: Any, **options: Any) -> Any:
        seen: list[Any] = []

        def told(report: Any) -> None:
            seen.append(report)
            if len(seen) == 2:
                raise KeyboardInterrupt

        return score(*given, told=told, **options)

    monkeypatch.setattr(scale, "score", interrupted)
    outcome = cli(*arguments)
    assert outcome.status == 130
    assert "the same command goes on with the rest" in outcome.stderr
    assert positions(tmp_path / "out") == [0, 1]
    monkeypatch.setattr(scale, "score", score)
    assert cli(*arguments).status == 0
    assert positions(tmp_path / "out") == [0, 1, 2, 3]


def test_a_full_disk_is_one_sentence(
    cli, quick_bundle: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full in the middle: one sentence, whole parts or none, and going on later."""
    arguments = [
        "score", quick_bundle, images, "-o", tmp_path / "out", "--num-workers", 1,
        "--rows-per-part", 2,
    ]  # fmt: skip
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 6:  # the list and plan, then in the middle of the parts
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    outcome = cli(*arguments)
    assert outcome.status == 2
    assert "could not be written (No space left on device)" in outcome.stderr
    monkeypatch.setattr(os, "fsync", real)
    there = len(list((tmp_path / "out").glob("part-*")))
    assert there < 2
    assert not list((tmp_path / "out").glob(".part-*"))
    assert cli(*arguments).status == 0
    assert positions(tmp_path / "out") == [0, 1, 2, 3]


def test_a_read_only_folder_is_one_sentence(
    cli, quick_bundle: Path, images: Path, tmp_path: Path
) -> None:
    """Results that cannot be written because a file is in the way are told before any scoring."""
    (tmp_path / "file").write_text("")
    outcome = cli("score", quick_bundle, images, "-o", tmp_path / "file" / "out")
    assert outcome.status == 2
    assert "cannot be written (Not a directory)" in outcome.stderr


@pytest.mark.parametrize(("package", "engine"), [("pyarrow", "local"), ("ray", "ray")])
def test_a_missing_package_is_one_sentence(
    cli,
    quick_bundle: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    engine: str,
) -> None:
    """Without Parquet, or without Ray where it is asked for: what to install, and nothing begun."""
    monkeypatch.setitem(sys.modules, package, None)
    outcome = cli(
        "score", quick_bundle, images, "-o", tmp_path / "out", "--engine", engine,
        "--num-workers", 1,
    )  # fmt: skip
    assert outcome.status == 2
    assert f"'{package}'" in outcome.stderr
    assert "pip install 'blemish[scale]'" in outcome.stderr
    assert not (tmp_path / "out" / "_plan.json").exists()


def test_workers_with_an_exported_bundle_need_no_torch(quick_bundle: Path, images: Path) -> None:
    """Scoring by graphs imports nothing of the learning floor."""
    code = f"""
import sys
for name in ("torch", "timm", "torchvision", "sklearn"):
    sys.modules[name] = None
from blemish.scale import score
print(score({str(quick_bundle)!r}, {str(images)!r}, "out", workers=1).verdicts["pass"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=images.parent, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
    )  # fmt: skip
    assert done.stdout.strip() == "4", done.stderr
