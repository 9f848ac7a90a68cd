"""`blemish inspect`: JSON by the contract, exit statuses, and bad images beside good ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.bundle import read_manifest

KEYS = [
    "image",
    "score",
    "p_value",
    "threshold",
    "review_threshold",
    "verdict",
    "reason",
    "regions",
    "inspector",
    "version",
    "latency_ms",
]


def lines(text: str) -> list[dict[str, Any]]:
    """One JSON object a line."""
    return [json.loads(line) for line in text.splitlines()]


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


def test_json_is_the_contract(cli, bundle: Path, failing: Path) -> None:
    """A result has the contract's keys in its order, and a failing part says where."""
    outcome = cli("inspect", bundle, failing)
    (result,) = lines(outcome.stdout)
    assert list(result) == KEYS
    assert (result["image"], result["verdict"]) == (str(failing), "fail")
    assert (result["inspector"], result["version"]) == ("board", 1)
    assert result["score"] > result["threshold"]
    assert 0 < result["p_value"] <= 0.05
    assert list(result["regions"][0]) == ["box", "area", "peak", "template"]
    assert result["regions"][0]["template"] in {
        record.id for record in read_manifest(bundle).templates
    }
    assert len(result["regions"][0]["box"]) == 4


def test_memory_limit(cli, bundle: Path, failing: Path) -> None:
    """--memory changes no score, and is refused where it is no limit."""
    (free, limited) = (
        json.loads(cli("inspect", bundle, failing, "--json", "-", *options).stdout)
        for options in ((), ("--memory", 1))
    )
    assert limited["score"] == free["score"]
    assert cli("inspect", bundle, failing, "--memory", 0).status == 2


def test_exit_status(cli, bundle: Path, passing: Path, failing: Path, tmp_path: Path) -> None:
    """0 when all pass, 1 when some fail, 2 when some cannot be read, the worst counting."""
    missing = tmp_path / "missing.png"
    assert cli("inspect", bundle, passing).status == 0
    assert cli("inspect", bundle, passing, failing).status == 1
    assert cli("inspect", bundle, failing, missing, passing).status == 2


def test_uncalibrated_is_review(cli, parts: Path, passing: Path, tmp_path: Path) -> None:
    """Without a calibration nothing is promised: review, nulls, and exit status 1."""
    from blemish import HETMM, Inspector

    paths = sorted((parts / "train" / "good").iterdir())[:2]
    Inspector(HETMM(), size=64, device="cpu").fit(paths).save(tmp_path / "b")
    outcome = cli("inspect", tmp_path / "b", passing)
    (result,) = lines(outcome.stdout)
    assert outcome.status == 1
    assert (result["verdict"], result["p_value"], result["threshold"]) == ("review", None, None)
    assert (result["regions"], result["reason"]) == ([], "not calibrated")


def test_a_part_in_review_says_why_and_where(
    cli, bundle: Path, failing: Path, tmp_path: Path
) -> None:
    """Between the thresholds: review, the reason, a region, an outline, and exit status 1."""
    (before,) = lines(cli("inspect", bundle, failing).stdout)
    out = tmp_path / "out"
    cli("inspect", bundle, failing, "--out", out / "fail", "--quiet")
    above, below = before["score"] + 0.1, before["score"] - 0.01
    cli("calibrate", bundle, "--threshold", above, "--review-threshold", below)
    outcome = cli("inspect", bundle, failing, "--out", out / "review")
    (result,) = lines(outcome.stdout)
    assert (outcome.status, result["verdict"]) == (1, "review")
    assert result["reason"] == "above the review threshold"
    assert (result["threshold"], result["review_threshold"]) == (above, below)
    assert (result["score"], result["p_value"]) == (before["score"], before["p_value"])
    assert [region["peak"] for region in result["regions"]] == [before["score"]]
    with Image.open(out / "review" / "patched.png") as picture:
        drawn = np.array(picture.convert("RGB")).astype(int)
    assert (np.abs(drawn - (255, 40, 60)).sum(-1) < 90).any()  # the outline's colour


