"""The evaluation report: one file, no network, every figure as it is, the worst cases first."""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.errors import ImageError, ParameterError
from blemish.evaluation.datasets import Sample, load
from blemish.evaluation.protocol import Learned, score
from blemish.evaluation.report import Explanations, explain_with, write_report
from blemish.evaluation.report.cases import BEST, WORST, choose, scale_of, strip_of
from blemish.evaluation.report.charts import roc_svg
from blemish.evaluation.report.curves import limit_of, operating_point, roc_of
from blemish.evaluation.report.tables import figures as figure_table
from blemish.evaluation.results import Case, CategoryResult, FalseAlarms, mean_figures
from blemish.imaging import encode_png
from blemish.inspector import Inspector

NASTY = "<img src=x onerror=alert('1')> & \"more\""
VOID = {"meta", "img"}
DASH = "\N{EN DASH}"
CONFIG = {"method": "hetmm", "sheets": 20, "levels": (1, 2, 3), "size": 256, "note": NASTY}
FIGURES = {
    "image_auroc": 0.87654,
    "image_ap": 0.9,
    "image_f1max": 0.8,
    "pixel_auroc": 0.98765,
    "pixel_ap": 0.5,
    "pixel_f1max": 0.55,
    "aupro": 0.91,
    "aupro_005": 0.7,
}
THRESHOLD = 1.5
SCORES = {"good": (0.5, 0.9, 1.6, 0.7, 0.6, 0.8), "scratch": (3.0, 1.2, 2.0), "hole": (2.5, 1.7)}


def _case(folder: Path, defect: str, number: int, score: float, side: int = 48) -> Case:
    """A case with a real image, a mask one pixel wide, and a map whose maximum is the score."""
    folder = folder / defect
    folder.mkdir(parents=True, exist_ok=True)
    image, mask = folder / f"{number}.png", folder / f"{number}_mask.png"
    noise = np.random.default_rng(number).integers(0, 255, (side, side, 3), np.uint8)
    image.write_bytes(encode_png(noise))
    truth = np.zeros((side, side, 3), np.uint8)
    truth[:, side // 2] = 255
    mask.write_bytes(encode_png(truth))
    anomaly = np.full((16, 16), score / 4, np.float16)
    anomaly[8, 8] = score
    label = int(defect != "good")
    masks = (mask,) if label else ()
    return Case(
        image=image,
        label=label,
        defect=defect,
        score=score,
        p_value=0.25,
        verdict="fail" if score > THRESHOLD else "pass",
        latency_ms=12.5,
        anomaly_map=anomaly,
        image_size=(side, side),
        sample=Sample(image, label, defect, masks),
    )


def _result(folder: Path, name: str = "board", side: int = 48) -> CategoryResult:
    cases = tuple(
        _case(folder / "pictures", defect, number, score, side)
        for defect, scores in SCORES.items()
        for number, score in enumerate(scores)
    )
    return CategoryResult(
        category=name,
        n_train=40,
        n_test=len(cases),
        figures=dict(FIGURES),
        fit_seconds=3.21,
        latency_ms={"p50": 12.3, "p95": 45.6, "p99": 78.9},
        peak_rss_mb=321.0,
        false_alarms=FalseAlarms(
            0.05, THRESHOLD, THRESHOLD, good=6, rejected=1, defective=5, escaped=1
        ),
        calibrate_seconds=1.25,
        defects={"hole": {"n": 2, "image_auroc": 0.75, "pixel_auroc": None, "aupro": 0.625}},
        cases=cases,
    )


def _bare(result: CategoryResult) -> CategoryResult:
    """The same, not calibrated, without pixel figures, and with a name that means mischief."""
    figures = {name: v if name.startswith("image") else None for name, v in FIGURES.items()}
    cases = tuple(
        dataclasses.replace(
            case, sample=dataclasses.replace(case.sample, masks=()), verdict="review"
        )
        for case in result.cases
    )
    return dataclasses.replace(
        result,
        category=NASTY,
        figures=figures,
        cases=cases,
        false_alarms=None,
        notes=("no pixel figures: there is no mask",),
    )


class _Reader(HTMLParser):
    """Collects tags and cells, and checks that every tag is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if "style" in self.open:
            return
        self.words.append(data)
        if self.open and self.open[-1] in {"td", "th"}:
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def attributes(self, tag: str, name: str) -> list[str]:
        return [values[name] or "" for found, values in self.tags if found == tag]


Written = Callable[..., tuple[str, _Reader]]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Writes a report of these results and reads it back: its source, and what a browser sees."""

    def write(*results: CategoryResult, **more) -> tuple[str, _Reader]:
        path = tmp_path / "deep" / "report.html"
        write_report(
            path,
            dataset="made-up",
            results=results,
            config=CONFIG,
            mean=mean_figures(results),
            **more,
        )
        source = path.read_text(encoding="utf-8")
        reader = _Reader()
        reader.feed(source)
        assert reader.open == []
        return source, reader

    return write


@pytest.fixture
def result(tmp_path: Path) -> CategoryResult:
    """A calibrated category with one escape and one false alarm."""
    return _result(tmp_path)


def test_the_file_needs_nothing_but_itself(result, written) -> None:
    """No script, no address but embedded data and links inside, and a policy against fetching."""
    source, page = written(result, _bare(result))
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "form", "base"}
    assert all(src.startswith("data:image/") for src in page.attributes("img", "src"))
    assert all(href.startswith("#") for href in page.attributes("a", "href"))
    assert "default-src 'none'" in source
    assert not re.search(r"https?://", source.replace("http://www.w3.org/2000/svg", ""))
    assert "url(" not in source
    assert "@import" not in source


