"""The filter bank: a backbone that needs no weights, only the good images.

At strides 4, 8 and 16 (a pyramid by 2x averaging): energies of quadrature Gabor pairs at several
wavelengths and orientations on luminance and two opponent colours, averaged over 4x4 and
compressed by log(1 + 50 e); the three local means beside them; centred and PCA-whitened per level
on the good images. The recipe is DESIGN.md's; docs/filterbank.md keeps the table of what was tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.errors import NotFittedError, ParameterError
from blemish.features.backbone import Backbone

WAVELENGTHS = (4.0, 8.0)  # px
ORIENTATIONS = 8
POOL = 4  # px: energies are averaged over POOL x POOL, which gives level 1 its stride of 4
COMPRESSION = 50.0  # log(1 + COMPRESSION * energy): weak texture counts, strong edges saturate
EIGENVALUE_FLOOR = 1e-3  # of the largest: directions of mere noise are not blown up
CHANNELS = 3 * (len(WAVELENGTHS) * ORIENTATIONS + 1)


class FilterBank(Backbone):
    """Levels 1, 2, 3 at strides 4, 8, 16; each [B, 51, H_l, W_l], whitened on the good images."""

    kernels: Tensor

    def __init__(self, name: str = "filterbank", *, levels: Sequence[int] = (1, 2, 3)) -> None:
        if any(level not in (1, 2, 3) for level in levels):
            raise ParameterError(f"the filter bank has the levels 1, 2 and 3, not {list(levels)}")
        super().__init__(name, mean=(0.0,) * 3, std=(1.0,) * 3)
        self.levels = tuple(levels)
        self.register_buffer("kernels", gabor_kernels(), persistent=False)
        for level in self.levels:
            self.register_buffer(f"centre{level}", torch.zeros(CHANNELS))
            self.register_buffer(f"whiten{level}", torch.zeros(CHANNELS, CHANNELS))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    @property
    def needs_fit(self) -> bool:
        """Whether the whitening is still to be learned."""
        return not bool(self.get_buffer("fitted"))

    def fit(self, batches: Callable[[], Iterable[Tensor]]) -> Self:
        """Learn centre and whitening of each level in one pass; memory does not grow."""
        count = dict.fromkeys(self.levels, 0)
        total = {level: torch.zeros(CHANNELS, dtype=torch.float64) for level in self.levels}
        outer = {
            level: torch.zeros(CHANNELS, CHANNELS, dtype=torch.float64) for level in self.levels
        }
        for images in batches():
            for level, maps in zip(self.levels, self.energies(images), strict=True):
                vectors = maps.movedim(1, -1).reshape(-1, CHANNELS)  # (B*H*W, C)
                count[level] += len(vectors)
                total[level] += vectors.sum(0).double().cpu()
                outer[level] += (vectors.T @ vectors).double().cpu()
        for level in self.levels:
            centre = total[level] / count[level]
            covariance = outer[level] / count[level] - torch.outer(centre, centre)
            values, vectors = torch.linalg.eigh(covariance)
            values = values.clamp_min(EIGENVALUE_FLOOR * float(values[-1]))
            self.get_buffer(f"centre{level}").copy_(centre)
            self.get_buffer(f"whiten{level}").copy_((vectors / values.sqrt()).T)
        self.get_buffer("fitted").fill_(True)
        return self

    def run_in(self, dtype: torch.dtype) -> Self:
        """Stay in float32: whitening divides by small eigenvalues, where half precision drowns."""
        return self

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Whitened maps of RGB images in [0, 1]."""
        if self.needs_fit:
            raise NotFittedError("the filter bank has not seen good images yet; call fit first")
        return [
            # One 1x1 convolution centres and whitens: W (x - c) = W x - W c.
            F.conv2d(
                maps,
                (whiten := self.get_buffer(f"whiten{level}"))[:, :, None, None],
                -(whiten @ self.get_buffer(f"centre{level}")),
            )
            for level, maps in zip(self.levels, self.energies(images), strict=True)
        ]

    def energies(self, images: Tensor) -> list[Tensor]:
        """Gabor energies (compressed) and local means before whitening: [B, 51, H_l, W_l]."""
        planes = opponent_planes(images.float())
        maps = []
        for level in range(1, max(self.levels) + 1):
            if level > 1:
                planes = F.avg_pool2d(planes, 2)
            if level in self.levels:
                maps.append(self._energy_map(planes))
        return maps

    def _energy_map(self, planes: Tensor) -> Tensor:
        batch, colours, height, width = planes.shape
        radius = self.kernels.shape[-1] // 2
        # Reflection keeps a flat border flat; small pyramids cannot reflect further than they are.
        mode = "reflect" if min(height, width) > radius else "replicate"
        padded = F.pad(planes.reshape(batch * colours, 1, height, width), (radius,) * 4, mode=mode)
        even, odd = F.conv2d(padded, self.kernels).chunk(2, dim=1)  # (B*3, filters, H, W) each
        energy = F.avg_pool2d(torch.sqrt(even.square() + odd.square()), POOL)
        energy = torch.log1p(COMPRESSION * energy).reshape(batch, -1, *energy.shape[-2:])
        return torch.cat([energy, F.avg_pool2d(planes, POOL)], dim=1)


def opponent_planes(images: Tensor) -> Tensor:
    """RGB [B, 3, H, W] to luminance, R-G and (R+G)/2-B."""
    red, green, blue = images.unbind(1)
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack([luminance, red - green, (red + green) / 2 - blue], dim=1)


def gabor_kernels() -> Tensor:
    """Even then odd Gabor kernels, [2 * filters, 1, k, k]; sigma is half the wavelength."""
    radius = math.ceil(3 * max(WAVELENGTHS) / 2)
    axis = torch.arange(-radius, radius + 1, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    even, odd = [], []
    for wavelength in WAVELENGTHS:
        envelope = torch.exp(-(x**2 + y**2) / (2 * (wavelength / 2) ** 2))
        envelope /= envelope.sum()
        for step in range(ORIENTATIONS):
            angle = math.pi * step / ORIENTATIONS
            phase = 2 * math.pi / wavelength * (x * math.cos(angle) + y * math.sin(angle))
            cosine = envelope * phase.cos()
            even.append(cosine - envelope * cosine.sum())  # no answer to a flat surface
            odd.append(envelope * phase.sin())
    return torch.stack(even + odd).unsqueeze(1).float()
