"""The transformer block TFA-Net stacks: pre-norm self-attention and a GELU perceptron (ViT, [27]).

Letters: B images, S tokens, Q queries kept, D width, h heads, d = D / h.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MLP_RATIO = 4


class Attention(nn.Module):
    """Multi-head self-attention with a fused query-key-value projection."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, queries: int | None = None) -> Tensor:
        """Tokens [B, S, D] to [B, Q, D]; the first `queries` tokens ask, all are asked."""
        q, k, v = self._split(x)
        y = attend(q[:, :, :queries], k, v)  # [B, h, Q, d]
        out: Tensor = self.out(y.transpose(1, 2).flatten(2))  # [B, Q, D]
        return out

    def probabilities(self, x: Tensor) -> Tensor:
        """Attention of tokens [B, S, D] as probabilities [B, h, S queries, S keys]."""
        q, k, _ = self._split(x)
        return torch.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, dim=-1)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        qkv = torch.unflatten(self.qkv(x), -1, (3, self.heads, -1))  # [B, S, 3, h, d]
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # 3 x [B, h, S, d]
        return q, k, v


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V of [B, h, Q, d] and twice [B, h, S, d]: [B, h, Q, d]."""
    if q.device.type != "cpu" or q.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(q, k, v)
    # PyTorch's fused kernel for bfloat16 on CPUs takes twice as long as three plain steps.
    with torch.autocast("cpu", enabled=False):
        probabilities = torch.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, dim=-1)
        return probabilities @ v


class Block(nn.Module):
    """One transformer block (TB)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, MLP_RATIO * dim), nn.GELU(), nn.Linear(MLP_RATIO * dim, dim)
        )

    def forward(self, x: Tensor, queries: int | None = None) -> Tensor:
        """Tokens [B, S, D] to the first `queries` of them, updated: [B, Q, D]."""
        x = x[:, :queries] + self.attention(self.norm1(x), queries)  # [B, Q, D]
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def probabilities(self, x: Tensor) -> Tensor:
        """This block's attention on tokens [B, S, D]: [B, h, S, S]."""
        return self.attention.probabilities(self.norm1(x))


def sincos_positions(side: int, dim: int, *, cls_token: bool) -> Tensor:
    """Fixed positions of a side x side grid, row-major: [(1 +) side^2, dim] (eq. 3: E_pos).

    A row is [sin(x w), cos(x w), sin(y w), cos(y w)] with x the column and
    w_i = 10000^(-i / (dim / 4)); the class token's row is zero.
    """
    quarter = dim // 4
    omega = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angle = torch.arange(side, dtype=torch.float64)[:, None] * omega  # [side, D/4]
    wave = torch.cat([angle.sin(), angle.cos()], dim=1)  # [side, D/2]
    x = wave[None, :, :].expand(side, side, -1)  # same in every row
    y = wave[:, None, :].expand(side, side, -1)  # same in every column
    table = torch.cat([x, y], dim=-1).flatten(0, 1).float()  # [side^2, D]
    return F.pad(table, (0, 0, 1, 0)) if cls_token else table