def test_tables_pictures_and_links_are_for_everyone(result, written) -> None:
    """Every picture has words, every table a caption and scopes, every id one place."""
    _, page = written(result, _bare(result))
    assert all(alt.strip() for alt in page.attributes("img", "alt"))
    captions = sum(tag == "caption" for tag, _ in page.tags)
    assert captions == sum(tag == "table" for tag, _ in page.tags) >= 8
    assert set(page.attributes("th", "scope")) == {"row", "col"}
    ids = [values["id"] for _, values in page.tags if values.get("id")]
    assert len(ids) == len(set(ids))
    assert {href[1:] for href in page.attributes("a", "href")} <= set(ids)
    svgs = sum(tag == "svg" and values.get("role") == "img" for tag, values in page.tags)
    assert svgs == 4
    assert "Histogram of scores" in page.text
    assert "ROC curve with an area of 0.8765" in page.text


def test_names_from_outside_are_text(result, written, tmp_path) -> None:
    """A category, a file, a setting, a note and an error that hold markup are shown as text."""
    nasty = _case(tmp_path / "pictures", NASTY.replace("/", ""), 1, 9.0)
    lost = dataclasses.replace(nasty, image=tmp_path / NASTY / "2.png", score=1.0)
    changed = dataclasses.replace(
        _bare(result), cases=(*result.cases, nasty, lost), notes=(f"see {NASTY}",)
    )
    source, page = written(changed)
    assert "<img src=x" not in source
    assert all("onerror" not in values for _, values in page.tags)
    assert page.text.count(NASTY) >= 6


def test_the_tables_hold_the_results_figures(result, written) -> None:
    """Each figure stands in the table in percent to two decimals, the mean of both below."""
    other = dataclasses.replace(
        result, category="panel", figures={name: v / 2 for name, v in FIGURES.items()}
    )
    _, page = written(result, other)
    assert page.rows[0][:3] == ["Category", "Image AUROC", "Image AP"]
    rows = {row[0]: row[1:] for row in page.rows[1:4]}
    assert rows["board"] == [f"{100 * value:.2f}" for value in FIGURES.values()]
    assert rows["panel"] == [f"{50 * value:.2f}" for value in FIGURES.values()]
    assert rows["Mean"] == [f"{75 * value:.2f}" for value in FIGURES.values()]
    assert ["board", "40", "11", "3.2", "1.2", "12.3", "45.6", "78.9", "321"] in page.rows
    assert ["board", "1 of 6", "1 of 5", "1.5", "5 %"] in page.rows
    assert ["levels", "[1, 2, 3]"] in page.rows
    assert any(row[0] == "torch" and re.match(r"\d+\.", row[1]) for row in page.rows if row)


