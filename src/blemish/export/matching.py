"""HETMM's matching as an ONNX graph, with the templates as inputs.

An update changes the inputs only, so it needs no new graph. The formulas and letters are those of
hetmm/matching.py; each level's part of the graph is in tiles.py or free.py.
"""

from __future__ import annotations

import numpy as np
import torch

from blemish.bundle import LevelRecord
from blemish.export.free import free_distances
from blemish.graphs.nodes import Dimension, Nodes, model, tensor, to_bytes
from blemish.export.spec import graph_spec
from blemish.export.tiles import tile_distances
from blemish.detectors import HETMM
from blemish.detectors.hetmm.bank import TILE
from blemish.detectors.hetmm.free import FreeBank
from blemish.maps import axis_matrix


def match_graph(detector: HETMM, size: tuple[int, int]) -> bytes:
    """Features and templates in, the anomaly map [1, H, W] of `size` (H, W) out.

    Inputs are each level's features [1, C, h, w] and templates, as `graph_spec` names them.
    """
    spec = graph_spec(detector, size)
    nodes = Nodes()
    banks = dict(zip(detector.levels, detector.banks_, strict=True))
    total = ""
    for level in spec.levels:
        bank = banks[level.level]
        if isinstance(bank, FreeBank):
            distances = free_distances(nodes, level, bank.components)
        else:
            distances = tile_distances(nodes, level)
        enlarged = _enlarge(nodes, distances, level, size, detector.sigma, level.weight)
        total = nodes.add("Add", total, enlarged) if total else enlarged
    nodes.add("Unsqueeze", total, nodes.constant([0], np.int64), outputs=[spec.anomaly_map])
    inputs = []
    for level in spec.levels:
        inputs.append(tensor(level.features, (1, level.channels, level.height, level.width)))
        inputs.append(tensor(level.templates, _templates_shape(level, banks[level.level])))
    outputs = [tensor(spec.anomaly_map, (1, *size))]
    return to_bytes(model(nodes.graph("match", inputs, outputs)))


def _templates_shape(level: LevelRecord, bank: object) -> tuple[Dimension, ...]:
    if isinstance(bank, FreeBank):
        return f"M{level.level}", bank.vectors.shape[1]
    rows, columns = -(-level.height // TILE), -(-level.width // TILE)
    return rows, columns, TILE * TILE, f"N{level.level}", level.channels


def _enlarge(
    nodes: Nodes,
    distances: str,
    level: LevelRecord,
    size: tuple[int, int],
    sigma: float,
    weight: float,
) -> str:
    """`weight` times distances [h, w] at the view's size, smoothed: maps.py's two matrices."""
    rows = weight * axis_matrix(level.height, size[0], sigma)
    columns = axis_matrix(level.width, size[1], sigma)
    left = nodes.constant(_array(rows))
    right = nodes.constant(_array(columns.T))
    return nodes.add("MatMul", nodes.add("MatMul", left, distances), right)


def _array(matrix: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return matrix.numpy().astype(np.float32)
