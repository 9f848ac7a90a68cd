"""The filter bank: a backbone that needs no weights, only the good images.

An image pyramid by 2x averaging; on each octave the energies of quadrature Gabor pairs (8
orientations, one wavelength) of luminance and two opponent colours. A level joins the energies of
its own octave and the next two, averaged to its stride and compressed by log(1 + 50 e), and the
three local means; then it is centred and PCA-whitened on the good images. docs/filterbank.md keeps
the table of what was tried.
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

WAVELENGTH = 4.0  # px of its octave: small kernels on each octave serve all wavelengths
ORIENTATIONS = 8
OCTAVES = 3  # wavelengths a level sees: 4, 8 and 16 px of its own octave
POOL = 4  # px: averaging over POOL x POOL gives level 1 its stride of 4
COMPRESSION = 50.0  # log(1 + COMPRESSION * energy): weak texture counts, strong edges saturate
EIGENVALUE_FLOOR = 1e-3  # of the largest: directions of mere noise are not blown up
SMALLEST_EIGENVALUE = 1e-8  # good images without any texture have no largest one to speak of
CHANNELS = 3 * (OCTAVES * ORIENTATIONS + 1)


class FilterBank(Backbone):
    """Levels 1, 2, 3 at strides 4, 8, 16; each [B, 75, H_l, W_l], whitened on the good images."""

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
        """Learn centre and whitening of each level in one pass; memory does not grow.

        Image by image and in float64: a covariance is a small difference of large sums, and
        whitening divides by its smallest eigenvalues, so rounding that depends on how images come
        in batches would be seen in every distance (docs/numerics.md).
        """
        count = dict.fromkeys(self.levels, 0)
        total = {level: torch.zeros(CHANNELS, dtype=torch.float64) for level in self.levels}
        outer = {
            level: torch.zeros(CHANNELS, CHANNELS, dtype=torch.float64) for level in self.levels
        }
        for image in (image for images in batches() for image in torch.split(images, 1)):
            for level, maps in zip(self.levels, self.energies(image), strict=True):
                vectors = maps[0].flatten(1).T.cpu().double()  # (H*W, C)
                count[level] += len(vectors)
                total[level] += vectors.sum(0)
                outer[level] += vectors.T @ vectors
        for level in self.levels:
            centre = total[level] / count[level]
            covariance = outer[level] / count[level] - torch.outer(centre, centre)
            values, vectors = torch.linalg.eigh(covariance)
            floor = max(EIGENVALUE_FLOOR * float(values[-1]), SMALLEST_EIGENVALUE)
            values = values.clamp_min(floor)
            self.get_buffer(f"centre{level}").copy_(centre)
            self.get_buffer(f"whiten{level}").copy_((vectors / values.sqrt()).T)
        self.get_buffer("fitted").fill_(True)
        return self

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Whitened maps of RGB images in [0, 1]."""
        # While a graph is traced for export the flag has no value that could be asked for.
        if not torch.compiler.is_compiling() and self.needs_fit:
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
        """Gabor energies (compressed) and local means before whitening: [B, 75, H_l, W_l]."""
        stride = POOL << (max(self.levels) - 1)
        if min(images.shape[-2:]) < stride:
            raise ParameterError(
                f"the filter bank's level {max(self.levels)} cannot see an image of "
                f"{images.shape[-2]}x{images.shape[-1]} pixels; use a size of at least {stride}"
            )
        planes = [opponent_planes(images.float())]
        for _ in range(max(self.levels) + OCTAVES - 2):
            planes.append(F.avg_pool2d(planes[-1], 2))
        first = min(self.levels) - 1
        octaves = {i: self._gabor_energy(planes[i]) for i in range(first, len(planes))}
        maps = []
        for level in self.levels:
            means = F.avg_pool2d(planes[level - 1], POOL)
            # An octave further has half the resolution, so half the pooling gives the same grid.
            pooled = [
                F.avg_pool2d(octaves[level - 1 + step], POOL >> step) for step in range(OCTAVES)
            ]
            joined = [*(torch.log1p(COMPRESSION * energy) for energy in pooled), means]
            # Sizes that 2 does not divide round down once more an octave.
            height = min(each.shape[-2] for each in joined)
            width = min(each.shape[-1] for each in joined)
            maps.append(torch.cat([each[..., :height, :width] for each in joined], dim=1))
        return maps

    def _gabor_energy(self, planes: Tensor) -> Tensor:
        """sqrt(even^2 + odd^2) of each plane and orientation: [B, 24, H, W]."""
        batch, colours, height, width = planes.shape
        radius = self.kernels.shape[-1] // 2
        # Reflection keeps a flat border flat; small pyramids cannot reflect further than they are.
        mode = "reflect" if min(height, width) > radius else "replicate"
        padded = F.pad(planes.reshape(batch * colours, 1, height, width), (radius,) * 4, mode=mode)
        even, odd = F.conv2d(padded, self.kernels).chunk(2, dim=1)  # (B*3, 8, H, W) each
        return torch.sqrt(even.square() + odd.square()).reshape(batch, -1, height, width)


def opponent_planes(images: Tensor) -> Tensor:
    """RGB [B, 3, H, W] to luminance, R-G and (R+G)/2-B."""
    red, green, blue = images.unbind(1)
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack([luminance, red - green, (red + green) / 2 - blue], dim=1)


def gabor_kernels() -> Tensor:
    """Even then odd Gabor kernels, [2 * 8, 1, k, k]; sigma is half the wavelength."""
    sigma = WAVELENGTH / 2
    radius = math.ceil(3 * sigma)
    axis = torch.arange(-radius, radius + 1, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    envelope = torch.exp(-(x**2 + y**2) / (2 * sigma**2))
    envelope /= envelope.sum()
    even, odd = [], []
    for step in range(ORIENTATIONS):
        angle = math.pi * step / ORIENTATIONS
        phase = 2 * math.pi / WAVELENGTH * (x * math.cos(angle) + y * math.sin(angle))
        cosine = envelope * phase.cos()
        even.append(cosine - envelope * cosine.sum())  # no answer to a flat surface
        odd.append(envelope * phase.sin())
    return torch.stack(even + odd).unsqueeze(1).float()
