"""Location-free matching of one level in ONNX: hetmm/free.py's one product, row by row of pixels.

A row at a time keeps the product small: [M, W] and not [M, H W].
"""

from __future__ import annotations

import onnx
from torch import Tensor

from blemish.bundle import LevelRecord
from blemish.graphs.nodes import Nodes, tensor


def free_distances(nodes: Nodes, level: LevelRecord, components: Tensor | None) -> str:
    """Distances [h, w] in [0, 2]."""
    height, width = level.height, level.width
    flat = nodes.reshape(level.features, level.channels, height * width)
    pixels = nodes.add("Transpose", flat, perm=[1, 0])  # (h w, C)
    if components is not None:
        pixels = nodes.add("MatMul", pixels, nodes.constant(components.cpu().numpy()))
        pixels = nodes.unit(pixels)
    # Stored vectors are rounded; the query is rounded alike, so that a template finds itself.
    pixels = nodes.rounded(pixels, level.dtype)
    vectors = level.channels if components is None else components.shape[1]
    rows = nodes.reshape(pixels, height, width, vectors)
    body = _row_of_pixels(level, width, vectors)
    best = nodes.add("Scan", rows, body=body, num_scan_inputs=1)  # (h, w)
    return nodes.add("Sub", nodes.constant(1.0), best)


def _row_of_pixels(level: LevelRecord, width: int, vectors: int) -> onnx.GraphProto:
    """The largest cosines of one row of pixels [w, D] with all vectors."""
    prefix = f"row{level.level}_"
    nodes = Nodes(prefix)
    query = nodes.add("Transpose", f"{prefix}pixels", perm=[1, 0])
    cosines = nodes.add("MatMul", level.templates, query)  # (M, w)
    nodes.largest(cosines, 0, outputs=[f"{prefix}best"])
    return nodes.graph(
        f"{prefix}body",
        [tensor(f"{prefix}pixels", (width, vectors))],
        [tensor(f"{prefix}best", (width,))],
    )
