"""The figures of merit against scikit-learn, against slow direct definitions, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from blemish.errors import ImageArrayError, ParameterError
from blemish.evaluation.metrics import (
    F1,
    PixelMetrics,
    PixelScores,
    auroc,
    average_precision,
    f1_max,
)

steady = settings(deadline=None, derandomize=True, max_examples=80)


@st.composite
def labelled_scores(draw):
    """Labels with both classes, and scores from a handful of values, so that many are equal."""
    labels = np.array([0, 1, *draw(st.lists(st.integers(0, 1), max_size=60))])
    values = draw(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=6))
    picks = draw(st.lists(st.sampled_from(values), min_size=len(labels), max_size=len(labels)))
    return labels, np.array(picks)


@st.composite
def small_maps(draw):
    """A few maps of one of several sizes with few distinct scores; good pixels and bad ones."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_values = draw(st.integers(1, 12))
    density = draw(st.floats(0.05, 0.9))
    pairs = []
    for _ in range(draw(st.integers(1, 4))):
        size = tuple(rng.integers(1, 9, 2))
        scores = rng.integers(0, n_values, size).astype(np.float32) / 7
        pairs.append((scores, rng.random(size) < density))
    pairs.append((np.zeros((2, 2), np.float32), np.array([[True, False], [False, False]])))
    return pairs


def direct_f1_max(labels, scores):
    """The best F1 and the highest threshold that reaches it, one threshold at a time."""
    best = (-1.0, 0.0)
    for threshold in sorted(set(scores.tolist()), reverse=True):
        called = scores >= threshold
        f1 = 2 * (called & (labels == 1)).sum() / (called.sum() + labels.sum())
        best = max(best, (float(f1), threshold), key=lambda pair: pair[0])
    return best


def direct_aupro(pairs, limit=0.3):
    """PRO and FPR at every distinct score, then trapezoids up to the limit."""
    regions = []
    for scores, mask in pairs:
        labels, n = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [scores[labels == k] for k in range(1, n + 1)]
    good = np.concatenate([scores[~mask] for scores, mask in pairs])
    everything = np.concatenate([scores.ravel() for scores, _ in pairs])
    fpr, pro = [0.0], [0.0]
    for threshold in np.unique(everything)[::-1]:
        fpr.append(float((good >= threshold).mean()))
        pro.append(float(np.mean([(region >= threshold).mean() for region in regions])))
    area = 0.0
    for x0, x1, y0, y1 in zip(fpr, fpr[1:], pro, pro[1:], strict=False):
        if x0 >= limit:
            break
        end = min(x1, limit)
        y_end = y1 if x1 <= limit else y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / limit


def measure(pairs):
    """All pixel figures of (map, mask) pairs."""
    metrics = PixelMetrics()
    for scores, mask in pairs:
        metrics.add(scores, mask)
    return metrics.compute()


class TestImageFigures:
    """AUROC, average precision and best F1 of images."""

    @given(labelled_scores())
    @steady
    def test_auroc_is_sklearns(self, case):
        """AUROC equals scikit-learn's, however many scores are equal."""
        assert auroc(*case) == pytest.approx(roc_auc_score(*case), abs=1e-12)

    @given(labelled_scores())
    @steady
    def test_average_precision_is_sklearns(self, case):
        """Average precision equals scikit-learn's, however many scores are equal."""
        expected = average_precision_score(*case)
        assert average_precision(*case) == pytest.approx(expected, abs=1e-12)

    @given(labelled_scores())
    @steady
    def test_f1_max_is_the_best_on_sklearns_curve(self, case):
        """The best F1 equals the best along scikit-learn's precision-recall curve."""
        precision, recall, _ = precision_recall_curve(*case)
        total = precision + recall
        f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
        assert f1_max(*case).value == pytest.approx(f1.max(), abs=1e-12)

    @given(labelled_scores())
    @steady
    def test_f1_threshold_reaches_its_value(self, case):
        """The reported threshold is the highest that gives the reported F1."""
        found = f1_max(*case)
        assert (found.value, found.threshold) == pytest.approx(direct_f1_max(*case), abs=1e-12)

    def test_known_ranking(self):
        """A ranking small enough to count by hand gives the hand-counted figures."""
        labels, scores = [0, 1, 0, 1], [0.1, 0.4, 0.4, 0.8]
        assert auroc(labels, scores) == 0.875
        assert average_precision(labels, scores) == pytest.approx(0.5 + 0.5 * 2 / 3)
        assert f1_max(labels, scores) == F1(0.8, 0.4)

    @pytest.mark.parametrize("figure", [auroc, average_precision, f1_max])
    @pytest.mark.parametrize("labels", [[], [0, 0], [1, 1, 1]])
    def test_one_class_has_no_figure(self, figure, labels):
        """Without both classes every figure is None, not NaN and not 1."""
        assert figure(labels, np.arange(len(labels), dtype=float)) is None

    def test_constant_scores_say_nothing(self):
        """Equal scores give AUROC one half and the precision of calling everything defective."""
        labels, scores = [0, 0, 0, 1], [2.0] * 4
        assert auroc(labels, scores) == 0.5
        assert average_precision(labels, scores) == 0.25
        assert f1_max(labels, scores) == F1(0.4, 2.0)

    @pytest.mark.parametrize(
        ("labels", "scores", "words"),
        [
            ([0, 1], [0.5], "one length"),
            ([0, 2], [0.5, 0.6], "neither 0 nor 1"),
            ([0, 1], [0.5, float("nan")], "not a finite number"),
            ([[0, 1]], [[0.5, 0.6]], "one length"),
        ],
    )
    def test_nonsense_is_refused(self, labels, scores, words):
        """Labels and scores that do not fit raise an error that says what is wrong."""
        with pytest.raises(ParameterError, match=words):
            auroc(labels, scores)


