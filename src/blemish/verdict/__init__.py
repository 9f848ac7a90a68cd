"""Verdicts: conformal calibration, regions, and the result of an inspection."""

from blemish.verdict.calibration import Calibration, Verdict
from blemish.verdict.conformal import (
    check_parts,
    conformal_threshold,
    p_value,
    parts_needed,
    smallest_rate,
)
from blemish.verdict.inspection import Inspection, error_to_dict, judge
from blemish.verdict.regions import Region, find_regions

__all__ = [
    "Calibration",
    "Inspection",
    "Region",
    "Verdict",
    "check_parts",
    "conformal_threshold",
    "error_to_dict",
    "find_regions",
    "judge",
    "p_value",
    "parts_needed",
    "smallest_rate",
]
