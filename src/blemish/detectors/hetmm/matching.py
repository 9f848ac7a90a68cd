"""Affine-invariant template mutual matching (ATMM): one volume of cosines gives both directions.

Every query pixel is compared with every template pixel within a window, and back (Chen et al.,
HETMM, IJCV 2024; docs/methods/hetmm.md):

    forward   F(q) = 1 - max_k max_{|o| <= f//2} <T_k(q - o), Q(q)>
    backward  B(p) = 1 - max_k max_{|o| <= b//2} <T_k(p), Q(p + o)>

Both are maxima of V[p, o] = max_k <T_k(p), Q(p + o)>: for each template pixel one small product of
the query's patch around it with the vectors that the sheets hold there, and the maximum over the
sheets. That is three nodes of a graph, which ONNX Runtime runs on all cores; the same graph serves
every level, and location-free sets too.

Letters: P template pixels, K query pixels in reach of each, M query pixels, C channels, N sheets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blemish.bundle import Level
from blemish.detectors.maps import axis_matrix
from blemish.errors import ParameterError
from blemish.extras import load_train
from blemish.graphs.sessions import OnnxSession, Session

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]

BUFFER_BYTES = 16 << 20  # each array of a run: more pixels at a time take no less time each


class Matcher(Protocol):
    """Computes the largest cosines of query patches with templates."""

    def best(
        self, pixels: Floats, patches: Integers, templates: Floats, penalty: Floats | None = None
    ) -> Floats:
        """Give [P, K]: the largest of <pixels[patches[p, k]], templates[p, :, n]> over n.

        `pixels` [M, C], `patches` [P, K], `templates` [P, C, N]; `penalty` [P or 1, 1, N] is added
        to the cosines before, -inf to leave a template out.
        """
        ...


class GraphMatcher:
    """Matches on the processor, by a graph that ONNX Runtime runs."""

    def __init__(self, graph: bytes, where: str = "the match graph") -> None:
        self._plain: Session = OnnxSession(graph, where)

    def best(
        self, pixels: Floats, patches: Integers, templates: Floats, penalty: Floats | None = None
    ) -> Floats:
        """See `Matcher.best`."""
        inputs: dict[str, Any] = {"pixels": pixels, "patches": patches, "templates": templates}
        if penalty is None:
            return self._plain.run(inputs)["best"]
        return _leaving_out().run({**inputs, "penalty": penalty})["best"]


def make_matcher(graph: bytes, device: str = "auto") -> Matcher:
    """Make the matcher for a device: a GPU only where `cuda` or `cuda:N` is asked for.

    Raises MissingExtraError for a GPU without PyTorch, ParameterError for another device.
    """
    if device in ("auto", "cpu"):
        return GraphMatcher(graph)
    if not re.fullmatch(r"cuda(:[0-9]+)?", device):
        raise ParameterError(f"device is '{device}'; give auto, cpu, cuda or cuda:N")
    found: Matcher = load_train(
        "matching", f"matching on {device}", ", or use --device cpu"
    ).TorchMatcher(device)
    return found


def match_graph(*, penalty: bool = False) -> bytes:
    """Write the graph behind `GraphMatcher`; with `penalty` it takes what is added to cosines."""
    from onnx import TensorProto

    from blemish.graphs.nodes import Nodes, model, tensor, to_bytes

    nodes = Nodes()
    cosines = nodes.add("MatMul", nodes.add("Gather", "pixels", "patches", axis=0), "templates")
    inputs = [
        tensor("pixels", ("M", "C")),
        tensor("patches", ("P", "K"), TensorProto.INT32),
        tensor("templates", ("P", "C", "N")),
    ]
    if penalty:
        cosines = nodes.add("Add", cosines, "penalty")
        inputs.append(tensor("penalty", ("P or 1", 1, "N")))
    nodes.largest(cosines, 2, outputs=["best"])
    return to_bytes(model(nodes.graph("match", inputs, [tensor("best", ("P", "K"))])))


def map_graph(levels: Sequence[Level], hw: tuple[int, int], sigma: float) -> bytes:
    """Write the graph from the levels' distances [h, w] to `anomaly_map` [H, W].

    S = sum_l lambda_l A_l, each at the view's size and smoothed by the two matrices of `maps`. Its
    inputs have the names of the levels' features.
    """
    inputs = [(level.features, (level.height, level.width), level.weight) for level in levels]
    return _enlarging(inputs, hw, sigma)


def summed_map_graph(grid: tuple[int, int], hw: tuple[int, int], sigma: float) -> bytes:
    """Write the same from `summed`, the levels' sum [h, w] on a grid, which was normalised."""
    return _enlarging([("summed", grid, 1.0)], hw, sigma)