def test_the_defects_table_counts_each_kind(result, written) -> None:
    """A kind's images, failures, median score and AUROC; figures of a breakdown where given."""
    _, page = written(result)
    assert ["good", "6", "1", "0.75", DASH, DASH, DASH] in page.rows
    assert ["hole", "2", "2", "2.1", "75.00", DASH, "62.50"] in page.rows
    # Of 18 pairs of a scratch and a good part, the good one at 1.6 outscores the scratch at 1.2.
    assert ["scratch", "3", "2", "2", f"{100 * 17 / 18:.2f}", DASH, DASH] in page.rows


def test_what_cannot_be_computed_is_a_dash_with_its_reason(result, written) -> None:
    """A null figure is a dash, never a zero, and the note says why there is none."""
    _, page = written(_bare(result))
    row = next(row for row in page.rows if row[0] == NASTY and len(row) == 1 + len(FIGURES))
    assert row[4:] == [DASH] * 5
    assert "no pixel figures: there is no mask" in page.text
    assert figure_table([_bare(result)], {}).rows[0][4:] == [DASH] * 5


def test_the_threshold_is_drawn_and_named_for_what_it_is(result, written) -> None:
    """A dashed line at the calibrated threshold; without one, at the best F1 and labelled so."""
    source, page = written(result)
    assert source.count('class="limit"') == 1
    assert "threshold 1.5" in page.text
    assert "at most 5 % of good parts fail" in page.text
    source, page = written(_bare(result))
    assert source.count('class="limit"') == 1
    assert "nothing is promised" in page.text
    assert 'id="threshold"' not in source


def test_the_worst_come_first_and_mistakes_are_named(result, written) -> None:
    """The escape leads the defects, the false alarm the good parts; each case is shown once."""
    source, page = written(result)
    names = re.findall(r"<h4>(.*?)</h4>", source)
    assert names[:4] == ["scratch/1.png", "hole/1.png", "scratch/2.png", "hole/0.png"]
    assert names[4] == "good/2.png"
    assert len(names) == len(set(names)) == 11
    assert page.text.count("Escape: this defect was not rejected.") == 1
    assert page.text.count("False alarm: this part is good.") == 1
    assert "1 of 6 good parts scored as high" in page.text
    assert "1 of 5 defective parts scored as low" in page.text


def test_without_calibration_nobody_is_accused(result, written) -> None:
    """No verdict, escape or false alarm where no threshold was calibrated."""
    _, page = written(_bare(result))
    assert "Escape" not in page.text
    assert "False alarm" not in page.text
    assert not any("badge" in (values.get("class") or "") for _, values in page.tags)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), max_size=30))
def test_chosen_cases_are_the_extremes(drawn: list[tuple[int, int]]) -> None:
    """No case twice; no defect left out scores below a shown hard one, no good part above."""
    empty = np.zeros((1, 1), np.float16)
    cases = [
        Case(Path(f"{i}.png"), label, "x", score, None, "review", 0.0, empty, (1, 1), sample)
        for i, (label, score) in enumerate(drawn)
        for sample in [Sample(Path(f"{i}.png"), label, "x")]
    ]
    shown = choose(cases)
    images = [case.image for case in (*shown.missed, *shown.alarming, *shown.clear)]
    assert len(images) == len(set(images))
    assert len(shown.missed) == min(WORST, sum(label for label, _ in drawn))
    assert len(shown.alarming) == min(WORST, sum(1 - label for label, _ in drawn))
    assert len(shown.clear) <= 2 * BEST
    rest = [case for case in cases if case.image not in images]
    assert all(a.score <= b.score for a in shown.missed for b in rest if b.label == 1)
    assert all(a.score >= b.score for a in shown.alarming for b in rest if b.label == 0)


def test_pictures_are_image_mask_map_and_overlay(result) -> None:
    """Four pictures of one size; a defect one pixel wide is still in the shrunken mask."""
    wide = _case(result.cases[0].image.parent, "line", 0, 2.0, side=960)
    tiles = strip_of(wide, scale_of(result), CONFIG).tiles
    assert [tile.name for tile in tiles] == ["Image", "Mask", "Anomaly map", "Overlay"]
    pictures = [_decoded(tile.uri) for tile in tiles]
    assert {picture.shape for picture in pictures} == {(240, 240, 3)}
    assert (pictures[1].max(axis=2) == 255).any(axis=1).all()
    hot = pictures[2].sum(axis=2)
    assert hot[128, 128] > hot[20, 20]
    assert not np.array_equal(pictures[0], pictures[3])


