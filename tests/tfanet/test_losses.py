"""TFA-Net's loss against its equations written out plainly."""

import pytest
import torch
from torch import Tensor

from blemish.errors import ParameterError
from blemish.train.tfanet.losses import reconstruction_loss
from blemish.train.tfanet.network import patchify
from blemish.train.tfanet.presets import TFANetConfig

PATCH2 = TFANetConfig(patch=2)


def maps(seed: int) -> tuple[Tensor, Tensor]:
    """A prediction and a target, [2, 3, 4, 4] float64."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64),
        torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64),
    )


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """The cosine of two vectors."""
    return a @ b / (a.norm() * b.norm())


@pytest.mark.parametrize("seed", range(3))
def test_release_terms(seed: int) -> None:
    """Mean square over everything; cosine over each K x K x C patch; total = 1 and 5 of them."""
    p, t = maps(seed)
    loss = reconstruction_loss(patchify(p, 2), patchify(t, 2), PATCH2)
    corners = [(b, i, j) for b in range(2) for i in (0, 2) for j in (0, 2)]
    angles = [
        1 - cosine(p[b, :, i : i + 2, j : j + 2].flatten(), t[b, :, i : i + 2, j : j + 2].flatten())
        for b, i, j in corners
    ]
    assert torch.isclose(loss.euclidean, (p - t).square().mean())
    assert torch.isclose(loss.cosine, torch.stack(angles).mean())
    assert torch.isclose(loss.total, loss.euclidean + 5 * loss.cosine)


@pytest.mark.parametrize("seed", range(3))
def test_paper_terms(seed: int) -> None:
    """Norm and cosine per feature pixel, over channels, with the weights given."""
    p, t = maps(seed)
    config = TFANetConfig(patch=2, euclid="l2", train_cos="pixel", weight_euc=2.0, weight_cos=3.0)
    loss = reconstruction_loss(patchify(p, 2), patchify(t, 2), config)
    pixels = [(b, i, j) for b in range(2) for i in range(4) for j in range(4)]
    norms = torch.stack([(p - t)[b, :, i, j].norm() for b, i, j in pixels])
    angles = torch.stack([1 - cosine(p[b, :, i, j], t[b, :, i, j]) for b, i, j in pixels])
    assert torch.isclose(loss.euclidean, norms.mean())
    assert torch.isclose(loss.cosine, angles.mean())
    assert torch.isclose(loss.total, 2 * norms.mean() + 3 * angles.mean())


@pytest.mark.parametrize("euclid", ["mean-sq", "l2"])
@pytest.mark.parametrize("train_cos", ["patch", "pixel"])
def test_gradcheck(euclid: str, train_cos: str) -> None:
    """The gradient agrees with finite differences, for every option."""
    p, t = maps(0)
    config = PATCH2.with_overrides({"euclid": euclid, "train_cos": train_cos})
    prediction = patchify(p, 2).clone().requires_grad_()
    target = patchify(t, 2)
    assert torch.autograd.gradcheck(
        lambda x: reconstruction_loss(x, target, config).total, (prediction,)
    )


def test_perfect_reconstruction_costs_nothing() -> None:
    """The loss is zero at the target, and its gradient finite there, with either norm."""
    for euclid in ("mean-sq", "l2"):
        target = patchify(maps(0)[1], 2)
        prediction = target.clone().requires_grad_()
        config = PATCH2.with_overrides({"euclid": euclid})
        loss = reconstruction_loss(prediction, target, config).total
        loss.backward()
        assert abs(float(loss.detach())) < 1e-12
        assert prediction.grad is not None
        assert bool(prediction.grad.isfinite().all())


def test_target_receives_no_gradient() -> None:
    """The target is a constant: nothing flows into the features."""
    p, t = (patchify(x, 2).clone().requires_grad_() for x in maps(0))
    reconstruction_loss(p, t, PATCH2).total.backward()
    assert p.grad is not None
    assert t.grad is None


def test_shapes_must_agree() -> None:
    """Patch vectors of two shapes are refused, not broadcast."""
    p, t = maps(0)
    with pytest.raises(ParameterError, match="one shape"):
        reconstruction_loss(patchify(p, 2), patchify(t, 2)[:1], PATCH2)
