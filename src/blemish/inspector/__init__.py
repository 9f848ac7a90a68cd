"""The inspector: learns, inspects, and changes from version to version."""

from blemish.bundle import HistoryEntry
from blemish.inspector.core import Inspector
from blemish.inspector.device import resolve_device
from blemish.inspector.saving import DETECTORS, bundle_name
from blemish.inspector.updating import Update

__all__ = [
    "DETECTORS",
    "HistoryEntry",
    "Inspector",
    "Update",
    "bundle_name",
    "resolve_device",
]
