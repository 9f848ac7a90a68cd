"""Random masking of input tokens."""

import pytest
import torch

from blemish.errors import ParameterError
from blemish.train.tfanet.masking import (
    RANDOM_RATIOS,
    draw_mask,
    draw_ratio,
    keep_tokens,
    visible_tokens,
)


def seeded(seed: int) -> torch.Generator:
    """A CPU generator at this seed."""
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("tokens", "ratio", "left"), [(256, 0.25, 192), (256, 0.75, 64), (9, 0.5, 4), (4, 0.9, 1)]
)
def test_drops_the_asked_share(tokens: int, ratio: float, left: int) -> None:
    """floor(N (1 - r)) tokens stay, at least one, each once."""
    visible = visible_tokens(3, tokens, ratio, seeded(0))
    assert visible.shape == (3, left)
    assert all(len(set(row)) == left for row in visible.tolist())
    assert 0 <= int(visible.min()) <= int(visible.max()) < tokens


@pytest.mark.parametrize("seed", range(5))
def test_seed_decides_and_images_differ(seed: int) -> None:
    """One seed gives one mask; two images of a batch, and two seeds, get different ones."""
    first = visible_tokens(2, 64, 0.5, seeded(seed))
    assert torch.equal(first, visible_tokens(2, 64, 0.5, seeded(seed)))
    assert not torch.equal(first, visible_tokens(2, 64, 0.5, seeded(seed + 100)))
    assert set(first[0].tolist()) != set(first[1].tolist())


def test_every_token_is_dropped_equally_often() -> None:
    """Over many draws no position is favoured."""
    visible = visible_tokens(4000, 16, 0.5, seeded(1))
    share = torch.bincount(visible.flatten(), minlength=16) / 4000
    assert torch.allclose(share, torch.full((16,), 0.5), atol=0.05)


def test_keeps_the_indexed_tokens() -> None:
    """Row m of the result is the token at index m, per image."""
    tokens = torch.rand(2, 6, 3)
    visible = torch.tensor([[5, 0], [2, 3]])
    kept = keep_tokens(tokens, visible)
    assert torch.equal(kept[0], tokens[0, [5, 0]])
    assert torch.equal(kept[1], tokens[1, [2, 3]])


def test_random_ratios_are_all_drawn() -> None:
    """`random` draws every ratio of its list, and a fixed ratio draws nothing."""
    generator = seeded(3)
    assert {draw_ratio("random", generator) for _ in range(200)} == set(RANDOM_RATIOS)
    before = generator.get_state()
    assert draw_ratio(0.25, generator) == 0.25
    assert torch.equal(before, generator.get_state())


def test_no_mask_without_a_ratio() -> None:
    """Ratio 0 masks nothing: no indices at all."""
    assert draw_mask(2, 16, 0.0, seeded(0)) is None


@pytest.mark.parametrize("ratio", [-0.1, 1.0])
def test_impossible_ratio_is_refused(ratio: float) -> None:
    """A ratio outside 0 to 1 raises ParameterError."""
    with pytest.raises(ParameterError, match="mask ratio"):
        visible_tokens(1, 16, ratio, seeded(0))