def _decoded(uri: str | None) -> np.ndarray:
    assert uri is not None
    data = base64.b64decode(uri.split(",", 1)[1])
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


def test_a_picture_that_is_not_there_leaves_its_reason(result, written) -> None:
    """A lost image, a lost mask and a good part's mask do not stop the report."""
    hardest, second = result.cases[7], result.cases[10]
    hardest.image.unlink()
    second.sample.masks[0].unlink()
    _, page = written(result)
    assert "there is no such file" in page.text
    assert str(second.sample.masks[0]) in page.text
    assert page.text.count("a good part: nothing to mark") == 6


def test_overlays_outline_what_is_above_the_threshold(result) -> None:
    """The map's level is the calibrated one of pixels, as in the product; else the good's 95 %."""
    assert result.false_alarms is not None
    own = dataclasses.replace(result.false_alarms, threshold=0.1, region_threshold=1.25)
    assert scale_of(dataclasses.replace(result, false_alarms=own)).level == 1.25
    expected = np.percentile(SCORES["good"], 95)
    bare = dataclasses.replace(result, false_alarms=None)
    assert scale_of(bare).level == pytest.approx(expected, rel=1e-3)


def test_explanations_are_shown_for_the_worst_alone(result, written) -> None:
    """The hook is asked once for each of the worst cases, and its pictures have their names."""
    asked: list[Path] = []

    def explain(image: Path) -> dict[str, np.ndarray]:
        asked.append(image)
        grey = np.full((64, 256, 3), 90, np.uint8)
        return {"attention": grey[:16, :16], "evidence": grey}

    _, page = written(result, explain=explain)
    assert len(asked) == len(set(asked)) == 2 * WORST
    assert page.text.count("Attention") == page.text.count("Evidence") == 2 * WORST
    assert sum(values.get("class") == "tile broad" for _, values in page.tags) == 2 * WORST

    def refuse(image: Path) -> dict[str, np.ndarray]:
        raise ImageError(f"{image.name}: cannot be explained.")

    _, page = written(result, explain=refuse)
    assert page.text.count("cannot be explained.") == 2 * WORST


def test_an_inspector_explains_its_own_images_alone(fitted: Inspector, parts: Path) -> None:
    """`explain_with` gives the detector's pictures of a known image, and one sentence else."""
    image = next((parts / "test").glob("*/*.png"))
    explain = explain_with({image: fitted})
    pictures = explain(image)
    assert pictures["anomaly"].shape == (64, 64, 3)
    assert all(picture.dtype == np.uint8 for picture in pictures.values())
    with pytest.raises(ParameterError, match="cannot be explained"):
        explain(parts)


def test_explanations_outlive_their_inspector(fitted: Inspector, parts: Path) -> None:
    """`Explanations` holds the worst cases' pictures, or the reason why there are none."""
    category = load("mvtec", parts)[0]
    (result,) = score(Learned(fitted, 20, 0.0), category, keep_cases=True)
    shown = choose(result.cases)
    lost = dataclasses.replace(shown.missed[0], image=parts / "gone.png")
    kept = Explanations()
    cases = tuple(lost if case is shown.missed[0] else case for case in result.cases)
    kept.add(fitted, dataclasses.replace(result, cases=cases))
    for case in (*shown.missed[1:], *shown.alarming):
        expected = explain_with({case.image: fitted})(case.image)
        assert {"anomaly", "evidence 1"} <= kept(case.image).keys()
        assert np.array_equal(kept(case.image)["anomaly"], expected["anomaly"])
    with pytest.raises(ImageError, match=r"gone\.png"):
        kept(lost.image)
    with pytest.raises(ParameterError, match="cannot be explained"):
        kept(shown.clear[0].image)


