"""The protocol: figures from the right images, nulls where there are none, honest counting."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trees

from blemish.detectors import HETMM
from blemish.evaluation.datasets import Category, load
from blemish.evaluation.metrics import auroc
from blemish.evaluation.protocol import (
    FIGURES,
    SPRO_FIGURES,
    Case,
    CategoryResult,
    evaluate_category,
    mean_figures,
    peak_rss_mb,
)
from blemish.inspector import Inspector
from blemish.verdict import Inspection


def make_inspector() -> Inspector:
    """A small inspector."""
    return Inspector(HETMM(sheets=None), size=64, device="cpu")


@pytest.fixture(scope="module")
def category(parts: Path) -> Category:
    """The made-up boards as a dataset's category."""
    return load("mvtec", parts)[0]


def test_figures_are_those_of_the_test_images(category: Category) -> None:
    """Image AUROC is that of inspecting each test image; all figures lie in [0, 1]."""
    result = evaluate_category(category, make_inspector)
    fitted = make_inspector().fit(list(category.train))
    scores = [fitted.inspect(sample.image).score for sample in category.test]
    labels = [sample.label for sample in category.test]
    assert result.figures["image_auroc"] == auroc(np.array(labels), np.array(scores))
    assert list(result.figures) == list(FIGURES)
    assert all(value is not None and 0 <= value <= 1 for value in result.figures.values())
    assert (result.n_train, result.n_test) == (20, 9)
    assert result.false_alarms is None
    latency = result.latency_ms
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    assert result.calibrate_seconds is None


def test_false_alarms_are_counted_on_the_test_images(category: Category) -> None:
    """With a rate, rejected good and escaped defective parts are counted, none left out."""
    counted = evaluate_category(category, make_inspector, false_alarm_rate=0.05).false_alarms
    assert counted is not None
    assert (counted.good, counted.defective, counted.rate) == (4, 5, 0.05)
    fitted = make_inspector().fit(list(category.train))
    scores = {s.image: fitted.inspect(s.image).score for s in category.test}
    above = [(s.label, scores[s.image] > counted.threshold) for s in category.test]
    assert counted.rejected == above.count((0, True))
    assert counted.escaped == above.count((1, False))


def test_a_case_for_each_test_image(category: Category) -> None:
    """Cases keep score, verdict and map of each test image; the JSON has them when asked."""
    result = evaluate_category(category, make_inspector, false_alarm_rate=0.05)
    assert [case.image for case in result.cases] == [s.image for s in category.test]
    fitted = make_inspector().fit(list(category.train)).calibrate(false_alarm_rate=0.05)
    for case, sample in zip(result.cases, category.test, strict=True):
        shown = fitted.inspect(sample.image)
        assert case.sample is sample
        assert (case.label, case.defect) == (sample.label, sample.defect)
        assert (case.score, case.p_value, case.verdict) == (
            shown.score, shown.p_value, shown.verdict,
        )  # fmt: skip
        assert case.anomaly_map.dtype == np.float16
        assert np.allclose(case.anomaly_map, shown.anomaly_map, rtol=1e-3, atol=1e-6)
        assert case.image_size == (64, 64)
    assert "cases" not in result.to_dict()
    written = json.loads(json.dumps(result.to_dict(cases=True)))["cases"]
    assert [case["score"] for case in written] == [case.score for case in result.cases]
    assert evaluate_category(category, make_inspector, keep_cases=False).cases == ()


def test_a_map_beyond_half_precision_is_kept_finite(category: Category) -> None:
    """A raw score has no bound; its case's map stops at the largest float16."""
    huge = np.full((4, 4), 1e9, np.float32)
    case = Case.of(category.test[0], Inspection(1e9, None, None, "review", huge))
    assert np.isfinite(case.anomaly_map).all()
    assert case.score == 1e9


