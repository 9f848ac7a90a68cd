"""`blemish fit --method tfanet`, `explain` and `bench paper table3`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from blemish.train.tfanet import table3
from blemish.train.tfanet.presets import PRESETS
from blemish.train.tfanet.table3 import PRINTED, measure_fps

SIZE = 64
OPTIONS = (
    "dim=16", "depth=1", "heads=2", "fdrm_dim=8", "fdrm_depth=1", "fdrm_heads=2", "grid=16",
    "epochs=2", "precision=fp32",
)  # fmt: skip


@pytest.fixture
def tiny_bundle(cli: Callable[..., Any], parts: Path, tmp_path: Path) -> Path:
    """A tiny TFA-Net of the made-up parts, made by the command line."""
    settings = [text for option in OPTIONS for text in ("--set", option)]
    bundle = tmp_path / "tiny.blemish"
    done = cli(
        "fit", parts / "train" / "good", "-o", bundle, "--method", "tfanet", "--size", SIZE,
        "--device", "cpu", "--set", "calibration_share=0.5", *settings,
    )  # fmt: skip
    assert done.status == 0, done.stderr
    return bundle


def test_fit_inspect_and_explain(
    cli: Callable[..., Any], tiny_bundle: Path, parts: Path, tmp_path: Path
) -> None:
    """The three commands work one after the other, and each picture is a PNG of the view's size."""
    image = sorted((parts / "test" / "good").iterdir())[0]
    seen = cli("inspect", tiny_bundle, image, "--json", "-")
    assert json.loads(seen.stdout)["score"] > 0
    folder = tmp_path / "pictures"
    assert cli("explain", tiny_bundle, image, "-o", folder, "--device", "cpu").status == 0
    names = {path.name.removeprefix(f"{image.stem}.") for path in folder.iterdir()}
    expected = "input features reconstruction error cosine anomaly attention sheet"
    assert names == {f"{name}.png" for name in expected.split()}
    for path in folder.glob("*.features.png"):
        assert cv2.imread(str(path)).shape == (SIZE, SIZE, 3)


def test_fit_refuses_sheets_and_unknown_options(
    cli: Callable[..., Any], parts: Path, tmp_path: Path
) -> None:
    """An option of the other method, or of none, is refused before any work."""
    common = ("fit", parts / "train" / "good", "-o", tmp_path / "x.blemish", "--method", "tfanet")
    refused = cli(*common, "--sheets", "5")
    assert refused.status == 2
    assert "keeps no sheets" in refused.stderr
    unknown = cli(*common, "--set", "epoch=3")
    assert unknown.status == 2
    assert "epochs" in unknown.stderr


def test_explain_refuses_a_file_as_folder(
    cli: Callable[..., Any], bundle: Path, tmp_path: Path
) -> None:
    """Pictures do not go into a file's place."""
    (tmp_path / "file").write_text("")
    refused = cli("explain", bundle, "anything.png", "-o", tmp_path / "file")
    assert refused.status == 2
    assert "give a folder" in refused.stderr


def test_table3_counts_what_the_paper_prints(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """MACs and parameters of all four backbones equal the printed ones; FPS are what was timed."""
    monkeypatch.setattr(table3, "measure_fps", lambda *_, **__: (2.0, 3.0))
    target = tmp_path / "table3.json"
    done = cli("bench", "paper", "table3", "--device", "cpu", "--json", target)
    assert done.status == 0
    document = json.loads(target.read_text())
    assert {row["backbone"] for row in document["rows"]} == set(PRINTED)
    for row in document["rows"]:
        printed = PRINTED[row["backbone"]]
        assert (row["macs_g"], row["params_m"]) == (printed.macs_g, printed.params_m)
        assert (row["fps_published"], row["fps_ours"]) == (2.0, 3.0)
        assert row["paper"]["fps"] == printed.fps
        assert row["cached_macs_g"] < row["true_macs_g"]
        assert row["weights"] == "random"


@pytest.mark.slow
def test_frames_a_second_are_of_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a tiny transformer both ways give a rate; which is faster is the benchmark's to say."""
    tiny = PRESETS["release"].with_overrides(
        {"dim": 16, "depth": 1, "heads": 2, "fdrm_dim": 8, "fdrm_depth": 1, "fdrm_heads": 2}
    )
    monkeypatch.setitem(PRESETS, "release", tiny)
    published, ours = measure_fps("mobilenet_v2", torch.device("cpu"), repeats=1)
    assert published > 0
    assert ours > 0
