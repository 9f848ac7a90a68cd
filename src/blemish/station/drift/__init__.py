"""Drift: whether the last parts, and how the camera sees them, are still as at calibration."""

from blemish.station.drift.watching import DriftWatch

__all__ = ["DriftWatch"]
