"""Bundles for a line PC: another runtime or precision, held against the original before use."""

from blemish.export.exporting import Export, export
from blemish.export.parity import Agreement

__all__ = ["Agreement", "Export", "export"]