def _enlarging(
    inputs: Sequence[tuple[str, tuple[int, int], float]], hw: tuple[int, int], sigma: float
) -> bytes:
    """The graph that adds up maps of a name, size and weight at the view's size, smoothed."""
    from blemish.graphs.nodes import Nodes, model, tensor, to_bytes

    nodes = Nodes()
    total = ""
    for name, (height, width), weight in inputs:
        rows = nodes.constant(weight * axis_matrix(height, hw[0], sigma))
        columns = nodes.constant(axis_matrix(width, hw[1], sigma).T)
        enlarged = nodes.add("MatMul", nodes.add("MatMul", rows, name), columns)
        total = nodes.add("Add", total, enlarged) if total else enlarged
    nodes.add("Identity", total, outputs=["anomaly_map"])
    made = [tensor(name, size) for name, size, _ in inputs]
    return to_bytes(model(nodes.graph("map", made, [tensor("anomaly_map", hw)])))


@cache
def _leaving_out() -> Session:
    return OnnxSession(match_graph(penalty=True), "the match graph")


def volume(
    matcher: Matcher,
    query: Floats,
    band: Callable[[int, int], Floats],
    sheets: int,
    reach: int,
    penalty: Callable[[int, int], Floats] | None = None,
) -> Floats:
    """Compute V [H, W, n, n] (n = 2 reach + 1) of unit vectors `query` [C, H, W].

    `band(start, stop)` gives the templates [P, C, N] of map pixels, counted row by row, `penalty`
    theirs. Places of the query beyond the map are -inf.
    """
    channels, height, width = query.shape
    side = 2 * reach + 1
    padded = np.zeros((height + 2 * reach, width + 2 * reach, channels), np.float32)
    padded[reach : reach + height, reach : reach + width] = query.transpose(1, 2, 0)
    pixels = padded.reshape(-1, channels)
    patches, beyond = _patches(height, width, reach)
    found = np.empty((height * width, side * side), np.float32)
    patch = side * side
    # Of a pixel's cosines, patches and templates.
    largest = max(patch * sheets, patch * channels, channels * sheets)
    step = max(1, BUFFER_BYTES // (4 * largest))
    for start in range(0, height * width, step):
        stop = min(start + step, height * width)
        left_out = None if penalty is None else penalty(start, stop)
        templates = band(start, stop)
        found[start:stop] = matcher.best(pixels, patches[start:stop], templates, left_out)
    found[beyond] = -np.inf
    return found.reshape(height, width, side, side)


def backward_distances(cosines: Floats, radius: int) -> Floats:
    """Compute B [H, W] in [0, 2] from V: the best query pixel around each template pixel."""
    middle = cosines.shape[2] // 2
    near = slice(middle - radius, middle + radius + 1)
    found: Floats = 1 - cosines[:, :, near, near].max((2, 3))
    return found


def forward_distances(cosines: Floats, radius: int) -> Floats:
    """Compute F [H, W] in [0, 2] from V: the best template pixel around each query pixel."""
    height, width, side, _ = cosines.shape
    middle = side // 2
    best = np.full((height + 2 * radius, width + 2 * radius), -np.inf, np.float32)
    for down in range(2 * radius + 1):
        for right in range(2 * radius + 1):
            seen = best[down : down + height, right : right + width]
            offset = (middle - radius + down, middle - radius + right)
            np.maximum(seen, cosines[:, :, offset[0], offset[1]], out=seen)
    inside: Floats = 1 - best[radius : radius + height, radius : radius + width]
    return inside


@lru_cache(maxsize=16)
def _patches(height: int, width: int, reach: int) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """The padded map's pixels around each map pixel [H W, n n], and which lie beyond the map."""
    across = width + 2 * reach
    side = np.arange(2 * reach + 1)
    around = (side[:, None] * across + side).ravel()
    first = (np.arange(height)[:, None] * across + np.arange(width)).ravel()
    patches = (first[:, None] + around).astype(np.int32)
    inside = np.zeros((height + 2 * reach, across), np.bool_)
    inside[reach : reach + height, reach : reach + width] = True
    return patches, ~inside.ravel()[patches]