def test_each_kind_of_defect_has_its_figures(category: Category) -> None:
    """The kinds are those of the test set, each against the good images, counted."""
    result = evaluate_category(category, make_inspector)
    kinds = [sample.defect for sample in category.test if sample.label]
    assert {kind: found["n"] for kind, found in result.defects.items()} == {
        kind: kinds.count(kind) for kind in kinds
    }
    scores = [(case.label, case.defect, case.score) for case in result.cases]
    for kind, found in result.defects.items():
        chosen = [(label, score) for label, name, score in scores if not label or name == kind]
        labels, values = np.array(chosen).T
        assert found["image_auroc"] == auroc(labels.astype(int), values)
        assert "spro" not in found


def test_validation_images_calibrate(category: Category) -> None:
    """Where the dataset sets good images apart, they and no others set the threshold."""
    apart = replace(category, train=category.train[:8], validation=category.train[8:])
    seen: list[object] = []

    class Spy(Inspector):
        def calibrate(self, source: object = None, **options: object) -> Spy:
            seen.append(source)
            super().calibrate(source, **options)
            return self

    result = evaluate_category(
        apart, lambda: Spy(HETMM(sheets=2), size=64, device="cpu"), false_alarm_rate=0.1
    )
    assert seen == [list(apart.validation)]
    assert result.false_alarms is not None
    assert result.calibrate_seconds > 0


def test_spro_where_the_dataset_defines_it(tmp_path: Path) -> None:
    """MVTec LOCO AD's three figures are there, logical and structural and their mean."""
    loco = load("loco", trees.loco(tmp_path))[0]
    result = evaluate_category(
        loco, lambda: Inspector(HETMM(sheets=2), size=32, device="cpu")
    ).to_dict()
    assert [result[name] is not None for name in SPRO_FIGURES] == [True] * 3
    kinds = {kind: found["spro"] for kind, found in result["defects"].items()}
    assert (result["spro_logical"], result["spro_structural"]) == (
        kinds["logical_anomalies"], kinds["structural_anomalies"],
    )  # fmt: skip
    assert result["spro"] == pytest.approx(sum(kinds.values()) / 2)


def test_fitting_sees_no_test_image(category: Category) -> None:
    """An inspector under evaluation is given the training paths and nothing else."""
    seen: list[object] = []

    class Spy(Inspector):
        def fit(self, source: object, **options: object) -> Spy:
            seen.append(source)
            super().fit(source, **options)
            return self

    evaluate_category(category, lambda: Spy(HETMM(sheets=2), size=64, device="cpu"))
    assert seen == [list(category.train)]


def test_what_cannot_be_computed_is_none(category: Category) -> None:
    """Without good test images there is no image AUROC, and the JSON says null, not nothing."""
    only_bad = replace(category, test=tuple(s for s in category.test if s.label))
    result = evaluate_category(only_bad, make_inspector)
    written = json.loads(json.dumps(result.to_dict()))
    assert written["image_auroc"] is None
    assert set(FIGURES) <= written.keys()
    no_masks = replace(category, test=tuple(replace(s, masks=()) for s in category.test))
    result = evaluate_category(no_masks, make_inspector)
    assert [result.figures[name] for name in ("pixel_auroc", "pixel_ap", "aupro")] == [None] * 3
    assert result.figures["image_auroc"] is not None


def result_with(name: str, value: float | None) -> CategoryResult:
    """A result whose figures are all `value`."""
    return CategoryResult(name, 1, 1, dict.fromkeys(FIGURES, value), 1.0, {"p50": 1, "p95": 1}, 1.0)


def test_means() -> None:
    """The mean weighs categories alike, and one missing figure makes the mean missing."""
    assert mean_figures([result_with("a", 0.5), result_with("b", 1.0)])["aupro"] == 0.75
    means = mean_figures([result_with("a", 0.5), result_with("b", None)])
    assert means == dict.fromkeys(FIGURES)


def test_peak_memory_is_plausible() -> None:
    """This process, which has loaded PyTorch, has held between 50 MB and 1 TB."""
    assert 50 < peak_rss_mb() < 1e6
