"""A calibration in JSON and in words, the same for every verb that sets one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from blemish.verdict import Calibration

Confidence = Annotated[
    float | None,
    typer.Option(
        "--confidence",
        help="Promise the rate with this confidence for the good parts at hand, e.g. 0.95, instead "
        "of on average.",
    ),
]
ReviewRate = Annotated[
    float | None,
    typer.Option(
        "--review-rate",
        help="Share of good parts that may not pass: those that do not fail go to review.",
    ),
]


def calibration_json(calibration: Calibration) -> dict[str, Any]:
    """What was promised, and what of the good parts behind it the thresholds would not pass."""
    return {
        "method": calibration.method,
        "parts": len(calibration.scores),
        "false_alarm_rate": calibration.false_alarm_rate,
        "threshold": calibration.threshold,
        "promise": calibration.promise,
        "confidence": calibration.confidence,
        "review_rate": calibration.review_rate,
        "review_threshold": calibration.review_threshold,
        "rejected": calibration.rejected,
        "reviewed": calibration.reviewed,
    }


def calibration_text(told: dict[str, Any]) -> str:
    """What `calibration_json` says in one line, to follow the word "threshold"."""
    parts, rate = told["parts"], told["false_alarm_rate"]
    text = f"{told['threshold']:.4g}: "
    if rate is None:
        text += "set by hand, nothing is promised"
        if parts:
            text += f"; it rejects {_share(told['rejected'], parts)} of these good parts"
    else:
        text += f"at most {rate:.3g} of good parts like these are rejected"
        if told["confidence"] is not None:
            text += f" with confidence {told['confidence']:g}"
    text += f" ({told['method']} scores of {parts} good parts)"
    if told["review_threshold"] is not None:
        text += f"; review above {told['review_threshold']:.4g}"
        if told["review_rate"] is not None:
            text += f": at most {told['review_rate']:.3g} are not passed"
        elif parts:
            text += f", where {_share(told['reviewed'], parts)} of them lie"
    return text


def _share(count: int, parts: int) -> str:
    return f"{count} ({count / parts:.1%})"
