"""HETMM: training-free template mutual matching (Chen, Xie, Yang, Lai; IJCV 2024)."""

from blemish.hetmm.detector import HETMM

__all__ = ["HETMM"]
