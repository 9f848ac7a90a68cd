"""Random masking of input tokens, MAE-style: some are dropped, the template's all stay.

The paper names it in the abstract only and the release does not do it; it is MAE's way
(docs/methods/tfanet.md): drawn per image after embedding, in training alone, loss on every token.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from blemish.errors import ParameterError

RANDOM_RATIOS = tuple(step / 8 for step in range(8))
"""What `random` draws from. Eight sequence lengths, so that compiled graphs can be reused."""


def draw_ratio(ratio: float | Literal["random"], generator: torch.Generator) -> float:
    """This batch's share of dropped tokens: the fixed one, or one of RANDOM_RATIOS."""
    if ratio == "random":
        index = torch.randint(len(RANDOM_RATIOS), (), generator=generator)
        return RANDOM_RATIOS[int(index)]
    return ratio


def visible_tokens(batch: int, tokens: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Indices [B, M] of the tokens each image keeps, M = floor(N (1 - ratio)), at least one.

    Drawn where the generator lives: one on the CPU gives the same masks on every device.
    """
    if not 0 <= ratio < 1:
        raise ParameterError(f"The mask ratio must be at least 0 and below 1, got {ratio}.")
    left = max(1, int(tokens * (1 - ratio)))
    noise = torch.rand(batch, tokens, generator=generator, device=generator.device)
    return noise.argsort(dim=1)[:, :left]


def draw_mask(
    batch: int, tokens: int, ratio: float | Literal["random"], generator: torch.Generator
) -> Tensor | None:
    """One training batch's visible tokens [B, M]; None when nothing is dropped."""
    drawn = draw_ratio(ratio, generator)
    return visible_tokens(batch, tokens, drawn, generator) if drawn > 0 else None


def keep_tokens(tokens: Tensor, visible: Tensor) -> Tensor:
    """Tokens [B, N, D] at indices [B, M]: [B, M, D]."""
    index = visible.to(tokens.device)[..., None].expand(-1, -1, tokens.shape[-1])
    return tokens.gather(1, index)
