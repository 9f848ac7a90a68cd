"""`blemish fit`: learn from a folder of good images, calibrate, save, summarise."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli import _options as options
from blemish.cli._output import check_output, say, write_json
from blemish.cli._progress import progress_bar
from blemish.imaging import MAX_PIXELS

if TYPE_CHECKING:
    from blemish.inspector import Inspector

DEFAULT_RATE = 0.01


def fit(
    good: Annotated[Path, typer.Argument(metavar="GOOD_DIR", help="A folder of good images.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="PART.blemish", help="The bundle to write.")
    ],
    method: options.Method = "hetmm",
    backbone: options.Backbone = None,
    sheets: options.Sheets = None,
    memory: options.Memory = None,
    windows: options.Windows = None,
    size: options.Size = 256,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    settings: options.Set = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of good parts that may be rejected. [default: 0.01, or the smallest that "
            "can be promised]"
        ),
    ] = None,
    bit_depth: options.BitDepth = None,
    max_pixels: options.MaxPixels = MAX_PIXELS,
    no_pictures: Annotated[
        bool,
        typer.Option(
            "--no-pictures",
            help="Keep no good images in the bundle; an update then needs some to calibrate on.",
        ),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE|-", help="The summary as JSON.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Learn what good parts look like, calibrate on them, and save a bundle."""
    from blemish.bundle import check_target
    from blemish.verdict import check_parts, parts_needed, smallest_rate

    check_target(output)
    check_output(json_file, "--json")
    inspector = options.build_inspector(
        method=method,
        backbone=backbone,
        sheets=sheets,
        memory=memory,
        windows=windows,
        size=size,
        device=device,
        seed=seed,
        settings=settings,
        bit_depth=bit_depth,
        max_pixels=max_pixels,
        keep_pictures=not no_pictures,
    )
    started = time.perf_counter()
    given = inspector.calibration_parts(good)
    if false_alarm_rate is not None:
        check_parts(given, false_alarm_rate)  # an asked promise is refused before the work
    with progress_bar(quiet=quiet) as progress:
        inspector.fit(good, by=options.login_name(), progress=progress)
        parts = inspector.calibration_parts()
        rate = false_alarm_rate or max(DEFAULT_RATE, smallest_rate(parts))
        inspector.calibrate(false_alarm_rate=rate, progress=progress)
    manifest = inspector.save(output)
    summary = _summary(inspector, output, time.perf_counter() - started)
    summary["bytes"] = sum(record.bytes for record in manifest.files.values())
    write_json(json_file, summary)
    if str(json_file) != "-":
        say(_text(summary), quiet=quiet)
        for name, value in inspector.detector.decisions().items():
            say(f"  {name:<10} {value}", quiet=quiet)
        if parts < given:
            say(f"  {given - parts} pictures were there more than once; once counts.", quiet=quiet)
        if rate > DEFAULT_RATE and false_alarm_rate is None:
            say(
                f"  For a rate of {DEFAULT_RATE:g}, show {parts_needed(DEFAULT_RATE)} good parts "
                f"or more.",
                quiet=quiet,
            )


def _summary(inspector: Inspector, output: Path, seconds: float) -> dict[str, Any]:
    calibration = inspector.calibration
    assert calibration is not None
    training = inspector.training
    return {
        "bundle": str(output),
        "method": inspector.detector.method,
        "backbone": inspector.detector.backbone_.name,
        "images": training.images,
        "templates": len(inspector.templates),
        "size": inspector.view.size,
        "learned": inspector.detector.learned(),
        "fit_seconds": round(training.seconds, 2),
        "seconds": round(seconds, 2),
        "calibration": {
            "method": calibration.method,
            "parts": len(calibration.scores),
            "false_alarm_rate": calibration.false_alarm_rate,
            "threshold": calibration.threshold,
        },
    }


def _text(summary: dict[str, Any]) -> str:
    calibration = summary["calibration"]
    return (
        f"Saved {summary['bundle']} ({summary['bytes'] / 1e6:.1f} MB, {summary['seconds']:.1f} s)\n"
        f"  learned    {summary['templates']} templates of {summary['images']} good images, "
        f"{summary['method']} on {summary['backbone']}, {summary['size']} px\n"
        f"  threshold  {calibration['threshold']:.4g}: at most "
        f"{calibration['false_alarm_rate']:.3g} of good parts like these are rejected\n"
        f"             ({calibration['method']} scores of {calibration['parts']} good parts)"
    )
