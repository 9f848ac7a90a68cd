"""Metal Parts Defect Detection (Jezek et al., ICUMT 2021): MVTec AD's layout, six categories."""

from __future__ import annotations

from blemish.evaluation.datasets.mvtec import load

__all__ = ["load"]
