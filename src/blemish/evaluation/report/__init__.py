"""The evaluation report: one HTML file with every figure, and the cases that explain them.

It opens without a network and without a script; pictures and charts are inside the file.
"""

from __future__ import annotations

from blemish.evaluation.report.cases import Explain
from blemish.evaluation.report.explaining import Explanations, explain_with
from blemish.evaluation.report.page import write_report

__all__ = ["Explain", "Explanations", "explain_with", "write_report"]
