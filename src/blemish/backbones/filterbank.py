"""The filter bank: a backbone that needs no weights, only the good images.

An image pyramid by 2x averaging; on each octave the energies of quadrature Gabor pairs (8
orientations, one wavelength) of luminance and two opponent colours. A level joins the energies of
its own octave and the next two, averaged to its stride and compressed by log(1 + 50 e), and the
three local means; then it is centred and PCA-whitened on the good images. docs/filterbank.md keeps
the table of what was tried.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.backbones.backbone import Backbone
from blemish.errors import ParameterError
from blemish.graphs.nodes import Nodes, model, tensor, to_bytes
from blemish.graphs.sessions import OnnxSession
from blemish.imaging import Progress, silent

WAVELENGTH = 4.0  # px of its octave: small kernels on each octave serve all wavelengths
ORIENTATIONS = 8
OCTAVES = 3  # wavelengths a level sees: 4, 8 and 16 px of its own octave
POOL = 4  # px: averaging over POOL x POOL gives level 1 its stride of 4
COMPRESSION = 50.0  # log(1 + COMPRESSION * energy): weak texture counts, strong edges saturate
EIGENVALUE_FLOOR = 1e-3  # of the largest: directions of mere noise are not blown up
SMALLEST_EIGENVALUE = 1e-8  # good images without any texture have no largest one to speak of
CHANNELS = 3 * (OCTAVES * ORIENTATIONS + 1)
LEVELS = (1, 2, 3)
# RGB to luminance, R-G and (R+G)/2-B.
_OPPONENT = [[0.299, 0.587, 0.114], [1.0, -1.0, 0.0], [0.5, 0.5, -1.0]]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FilterBank:
    """Levels 1, 2, 3 at strides 4, 8, 16, of 75 channels; `fit` whitens them on good images."""

    levels: tuple[int, ...] = LEVELS
    name: str = "filterbank"

    def __post_init__(self) -> None:
        if any(level not in LEVELS for level in self.levels):
            raise ParameterError(
                f"the filter bank has the levels 1, 2 and 3, not {list(self.levels)}"
            )

    def fit(
        self,
        images: Sequence[Floats],
        positions: Sequence[int],
        hw: tuple[int, int],
        progress: Progress = silent,
    ) -> Backbone:
        """Learn centre and whitening of each level from the images [H, W, 3] at `positions`.

        Gives the backbone for images of `hw` (height, width). One pass; memory does not grow, and
        in which order or batches the images come changes nothing that counts: the sums are float64.
        """
        session = OnnxSession(energies_graph(self.levels, hw), self.name)
        moments = {level: _Moments() for level in self.levels}
        stage = "learning the filter bank"
        progress(stage, 0, len(positions))
        for done, position in enumerate(positions, start=1):
            planes = np.ascontiguousarray(images[position].transpose(2, 0, 1))[None]
            found = session.run({"images": planes})
            for level, moment in moments.items():
                moment.add(found[f"map{level}"][0].reshape(CHANNELS, -1))
            progress(stage, done, len(positions))
        whitening = {level: moment.whitening() for level, moment in moments.items()}
        return Backbone(
            name=self.name,
            graph=energies_graph(self.levels, hw, whitening),
            outputs={level: f"map{level}" for level in self.levels},
            mean=(0.0,) * 3,
            std=(1.0,) * 3,
        )


class _Moments:
    """First and second moments of vectors, summed in float64."""

    def __init__(self) -> None:
        self._count = 0
        self._total: Doubles = np.zeros(CHANNELS)
        self._outer: Doubles = np.zeros((CHANNELS, CHANNELS))

    def add(self, vectors: Floats) -> None:
        """Take in vectors [C, M]."""
        exact = vectors.astype(np.float64)
        self._count += exact.shape[1]
        self._total += exact.sum(axis=1)
        self._outer += exact @ exact.T

    def whitening(self) -> tuple[Doubles, Doubles]:
        """The centre [C], and the matrix [C, C] that makes the covariance one."""
        centre = self._total / self._count
        covariance = self._outer / self._count - np.outer(centre, centre)
        values, vectors = np.linalg.eigh(covariance)
        floor = max(EIGENVALUE_FLOOR * float(values[-1]), SMALLEST_EIGENVALUE)
        # Symmetric (ZCA): where eigenvalues are nearly equal their axes may turn, this may not.
        return centre, (vectors / np.sqrt(values.clip(min=floor))) @ vectors.T


def energies_graph(
    levels: Sequence[int],
    hw: tuple[int, int],
    whitening: Mapping[int, tuple[Doubles, Doubles]] | None = None,
) -> bytes:
    """Write the graph from `images` [1, 3, H, W] (RGB in [0, 1]) to `map1`... [1, 75, H_l, W_l].

    They are Gabor energies (compressed) and local means, centred and whitened where `whitening` is
    given. Raises ParameterError for images that are too small.
    """
    height, width = hw
    stride = POOL << (max(levels) - 1)
    if min(hw) < stride:
        raise ParameterError(
            f"the filter bank's level {max(levels)} cannot see an image of {height}x{width} "
            f"pixels; use a size of at least {stride}"
        )
    nodes = Nodes()
    opponent = nodes.constant(np.array(_OPPONENT)[:, :, None, None])
    planes = [nodes.add("Conv", "images", opponent)]
    sides = [hw]
    for _ in range(max(levels) + OCTAVES - 2):
        planes.append(_averaged(nodes, planes[-1], 2))
        sides.append((sides[-1][0] // 2, sides[-1][1] // 2))
    octaves: dict[int, str] = {}
    outputs = []
    for level in levels:
        parts, shapes = [], []
        for step in range(OCTAVES):
            octave = level - 1 + step
            if octave not in octaves:
                octaves[octave] = _gabor_energy(nodes, planes[octave], sides[octave])
            # An octave further has half the resolution, so half the pooling gives the same grid.
            pool = POOL >> step
            energy = _averaged(nodes, octaves[octave], pool)
            scaled = nodes.add("Mul", energy, nodes.constant(COMPRESSION))
            parts.append(nodes.add("Log", nodes.add("Add", scaled, nodes.constant(1.0))))
            shapes.append((sides[octave][0] // pool, sides[octave][1] // pool))
        parts.append(_averaged(nodes, planes[level - 1], POOL))
        shapes.append((sides[level - 1][0] // POOL, sides[level - 1][1] // POOL))
        # Sizes that 2 does not divide round down once more an octave.
        grid = (min(rows for rows, _ in shapes), min(columns for _, columns in shapes))
        cropped = [
            part if shape == grid else nodes.part(part, (2, 3), 0, grid)
            for part, shape in zip(parts, shapes, strict=True)
        ]
        value = nodes.add("Concat", *cropped, axis=1)
        if whitening is not None:
            centre, matrix = whitening[level]
            # One 1x1 convolution centres and whitens: W (x - c) = W x - W c.
            value = nodes.add(
                "Conv", value, nodes.constant(matrix[:, :, None, None]),
                nodes.constant(-(matrix @ centre)),
            )  # fmt: skip
        nodes.add("Identity", value, outputs=[f"map{level}"])
        outputs.append(tensor(f"map{level}", (1, CHANNELS, *grid)))
    graph = nodes.graph("filterbank", [tensor("images", (1, 3, *hw))], outputs)
    return to_bytes(model(graph))


def _averaged(nodes: Nodes, value: str, side: int) -> str:
    if side == 1:
        return value
    return nodes.add("AveragePool", value, kernel_shape=[side] * 2, strides=[side] * 2)


def _gabor_energy(nodes: Nodes, planes: str, hw: tuple[int, int]) -> str:
    """sqrt(even^2 + odd^2) of each plane and orientation: [1, 24, H, W]."""
    kernels = gabor_kernels()  # [16, k, k]
    radius = kernels.shape[-1] // 2
    # Reflection keeps a flat border flat; small pyramids cannot reflect further than they are.
    mode = "reflect" if min(hw) > radius else "edge"
    pads = nodes.constant([0, 0, radius, radius] * 2, np.int64)
    padded = nodes.add("Pad", planes, pads, mode=mode)
    answers: list[Any] = []
    for part in (kernels[:ORIENTATIONS], kernels[ORIENTATIONS:]):  # even, odd
        each_plane = nodes.constant(np.tile(part, (3, 1, 1))[:, None])
        answer = nodes.add("Conv", padded, each_plane, group=3)
        answers.append(nodes.add("Mul", answer, answer))
    return nodes.add("Sqrt", nodes.add("Add", *answers))


def gabor_kernels() -> Doubles:
    """Even then odd Gabor kernels, [2 * 8, k, k]; sigma is half the wavelength."""
    sigma = WAVELENGTH / 2
    radius = math.ceil(3 * sigma)
    axis = np.arange(-radius, radius + 1, dtype=np.float64)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    envelope = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    envelope /= envelope.sum()
    even, odd = [], []
    for step in range(ORIENTATIONS):
        angle = math.pi * step / ORIENTATIONS
        phase = 2 * math.pi / WAVELENGTH * (x * math.cos(angle) + y * math.sin(angle))
        cosine = envelope * np.cos(phase)
        even.append(cosine - envelope * cosine.sum())  # no answer to a flat surface
        odd.append(envelope * np.sin(phase))
    return np.stack(even + odd)
