"""Detectors as ONNX graphs, which the line floor runs without PyTorch."""

from blemish.export.features import features_graph
from blemish.export.matching import match_graph
from blemish.export.spec import GraphSpec, LevelSpec, graph_spec

__all__ = ["GraphSpec", "LevelSpec", "features_graph", "graph_spec", "match_graph"]
