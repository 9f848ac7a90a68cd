"""Comparing two aligned images: what differs is found, what does not passes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from blemish.backbones import WeightStore
from blemish.compare import (
    EMBEDDED_THRESHOLD,
    FILTERBANK_THRESHOLD,
    NETWORK_THRESHOLD,
    Comparer,
)
from blemish.demo.parts import render
from blemish.errors import ImageArrayError, ParameterError

GOLDEN = render(1, None, size=96).image


def scratched() -> np.ndarray:
    """The golden image with a dark bar at x 40 to 59, y 60 to 67."""
    image = GOLDEN.copy()
    image[60:68, 40:60] = (250, 0, 200)
    return image


@pytest.fixture(scope="module")
def comparer() -> Comparer:
    """With the embedded network, on a made-up board."""
    return Comparer(GOLDEN, device="cpu")


def test_the_golden_image_passes(comparer: Comparer) -> None:
    """An image compared with itself scores zero up to rounding; there is no p-value."""
    result = comparer.compare(GOLDEN)
    assert result.score < 1e-4
    assert (result.verdict, result.p_value, result.regions) == ("pass", None, ())
    assert result.threshold == EMBEDDED_THRESHOLD


def test_a_difference_fails_and_is_outlined(comparer: Comparer) -> None:
    """A painted bar fails, and the worst region's centre lies within a few pixels of it."""
    result = comparer.compare(scratched())
    assert result.verdict == "fail"
    x, y, w, h = result.regions[0].box
    assert 36 <= x + w / 2 <= 64
    assert 56 <= y + h / 2 <= 72


def test_the_filter_bank_has_settings_of_its_own() -> None:
    """It finds the bar too, by its own threshold."""
    bank = Comparer(GOLDEN, device="cpu", backbone="filterbank")
    assert bank.threshold == FILTERBANK_THRESHOLD
    assert bank.compare(GOLDEN).verdict == "pass"
    assert bank.compare(scratched()).verdict == "fail"


def test_the_threshold_decides(comparer: Comparer) -> None:
    """One above the score passes and draws no region."""
    score = comparer.compare(scratched()).score
    lenient = Comparer(GOLDEN, device="cpu", threshold=score * 1.01).compare(scratched())
    assert lenient.verdict == "pass"
    assert lenient.regions == ()


def test_the_view_is_twice_the_image() -> None:
    """The view has twice the image's longer side, unless a size is asked for."""
    wide = GOLDEN[:64]
    assert Comparer(wide, device="cpu").inspector.view.size == 192
    assert Comparer(wide, device="cpu", size=128).inspector.view.size == 128


def test_wide_images_keep_their_coordinates() -> None:
    """Regions of an image that is not square are in its own pixels."""
    golden, image = GOLDEN[20:84], scratched()[20:84]
    x, y, w, h = Comparer(golden, device="cpu").compare(image).regions[0].box
    assert 36 <= x + w / 2 <= 64
    assert 36 <= y + h / 2 <= 52


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan")])
def test_a_threshold_is_above_zero(threshold: float) -> None:
    """A threshold that every image fails, or none, is refused."""
    with pytest.raises(ParameterError, match="give a number above 0"):
        Comparer(GOLDEN, threshold=threshold)


def test_other_sizes_are_refused(comparer: Comparer) -> None:
    """Images of another size cannot be aligned."""
    with pytest.raises(ImageArrayError, match="95 x 96 pixels, the golden one 96 x 96"):
        comparer.compare(GOLDEN[:, 1:])


@pytest.mark.real
def test_a_pair_of_deeppcb(shared: Path, weight_store: WeightStore) -> None:
    """On a real pair, ResNet-18 finds at least four of five annotated boxes and nothing else."""
    folder = shared / "data/deeppcb/PCBData/group00041"
    if not folder.is_dir():
        pytest.skip("the shared folder has no data/deeppcb")
    image = folder / "00041/00041200_test.jpg"
    comparer = Comparer(
        image.with_name("00041200_temp.jpg"), backbone="resnet18.tv_in1k", device="cpu"
    )
    assert comparer.threshold == NETWORK_THRESHOLD
    rows = (folder / "00041_not/00041200.txt").read_text().splitlines()
    boxes = [[int(value) for value in row.split()] for row in rows]
    regions = comparer.compare(image).regions
    centres = [(x + w / 2, y + h / 2) for x, y, w, h in (region.box for region in regions)]
    inside = [[a <= x <= c and b <= y <= d for a, b, c, d, _ in boxes] for x, y in centres]
    assert all(any(row) for row in inside)
    assert np.any(inside, axis=0).sum() >= 4
    assert cv2.imread(str(image)).shape == (640, 640, 3)
