"""Detectors as graphs that the line floor runs without PyTorch, held against it before use."""

from blemish.export.exporting import Export, export
from blemish.export.parity import Agreement

__all__ = ["Agreement", "Export", "export"]