def test_other_protocols_are_tables_by_level(result, written) -> None:
    """Mean and deviation in percent for each level; no deviation for one seed, dashes for null."""
    several = {"mean": {"image_auroc": 0.9, "aupro": None}, "std": {"image_auroc": 0.01}}
    one = {"mean": {"image_auroc": 0.8, "aupro": 0.7}, "std": {}}
    _, page = written(
        result,
        protocol={
            "seeds": {"seeds": [0, 1, 5], **several},
            "shots": {"unit": "images", "points": [{"level": 4, **several}]},
            "corruption": {"blur": {"unit": "px", "points": [{"level": None, **one}]}},
        },
    )
    spread = "90.00 \N{PLUS-MINUS SIGN} 1.00"
    for row in (["0, 1, 5", spread, DASH], ["4", spread, DASH], ["untouched", "80.00", "70.00"]):
        assert row in page.rows
    assert "standard deviation over 3 seeds" in page.text
    assert "Blur: by px." in page.text


def test_a_result_without_cases_has_figures_and_says_so(result, written) -> None:
    """Tables stay where the test images were not kept; charts and pictures are missed aloud."""
    _, page = written(dataclasses.replace(result, cases=()))
    assert "were not kept" in page.text
    assert any(row[:2] == ["board", f"{100 * FIGURES['image_auroc']:.2f}"] for row in page.rows)
    assert not page.attributes("img", "src")


def test_one_label_alone_has_scores_but_no_curve(result, written) -> None:
    """Good parts only: a histogram without a line, no ROC, no defect to show."""
    good = tuple(case for case in result.cases if case.label == 0)
    lone = dataclasses.replace(
        result, cases=good, false_alarms=None, figures=dict.fromkeys(FIGURES), defects={}
    )
    source, page = written(lone)
    assert 'class="hist"' in source
    assert 'class="roc"' not in source
    assert 'class="limit"' not in source
    assert "Hardest defects" not in page.text


def test_three_categories_stay_below_five_megabytes(tmp_path: Path) -> None:
    """Even noise, which compresses worst, at four times the pictures' area."""
    results = [_result(tmp_path / name, name, side=512) for name in ("a", "b", "c")]

    def explain(image: Path) -> dict[str, np.ndarray]:
        noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
        return dict.fromkeys("abcdefg", noise)

    path = tmp_path / "report.html"
    write_report(path, dataset="d", results=results, config={}, mean={}, explain=explain)
    assert 1e5 < path.stat().st_size < 5e6


def test_a_page_that_cannot_be_written_is_one_sentence(result, tmp_path: Path) -> None:
    """No result, a folder as the file, and a file as the folder are named with the option."""
    (tmp_path / "file").write_text("")
    for path, results, message in (
        (tmp_path / "r.html", [], "no result"),
        (tmp_path, [result], "is a folder"),
        (tmp_path / "file" / "r.html", [result], "cannot be written"),
    ):
        with pytest.raises(ParameterError, match=message) as caught:
            write_report(path, dataset="d", results=results, config={}, mean={})
        assert str(caught.value).startswith(f"--report {path}")


def test_the_curve_and_the_point_are_exact(result) -> None:
    """ROC corners follow from the scores, its point from the threshold, its SVG is well formed."""
    curve, limit = roc_of(result.cases), limit_of(result)
    assert curve is not None
    assert limit is not None
    false, true = curve.false_positive_rate, curve.true_positive_rate
    area = float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2))
    assert area == pytest.approx(29 / 30)
    assert operating_point(result.cases, limit) == pytest.approx((1 / 6, 4 / 5))
    best = limit_of(dataclasses.replace(result, false_alarms=None))
    assert best is not None
    assert best.promised_rate is None
    # F1 is greatest where every score from 1.2 up is called defective, 1.2 included.
    assert operating_point(result.cases, best) == pytest.approx((1 / 6, 1))
    for point in ((0.0, 0.0), (1.0, 1.0), None):
        ElementTree.fromstring(roc_svg(curve, area, point))


def test_a_real_evaluation_is_reported(parts: Path, fitted: Inspector, written) -> None:
    """The protocol's own result, calibrated and with cases, makes a report with its pictures."""
    category = load("mvtec", parts)[0]
    result = score(Learned(fitted, 20, 1.0), category, keep_cases=True)[0]
    source, page = written(result)
    n_bad = sum(sample.label for sample in category.test)
    n_good = len(category.test) - n_bad
    # An image, a map and an overlay of every part, and a mask of every defective one.
    assert len(page.attributes("img", "src")) == 4 * n_bad + 3 * n_good
    assert f"{100 * result.figures['aupro']:.2f}" in page.text
    assert 'id="threshold"' in source
