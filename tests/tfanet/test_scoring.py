"""Anomaly maps against scipy's filter and eq. 8 written out in NumPy."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from blemish.errors import ParameterError
from blemish.train.tfanet.presets import TFANetConfig
from blemish.train.tfanet.scoring import anomaly_maps, enlarge, image_scores

SIZE = (40, 56)


def pair(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and a reconstruction, [3, 5, 8, 8]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, 5, 8, 8, generator=generator), torch.rand(3, 5, 8, 8, generator=generator)


def up(maps: np.ndarray) -> np.ndarray:
    """Maps enlarged to SIZE by PyTorch."""
    tensor = torch.from_numpy(maps)[:, None]
    return F.interpolate(tensor, size=SIZE, mode="bilinear", align_corners=True)[:, 0].numpy()


def blur(maps: np.ndarray) -> np.ndarray:
    """Maps filtered by scipy, one by one."""
    return np.stack([gaussian_filter(one, sigma=4) for one in maps])


def terms(features: torch.Tensor, other: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """D and A of eq. 8 in NumPy."""
    f, g = features.double().numpy(), other.double().numpy()
    cosine = (f * g).sum(1) / (np.linalg.norm(f, axis=1) * np.linalg.norm(g, axis=1))
    return ((f - g) ** 2).mean(1), 1 - cosine


@pytest.mark.parametrize("sigma", [0.6, 4.0, 30.0])
@pytest.mark.parametrize("shape", [(32, 32), (17, 48)])
def test_filter_is_scipy_s(sigma: float, shape: tuple[int, int]) -> None:
    """The Gaussian equals scipy.ndimage's, borders and reach included, even past the border."""
    image = torch.rand(2, *shape, dtype=torch.float64)
    expected = np.stack([gaussian_filter(one, sigma) for one in image.numpy()])
    np.testing.assert_allclose(enlarge(image, shape, sigma).numpy(), expected, atol=1e-12)


def test_upsampling_is_bilinear_with_aligned_corners() -> None:
    """Without a filter, enlarging is F.interpolate's bilinear with aligned corners."""
    maps = torch.rand(2, 8, 6, dtype=torch.float64)
    np.testing.assert_allclose(enlarge(maps, SIZE, 0.0).numpy(), up(maps.numpy()), atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_release_order(seed: int) -> None:
    """Smooth-then-multiply: G(up D) times G(up A)."""
    distance, angle = terms(*pair(seed))
    got = anomaly_maps(*pair(seed), TFANetConfig(), size=SIZE)
    np.testing.assert_allclose(got.numpy(), blur(up(distance)) * blur(up(angle)), rtol=2e-5)


@pytest.mark.parametrize("seed", range(3))
def test_paper_order(seed: int) -> None:
    """Multiply-then-smooth with norms, as eq. 8 and the text after it: G(up(D A))."""
    features, other = pair(seed)
    _, angle = terms(features, other)
    norm = np.linalg.norm((features - other).double().numpy(), axis=1)
    config = TFANetConfig(euclid="l2", score_order="multiply-then-smooth")
    got = anomaly_maps(features, other, config, size=SIZE)
    np.testing.assert_allclose(got.numpy(), blur(up(norm * angle)), rtol=2e-5)


@pytest.mark.parametrize(
    ("score", "weights"), [("euclidean", (1, 0)), ("cosine", (0, 1)), ("sum5", (1, 5))]
)
def test_single_and_summed_maps(score: str, weights: tuple[int, int]) -> None:
    """Table 4's single maps, and the release's 5 A + D."""
    distance, angle = terms(*pair(0))
    config = TFANetConfig().with_overrides({"score": score})
    got = anomaly_maps(*pair(0), config, size=SIZE)
    expected = blur(up(weights[0] * distance + weights[1] * angle))
    np.testing.assert_allclose(got.numpy(), expected, rtol=2e-5)


def test_image_score_is_the_population_standard_deviation() -> None:
    """std divides by the number of pixels, as NumPy does; max is the map's largest value."""
    maps = torch.rand(4, 9, 7)
    std = image_scores(maps, TFANetConfig())
    top = image_scores(maps, TFANetConfig(image_score="max"))
    np.testing.assert_allclose(std.numpy(), maps.numpy().std(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(top.numpy(), maps.numpy().max(axis=(1, 2)))


def test_batch_changes_nothing() -> None:
    """An image's map is the same alone and in a batch."""
    features, other = pair(0)
    together = anomaly_maps(features, other, TFANetConfig(), size=SIZE)
    alone = anomaly_maps(features[1:2], other[1:2], TFANetConfig(), size=SIZE)
    torch.testing.assert_close(together[1:2], alone)


def test_further_from_the_reconstruction_is_worse() -> None:
    """The score grows where features leave their reconstruction, and is highest there."""
    features, _ = pair(0)
    changed = features.clone()
    changed[:, :, 2, 5] = changed[:, :, 2, 5].flip(1) + 1
    config = TFANetConfig(sigma=1.0)
    good = anomaly_maps(features + 0.01, features, config, size=(64, 64))
    bad = anomaly_maps(changed + 0.01, features, config, size=(64, 64))
    assert bool((image_scores(bad, config) > image_scores(good, config)).all())
    row, column = divmod(int(bad[0].argmax()), 64)
    assert (round(row * 7 / 63), round(column * 7 / 63)) == (2, 5)


def test_autocast_does_not_move_scores() -> None:
    """Scoring stays in float32 under autocast."""
    plain = anomaly_maps(*pair(0), TFANetConfig(), size=SIZE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = anomaly_maps(*pair(0), TFANetConfig(), size=SIZE)
    assert cast.dtype == torch.float32
    assert torch.equal(plain, cast)


def test_shapes_must_agree() -> None:
    """Features and reconstruction of two shapes are refused, not broadcast."""
    features, other = pair(0)
    with pytest.raises(ParameterError, match="one shape"):
        anomaly_maps(features, other[:1], TFANetConfig())
