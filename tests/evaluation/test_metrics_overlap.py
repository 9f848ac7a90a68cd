"""sPRO against worked cases and its definition, the breakdown by type, and what must not matter."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from blemish.errors import ImageArrayError, ParameterError
from blemish.evaluation.metrics import (
    PixelMetrics,
    PixelScores,
    auroc,
    by_defect,
    mean_over_kinds,
    overlap,
)
from blemish.evaluation.metrics.pool import from_sort_keys, sort_keys

steady = settings(deadline=None, derandomize=True, max_examples=60)


@dataclass(frozen=True)
class Defect:
    """An annotated defect, as `load_defects` gives it."""

    mask: np.ndarray
    saturation_area: float


def spro_of(good, *defects):
    """The scores of good pixels, and of each defect with its saturation area, on one line."""
    scores = np.array([*good, *(s for own, _ in defects for s in own)], np.float32)[None]
    start, drawn = len(good), []
    for own, saturation in defects:
        mask = np.zeros(scores.shape, bool)
        mask[0, start : start + len(own)] = True
        drawn.append(Defect(mask, saturation))
        start += len(own)
    metrics = PixelMetrics()
    metrics.add(scores, defects=drawn)
    return metrics.compute()


def direct_spro(cases, limit=0.05):
    """sPRO and FPR at every distinct score, then trapezoids up to the limit."""
    defects = [
        (scores[defect.mask], defect.saturation_area) for scores, own in cases for defect in own
    ]
    good = np.concatenate([scores[~union(scores, own)] for scores, own in cases])
    points = [(0.0, 0.0)]
    for threshold in np.unique(np.concatenate([scores.ravel() for scores, _ in cases]))[::-1]:
        covered = [min((own >= threshold).sum() / enough, 1) for own, enough in defects]
        points.append((float((good >= threshold).mean()), float(np.mean(covered))))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= limit:
            break
        end = min(x1, limit)
        y_end = y1 if x1 <= limit else y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / limit


def union(scores, defects):
    """The pixels of any defect."""
    return np.any([np.zeros(scores.shape, bool), *(d.mask for d in defects)], axis=0)


@st.composite
def annotated_maps(draw):
    """Maps with few distinct scores and 0-3 defects each, which may share pixels."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_values = draw(st.integers(1, 30))
    cases = []
    for index in range(draw(st.integers(1, 4))):
        scores = (rng.integers(0, n_values, (6, 7)) - n_values // 2).astype(np.float32) / 8
        defects = []
        for _ in range(rng.integers(1 if index == 0 else 0, 4)):
            mask = rng.random((6, 7)) < rng.uniform(0, 0.4)
            mask[0, 1], mask[0, 0] = True, False
            area = mask.sum()
            defects.append(Defect(mask, float(rng.choice([area, max(area // 3, 1), 1.5, 60]))))
        cases.append((scores, defects))
    return cases


def gathered(cases):
    """The accumulator of annotated maps."""
    metrics = PixelMetrics()
    for scores, defects in cases:
        metrics.add(scores, defects=defects)
    return metrics


def close(found):
    """The figures, to be compared up to the order of floating-point sums."""
    figures = asdict(found)
    reason = figures.pop("reason")
    return pytest.approx(figures, abs=1e-12, nan_ok=False), reason


class TestWorkedCases:
    """The cases that docs/metrics.md works out, with 100 good pixels unless it says otherwise."""

    GOOD = (8.0, 6.0, *[0.0] * 98)

    def test_saturation(self):
        """Two of four pixels are enough: 0.5 up to FPR 0.01, then 1, makes 0.045 / 0.05."""
        found = spro_of(self.GOOD, ([9, 7, 3, 1], 2))
        assert found.spro == pytest.approx(0.9)
        assert found.aupro_005 == pytest.approx(0.75)

    def test_several_defects(self):
        """Each defect weighs the same: 0.25, 0.5 and 1 over steps of 0.01, 0.01 and 0.03."""
        metrics = PixelMetrics()
        big, small = np.zeros((2, 1, 105), bool)
        big[0, :4], small[0, 4] = True, True
        scores = np.array([[9, 7, 3, 1, 5, *self.GOOD]], np.float32)
        metrics.add(scores, defects=[Defect(big, 2), Defect(small, 1)])
        assert metrics.compute().spro == pytest.approx(0.75)

    def test_the_curve_is_cut_at_the_limit(self):
        """A tie with ten good pixels slants from 0 to 1 over FPR 0.1; half of it counts."""
        good = (1.0,) * 10 + (0.0,) * 90
        assert spro_of(good, ([1], 1)).spro == pytest.approx(0.25)

    @pytest.mark.parametrize(("score", "expected"), [(1.0, 1.0), (-1.0, 0.0)])
    def test_one_pixel(self, score, expected):
        """A defect of one pixel is all of it or nothing."""
        assert spro_of((0.0,) * 100, ([score], 1)).spro == expected

    def test_no_good_pixel(self):
        """Without a good pixel there is no false-positive rate, hence no figure."""
        found = spro_of((), ([1, 2], 1))
        assert found == PixelScores(reason="no pixel is good")

    def test_a_fraction_of_a_pixel(self):
        """With saturation area 1.5 the first pixel covers two thirds and the second the rest."""
        assert spro_of(self.GOOD, ([9, 7, 1], 1.5)).spro == pytest.approx((2 / 3 + 4) / 5)

    def test_an_area_beyond_the_defect_is_never_reached(self):
        """A saturation area twice the defect's leaves it half covered at best."""
        assert spro_of(self.GOOD, ([9, 9], 4)).spro == pytest.approx(0.5)

    def test_overlapping_defects_share_pixels(self):
        """A pixel of two defects counts for each of them."""
        mask = np.zeros((1, 102), bool)
        mask[0, :2] = True
        one = mask.copy()
        one[0, 1] = False
        metrics = PixelMetrics()
        scores = np.array([[9, -1, *self.GOOD]], np.float32)
        metrics.add(scores, defects=[Defect(mask, 2), Defect(one, 1)])
        assert metrics.compute().spro == pytest.approx((0.5 + 1) / 2)


class TestDefinitions:
    """sPRO and AUPRO are what their definitions say."""

    @given(annotated_maps())
    @steady
    def test_spro_is_its_definition(self, cases):
        """sPRO from one sort equals thresholding at every distinct score, defect by defect."""
        assert gathered(cases).compute().spro == pytest.approx(direct_spro(cases), abs=1e-9)

    @given(annotated_maps())
    @steady
    def test_full_saturation_makes_it_pro(self, cases):
        """With regions as defects, saturated at their areas, sPRO equals AUPRO at 0.05."""
        regions = []
        for scores, defects in cases:
            count, labels = cv2.connectedComponents(union(scores, defects).astype(np.uint8))
            own = [Defect(labels == k, float((labels == k).sum())) for k in range(1, count)]
            regions.append((scores, own))
        found = gathered(regions).compute()
        assert found.spro == pytest.approx(found.aupro_005, abs=1e-12)

    @given(annotated_maps())
    @steady
    def test_aupro_is_sklearns_weighted_roc(self, cases):
        """AUPRO equals scikit-learn's partial ROC where a region's pixels weigh 1 / area."""
        weights, truth, values = [], [], []
        for scores, defects in cases:
            mask = union(scores, defects)
            _, labels = cv2.connectedComponents(mask.astype(np.uint8))
            area = np.bincount(labels.ravel())[labels]
            weights.append(np.where(mask, 1 / area, 1.0).ravel())
            truth.append(mask.ravel())
            values.append(scores.ravel())
        fpr, pro, _ = roc_curve(
            np.concatenate(truth),
            np.concatenate(values),
            sample_weight=np.concatenate(weights),
            drop_intermediate=False,
        )
        inside = fpr <= 0.3
        last = int(inside.sum()) - 1
        slope = (pro[last + 1] - pro[last]) / (fpr[last + 1] - fpr[last])
        x = np.append(fpr[inside], 0.3)
        y = np.append(pro[inside], pro[last] + slope * (0.3 - fpr[last]))
        expected = (np.diff(x) * (y[1:] + y[:-1]) / 2).sum() / 0.3
        assert gathered(cases).compute().aupro == pytest.approx(expected, abs=1e-9)


class TestInvariance:
    """What must not change any figure."""

    @given(annotated_maps(), st.randoms(use_true_random=False))
    @steady
    def test_order_of_images(self, cases, random):
        """Images may come in any order, with figures computed at any time between them."""
        shuffled = random.sample(cases, len(cases))
        metrics = PixelMetrics()
        for scores, defects in shuffled:
            metrics.add(scores, defects=defects)
            metrics.compute()
        figures, reason = close(gathered(cases).compute())
        found = asdict(metrics.compute())
        assert found.pop("reason") == reason
        assert found == figures

    @given(annotated_maps())
    @steady
    def test_monotone_maps(self, cases):
        """A strictly increasing function of all scores changes nothing at all."""
        changed = [(np.exp(scores).astype(np.float32) - 3, defects) for scores, defects in cases]
        assert gathered(changed).compute() == gathered(cases).compute()

    @given(annotated_maps(), st.integers(1, 9))
    @settings(deadline=None, derandomize=True, max_examples=40)
    def test_size_of_blocks(self, cases, block):
        """Blocks of any size give the same figures, also where a tie spans several of them."""
        figures, _ = close(gathered(cases).compute())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(overlap, "BLOCK", block)
            found = asdict(gathered(cases).compute())
        del found["reason"]
        assert found == figures

    def test_negative_zero(self):
        """A defective pixel at -0 and a good one at 0 are a tie."""
        found = spro_of((0.0,), ([-0.0, -0.0], 1))
        assert found.auroc == 0.5
        assert found == spro_of((0.0,), ([0.0, 0.0], 1))

    @given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
    @steady
    def test_sort_keys_sort_as_scores(self, values):
        """Keys order scores as their values do, and give them back."""
        scores = np.array(values, np.float32)
        keys = sort_keys(scores)
        np.testing.assert_array_equal(from_sort_keys(np.sort(keys)), np.sort(scores))
        np.testing.assert_array_equal(
            keys[:, None] < keys[None, :], scores[:, None] < scores[None, :]
        )


def two_kinds():
    """Ten images of each of two kinds and five good ones, gathered, with labels and scores."""
    rng = np.random.default_rng(7)
    metrics, labels, scores, kinds, pairs = PixelMetrics(), [], [], [], []
    for index in range(25):
        kind = ("scratch", "dent", "good")[min(index // 10, 2)]
        found, mask = rng.random((8, 8)).astype(np.float32), np.zeros((8, 8), bool)
        if kind != "good":
            mask[2:5, index % 4 : index % 4 + 2] = True
            found[mask] += 0.5 if kind == "dent" else 0.1
        metrics.add(found, mask, label=int(kind != "good"), kind=kind)
        labels.append(int(kind != "good"))
        scores.append(float(found.max()))
        kinds.append(kind)
        pairs.append((found, mask, kind))
    return metrics, labels, scores, kinds, pairs


class TestByDefect:
    """The figures of one type of defect against the good images."""

    def test_each_type_meets_the_good_images_alone(self):
        """A type's figures equal those of its own and the good images without the others."""
        metrics, labels, scores, kinds, pairs = two_kinds()
        found = by_defect(labels, scores, kinds, metrics)
        assert list(found) == ["dent", "scratch"]
        for kind, figures in found.items():
            taken = [pair for pair in pairs if pair[2] in {kind, "good"}]
            truth = np.concatenate([mask.ravel() for _, mask, _ in taken])
            values = np.concatenate([own.ravel() for own, _, _ in taken])
            own = [
                (k == kind, s) for k, s in zip(kinds, scores, strict=True) if k in {kind, "good"}
            ]
            assert figures.n == 10
            assert figures.image_auroc == pytest.approx(roc_auc_score(*zip(*own, strict=True)))
            assert figures.pixel_auroc == pytest.approx(roc_auc_score(truth, values))
            assert figures.spro is None
        assert found["dent"].aupro > found["scratch"].aupro

    def test_all_kinds_together_are_the_whole(self):
        """All kinds named give what no kind named gives; an unknown kind is refused."""
        metrics = two_kinds()[0]
        assert metrics.compute(["scratch", "dent"]) == metrics.compute()
        with pytest.raises(ParameterError, match="kind 'rust'"):
            metrics.compute(["rust"])

    def test_a_kind_without_ground_truth_voids_itself_only(self):
        """Missing masks of one type leave the other type its pixel figures."""
        metrics, labels, scores, kinds, _ = two_kinds()
        before = metrics.compute(["dent"])
        metrics.add(np.zeros((8, 8), np.float32), label=1, kind="scratch")
        found = by_defect([*labels, 1], [*scores, 0.0], [*kinds, "scratch"], metrics)
        assert found["scratch"].pixel_auroc is None
        assert found["scratch"].image_auroc is not None
        assert metrics.compute().reason == "ground truth is missing for 1 of 21 defective images"
        assert metrics.compute(["dent"]) == before

    def test_without_maps_there_are_image_figures(self):
        """Without pixel metrics, or with none of a kind, the pixel figures are None."""
        found = by_defect([0, 1], [0.1, 0.2], ["good", "dent"])["dent"]
        assert (found.image_auroc, found.image_ap, found.image_f1max) == (1.0, 1.0, 1.0)
        assert (found.pixel_auroc, found.pixel_ap, found.pixel_f1max) == (None,) * 3
        assert found == by_defect([0, 1], [0.1, 0.2], ["good", "dent"], PixelMetrics())["dent"]

    def test_without_good_images_there_is_nothing_to_compare(self):
        """A type without any good image has no image figures, and no types no entries."""
        assert by_defect([1, 1], [0.1, 0.2], ["dent", "dent"])["dent"].image_auroc is None
        assert by_defect([0, 0], [0.1, 0.2], ["good", "good"]) == {}

    def test_lengths_must_fit(self):
        """Fewer names than labels raise an error that says so."""
        with pytest.raises(ParameterError, match="defect types"):
            by_defect([0, 1], [0.1, 0.2], ["good"])

    def test_loco_reports_the_mean_of_both_kinds(self):
        """LOCO's sPRO and AUROC: each kind against the good images, then the mean of the two."""
        kinds = ("logical_anomalies", "structural_anomalies")
        rng, metrics = np.random.default_rng(3), PixelMetrics()
        labels, scores, names = [0, 1, 1, 1], [0.3, 0.2, 0.4, 0.5], ["good", *kinds, kinds[1]]
        for label, name in zip(labels, names, strict=True):
            mask = rng.random((9, 9)) < 0.2
            defects = [Defect(mask, 3.0)] if label else []
            metrics.add(rng.random((9, 9)).astype(np.float32), defects=defects, kind=name)
        found = by_defect(labels, scores, names, metrics)
        each = [metrics.compute([kind]).spro for kind in kinds]
        assert mean_over_kinds(found, "spro") == pytest.approx(sum(each) / 2)
        assert mean_over_kinds(found, "image_auroc") == 0.5
        assert auroc(labels, scores) == pytest.approx(2 / 3)
        assert mean_over_kinds({kinds[0]: found[kinds[0]]}, "spro") is None
        without = {kinds[0]: found[kinds[0]], kinds[1]: replace(found[kinds[1]], spro=None)}
        assert mean_over_kinds(without, "spro") is None


MASK = np.eye(4, dtype=bool)


class TestRefusals:
    """Ground truth that cannot be is refused, in words."""

    @pytest.mark.parametrize(
        ("defects", "mask", "error", "words"),
        [
            ([Defect(MASK, 0)], None, ParameterError, "above 0"),
            ([Defect(MASK, float("nan"))], None, ParameterError, "above 0"),
            ([Defect(np.zeros((4, 4), bool), 1)], None, ImageArrayError, "empty"),
            ([Defect(MASK, 1), Defect(MASK[:2], 1)], None, ImageArrayError, "of shapes"),
            ([Defect(MASK.astype(int), 1)], None, ImageArrayError, "bool"),
            ([Defect(MASK, 1)], ~MASK, ImageArrayError, "not the union"),
        ],
    )
    def test_defects_that_cannot_be(self, defects, mask, error, words):
        """A defect without pixels, size or sense raises an error and is not counted."""
        metrics = PixelMetrics()
        with pytest.raises(error, match=words):
            metrics.add(np.zeros((4, 4), np.float32), mask, defects=defects)
        assert metrics.compute().reason == "no pixel is marked defective"

    def test_saturation_areas_hold_at_one_resolution(self):
        """A resolution of its own and defects with areas in pixels exclude each other."""
        metrics = PixelMetrics(resolution=(2, 2))
        with pytest.raises(ParameterError, match="resolution"):
            metrics.add(np.zeros((4, 4), np.float32), defects=[Defect(MASK, 1)])

    def test_masks_among_defects_void_spro_only(self):
        """One defective image with a mask alone leaves sPRO without a value, and says so."""
        metrics = PixelMetrics()
        for scores in np.random.default_rng(0).random((2, 4, 4)).astype(np.float32):
            metrics.add(scores, defects=[Defect(MASK, 2)])
            metrics.add(scores, MASK)
        found = metrics.compute()
        assert found.spro is None
        assert found.reason == "sPRO needs single defects, and 2 images have only a mask"
        assert found.aupro is not None
