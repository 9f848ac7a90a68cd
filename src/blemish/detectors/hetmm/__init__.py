"""HETMM: template mutual matching, training-free (Chen, Xie, Yang, Lai; IJCV 2024)."""

from blemish.detectors.hetmm.detector import HETMM
from blemish.detectors.hetmm.settings import HetmmConfig

__all__ = ["HETMM", "HetmmConfig"]
