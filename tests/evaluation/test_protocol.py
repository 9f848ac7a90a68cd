"""The protocol: figures from the right images, nulls where there are none, honest counting."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blemish.evaluation.datasets import Category, load
from blemish.evaluation.metrics import auroc
from blemish.evaluation.protocol import (
    FIGURES,
    CategoryResult,
    evaluate_category,
    mean_figures,
    peak_rss_mb,
)
from blemish.hetmm import HETMM
from blemish.inspector import Inspector


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
    assert result.latency_ms["p50"] <= result.latency_ms["p95"]


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