class TestPixelFigures:
    """The pooled pixel figures, AUPRO among them."""

    @given(small_maps())
    @steady
    def test_pooled_figures_are_sklearns(self, pairs):
        """Pixel AUROC, AP and F1 equal scikit-learn's on all pixels in one list."""
        scores = np.concatenate([s.ravel() for s, _ in pairs])
        truth = np.concatenate([m.ravel() for _, m in pairs]).astype(int)
        found = measure(pairs)
        assert found.auroc == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
        assert found.ap == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
        assert found.f1_max == pytest.approx(direct_f1_max(truth, scores)[0], abs=1e-12)
        assert found.reason is None

    @given(small_maps())
    @steady
    def test_aupro_is_its_definition(self, pairs):
        """AUPRO from one sort equals thresholding at every distinct score, region by region."""
        found = measure(pairs)
        assert found.aupro == pytest.approx(direct_aupro(pairs), abs=1e-9)
        assert found.aupro_005 == pytest.approx(direct_aupro(pairs, 0.05), abs=1e-9)

    def test_aupro_without_ties(self):
        """AUPRO also equals its definition where all scores differ, on larger maps."""
        rng = np.random.default_rng(3)
        pairs = [
            ((rng.random((16, 14)) + 0.5 * mask).astype(np.float32), mask)
            for mask in rng.random((3, 16, 14)) < 0.1
        ]
        assert measure(pairs).aupro == pytest.approx(direct_aupro(pairs), abs=1e-9)

    def test_small_defects_count_as_much_as_large_ones(self):
        """One found single-pixel region and one missed large one give AUPRO one half."""
        mask = np.zeros((20, 20), bool)
        mask[2, 2] = True
        mask[8:16, 8:16] = True
        scores = np.full((20, 20), 0.5, np.float32)
        scores[2, 2], scores[8:16, 8:16] = 1.0, 0.0
        assert measure([(scores, mask)]).aupro == pytest.approx(0.5)

    def test_touching_corners_are_one_defect(self):
        """Pixels that touch at a corner are one region (8-connectivity)."""
        mask = np.zeros((10, 10), bool)
        mask[1, 1] = mask[2, 2] = mask[7, 7] = True
        scores = np.zeros((10, 10), np.float32)
        scores[1, 1] = 1.0
        # (1/2 + 0) / 2 = 0.25 before all the rest, 97 good pixels among them, ties at zero.
        expected = 0.25 + 0.75 * 0.3 / 2
        assert measure([(scores, mask)]).aupro == pytest.approx(expected)

    def test_perfect_map(self):
        """A map that equals the mask gets 1 in every figure, exactly."""
        mask = np.zeros((9, 9), bool)
        mask[3:5, 3:6] = mask[7, 7] = True
        expected = PixelScores(1.0, 1.0, 1.0, 1.0, aupro_005=1.0)
        assert measure([(mask.astype(np.float32), mask)]) == expected

    def test_constant_map(self):
        """A constant map gets chance: AUROC 0.5, AP the share of defects, half of AUPRO's limit."""
        mask = np.zeros((10, 10), bool)
        mask[0, :5] = True
        found = measure([(np.full((10, 10), 3.0, np.float32), mask)])
        assert found.auroc == 0.5
        assert found.ap == pytest.approx(0.05)
        assert found.aupro == pytest.approx(0.15)
        assert found.aupro_005 == pytest.approx(0.025)

    @pytest.mark.parametrize(
        ("mask", "words"),
        [
            (np.zeros((4, 4), bool), "no pixel is marked"),
            (np.ones((4, 4), bool), "no pixel is goo"),
        ],
    )
    def test_one_class_has_no_figures(self, mask, words):
        """Without both kinds of pixel all figures are None and the reason is told."""
        found = measure([(np.eye(4, dtype=np.float32), mask)])
        assert (found.auroc, found.ap, found.f1_max, found.aupro) == (None,) * 4
        assert words in found.reason

    def test_nothing_added(self):
        """An empty accumulator has no figures and says so."""
        assert PixelMetrics().compute() == PixelScores(reason="no pixel is marked defective")

    def test_missing_ground_truth_voids_all(self):
        """One defective image without a mask voids the pixel figures, before or after others."""
        mask = np.eye(4, dtype=bool)
        metrics = PixelMetrics()
        metrics.add(np.eye(4, dtype=np.float32), mask, label=1)
        metrics.add(np.eye(4, dtype=np.float32), label=1)
        metrics.add(np.eye(4, dtype=np.float32), mask, label=1)
        metrics.add(np.eye(4, dtype=np.float32), size=(8, 8))
        found = metrics.compute()
        assert found == PixelScores(reason="ground truth is missing for 1 of 3 defective images")

    def test_map_is_resized_to_the_ground_truth(self):
        """A small map is enlarged bilinearly; the mask keeps every one of its pixels."""
        mask = np.zeros((8, 8), bool)
        mask[0, 0] = True
        small = np.array([[4.0, 0.0], [0.0, 0.0]], np.float32)
        # Pixel centres lie at (i + 0.5) / 4 - 0.5, clamped to the map: weights of its first cell.
        ramp = np.clip(1 - (np.arange(8) + 0.5) / 4 + 0.5, 0, 1)
        enlarged = (4 * np.outer(ramp, ramp)).astype(np.float32)
        assert measure([(small, mask)]) == measure([(enlarged, mask)])

    def test_ground_truth_is_never_dilated(self):
        """At a resolution asked for, a mask keeps its share of pixels: none is added at its rim."""
        mask = np.zeros((8, 8), bool)
        mask[2:6, 2:6] = True
        scores = np.random.default_rng(4).random((4, 4)).astype(np.float32)
        asked = PixelMetrics(resolution=(4, 4))
        asked.add(scores, mask)
        small = np.zeros((4, 4), bool)
        small[1:3, 1:3] = True
        assert asked.compute() == measure([(scores, small)])

    def test_resolution_brings_all_maps_to_one_size(self):
        """Good images too are scored at the resolution asked for, whatever their own size."""
        mask = np.zeros((4, 4), bool)
        mask[0] = True
        maps = np.random.default_rng(5).random((2, 4, 4)).astype(np.float32)
        asked, plain = PixelMetrics(resolution=(4, 4)), PixelMetrics()
        for metrics in (asked, plain):
            metrics.add(maps[0], mask)
        asked.add(maps[1], size=(64, 64))
        plain.add(maps[1])
        assert asked.compute() == plain.compute()

    def test_good_images_count_at_the_size_given(self):
        """A good image without a mask weighs as many pixels as its size says."""
        mask = np.zeros((8, 8), bool)
        mask[:2] = True
        rng = np.random.default_rng(0)
        scores, good = rng.random((2, 8, 8)).astype(np.float32)
        named, masked, unsized = PixelMetrics(), PixelMetrics(), PixelMetrics()
        for metrics in (named, masked, unsized):
            metrics.add(scores, mask)
        half = good[::2, ::2]
        named.add(half, size=(8, 8))
        masked.add(half, np.zeros((8, 8), bool))
        unsized.add(half)
        assert named.compute() == masked.compute()
        assert named.compute() != unsized.compute()

    def test_compute_may_be_called_between_additions(self):
        """Computing midway changes nothing about what comes out at the end."""
        rng = np.random.default_rng(1)
        pairs = [
            (rng.random((16, 16)).astype(np.float32), rng.random((16, 16)) < 0.2) for _ in range(6)
        ]
        metrics = PixelMetrics()
        for scores, mask in pairs:
            metrics.add(scores, mask)
            metrics.compute()
        assert metrics.compute() == measure(pairs)

    def test_added_arrays_stay_as_they_were(self):
        """The caller's map is neither changed nor followed when it changes later."""
        scores = np.random.default_rng(2).random((8, 8)).astype(np.float32)
        before, mask = scores.copy(), np.eye(8, dtype=bool)
        metrics = PixelMetrics()
        metrics.add(scores)
        metrics.add(scores, mask)
        found = metrics.compute()
        np.testing.assert_array_equal(scores, before)
        scores[:] = 0
        assert metrics.compute() == found

    @pytest.mark.parametrize(
        ("scores", "mask", "words"),
        [
            (np.zeros((2, 2, 1)), None, "shape"),
            (np.zeros((0, 2)), None, "shape"),
            (np.full((2, 2), np.nan), None, "NaN"),
            (np.full((2, 2), 1e300), None, "infinity"),
            (np.zeros((2, 2)), np.zeros((2, 2), np.uint8), "bool"),
            (np.zeros((2, 2)), np.zeros((2, 2, 3), bool), "bool"),
        ],
    )
    def test_malformed_arrays_are_refused(self, scores, mask, words):
        """A map or mask of the wrong kind raises an error instead of giving a figure."""
        with pytest.raises(ImageArrayError, match=words):
            PixelMetrics().add(scores, mask)
