"""`blemish fit`: learn from a folder of good images, calibrate, save, summarise."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli import _options as options
from blemish.cli._calibration import Confidence, ReviewRate, calibration_json, calibration_text
from blemish.cli._output import check_output, say, write_json
from blemish.cli._processes import one_voice
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
    align: options.Align = "none",
    aspect: options.Aspect = "stretch",
    roi: options.Roi = None,
    ignore: options.Ignore = None,
    tile: options.Tile = None,
    device: options.Device = "auto",
    devices: options.Devices = None,
    nodes: options.Nodes = None,
    seed: options.Seed = 0,
    settings: options.Set = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of good parts that may be rejected. [default: 0.01, or the smallest that "
            "can be promised]"
        ),
    ] = None,
    confidence: Confidence = None,
    review_rate: ReviewRate = None,
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
    from blemish.learning import started
    from blemish.verdict import Rule

    check_output(json_file, "--json")
    began = time.perf_counter()
    with one_voice():
        check_target(output)
        inspector = options.build_inspector(
            method=method,
            backbone=backbone,
            sheets=sheets,
            memory=memory,
            windows=windows,
            size=size,
            device=device,
            devices=devices,
            nodes=nodes,
            seed=seed,
            settings=settings,
            bit_depth=bit_depth,
            max_pixels=max_pixels,
            keep_pictures=not no_pictures,
            align=align,
            aspect=aspect,
            roi=roi,
            ignore=ignore,
            tile=tile,
        )
        given = inspector.calibration_parts(good)
        # What cannot be promised is refused before the work.
        rate = false_alarm_rate if false_alarm_rate is not None else _least(given, confidence)
        Rule(rate, confidence, review_rate).check(given)
        first = started(inspector.detector, device)
    with one_voice(), progress_bar(quiet=quiet or not first) as progress:
        inspector.fit(good, by=options.login_name(), progress=progress)
        if not first:
            return
        parts = inspector.calibration_parts()
        if false_alarm_rate is None:
            rate = _least(parts, confidence)
        inspector.calibrate(
            false_alarm_rate=rate,
            confidence=confidence,
            review_rate=review_rate,
            progress=progress,
        )
    manifest = inspector.save(output)
    summary = _summary(inspector, output, time.perf_counter() - began)
    summary["bytes"] = sum(record.bytes for record in manifest.files.values())
    write_json(json_file, summary)
    if str(json_file) != "-":
        say(_text(summary), quiet=quiet)
        if inspector.align_choice is not None:
            say(f"  align      {inspector.align_choice}", quiet=quiet)
        for name, value in inspector.detector.decisions().items():
            say(f"  {name:<10} {value}", quiet=quiet)
        if parts < given:
            say(f"  {given - parts} pictures were there more than once; once counts.", quiet=quiet)
        if rate > DEFAULT_RATE and false_alarm_rate is None:
            say(
                f"  For a rate of {DEFAULT_RATE:g}, show {Rule(DEFAULT_RATE, confidence).needed} "
                "good parts or more.",
                quiet=quiet,
            )


def _least(parts: int, confidence: float | None) -> float:
    """0.01, or the smallest rate that so many good parts can promise."""
    from blemish.verdict import least_rate

    return max(DEFAULT_RATE, least_rate(parts, confidence)) if parts else DEFAULT_RATE


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
        "calibration": calibration_json(calibration),
    }


def _text(summary: dict[str, Any]) -> str:
    return (
        f"Saved {summary['bundle']} ({summary['bytes'] / 1e6:.1f} MB, {summary['seconds']:.1f} s)\n"
        f"  learned    {summary['templates']} templates of {summary['images']} good images, "
        f"{summary['method']} on {summary['backbone']}, {summary['size']} px\n"
        f"  threshold  {calibration_text(summary['calibration'])}"
    )
