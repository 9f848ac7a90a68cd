"""Verdicts: calibration by a promise or by hand, regions, and the result of an inspection."""

from blemish.verdict.calibration import Calibration, Verdict
from blemish.verdict.conformal import (
    check_parts,
    conformal_threshold,
    p_value,
    parts_needed,
    smallest_rate,
)
from blemish.verdict.detection import Detection
from blemish.verdict.inspection import Inspection, Judgement, error_to_dict, judge
from blemish.verdict.regions import MOST_TOLD, Nearest, Region, find_regions
from blemish.verdict.rounding import ROUNDING, rounded_up
from blemish.verdict.rule import Promise, Rule, least_rate
from blemish.verdict.tolerance import (
    check_tolerance,
    tolerance_parts,
    tolerance_rank,
    tolerance_rate,
    tolerance_threshold,
)

__all__ = [
    "MOST_TOLD",
    "ROUNDING",
    "Calibration",
    "Detection",
    "Inspection",
    "Judgement",
    "Nearest",
    "Promise",
    "Region",
    "Rule",
    "Verdict",
    "check_parts",
    "check_tolerance",
    "conformal_threshold",
    "error_to_dict",
    "find_regions",
    "judge",
    "least_rate",
    "p_value",
    "parts_needed",
    "rounded_up",
    "smallest_rate",
    "tolerance_parts",
    "tolerance_rank",
    "tolerance_rate",
    "tolerance_threshold",
]
