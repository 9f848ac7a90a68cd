"""`blemish calibrate`: thresholds for a promised rate, or by hand, or why one can't be promised."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli import _options as options
from blemish.cli._calibration import Confidence, ReviewRate, calibration_json, calibration_text
from blemish.cli._output import check_output, say, write_json
from blemish.cli._progress import progress_bar

DEFAULT_RATE = 0.01


def calibrate(
    bundle: Annotated[Path, typer.Argument(metavar="PART.blemish")],
    good: Annotated[
        Path | None,
        typer.Argument(
            metavar="[GOOD_DIR]", help="Good images; without it, what the bundle kept of them."
        ),
    ] = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of good parts that may be rejected. [default: 0.01, unless a threshold is "
            "given]"
        ),
    ] = None,
    confidence: Confidence = None,
    review_rate: ReviewRate = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Fail above this score, set by hand, which promises no rate."),
    ] = None,
    review_threshold: Annotated[
        float | None,
        typer.Option(
            help="Review above this score, set by hand. Alone, it leaves the threshold and its "
            "promise as they are."
        ),
    ] = None,
    by: options.By = None,
    note: options.Note = "",
    memory: options.LoadMemory = None,
    device: options.Device = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE|-", help="The calibration as JSON.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Set the thresholds: for a promised false-alarm rate, or by hand.

    A rate that cannot be promised is refused with the number of good parts it needs. Without
    GOOD_DIR the scores that were kept serve: nothing is learned or inspected again.
    """
    from blemish.inspector import Inspector
    from blemish.verdict import Rule

    check_output(json_file, "--json")
    rate = DEFAULT_RATE if false_alarm_rate is None else false_alarm_rate
    others = (good, false_alarm_rate, confidence, review_rate, threshold)
    review_alone = review_threshold is not None and all(other is None for other in others)
    # What contradicts itself is refused before the bundle is read.
    asked = rate if threshold is None else false_alarm_rate
    Rule(asked, confidence, review_rate, threshold, review_threshold)
    who = options.login_name() if by is None else by
    with (
        Inspector.changing(bundle, device=device, memory=memory) as inspector,
        progress_bar(quiet=quiet) as progress,
    ):
        if review_alone:
            assert review_threshold is not None
            inspector.set_review_threshold(review_threshold, by=who, note=note)
        elif threshold is not None:
            inspector.set_threshold(
                threshold,
                review=review_threshold,
                source=good,
                by=who,
                note=note,
                progress=progress,
            )
        else:
            inspector.calibrate(
                good,
                false_alarm_rate=rate,
                confidence=confidence,
                review_rate=review_rate,
                review_threshold=review_threshold,
                by=who,
                note=note,
                progress=progress,
            )
    calibration = inspector.calibration
    assert calibration is not None
    told = calibration_json(calibration)
    write_json(json_file, {"bundle": str(bundle), "version": inspector.version, **told})
    if str(json_file) != "-":
        say(
            f"{bundle} is now version {inspector.version}: threshold {calibration_text(told)}.",
            quiet=quiet,
        )
