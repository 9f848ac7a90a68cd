"""The filter bank: sizes, whitening, and answers that a person can foresee."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blemish.errors import NotFittedError, ParameterError
from blemish.features import create_backbone, restore_backbone
from blemish.features.filterbank import CHANNELS, EIGENVALUE_FLOOR, FilterBank, gabor_kernels
from tolerances import assert_sums_agree


def textured(count: int, size: int = 96, seed: int = 0) -> Tensor:
    """Smooth coloured noise [B, 3, size, size] in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, 3, size, size, generator=generator)
    return torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1)


def fitted(images: Tensor, levels: tuple[int, ...] = (1, 2, 3)) -> FilterBank:
    """A bank that has seen these images, two at a time."""
    return FilterBank(levels=levels).freeze().fit(lambda: images.split(2))


@pytest.mark.parametrize("size", [64, 96, 100])
def test_strides_and_channels(size: int) -> None:
    """Levels 1, 2, 3 lie at strides 4, 8, 16 and have the same channels each."""
    images = textured(2, size)
    shapes = [tuple(level.shape) for level in fitted(images)(images)]
    assert shapes == [(2, CHANNELS, size // stride, size // stride) for stride in (4, 8, 16)]


def test_a_choice_of_levels_changes_none() -> None:
    """Level 2 alone is the level 2 of the whole pyramid."""
    images = textured(2)
    alone = fitted(images, (2,))(images)
    assert len(alone) == 1
    torch.testing.assert_close(alone[0], fitted(images)(images)[1])


def test_whitened_on_what_it_saw() -> None:
    """On the fitting images each level has mean 0 and unit covariance, but for floored noise."""
    images = textured(6)
    bank = fitted(images)
    for raw, white in zip(bank.energies(images), bank(images), strict=True):
        eigenvalues = torch.linalg.eigvalsh(torch.cov(raw.double().movedim(1, 0).flatten(1)))
        vectors = white.double().movedim(1, 0).flatten(1)  # (C, B*H*W)
        expected = eigenvalues / eigenvalues.clamp_min(EIGENVALUE_FLOOR * float(eigenvalues[-1]))
        assert float((expected > 0.999).sum()) > 20
        torch.testing.assert_close(torch.cov(vectors), expected.diag(), atol=2e-2, rtol=0)
        assert float(vectors.mean(1).abs().max()) < 1e-2


@pytest.mark.parametrize("sizes", [[6], [1] * 6, [4, 2], [1, 5]])
def test_batches_do_not_matter_to_the_whitening(sizes: list[int]) -> None:
    """One pass over batches of any size learns the same, to the last bits of what is kept."""
    images = textured(6)
    one, other = fitted(images), FilterBank().fit(lambda: images.split(sizes))
    for level in (1, 2, 3):
        assert_sums_agree(other.get_buffer(f"centre{level}"), one.get_buffer(f"centre{level}"), 1)
        # The axes of nearly equal eigenvalues may turn; the distances they give may not.
        a, b = (bank.get_buffer(f"whiten{level}").double().numpy() for bank in (one, other))
        assert_sums_agree(b.T @ b, a.T @ a, CHANNELS)


def test_a_flat_image_has_features() -> None:
    """A uniform image, even black, gives finite features, and no answer of any Gabor filter."""
    bank = fitted(textured(4))
    for value in (0.0, 0.5, 1.0):
        flat = torch.full((1, 3, 64, 64), value)
        assert all(bool(level.isfinite().all()) for level in bank(flat))
        assert all(float(level[:, :-3].abs().max()) < 1e-3 for level in bank.energies(flat))


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_flat_good_images_can_be_learned_from(value: float) -> None:
    """Good images without any texture (a lens cap) leave finite, bounded whitening."""
    flat = torch.full((2, 3, 64, 64), value)
    bank = fitted(flat)
    for level in (*bank(flat), *bank(textured(1, 64))):
        assert bool(level.isfinite().all())
    assert all(float(level.abs().max()) < 1.0 for level in bank(flat))


def test_translation_moves_the_map() -> None:
    """Four pixels to the right move level 1 by one, away from the borders."""
    images = textured(2, 128)
    bank = fitted(images, (1,))
    (here,), (there,) = bank(images), bank(images.roll(4, dims=-1))
    inside = slice(8, -8)  # the coarsest kernels reach 6 pixels of stride 4
    torch.testing.assert_close(
        there[..., inside, 9:-7], here[..., inside, 8:-8], atol=1e-3, rtol=1e-3
    )


def test_kernels_have_no_mean() -> None:
    """No kernel answers to a flat surface."""
    assert float(gabor_kernels().sum((-1, -2)).abs().max()) < 1e-6


def test_not_fitted() -> None:
    """Before it has seen good images the bank says so."""
    with pytest.raises(NotFittedError, match="has not seen good images yet"):
        create_backbone("filterbank")(torch.zeros(1, 3, 64, 64))


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


def test_restored_bank_is_bit_equal() -> None:
    """What a bundle keeps rebuilds the bank exactly, already fitted."""
    images = textured(3)
    bank = fitted(images)
    again = restore_backbone(
        "filterbank", bank.tensors(), levels=(1, 2, 3), taps="pre", weights_sha256=None
    )
    assert not again.needs_fit
    assert all(torch.equal(a, b) for a, b in zip(bank(images), again(images), strict=True))
