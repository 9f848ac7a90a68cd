"""bench paper as a person at a shell meets it: cells run, kept, not run twice, or why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blemish.demo.parts import write_dataset
from blemish.train.paper import fig14

OPTIONS = (
    "dim=16", "depth=1", "heads=2", "fdrm_dim=8", "fdrm_depth=1", "fdrm_heads=2", "grid=16",
    "epochs=1", "precision=fp32",
)  # fmt: skip
TINY = [text for option in OPTIONS for text in ("--set", option)]
SMALL = ("--size", 32, "--device", "cpu", "--backbone", "random:resnet18", "--preset", "small")


@pytest.fixture(scope="module")
def mvtec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up parts under the name of one of MVTec AD's categories."""
    root = tmp_path_factory.mktemp("mvtec")
    write_dataset(root / "bottle", good=4, test_good=2, per_defect=1, size=64)
    return root


def lines(path: Path) -> list[dict]:
    """The lines of a results file."""
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_cells_are_run_kept_and_not_run_again(cli, mvtec: Path, tmp_path: Path) -> None:
    """Table 4 trains once for three maps; a rerun and Table 1 take what is there."""
    results, target = tmp_path / "paper.jsonl", tmp_path / "paper.json"
    common = (
        "--data", f"mvtec={mvtec}", *SMALL, *TINY, "--category", "bottle", "--results", results,
        "--json", target,
    )  # fmt: skip
    first = cli("bench", "paper", "table4", *common)
    assert first.status == 0, first.stderr
    assert first.stderr.count("running") == 3
    kept = lines(results)
    assert [line["row"] for line in kept] == ["euclidean", "cosine", "dual"]
    assert len({line["result"]["fit_seconds"] for line in kept}) == 1
    assert len({line["figures"]["pixel_auroc"] for line in kept}) == 3
    for line in kept:
        assert line["checkpoint"] == "last"
        assert line["work"]["seed"] == 0
        assert line["work"]["parameters"]["calibration_share"] == 0
        assert {"cpu", "commit", "versions", "date"} <= line["environment"].keys()
        assert line["figures"]["image_auroc"] == pytest.approx(
            100 * line["result"]["image_auroc"], abs=0.001
        )
    assert kept[2]["paper"] == {"image_auroc": 100.0, "pixel_auroc": 98.5}
    assert "/ 98.50" in first.stdout

    again = cli("bench", "paper", "table4", *common)
    assert "running" not in again.stderr
    assert again.stdout == first.stdout
    assert lines(results) == kept

    other = cli("bench", "paper", "table1", *common)
    assert "running" not in other.stderr
    copied = lines(results)[3]
    assert copied["same_as"] == ["table4", "dual", "bottle"]
    assert copied["figures"] == kept[2]["figures"]
    document = json.loads(target.read_text())
    assert [(row["row"], row["category"]) for row in document["rows"]] == [("TFA-Net", "bottle")]
    assert document["summaries"]["table1"][0]["n"] == 1


def test_hetmm_row(cli, mvtec: Path, tmp_path: Path) -> None:
    """Both template sets run without training; other datasets say what they need."""
    target = tmp_path / "paper.json"
    done = cli(
        "bench", "paper", "hetmm", "--data", f"mvtec={mvtec}", "--size", 32, "--device", "cpu",
        "--backbone", "filterbank", "--json", target,
    )  # fmt: skip
    assert done.status == 0, done.stderr
    document = json.loads(target.read_text())
    rows = {row["row"]: row for row in document["rows"]}
    assert set(rows) == {"MVTec AD, all sheets", "MVTec AD, 60 sheets"}
    assert all(row["fps"] > 0 and row["image_auroc"] is not None for row in rows.values())
    reasons = {found["reason"] for found in document["not_run"]}
    assert "no VisA at hand: give --data visa=DIR" in reasons
    assert "the folder given for MVTec AD does not have it" in reasons
    assert "no VisA at hand: give --data visa=DIR (24 cells: candle" in done.stdout


def test_templates_of_fig14_are_other_images(
    cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first and the last training image are templates of a training each; a range is given."""
    monkeypatch.setattr(fig14, "TEMPLATES", 2)
    write_dataset(tmp_path / "screw", good=3, test_good=2, per_defect=1, size=64)
    target = tmp_path / "paper.json"
    done = cli(
        "bench", "paper", "fig14", "--data", f"mvtec={tmp_path}", *SMALL, *TINY,
        "--category", "screw", "--json", target, "--quiet", "--run-dir", tmp_path / "runs",
    )  # fmt: skip
    assert done.status == 0, done.stderr
    document = json.loads(target.read_text())
    assert len(document["rows"]) == 2
    (spread,) = document["summaries"]["fig14"]
    assert [row["templates"] for row in document["rows"]] == [[0], [2]]
    assert spread["ours"]["pixel_auroc"] >= 0
    assert spread["paper"] == {"image_auroc": 0.9, "pixel_auroc": 0.21}
    assert len(list((tmp_path / "runs").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["table9"], "there is no 'table9' here; choose from: table1"),
        (["table1", "--category", "candle"], "--category candle"),
        (["table1", "--preset", "huge"], "no preset 'huge'"),
        (["table1", "--set", "epoch=3"], "has no 'epoch'"),
        (["table3", "--data", "mvtec"], "write it as NAME=DIR"),
        (["table1", "--results", "no/such/folder/x.jsonl"], "folder that exists"),
    ],
)
def test_refusals(cli, arguments: list[str], sentence: str) -> None:
    """What cannot work is refused with one sentence before any work."""
    refused = cli("bench", "paper", *arguments)
    assert refused.status == 2
    assert sentence in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_failed_cell_is_an_error_at_the_end(cli, mvtec: Path, tmp_path: Path) -> None:
    """A training that cannot begin fails its cell; the document still stands, the status is 2."""
    target = tmp_path / "paper.json"
    done = cli(
        "bench", "paper", "table1", "--data", f"mvtec={mvtec}", *SMALL, *TINY,
        "--set", "templates=99", "--category", "bottle", "--json", target,
    )  # fmt: skip
    assert done.status == 2
    assert "1 of 1 cells failed, first table1 / TFA-Net / bottle" in done.stderr
    document = json.loads(target.read_text())
    assert document["rows"] == []
    assert document["not_run"][0]["failed"]
    assert "failed: " in done.stdout
