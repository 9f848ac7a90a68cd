"""The detectors there are, by the name of their method."""

from __future__ import annotations

from blemish.detector import Detector
from blemish.hetmm import HETMM
from blemish.tfanet import TFANet

DETECTORS: dict[str, type[Detector]] = {HETMM.method: HETMM, TFANet.method: TFANet}
