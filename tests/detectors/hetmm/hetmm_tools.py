"""What tests of HETMM share: made-up vectors, sets of them, matching as loops, a small network."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.backbones import Backbone
from blemish.bundle import Level
from blemish.detectors import HETMM
from blemish.detectors.hetmm.matching import GraphMatcher, match_graph
from blemish.detectors.hetmm.templates import FreeSet, TemplateSet
from blemish.detectors.hetmm.vectors import MemoryVectors, Vectors
from blemish.graphs.nodes import Nodes, model, tensor, to_bytes

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]

# Products of unit vectors of a few channels, and 1 less them: some roundings of 2^-24 each.
CLOSE = 1e-6

# Settings by which the map is the levels' weighted distances, and the score its maximum: for what
# is told of matching itself, not of how good parts vary. Windows alone unless a test says more.
RAW: dict[str, Any] = {"windows": "manual", "normalise": False, "statistic": "max"}


def unit(*shape: int, seed: int = 0) -> Floats:
    """Random unit vectors [N, C, ...] along the second axis."""
    values = np.random.default_rng(seed).standard_normal(shape)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@cache
def matcher() -> GraphMatcher:
    """The matcher of every test that says nothing else."""
    return GraphMatcher(match_graph())


# Matching, one pixel, sheet and offset at a time


def near(row: int, column: int, size: tuple[int, int], reach: int) -> list[tuple[int, int]]:
    """The pixels of a map within `reach` of one."""
    rows = range(max(0, row - reach), min(size[0], row + reach + 1))
    columns = range(max(0, column - reach), min(size[1], column + reach + 1))
    return list(itertools.product(rows, columns))


def forward_by_loops(query: Floats, sheets: Floats, reach: int) -> Doubles:
    """F [H, W] of a query [C, H, W] and sheets [N, C, H, W], in float64."""
    q, bank = query.astype(np.float64), sheets.astype(np.float64)
    found = np.empty(q.shape[1:])
    for y, x in np.ndindex(found.shape):
        cosines = [
            sheet[:, row, column] @ q[:, y, x]
            for row, column in near(y, x, found.shape, reach)
            for sheet in bank
        ]
        found[y, x] = 1 - max(cosines)
    return found


def backward_by_loops(query: Floats, sheets: Floats, reach: int) -> Doubles:
    """B [H, W] of a query [C, H, W] and sheets [N, C, H, W], in float64."""
    q, bank = query.astype(np.float64), sheets.astype(np.float64)
    found = np.empty(q.shape[1:])
    for y, x in np.ndindex(found.shape):
        cosines = [
            sheet[:, y, x] @ q[:, row, column]
            for row, column in near(y, x, found.shape, reach)
            for sheet in bank
        ]
        found[y, x] = 1 - max(cosines)
    return found


def volume_by_loops(query: Floats, sheets: Floats, reach: int) -> Doubles:
    """V [H, W, n, n]: -inf where the query has no pixel."""
    q, bank = query.astype(np.float64), sheets.astype(np.float64)
    _, height, width = q.shape
    side = 2 * reach + 1
    found = np.full((height, width, side, side), -np.inf)
    for y, x in np.ndindex(height, width):
        for row, column in near(y, x, (height, width), reach):
            cosines = [sheet[:, y, x] @ q[:, row, column] for sheet in bank]
            found[y, x, row - y + reach, column - x + reach] = max(cosines)
    return found


# Template sets


def level_of(sheets: Floats, kind: str = "sheets", **settings: Any) -> Level:
    """A level for sheets [N, C, H, W]; both windows are 3 unless told."""
    _, channels, height, width = sheets.shape
    return Level.model_validate(
        {
            "number": 1, "kind": kind, "channels": channels, "height": height, "width": width,
            "features": "level1", "dtype": "float32", "forward": 1, "backward": 1, "alpha": 0.5,
            **settings,
        }
    )  # fmt: skip


def by_pixel(sheets: Floats) -> Floats:
    """Sheets [N, C, H, W] as vectors [P, C, N]."""
    count, channels = sheets.shape[:2]
    return np.ascontiguousarray(sheets.reshape(count, channels, -1).transpose(2, 1, 0))


def sheet_set(sheets: Floats, sources: Integers | None = None, **settings: Any) -> TemplateSet:
    """A set of sheets [N, C, H, W]; `sources` [N, H, W] for prototypes."""
    own = None
    if sources is not None:
        own = np.ascontiguousarray(sources.reshape(len(sources), -1).T, np.int32)
    return TemplateSet(level_of(sheets, **settings), MemoryVectors(by_pixel(sheets)), own)


def free_set(
    sheets: Floats, components: Floats | None = None, dtype: str = "float32", copies: int = 1
) -> FreeSet:
    """A location-free set of sheets [N, C, H, W], each a sample, or a copy of one."""
    level = level_of(sheets, "free", dtype=dtype, forward=None, backward=None)
    empty = FreeSet(level, np.empty((0, 0, 0)), np.empty(0), np.empty(0), components)
    vectors = empty.reduced(sheets)  # (N, P, D)
    count, pixels, length = vectors.shape
    sources = (np.arange(count, dtype=np.int32) // copies).repeat(pixels)
    first = (np.arange(count, dtype=np.int32) % copies)[:, None] * pixels
    places = (first + np.arange(pixels, dtype=np.int32)).ravel()
    return FreeSet.from_vectors(level, vectors.reshape(-1, length), sources, places, components)


def sheets_in(vectors: Vectors, height: int, width: int) -> Floats:
    """Vectors [P, C, N] as sheets [N, C, H, W]."""
    pixels, channels, count = vectors.shape
    return vectors.band(0, pixels).transpose(2, 1, 0).reshape(count, channels, height, width)


# A detector


@cache
def small_network() -> bytes:
    """A graph of three random layers with steps of 4, 8 and 16 pixels, which do not overlap."""
    nodes, rng = Nodes(), np.random.default_rng(0)
    value, outputs = "images", []
    for number, (channels, given, side) in enumerate([(8, 3, 4), (12, 8, 2), (16, 12, 2)], start=1):
        kernel = rng.standard_normal((channels, given, side, side)) / side
        value = nodes.add(
            "Conv", value, nodes.constant(kernel), kernel_shape=[side] * 2, strides=[side] * 2
        )
        value = nodes.add("Tanh", value, outputs=[f"map{number}"])
        shape = ("B", channels, f"h{number}", f"w{number}")
        outputs.append(tensor(f"map{number}", shape))
    graph = nodes.graph("small", [tensor("images", ("B", 3, "H", "W"))], outputs)
    return to_bytes(model(graph))


@cache
def small_backbone() -> Backbone:
    """That network; unlike the filter bank it does not depend on the good images."""
    outputs = {number: f"map{number}" for number in (1, 2, 3)}
    return Backbone(
        name="small", graph=small_network(), outputs=outputs, mean=(0.5,) * 3, std=(0.25,) * 3
    )


def fitted_with(
    images: Sequence[Floats],
    *,
    progress: Callable[[str, int, int], None] | None = None,
    seed: int = 0,
    band_map: Any = None,
    **settings: Any,
) -> HETMM:
    """A detector of these settings with the small backbone, fitted."""
    given = {} if progress is None else {"progress": progress}
    detector = HETMM(**settings).select_with(band_map)
    return detector.fit(images, seed=seed, backbone=small_backbone(), **given)
