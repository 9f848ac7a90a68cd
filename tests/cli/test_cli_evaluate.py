"""evaluate as a person at a shell, or a CI job, meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FIGURES = [
    "image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_ap", "pixel_f1max",
    "aupro", "aupro_005",
]  # fmt: skip
SMALL = ("--size", 32, "--device", "cpu", "--sheets", 4)


def test_evaluate(cli, parts: Path, tmp_path: Path) -> None:
    """evaluate prints a table and writes every figure of the contract, null or not."""
    target = tmp_path / "figures.json"
    outcome = cli(
        "evaluate", "--dataset", "mvtec", "--root", parts, *SMALL, "--json", target,
        "--false-alarm-rate", 0.05,
    )  # fmt: skip
    assert outcome.status == 0
    assert "image AUROC" in outcome.stdout
    assert "of 4 good parts rejected" in outcome.stdout
    document = json.loads(target.read_text())
    assert list(document) == ["dataset", "method", "config", "categories", "mean", "protocol"]
    (category,) = document["categories"]
    wanted = {"category", "n_train", "n_test", *FIGURES, "fit_seconds", "latency_ms", "peak_rss_mb"}
    assert wanted <= category.keys()
    assert set(category["latency_ms"]) == {"p50", "p95", "p99"}
    assert (category["n_train"], category["n_test"]) == (20, 9)
    assert category["calibrate_seconds"] > 0
    assert document["mean"] == {name: category[name] for name in FIGURES}
    assert category["pixel_auroc"] > 0.5
    assert sum(kind["n"] for kind in category["defects"].values()) == 5
    assert "cases" not in category
    assert document["protocol"] == {}


def test_evaluate_under_a_floor(cli, parts: Path, tmp_path: Path) -> None:
    """--fail-under exits with 1 and says what fell short, after everything was written.

    The page has the protocols and, for the four worst of each kind, what the method saw.
    """
    target, page = tmp_path / "figures.json", tmp_path / "page.html"
    options = ("evaluate", "--dataset", "mvtec", "--root", parts, *SMALL, "--quiet")
    outcome = cli(
        *options, "--cases", "--json", target, "--report", page, "--plots", tmp_path / "plots",
        "--fail-under", "image_auroc=0", "--fail-under", "board:aupro=1", "--shots", "1,4",
    )  # fmt: skip
    assert outcome.status == 1
    document = json.loads(target.read_text())
    (category,) = document["categories"]
    value = category["aupro"]
    assert outcome.stderr == f"blemish: aupro of board is {value:.6g}, below 1\n"
    assert len(category["cases"]) == 9
    assert {case["label"] for case in category["cases"]} == {0, 1}
    text = page.read_text()
    assert text.count("Evidence 1") == 8
    assert "cannot be explained" not in text
    assert "Shots: by training images." in text
    names = {path.name for path in (tmp_path / "plots").glob("*.svg")}
    assert names == {"board.scores.svg", "board.roc.svg", "protocol.shots.svg"}


def test_evaluate_protocols(cli, parts: Path) -> None:
    """Each protocol has its table for people, with the spread over seeds."""
    options = ("evaluate", "--dataset", "mvtec", "--root", parts, *SMALL, "--quiet")
    plan = (
        "--seeds", "2", "--seed", 7, "--shots", "1,2", "--noise", "0.4", "--corrupt", "blur=2",
        "--continual", 1,
    )  # fmt: skip
    outcome = cli(*options, *plan)
    assert outcome.status == 0
    for said in ("2 seeds", "shots: training images", "noise: share", "continual:", "blur: sigma"):
        assert said in outcome.stdout
    assert " ± " in outcome.stdout


def test_evaluate_protocols_as_json(cli, parts: Path) -> None:
    """With --json - the document is all that stdout holds; seeds may be a list."""
    outcome = cli(
        "evaluate", "--dataset", "mvtec", "--root", parts, *SMALL, "--quiet", "--json", "-",
        "--seeds", "4,2", "--shots", "1", "--shots", "3",
    )  # fmt: skip
    document = json.loads(outcome.stdout)
    assert document["config"]["seed"] == 4
    assert list(document["protocol"]) == ["seeds", "shots"]
    assert document["protocol"]["seeds"]["seeds"] == [4, 2]
    assert [row["level"] for row in document["protocol"]["shots"]["points"]] == [1, 3]
    (category,) = document["protocol"]["seeds"]["categories"]
    first = category["runs"][0]
    assert first["image_auroc"] == document["categories"][0]["image_auroc"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--dataset", "nonsense", "--root", "."], "nonsense"),
        (["--dataset", "mvtec", "--root", "no-such-folder"], "no-such-folder"),
        (["--dataset", "mvtec"], "--root"),
    ],
)
def test_evaluate_refuses(cli, options: list[str], said: str) -> None:
    """An unknown dataset, a missing folder and a missing option exit with 2."""
    outcome = cli("evaluate", *options)
    assert (outcome.status, said in outcome.stderr) == (2, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seeds", "many"], "--seeds many: give numbers"),
        (["--seeds", "0"], "give at least one seed"),
        (["--seeds", "1,1,-2"], "from 0 upward"),
        (["--shots", "50"], "board has 20 training images"),
        (["--shots", "few"], "--shots few: give numbers"),
        (["--noise", "1.5"], "between 0 and 1"),
        (["--continual", "30"], "30 more steps cannot divide"),
        (["--continual-start", "3"], "belongs to --continual"),
        (["--corrupt", "fog"], "choose from brightness, blur"),
        (["--fail-under", "auroc=0.9"], "--fail-under auroc=0.9"),
        (["--fail-under", "cap:aupro=0.9"], "no such category is evaluated; choose from board"),
        (["--report", "."], "this is a folder"),
        (["--report", "no/where.html"], "does not exist"),
        (["--plots", "README.md"], "this is a file"),
    ],
)
def test_evaluate_refuses_before_any_work(
    cli, parts: Path, options: list[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A protocol that cannot be run, or a page that cannot be written, is refused at once."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("mine")
    outcome = cli("evaluate", "--dataset", "mvtec", "--root", parts, *SMALL, *options)
    assert outcome.status == 2
    assert said in " ".join(outcome.stderr.split())
    assert outcome.stdout == ""


def test_evaluate_names_the_missing_package(
    cli, parts: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without matplotlib --plots is refused before the work, with the line that installs it."""
    monkeypatch.setattr("blemish.cli._evaluation.find_spec", lambda name: None)
    outcome = cli(
        "evaluate", "--dataset", "mvtec", "--root", parts, *SMALL, "--plots", tmp_path / "plots"
    )
    assert outcome.status == 2
    assert "pip install 'blemish[train]'" in outcome.stderr
