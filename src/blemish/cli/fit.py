"""`blemish fit`: learn from a folder of good images, calibrate, save, summarise."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from blemish.cli import _options as options
from blemish.cli._calibration import Confidence, ReviewRate, calibration_json, calibration_text
from blemish.cli._output import check_output, say, write_json
from blemish.cli._processes import one_voice, tells
from blemish.cli._progress import progress_bar
from blemish.errors import CalibrationError, ParameterError
from blemish.imaging import MAX_PIXELS, Progress, silent

if TYPE_CHECKING:
    from blemish.inspector import Inspector

DEFAULT_RATE = 0.01


def fit(
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="PART.blemish", help="The bundle to write; see --table."
        ),
    ],
    good: Annotated[
        Path | None, typer.Argument(metavar="[GOOD_DIR]", help="A folder of good images.")
    ] = None,
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
    golden: options.Golden = None,
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
    defects: Annotated[
        int,
        typer.Option(
            "--defects",
            min=0,
            help="Synthetic defects laid on good parts to tell what is found; 0: none.",
        ),
    ] = 180,
    table: Annotated[
        Path | None,
        typer.Option(
            "--table",
            metavar="FILE",
            help="Many parts, one a row (CSV, JSONL, Parquet; columns name, good and these "
            "options): -o is the folder of their bundles.",
        ),
    ] = None,
    engine: options.Engine = "local",
    num_workers: options.NumWorkers = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE|-", help="The summary as JSON.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Learn what good parts look like, calibrate on them, and save a bundle; or many, by a table.

    With --table the exit status is 2 when some part failed; the others are done.
    """
    asked = options.FitOptions(
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
        golden=golden,
        tile=tile,
        false_alarm_rate=false_alarm_rate,
        confidence=confidence,
        review_rate=review_rate,
        defects=defects,
    )
    check_output(json_file, "--json")
    if (good is None) == (table is None):
        raise ParameterError("give a folder of good images, or --table with a row for each part")
    if table is not None:
        _fit_table(table, output, asked, engine, num_workers, json_file, quiet)
    if num_workers is not None or engine != "local":
        raise ParameterError("--engine and --num-workers go with --table; leave them out")
    assert good is not None
    with one_voice(), progress_bar(quiet=quiet or not tells()) as progress:
        found = learned(good, output, asked, progress)
    if found is None:
        return
    summary, remarks = found
    write_json(json_file, summary)
    if str(json_file) != "-":
        say("\n".join([_text(summary), *(f"  {remark}" for remark in remarks)]), quiet=quiet)


def learned(
    good: Path, output: Path, asked: options.FitOptions, progress: Progress = silent
) -> tuple[dict[str, Any], list[str]] | None:
    """Learn, calibrate and save by the options `asked`; the summary, and remarks for people.

    None in a process that has only trained along: the first one tells.
    """
    from blemish.bundle import check_target
    from blemish.verdict import Rule

    check_target(output)
    inspector = asked.build()
    began = time.perf_counter()
    given = inspector.calibration_parts(good)
    # What cannot be promised is refused before the work.
    wanted, confidence = asked.false_alarm_rate, asked.confidence
    rate = wanted if wanted is not None else _least(given, confidence)
    Rule(rate, confidence, asked.review_rate).check(given)
    first = inspector.detector.start(asked.device)
    inspector.fit(good, by=options.login_name(), progress=progress if first else silent)
    if not first:
        return None
    parts = inspector.calibration_parts()
    if wanted is None:
        rate = _least(parts, confidence)
    inspector.calibrate(
        false_alarm_rate=rate, confidence=confidence, review_rate=asked.review_rate,
        progress=progress,
    )  # fmt: skip
    finds, advice = _detection(inspector, asked.defects, progress)
    manifest = inspector.save(output)
    summary = _summary(inspector, output, time.perf_counter() - began)
    summary["bytes"] = sum(record.bytes for record in manifest.files.values())
    remarks = []
    if inspector.align_choice is not None:
        remarks.append(f"align      {inspector.align_choice}")
    remarks += [f"{name:<10} {value}" for name, value in inspector.detector.decisions().items()]
    remarks += finds
    summary["detection"] = None if inspector.detection is None else inspector.detection.to_dict()
    summary["advice"] = advice
    if parts < given:
        remarks.append(f"{given - parts} pictures were there more than once; once counts.")
    if rate > DEFAULT_RATE and wanted is None:
        needed = Rule(DEFAULT_RATE, confidence).needed
        remarks.append(f"For a rate of {DEFAULT_RATE:g}, show {needed} good parts or more.")
    return summary, remarks


def _detection(
    inspector: Inspector, trials: int, progress: Progress
) -> tuple[list[str], list[str]]:
    """What synthetic defects are found, in lines, and what would help where that is little."""
    if not trials:
        return [], []
    from blemish.inspector.detection import remedies

    try:
        found = inspector.study_detection(trials=trials, seed=inspector.seed, progress=progress)
    except CalibrationError as error:  # there is nothing to lay defects on
        return [f"finds      {error}"], []
    first, second = found.summary
    lines = [f"finds      {first}", f"passes     {second}"]
    advice = remedies(inspector.snapshot(), progress) if found.poor else []
    if advice:
        lines.append("That is little; what would help:")
        lines += [f"  - {each}" for each in advice]
    return lines, advice


def _fit_table(
    table: Path,
    folder: Path,
    asked: options.FitOptions,
    engine: str,
    workers: int | None,
    json_file: Path | None,
    quiet: bool,
) -> NoReturn:
    """Fit every row of a table; ends the command with its status."""
    from blemish.cli import _table

    with progress_bar(quiet=quiet) as progress:
        rows = _table.fit_table(
            table, folder, asked, engine=engine, workers=workers, progress=progress
        )
    write_json(json_file, rows)
    if str(json_file) != "-":
        say(_table.text(rows, folder), quiet=quiet)
    raise typer.Exit(2 if any(row["status"] == "failed" for row in rows) else 0)


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
        "backbone": inspector.detector.backbone_record.name,
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
