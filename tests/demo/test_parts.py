"""The made-up parts: deterministic, varied, flawed only where the mask says, laid out as MVTec."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from blemish.demo.parts import DEFECTS, GOOD, render, write_dataset
from blemish.errors import ParameterError

SEEDS = (0, 7, 123)


@pytest.mark.parametrize("defect", [None, *DEFECTS])
def test_a_part_has_the_declared_form(defect: str | None) -> None:
    """Image and mask have the declared shape and type; only a flawed part has a mask."""
    part = render(3, defect, size=128)
    assert part.image.shape == (128, 128, 3)
    assert part.image.dtype == np.uint8
    assert part.mask.shape == (128, 128)
    assert part.mask.dtype == np.bool_
    assert part.mask.any() == (defect is not None)
    assert part.defect == defect


@pytest.mark.parametrize("defect", [None, *DEFECTS])
def test_the_same_seed_gives_the_same_pixels(defect: str | None) -> None:
    """Rendering does not depend on what was rendered before."""
    first = render(5, defect, size=96)
    render(6, "stain", size=128)
    second = render(5, defect, size=96)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.mask, second.mask)


def test_good_parts_differ_but_look_alike() -> None:
    """Two seeds never give one picture, yet good parts are far closer than chance."""
    images = [render(seed).image.astype(np.float64) for seed in range(6)]
    for i, one in enumerate(images):
        for other in images[i + 1 :]:
            assert np.abs(one - other).mean() > 2
            assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.5


def test_light_varies_from_part_to_part() -> None:
    """Mean brightness spreads by some percent over good parts, and never clips the picture."""
    images = [render(seed, size=128).image for seed in range(12)]
    means = np.array([image.mean() for image in images])
    assert 0.02 < means.std() / means.mean() < 0.15
    assert all((image == 255).mean() < 0.02 for image in images)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_flaw_changes_the_picture_inside_its_mask_only(seed: int, defect: str) -> None:
    """Against the same part without the flaw, change lies in the mask, give or take its shadow."""
    good, bad = render(seed, size=256), render(seed, defect, size=256)
    apart = np.abs(good.image.astype(int) - bad.image.astype(int)).max(axis=2)
    near = cv2.dilate(bad.mask.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    assert apart[~near].max(initial=0) <= 2
    assert apart[bad.mask].mean() > 5 * apart[~bad.mask].mean() + 4


@pytest.mark.parametrize("defect", DEFECTS)
def test_flaws_vary_in_place_and_size_and_stay_small(defect: str) -> None:
    """Over twelve seeds a flaw moves about, and covers a believable share of the picture."""
    masks = [render(seed, defect, size=128).mask for seed in range(12)]
    shares = np.array([mask.mean() for mask in masks])
    centres = np.array([np.argwhere(mask).mean(axis=0) for mask in masks])
    assert shares.min() > 0.0005
    assert shares.max() < 0.10
    assert shares.max() > 1.5 * shares.min()
    assert centres.std(axis=0).max() > 12


@pytest.mark.parametrize("defect", DEFECTS)
def test_no_flaw_is_invisible(defect: str) -> None:
    """Over twenty seeds the typical change inside the mask stays well above the sensor's noise."""
    for seed in range(20):
        good, bad = render(seed), render(seed, defect)
        apart = np.abs(good.image.astype(int) - bad.image.astype(int)).max(axis=2)
        assert np.median(apart[bad.mask]) >= 9


@pytest.mark.parametrize("size", [64, 200, 600])
def test_size_scales_the_whole_scene(size: int) -> None:
    """A part at another size is the same part: its flaw covers the same share of the picture."""
    share = render(4, "stain", size=256).mask.mean()
    assert render(4, "stain", size=size).mask.mean() == pytest.approx(share, rel=0.15)


@pytest.mark.parametrize(
    ("seed", "defect", "size", "word"),
    [(-1, None, 256, "seed"), (0, "rust", 256, "scratch"), (0, None, 8, "64")],
)
def test_wrong_arguments_are_named(seed: int, defect: str | None, size: int, word: str) -> None:
    """A wrong argument raises an error that says what would be right."""
    with pytest.raises(ParameterError, match=word):
        render(seed, defect, size)


def test_the_data_set_has_the_layout_of_mvtec_ad(tmp_path) -> None:
    """Folders, names and counts are MVTec AD's, every mask fits its image, and files read back."""
    root = write_dataset(tmp_path / "board", good=3, test_good=2, per_defect=2, size=64)
    found = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.png"))
    expected = [f"train/{GOOD}/{i:03d}.png" for i in range(3)]
    for kind in (GOOD, *DEFECTS):
        expected += [f"test/{kind}/{i:03d}.png" for i in range(2)]
    expected += [f"ground_truth/{kind}/{i:03d}_mask.png" for kind in DEFECTS for i in range(2)]
    assert found == sorted(expected)
    for kind in DEFECTS:
        mask = cv2.imread(str(root / "ground_truth" / kind / "000_mask.png"), -1)
        assert mask.shape == (64, 64)
        assert set(np.unique(mask)) == {0, 255}
    green = cv2.imread(str(root / "train" / GOOD / "000.png"))[..., 1].mean()
    assert green > cv2.imread(str(root / "train" / GOOD / "000.png"))[..., 2].mean()


def test_the_data_set_is_the_same_for_the_same_seed(tmp_path) -> None:
    """One seed gives one data set, another seed another; no part appears twice in it."""
    kinds = {"good": 2, "test_good": 2, "per_defect": 1, "size": 64}
    one, two, other = (
        write_dataset(tmp_path / name, seed=seed, **kinds)
        for name, seed in (("one", 0), ("two", 0), ("other", 1))
    )
    files = sorted(p.relative_to(one) for p in one.rglob("*.png"))
    assert all((one / f).read_bytes() == (two / f).read_bytes() for f in files)
    images = [f for f in files if f.parts[0] != "ground_truth"]
    assert all((one / f).read_bytes() != (other / f).read_bytes() for f in images)
    assert len({(one / f).read_bytes() for f in images}) == len(images)


def test_a_data_set_is_not_written_over_a_file(tmp_path) -> None:
    """A file where the folder should go, or a negative count, is refused in words."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(ParameterError, match="is a file"):
        write_dataset(tmp_path / "file")
    with pytest.raises(ParameterError, match="per_defect"):
        write_dataset(tmp_path / "new", per_defect=-1)
