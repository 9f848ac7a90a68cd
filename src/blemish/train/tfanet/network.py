"""TFA-Net's network: aggregate the input's features onto a template's, refine, reconstruct.

Luo, Yao, Yu, "Template-Based Feature Aggregation Network for Industrial Anomaly Detection",
sections 3.2 to 3.4 and Algorithm 1; details the paper leaves out are in docs/methods/tfanet.md.

Letters, the paper's where it has one:
    B  images            C  channels of the fused features (1856 for WideResNet-50)
    T  templates         H = W  the fused features' side (64)
    K  patch side        N = (H / K)^2  patches of one image
    D  width of TFAM     E  width of FDRM
    M  input tokens left after masking (N at inference)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blemish.errors import ParameterError
from blemish.train.tfanet.attention import Block, sincos_positions
from blemish.train.tfanet.masking import keep_tokens
from blemish.train.tfanet.presets import TFANetConfig


def fuse(levels: list[Tensor], grid: int = 64, *, normalize: bool = False) -> Tensor:
    """The multiple hierarchical fusion feature phi(I) of eq. 1 and 2: [B, C, grid, grid].

    `levels` are the backbone's maps [B, C_l, H_l, W_l]; `normalize` scales each pixel's
    feature to length one, as the release does for the 101-layer backbones.
    """
    resized = [
        level
        if level.shape[-2:] == (grid, grid)
        else F.interpolate(level, size=(grid, grid), mode="bilinear", align_corners=True)
        for level in levels
    ]
    fused = torch.cat(resized, dim=1)
    return F.normalize(fused, dim=1) if normalize else fused


def patchify(features: Tensor, patch: int) -> Tensor:
    """Features [B, C, H, W] as patch vectors [B, N, K K C], ordered (row, column, channel)."""
    H, W = features.shape[-2:]
    rows = torch.unflatten(features, 3, (W // patch, patch))  # [B, C, H, w, K]
    cells = torch.unflatten(rows, 2, (H // patch, patch))  # [B, C, h, K, w, K]
    return cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # [B, N, K K C]


def unpatchify(patches: Tensor, patch: int) -> Tensor:
    """The inverse of `patchify`, for a square grid: [B, N, K K C] to [B, C, H, W]."""
    side = int(patches.shape[1] ** 0.5)
    cells = patches.reshape(len(patches), side, side, patch, patch, -1)  # [B, h, w, K, K, C]
    return cells.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)  # [B, C, H, W]


class TFANet(nn.Module):
    """Input and template features [., C, H, W] to the reconstruction [B, C, H, W] (Algorithm 1).

    The variants of Fig. 8 and section 4.3.4 differ only in which stream survives TFAM and in
    whether FDRM follows:
        tfa         C, the paper's: keeps the template tokens, then FDRM
        keep_input  A: "discards template features and retains input features", then FDRM
        no_fdrm     B: "without FDRM": the head reads TFAM's template tokens
        plain       the vanilla ViT of 4.3.4: no template; the input tokens pass all blocks
    """

    def __init__(self, channels: int, config: TFANetConfig) -> None:
        super().__init__()
        self.channels, self.config = channels, config
        K, D, E = config.patch, config.dim, config.fdrm_dim
        self.side = config.grid // K
        self.tokens = self.side**2  # N
        self.trim = True
        """Skip what the result does not need (last block's dropped queries); off for counting."""

        self.embed = nn.Conv2d(channels, D, kernel_size=K, stride=K)
        self.cls = nn.Parameter(torch.zeros(1, 1, D)) if config.cls_token else None
        self._add_positions("positions", D)
        self.tfam = nn.ModuleList(Block(D, config.heads) for _ in range(config.depth))
        self.tfam_norm = nn.LayerNorm(D)

        self.has_fdrm = config.variant != "no_fdrm"
        if self.has_fdrm:
            self.project = nn.Linear(D, E)
            self._add_positions("fdrm_positions", E)
            self.fdrm = nn.ModuleList(Block(E, config.fdrm_heads) for _ in range(config.fdrm_depth))
            self.fdrm_norm = nn.LayerNorm(E)
        self.head = nn.Linear(E if self.has_fdrm else D, K * K * channels)
        self._initialise()

    def forward(
        self,
        features: Tensor,
        template: Tensor | None = None,
        *,
        template_tokens: Tensor | None = None,
        visible: Tensor | None = None,
    ) -> Tensor:
        """The reconstructed features, [B, C, H, W]; the arguments are those of `reconstruct`."""
        patches = self.reconstruct(
            features, template, template_tokens=template_tokens, visible=visible
        )
        return unpatchify(patches, self.config.patch)

    def reconstruct(
        self,
        features: Tensor,
        template: Tensor | None = None,
        *,
        template_tokens: Tensor | None = None,
        visible: Tensor | None = None,
    ) -> Tensor:
        """The reconstruction as patch vectors [B, N, K K C], as the loss takes it.

        features: phi(I), [B, C, H, W]; template: phi(I_T), [T, C, H, W], or instead its
        `template_tokens` from `encode_template`; visible: indices [B, M] of the input tokens
        left by masking, all by default.
        """
        kept, other = self._streams(features, template, template_tokens, visible)
        return self._decode(kept, other)

    def reconstruct_tokens(self, inputs: Tensor, template_tokens: Tensor | None) -> Tensor:
        """The same from the input's patches as the convolution embeds them, [B, N, D].

        For an exported graph, which embeds in a way of its own.
        """
        return self._decode(*self._ordered(self._placed(inputs), template_tokens))

    def _decode(self, kept: Tensor, other: Tensor | None) -> Tensor:
        x = self._aggregate(kept, other)
        if self.has_fdrm:
            x = self._refine(x)
        if not self.trim:
            return self._patches_only(self.head(x))  # the class token passes the head, unused
        patches: Tensor = self.head(self._patches_only(x))  # [B, N, K K C]
        return patches

    def encode_template(self, template: Tensor) -> Tensor:
        """Template features [T, C, H, W] to tokens [1, T N, D]: constant once trained (eq. 4)."""
        return self._embed(template).flatten(0, 1)[None]

    @torch.no_grad()
    def attention_maps(
        self,
        features: Tensor,
        template: Tensor | None = None,
        *,
        template_tokens: Tensor | None = None,
        reduce: Literal["max", "sum"] = "max",
    ) -> Tensor:
        """How strongly the template asks for each input patch, [B, H / K, W / K] (Fig. 7).

        Attention probabilities (template queries x input keys), averaged over heads and blocks,
        then over template queries: their maximum (the release) or sum (the paper's text).
        """
        if not self.config.uses_template:
            raise ParameterError("The plain ViT variant has no template to draw attention from.")
        if reduce not in ("max", "sum"):
            raise ParameterError(f"Attention maps reduce by 'max' or 'sum', not '{reduce}'.")
        template_first = self.config.variant != "keep_input"
        kept, other = self._streams(features, template, template_tokens, None)
        x: Tensor = self._sequence(kept, other)
        start = int(self.config.cls_token)
        middle = start + kept.shape[1]
        first, second = slice(start, middle), slice(middle, None)
        asking, asked = (first, second) if template_first else (second, first)
        total = torch.zeros((), dtype=x.dtype, device=x.device)
        for block in cast("list[Block]", list(self.tfam)):
            total = total + block.probabilities(x)[:, :, asking, asked].mean(dim=1)
            x = block(x)
        mean = total / len(self.tfam)  # [B, T N, N]
        reduced = mean.amax(dim=1) if reduce == "max" else mean.sum(dim=1)
        return torch.unflatten(reduced, 1, (self.side, self.side))

    # Algorithm 1, step by step --------------------------------------------------------------

    def _embed(self, features: Tensor) -> Tensor:
        """Step 1, eq. 3 and 4: features [B, C, H, W] to tokens with positions [B, N, D]."""
        H, C = self.config.grid, self.channels
        if features.dim() != 4 or tuple(features.shape[1:]) != (C, H, H):
            raise ParameterError(
                f"TFA-Net expects features of shape [B, {C}, {H}, {H}], got "
                f"{list(features.shape)}; fuse the backbone's levels with the same grid."
            )
        return self._placed(self.embed(features).flatten(2).transpose(1, 2))

    def _placed(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, D] with their positions added."""
        return tokens + self._patches_only(self.positions)

    def _streams(
        self,
        features: Tensor,
        template: Tensor | None,
        template_tokens: Tensor | None,
        visible: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """The tokens that survive TFAM, and those only asked there."""
        inputs = self._embed(features)  # [B, N, D]
        if visible is not None:
            if self.config.variant in ("keep_input", "plain"):
                raise ParameterError(
                    f"TFA-Net variant '{self.config.variant}' cannot mask input tokens: "
                    "it reconstructs from them."
                )
            inputs = keep_tokens(inputs, visible)  # [B, M, D]
        if template_tokens is None and template is not None and self.config.uses_template:
            template_tokens = self.encode_template(template)
        return self._ordered(inputs, template_tokens)

    def _ordered(
        self, inputs: Tensor, template_tokens: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Of input tokens and the template's, what is kept first."""
        if not self.config.uses_template:
            return inputs, None
        if template_tokens is None:
            raise ParameterError("TFA-Net needs the template's features or its tokens.")
        templates = template_tokens.expand(len(inputs), -1, -1)  # [B, T N, D]
        return (inputs, templates) if self.config.variant == "keep_input" else (templates, inputs)

    def _sequence(self, kept: Tensor, other: Tensor | None) -> Tensor:
        """Step 2: E_cat. Attention is blind to order, so what is kept comes first."""
        parts = [kept] if other is None else [kept, other]
        if self.cls is not None:
            parts.insert(0, self.cls.expand(len(kept), -1, -1))
        return torch.cat(parts, dim=1)  # [B, 1 + T N + M, D]

    def _aggregate(self, kept: Tensor, other: Tensor | None) -> Tensor:
        """Steps 3 and 4, TFAM: [B, 1 + N, D] after the other stream is discarded."""
        x, left = self._sequence(kept, other), int(self.config.cls_token) + kept.shape[1]
        *blocks, last = self.tfam
        for block in blocks:
            x = block(x)
        x = last(x, left) if self.trim else last(x)
        return self._average_templates(self.tfam_norm(x)[:, :left])

    def _average_templates(self, x: Tensor) -> Tensor:
        """Several templates' tokens of one position become their mean; one passes unchanged."""
        copies = x.shape[1] // self.tokens
        if copies == 1:
            return x
        patches = torch.unflatten(self._patches_only(x), 1, (copies, self.tokens)).mean(dim=1)
        return torch.cat([x[:, : int(self.config.cls_token)], patches], dim=1)

    def _refine(self, x: Tensor) -> Tensor:
        """Step 5, FDRM: [B, 1 + N, D] to [B, 1 + N, E]."""
        x = self.project(x) + self.fdrm_positions
        for block in self.fdrm:
            x = block(x)
        refined: Tensor = self.fdrm_norm(x)
        return refined

    def _patches_only(self, x: Tensor) -> Tensor:
        """Without the class token, which is row 0 of the token axis."""
        return x[..., 1:, :] if self.config.cls_token else x

    # Making ---------------------------------------------------------------------------------

    positions: Tensor
    fdrm_positions: Tensor

    def _add_positions(self, name: str, dim: int) -> None:
        table = sincos_positions(self.side, dim, cls_token=self.config.cls_token)
        # Fixed by the options, so never saved.
        self.register_buffer(name, table.to(self.embed.weight.device), persistent=False)

    def _initialise(self) -> None:
        """Begin as the release does: Xavier uniform, biases 0; the convolution keeps its own."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.embed.weight.view(self.config.dim, -1))
        if self.cls is not None:
            nn.init.normal_(self.cls, std=0.02)


def check_fits(state: Mapping[str, Tensor], tokens: Tensor | None, config: TFANetConfig) -> None:
    """Raise ParameterError unless tensors are those of a network with these options.

    `tokens` are the template's. Nothing is allocated, however large the options are.
    """
    with torch.device("meta"):
        network = TFANet(int(state["embed.weight"].shape[1]), config)
    expected = {name: list(value.shape) for name, value in network.state_dict().items()}
    found = {name: list(value.shape) for name, value in state.items()}
    if config.uses_template:
        expected["template_tokens"] = [1, config.templates * network.tokens, config.dim]
        found["template_tokens"] = [] if tokens is None else list(tokens.shape)
    if found != expected:
        name = min(key for key in found.keys() | expected if found.get(key) != expected.get(key))
        raise ParameterError(
            f"the network's tensor '{name}' is of shape {found.get(name)}, its options give "
            f"{expected.get(name)}"
        )


def build_network(channels: int, config: TFANetConfig) -> TFANet:
    """A fresh network whose weights depend on `config.seed` alone, not on the global state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return TFANet(channels, config)
