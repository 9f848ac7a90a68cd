"""`blemish calibrate`: a threshold for a false-alarm rate, or why it can't be promised."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli import _options as options
from blemish.cli._output import check_output, say, write_json
from blemish.cli._progress import progress_bar


def calibrate(
    bundle: Annotated[Path, typer.Argument(metavar="PART.blemish")],
    good: Annotated[
        Path | None,
        typer.Argument(
            metavar="[GOOD_DIR]", help="Good images; without it, what the bundle kept of them."
        ),
    ] = None,
    false_alarm_rate: Annotated[
        float, typer.Option(help="Share of good parts that may be rejected.")
    ] = 0.01,
    by: options.By = None,
    note: options.Note = "",
    memory: options.LoadMemory = None,
    device: options.Device = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE|-", help="The calibration as JSON.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Set the threshold for a false-alarm rate, or say why it cannot be promised."""
    from blemish.inspector import Inspector

    check_output(json_file, "--json")
    who = options.login_name() if by is None else by
    with (
        Inspector.changing(bundle, device=device, memory=memory) as inspector,
        progress_bar(quiet=quiet) as progress,
    ):
        inspector.calibrate(
            good, false_alarm_rate=false_alarm_rate, by=who, note=note, progress=progress
        )
    calibration = inspector.calibration
    assert calibration is not None
    write_json(
        json_file,
        {
            "bundle": str(bundle),
            "version": inspector.version,
            "method": calibration.method,
            "parts": len(calibration.scores),
            "false_alarm_rate": calibration.false_alarm_rate,
            "threshold": calibration.threshold,
        },
    )
    if str(json_file) != "-":
        say(
            f"{bundle} is now version {inspector.version}: threshold {calibration.threshold:.4g}, "
            f"at most {false_alarm_rate:.3g} of good parts like these are rejected "
            f"({calibration.method} scores of {len(calibration.scores)} good parts).",
            quiet=quiet,
        )
