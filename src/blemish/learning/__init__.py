"""The learning floor behind an inspector: PyTorch detectors fitted, restored and run as engines."""

from blemish.hetmm import HETMM
from blemish.learning.device import resolve_device
from blemish.learning.engine import TorchEngine, detector_of
from blemish.learning.fitting import Fitted, fitted, started
from blemish.learning.registry import DETECTORS
from blemish.learning.restoring import restored

__all__ = [
    "DETECTORS",
    "Fitted",
    "HETMM",
    "TorchEngine",
    "detector_of",
    "fitted",
    "resolve_device",
    "restored",
    "started",
]
