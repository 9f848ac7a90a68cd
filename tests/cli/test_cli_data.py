"""`blemish data check`, as a person at a shell meets it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

GOOD, DEFECTIVE = 347, 52


def encoded(kind: str, value: int) -> bytes:
    """An image file of 6x4 px of one value."""
    buffer = io.BytesIO()
    Image.new("L", (6, 4), value).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def sdd(tmp_path: Path) -> Path:
    """KolektorSDD with as many surfaces as the real one: 347 good and 52 defective."""
    image = encoded("JPEG", 90)
    labels = [encoded("BMP", 255)] * DEFECTIVE + [encoded("BMP", 0)] * GOOD
    for i, label in enumerate(labels):
        folder = tmp_path / f"kos{i // 8 + 1:02}"
        folder.mkdir(exist_ok=True)
        (folder / f"Part{i % 8}.jpg").write_bytes(image)
        (folder / f"Part{i % 8}_label.bmp").write_bytes(label)
    return tmp_path


def test_complete_is_zero(cli, sdd: Path) -> None:
    """A complete dataset exits with 0 and shows expected and found side by side."""
    outcome = cli("data", "check", "--dataset", "kolektorsdd", "--root", sdd, "--deep")
    assert (outcome.status, outcome.stderr) == (0, "")
    lines = [line.split() for line in outcome.stdout.splitlines()]
    assert ["kolektorsdd", "good", "347", "347"] in lines
    assert ["kolektorsdd", "defective", "52", "52"] in lines
    assert outcome.stdout.splitlines()[-1] == "kolektorsdd: complete"


def test_incomplete_is_one(cli, sdd: Path) -> None:
    """Something missing exits with 1; the first files are named, the rest counted."""
    for part in range(7):
        (sdd / "kos20" / f"Part{part}_label.bmp").unlink()
    outcome = cli("data", "check", "--dataset", "kolektorsdd", "--root", sdd)
    assert outcome.status == 1
    assert "good            347    340  <--" in outcome.stdout
    assert "kolektorsdd: 7 files are missing:" in outcome.stdout
    assert "Part4_label.bmp" in outcome.stdout
    assert "Part5_label.bmp" not in outcome.stdout
    assert "and 2 more (all with --json)" in outcome.stdout
    assert outcome.stdout.splitlines()[-1] == "kolektorsdd: not complete"


def test_json(cli, sdd: Path) -> None:
    """--json gives the counts, every missing and every unreadable file."""
    (sdd / "kos20" / "Part1_label.bmp").unlink()
    (sdd / "kos20" / "Part2.jpg").write_bytes(b"")
    outcome = cli("data", "check", "--dataset", "kolektorsdd", "--root", sdd, "--deep", "--json")
    assert outcome.status == 1
    found = json.loads(outcome.stdout)
    assert (found["dataset"], found["complete"]) == ("kolektorsdd", False)
    assert "347 good and 52 defective" in found["source"]
    (category,) = found["categories"]
    assert category["rows"] == [
        {"images": "*/good", "expected": 347, "found": 346},
        {"images": "*/defective", "expected": 52, "found": 52},
    ]
    assert category["missing_files"] == [str(sdd / "kos20" / "Part1_label.bmp")]
    assert [entry["file"] for entry in category["unreadable"]] == [str(sdd / "kos20" / "Part2.jpg")]


def test_own_parts(cli, parts: Path) -> None:
    """One's own folder has nothing to compare with: dashes, and 0."""
    outcome = cli("data", "check", "--dataset", "folder", "--root", parts, "--deep")
    assert outcome.status == 0
    assert ["folder", "train/good", "-", "20"] in [
        line.split() for line in outcome.stdout.splitlines()
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--dataset", "nothing", "--root", "."], "choose from: mvtec, loco, visa"),
        (["--dataset", "mvtec", "--root", "nowhere"], "nowhere is not a folder"),
        (["--dataset", "kolektorsdd", "--root", "kos01"], "which has"),
        (["--dataset", "mvtec"], "--root"),
    ],
)
def test_error_is_two(
    cli, sdd: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    """What cannot be checked exits with 2 and one sentence on stderr."""
    monkeypatch.chdir(sdd)
    outcome = cli("data", "check", *options)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert said in " ".join(outcome.stderr.split())


def test_evaluate_refuses_pairs(cli, tmp_path: Path) -> None:
    """DeepPCB has nothing common to learn from: evaluate says so and what to use."""
    folder = tmp_path / "PCBData" / "group00041"
    for name in ("00041/00041200_test.jpg", "00041/00041200_temp.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded("JPEG", 90))
    (folder / "00041_not").mkdir()
    (folder / "00041_not" / "00041200.txt").write_text("1 2 5 6 1\n")
    outcome = cli("evaluate", "--dataset", "deeppcb", "--root", tmp_path)
    assert outcome.status == 2
    assert "blemish compare" in outcome.stderr