def test_bad_images_do_not_stop_good_ones(cli, bundle: Path, passing: Path, tmp_path: Path) -> None:
    """In a folder with every kind of bad file, each gets an error object and the good verdicts."""
    data = passing.read_bytes()
    folder = tmp_path / "mixed"
    (folder / "deeper").mkdir(parents=True)
    bad = {
        "cut.png": (data[:400], "image_truncated"),
        "empty.png": (b"", "image_empty"),
        "text.jpg": (b"not an image", "image_format"),
        "page.webp": (b"<html></html>", "image_format"),
    }
    for name, (content, _) in bad.items():
        (folder / name).write_bytes(content)
    frames = [Image.fromarray(np.full((9, 9, 3), v, np.uint8)) for v in (0, 255)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    for name in ("a.png", "deeper/b.png"):
        (folder / name).write_bytes(data)
    (folder / "notes.txt").write_text("not for us")

    outcome = cli("inspect", bundle, folder, tmp_path / "gone.png")
    found = {Path(result["image"]).name: result for result in lines(outcome.stdout)}
    assert outcome.status == 2
    assert set(found) == {*bad, "moving.gif", "a.png", "b.png", "gone.png"}
    assert found["a.png"]["verdict"] == found["b.png"]["verdict"] == "pass"
    codes = {name: code for name, (_, code) in bad.items()}
    for name, code in {
        **codes,
        "moving.gif": "image_animated",
        "gone.png": "image_missing",
    }.items():
        assert list(found[name]) == ["image", "verdict", "error"]
        assert found[name]["verdict"] == "error"
        assert found[name]["error"]["code"] == code
        assert name in found[name]["error"]["message"]


def test_overlays(cli, bundle: Path, failing: Path, passing: Path, tmp_path: Path) -> None:
    """--out writes one picture an image, of the image's size, at its place below its folder."""
    out = tmp_path / "out"
    cli("inspect", bundle, failing, passing.parent, "--out", out)
    names = {str(path.relative_to(out)) for path in out.rglob("*.png")}
    assert names == {"patched.png", *(f"{n:03d}.png" for n in range(20))}
    with Image.open(out / "patched.png") as picture:
        assert picture.size == (64, 64)


def test_json_file(cli, bundle: Path, passing: Path, failing: Path, tmp_path: Path) -> None:
    """--json FILE gets the lines whole, replacing an old file; stdout stays empty."""
    target = tmp_path / "results.jsonl"
    target.write_text("old")
    outcome = cli("inspect", bundle, passing, failing, "--json", target)
    assert [result["verdict"] for result in lines(target.read_text())] == ["pass", "fail"]
    assert outcome.stdout == ""
    assert "2 images: 1 pass, 1 fail" in outcome.stderr
    assert [path.name for path in tmp_path.iterdir() if "jsonl" in path.name] == [target.name]


def test_quiet_when_piped(cli, bundle: Path, passing: Path) -> None:
    """Without a terminal, stdout is JSON alone and stderr is empty: no bars, no colours."""
    outcome = cli("inspect", bundle, passing)
    assert outcome.stderr == ""
    assert "\x1b" not in outcome.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--json", "{tmp}"], "this is a folder"),
        (["--json", "{tmp}/nowhere/x.json"], "does not exist"),
        (["--out", "{tmp}/file"], "this is a file"),
    ],
)
def test_unwritable_targets(
    cli, bundle: Path, passing: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    """A target that cannot be written is refused before the work, in one line."""
    (tmp_path / "file").write_text("mine")
    outcome = cli("inspect", bundle, passing, *(o.format(tmp=tmp_path) for o in options))
    assert outcome.status == 2
    assert said in outcome.stderr
    assert outcome.stderr.startswith("blemish: ")
    assert outcome.stdout == ""
    assert (tmp_path / "file").read_text() == "mine"


def test_bad_bundles(cli, passing: Path, bundle: Path, tmp_path: Path) -> None:
    """A missing, foreign or damaged bundle, and a folder without images, exit with 2."""
    (tmp_path / "empty").mkdir()
    assert "does not exist" in cli("inspect", tmp_path / "none.blemish", passing).stderr
    assert "is not a bundle" in cli("inspect", tmp_path / "empty", passing).stderr
    assert "holds no image" in cli("inspect", bundle, tmp_path / "empty").stderr
    next(bundle.glob("templates-*")).write_bytes(b"")
    outcome = cli("inspect", bundle, passing)
    assert (outcome.status, "templates-" in outcome.stderr) == (2, True)
