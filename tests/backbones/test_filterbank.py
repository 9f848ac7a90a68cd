"""The filter bank: sizes, whitening, and answers that a person can foresee."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from blemish.backbones import Backbone, FilterBank, create_backbone
from blemish.backbones.filterbank import (
    CHANNELS,
    EIGENVALUE_FLOOR,
    Doubles,
    Floats,
    energies_graph,
    gabor_kernels,
)
from blemish.errors import ParameterError
from blemish.graphs.sessions import OnnxSession

LEVELS = (1, 2, 3)
# Whitening may enlarge by 1 / sqrt(EIGENVALUE_FLOOR) = 32, in sums of 75 float32 numbers.
ROUNDING = 32 * 75 * 2.0**-24


def textured(count: int, size: int | tuple[int, int] = 96, seed: int = 0) -> list[Floats]:
    """Smooth coloured noise, each [H, W, 3] in [0, 1]."""
    height, width = (size, size) if isinstance(size, int) else size
    noise = np.random.default_rng(seed).random((count, height + 2, width + 2, 3), np.float32)
    shifted = [noise[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return list(np.mean(shifted, axis=0, dtype=np.float32))


def fitted(images: Sequence[Floats], levels: tuple[int, ...] = LEVELS) -> Backbone:
    """A bank that has seen these images, in their order."""
    height, width, _ = images[0].shape
    return FilterBank(levels).fit(images, range(len(images)), (height, width))


def maps(bank: Backbone, image: Floats) -> list[Floats]:
    """The maps [75, h, w] of the levels of one image."""
    return in_graph(bank.session, image, list(bank.outputs.values()))


def in_graph(session: OnnxSession, image: Floats, names: Sequence[str]) -> list[Floats]:
    """A graph's outputs for one image [H, W, 3]."""
    found = session.run({"images": np.ascontiguousarray(image.transpose(2, 0, 1))[None]})
    return [found[name][0] for name in names]


def energies(image: Floats) -> list[Floats]:
    """The maps before they are whitened."""
    graph = energies_graph(LEVELS, image.shape[:2])
    return in_graph(OnnxSession(graph, "energies"), image, [f"map{n}" for n in LEVELS])


def vectors(found: Sequence[Floats]) -> Doubles:
    """All pixels of maps [C, h, w] side by side, [C, M]."""
    return np.concatenate([each.reshape(CHANNELS, -1) for each in found], axis=1).astype(float)


