"""The inspector: learns, inspects, and changes from version to version."""

from blemish.bundle import HistoryEntry
from blemish.inspector.core import Inspector
from blemish.inspector.saving import bundle_name
from blemish.inspector.updating import Update

__all__ = [
    "HistoryEntry",
    "Inspector",
    "Update",
    "bundle_name",
]
