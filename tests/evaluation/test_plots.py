"""The evaluation's plots: which files, what is in them, and that they can be made again."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.errors import MissingExtraError, ParameterError
from blemish.evaluation.datasets import Sample
from blemish.evaluation.plots import _edges, write_plots
from blemish.evaluation.results import Case, CategoryResult, FalseAlarms

MAP = np.zeros((2, 2), np.float16)
NAMES = {"figures", "board.scores", "board.roc", "panel.scores", "panel.roc"}


def _case(label: int, score: float) -> Case:
    image = Path(f"{score}.png")
    return Case(
        image, label, "x", score, None, "review", 1.0, MAP, (2, 2), Sample(image, label, "x")
    )


def _result(name: str = "board") -> CategoryResult:
    cases = [_case(0, 0.1 * i) for i in range(8)] + [_case(1, 0.5 + 0.1 * i) for i in range(8)]
    return CategoryResult(
        category=name,
        n_train=10,
        n_test=len(cases),
        figures={"image_auroc": 0.95, "pixel_auroc": None, "aupro": 0.9},
        fit_seconds=1.0,
        latency_ms={"p50": 1.0, "p95": 2.0},
        peak_rss_mb=None,
        false_alarms=FalseAlarms(0.1, 0.65, 0.65, 8, 1, 8, 2),
        cases=tuple(cases),
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The plots of two categories."""
    return write_plots(tmp_path_factory.mktemp("plots") / "new", [_result(), _result("panel")])


def test_each_chart_is_there_as_png_and_svg(files: list[Path]) -> None:
    """Scores and ROC of each category and one comparison, every one in both formats."""
    assert {path.name for path in files} == {f"{n}.{s}" for n in NAMES for s in ("png", "svg")}
    assert set(files[0].parent.iterdir()) == set(files)


def test_the_pngs_are_pictures_for_print(files: list[Path]) -> None:
    """Each PNG has at least 600 pixels a side or so, a white ground, and something on it."""
    for path in files:
        if path.suffix == ".png":
            picture = np.asarray(cv2.imread(str(path)))
            assert picture.shape[1] >= 600
            assert (picture[0, 0] == 255).all()
            assert 0.005 < (picture < 200).any(axis=2).mean() < 0.5


def test_the_svgs_are_well_formed_and_carry_their_letters(files: list[Path]) -> None:
    """Each SVG parses, has no text that needs a font, and no picture from outside."""
    for path in files:
        if path.suffix == ".svg":
            tags = [element.tag.split("}")[1] for element in ElementTree.parse(path).iter()]
            assert "path" in tags
            assert "text" not in tags
            assert "image" not in tags


def test_the_same_results_give_the_same_bytes(files: list[Path], tmp_path: Path) -> None:
    """A second run writes identical files: no date, no random ids."""
    for path in write_plots(tmp_path, [_result()]):
        assert path.read_bytes() == (files[0].parent / path.name).read_bytes()


def test_names_stay_inside_the_folder_and_apart(tmp_path: Path) -> None:
    """Odd category names become plain file names; two that would collide get a number."""
    lone = [dataclasses.replace(_result(n), cases=(_case(0, 0.5),)) for n in ("../$x", "..:$x")]
    names = {path.name for path in write_plots(tmp_path / "in", lone) if path.suffix == ".svg"}
    assert names == {"_x.scores.svg", "_x-2.scores.svg", "figures.svg"}
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_protocols_with_levels_have_a_curve_each(tmp_path: Path) -> None:
    """Shots and corruptions are drawn, one seed or several, figures that are null left out."""
    protocol = {
        "seeds": {"seeds": [0, 1], "mean": {}, "std": {}},
        "shots": {"unit": "images", "points": [_point(1, 0.7, 0.1), _point(4, 0.9, 0.02)]},
        "corruption": {
            "blur": {"unit": "$px$", "points": [_point(None, 0.9, None), _point(2, 0.8, None)]},
            "jpeg": {"unit": "quality", "points": [_point(None, None, None)]},
        },
    }
    good = dataclasses.replace(_result(), cases=())
    names = {p.name for p in write_plots(tmp_path, [good], protocol) if p.suffix == ".png"}
    assert names == {"protocol.shots.png", "protocol.blur.png", "protocol.jpeg.png"}
    drawn, empty = (
        (np.asarray(cv2.imread(str(tmp_path / f"protocol.{name}.png"))) < 200).any(axis=2).sum()
        for name in ("blur", "jpeg")
    )
    assert drawn > empty


def _point(level: int | None, mean: float | None, deviation: float | None) -> dict[str, object]:
    return {
        "level": level,
        "mean": {"image_auroc": mean, "aupro": None},
        "std": {"image_auroc": deviation, "aupro": None},
    }


def test_without_both_labels_there_is_no_roc(tmp_path: Path) -> None:
    """One category of good parts alone: its scores, no ROC, nothing to compare."""
    result = _result()
    good = tuple(case for case in result.cases if case.label == 0)
    alone = dataclasses.replace(result, cases=good, false_alarms=None)
    assert [p.name for p in write_plots(tmp_path, [alone])] == [
        "board.scores.png",
        "board.scores.svg",
    ]


NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(st.lists(NUMBERS, min_size=1, max_size=20), NUMBERS)
def test_no_bar_stands_on_both_sides_of_the_threshold(scores: list[float], limit: float) -> None:
    """Every score lies in a bin, and scores above the limit never share one with those below."""
    edges = _edges(scores, limit)
    counts = np.histogram(scores, edges)[0]
    above = edges[:-1] > limit
    assert counts.sum() == len(scores)
    assert counts[above].sum() == sum(score > limit for score in scores)


def test_what_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """No result, and a file where the folder should be, are named with the option."""
    file = tmp_path / "file"
    file.write_text("")
    for folder, results, message in (
        (tmp_path, [], "no result"),
        (file, [_result()], "this is a file"),
        (file / "in", [_result()], "cannot be written"),
    ):
        with pytest.raises(ParameterError, match=message):
            write_plots(folder, results)


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says which extra to install, and nothing is written."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"blemish\[train\]"):
        write_plots(tmp_path / "new", [_result()])
    assert not (tmp_path / "new").exists()