@pytest.mark.parametrize("size", [64, 96, 100, (60, 52), (97, 131)], ids=str)
def test_strides_and_channels(size: int | tuple[int, int]) -> None:
    """Levels 1, 2, 3 lie at strides 4, 8, 16 and have the same channels each, at any size."""
    images = textured(2, size)
    height, width, _ = images[0].shape
    shapes = [level.shape for level in maps(fitted(images), images[0])]
    assert shapes == [(CHANNELS, height // stride, width // stride) for stride in (4, 8, 16)]


def test_a_choice_of_levels_changes_none() -> None:
    """Level 2 alone is the level 2 of the whole pyramid."""
    images = textured(2)
    (alone,) = maps(fitted(images, (2,)), images[0])
    np.testing.assert_allclose(alone, maps(fitted(images), images[0])[1], atol=ROUNDING, rtol=1e-5)


def test_whitened_on_what_it_saw() -> None:
    """On the fitting images each level has mean 0 and unit covariance, but for floored noise."""
    images = textured(6)
    bank = fitted(images)
    raw, white = [energies(each) for each in images], [maps(bank, each) for each in images]
    for level in range(3):
        eigenvalues = np.linalg.eigvalsh(np.cov(vectors([each[level] for each in raw]), bias=True))
        floor = EIGENVALUE_FLOOR * eigenvalues[-1]
        expected = eigenvalues / np.maximum(eigenvalues, floor)
        assert (expected > 0.999).sum() > 20
        found = vectors([each[level] for each in white])
        # Whitening is symmetric: the covariance has these eigenvalues on the axes of the maps.
        np.testing.assert_allclose(
            np.linalg.eigvalsh(np.cov(found, bias=True)), np.sort(expected), atol=1e-3
        )
        assert np.abs(found.mean(axis=1)).max() < 1e-3


def test_the_order_of_the_images_does_not_matter() -> None:
    """Sums are float64: any order, or each image twice, teaches the same but for rounding."""
    images = textured(6)
    one = fitted(images)
    for other in (fitted(images[::-1]), fitted(images * 2)):
        for a, b in zip(maps(one, images[0]), maps(other, images[0]), strict=True):
            np.testing.assert_allclose(a, b, atol=ROUNDING, rtol=1e-5)


def test_only_the_positions_named_are_seen() -> None:
    """The others may be anything."""
    images = textured(4)
    changed = [images[0], np.zeros_like(images[1]), images[2], np.ones_like(images[3])]
    one = FilterBank().fit(images, [0, 2], (96, 96))
    other = FilterBank().fit(changed, [0, 2], (96, 96))
    assert one.graph == other.graph


def test_a_flat_image_has_features() -> None:
    """A uniform image, even black, gives finite features, and no answer of any Gabor filter."""
    bank = fitted(textured(4))
    for value in (0.0, 0.5, 1.0):
        flat = np.full((96, 96, 3), value, np.float32)
        assert all(np.isfinite(level).all() for level in maps(bank, flat))
        # log(1 + 50 e) of energies that are rounding alone: the kernels' sums are below 1e-7.
        assert all(np.abs(level[:-3]).max() < 1e-3 for level in energies(flat))


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_flat_good_images_can_be_learned_from(value: float) -> None:
    """Good images without any texture (a lens cap) leave finite, bounded whitening."""
    flat = np.full((64, 64, 3), value, np.float32)
    bank = fitted([flat, flat])
    for level in (*maps(bank, flat), *maps(bank, textured(1, 64)[0])):
        assert np.isfinite(level).all()
    assert all(np.abs(level).max() < 1.0 for level in maps(bank, flat))


def test_translation_moves_the_map() -> None:
    """Four pixels to the right move level 1 by one, away from the borders."""
    images = textured(2, 128)
    bank = fitted(images, (1,))
    (here,), (there,) = maps(bank, images[0]), maps(bank, np.roll(images[0], 4, axis=1))
    inside = slice(8, -8)  # the coarsest kernels reach 6 pixels of stride 4
    np.testing.assert_allclose(there[:, inside, 9:-7], here[:, inside, 8:-8], atol=1e-3, rtol=1e-3)


def test_colours_are_told_apart() -> None:
    """Swapping red and blue changes every level."""
    image = textured(1)[0]
    bank = fitted(textured(3, seed=1))
    for one, other in zip(maps(bank, image), maps(bank, image[..., ::-1]), strict=True):
        assert np.abs(one - other).max() > 0.1


def test_kernels_have_no_mean() -> None:
    """No kernel answers to a flat surface."""
    assert np.abs(gabor_kernels().sum((-1, -2))).max() < 1e-12


@pytest.mark.parametrize("levels", [(0, 1), (1, 4)])
def test_levels_it_does_not_have(levels: tuple[int, ...]) -> None:
    """Other levels than 1, 2 and 3 are refused."""
    with pytest.raises(ParameterError, match="has the levels 1, 2 and 3"):
        create_backbone("filterbank", levels=levels)


@pytest.mark.parametrize("size", [8, 12])
def test_images_too_small_for_a_level(size: int) -> None:
    """A view smaller than the deepest level's stride is refused with the size that would do."""
    with pytest.raises(ParameterError, match=f"{size}x{size} pixels.*at least 16"):
        fitted(textured(2, size))


@pytest.mark.parametrize("size", [16, 17, 20, 24, 31, 33])
def test_the_smallest_images(size: int) -> None:
    """Where no kernel fits any more the border is repeated; maps stay finite."""
    images = textured(3, size)
    for level, stride in zip(maps(fitted(images), images[0]), (4, 8, 16), strict=True):
        assert level.shape == (CHANNELS, size // stride, size // stride)
        assert np.isfinite(level).all()


def test_the_same_images_give_the_same_graph() -> None:
    """To the last byte: bundles of one part share the file."""
    assert fitted(textured(3)).graph == fitted(textured(3)).graph
