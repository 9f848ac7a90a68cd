"""`blemish export`: a bundle for the line, compared with the original on one's own images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli import _options as options
from blemish.cli._output import check_output, say, write_json
from blemish.cli._progress import progress_bar
from blemish.errors import ParameterError

if TYPE_CHECKING:
    from blemish.bundle import Precision, Runtime
    from blemish.export import Export

RUNTIMES: dict[str, Runtime] = {"onnx": "onnxruntime", "openvino": "openvino"}
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")


def export(
    bundle: Annotated[Path, typer.Argument(metavar="PART.blemish")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="The bundle to write.")
    ],
    to: Annotated[
        str, typer.Option("--to", help="onnx (ONNX Runtime, always there) or openvino.")
    ] = "onnx",
    precision: Annotated[
        str,
        typer.Option(
            "--precision", help="float32, int8, or bfloat16 (openvino, where the processor has it)."
        ),
    ] = "float32",
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="DIR",
            help="Images to compare on, and to scale int8 on where the bundle kept none: then good "
            "ones. [default: good images that the bundle kept]",
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            "--test",
            metavar="DIR",
            help="A folder with good/ and folders of defects: the AUROC before and after.",
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Largest difference of a map allowed, of its largest value. [default: 0.001 in "
            "float32, 0.05 in bfloat16, 0.5 in int8]"
        ),
    ] = None,
    by: options.By = None,
    device: options.Device = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE|-", help="What was measured, as JSON.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Write a bundle of graphs for the line, after a parity check that fails past tolerance."""
    from blemish.inspector import Inspector

    check_output(json_file, "--json")
    if to not in RUNTIMES:
        raise ParameterError(f"--to {to}: it must be one of {', '.join(RUNTIMES)}")
    chosen = next((name for name in PRECISIONS if name == precision), None)
    if chosen is None:
        raise ParameterError(f"--precision {precision}: it must be {', '.join(PRECISIONS)}")
    if tolerance is not None and not tolerance > 0:
        raise ParameterError(f"--tolerance {tolerance}: give a number above 0")
    if output.absolute() == bundle.absolute():
        raise ParameterError(f"--output {output}: it is the bundle itself; give another name")
    inspector = Inspector.load(bundle, device=device)
    who = options.login_name() if by is None else by
    with progress_bar(quiet=quiet) as progress:
        done: Export = inspector.export(
            output,
            to=RUNTIMES[to],
            precision=chosen,
            images=images,
            tolerance=tolerance,
            by=who,
            progress=progress,
        )
    summary = _summary(bundle, output, done)
    if test is not None:
        summary["test"] = _on_test_images(inspector, Inspector.load(output), test)
    write_json(json_file, summary)
    if str(json_file) != "-":
        say(_text(summary), quiet=quiet)


def _summary(bundle: Path, output: Path, done: Export) -> dict[str, Any]:
    agreement, graphs = done.agreement, done.manifest.graphs
    calibration = done.manifest.calibration
    assert graphs is not None
    before, after = agreement.milliseconds
    return {
        "bundle": str(output),
        "from": str(bundle),
        "version": done.manifest.version,
        "runtime": graphs.runtime,
        "precision": graphs.precision,
        "images": agreement.images,
        "largest_difference": agreement.largest,
        "relative_difference": agreement.relative,
        "tolerance": None if graphs.parity is None else graphs.parity.tolerance,
        "flips": [vars(flip) for flip in agreement.flips],
        "recalibrated": done.recalibrated,
        "threshold": None if calibration is None else calibration.threshold,
        "ms_per_image": {"original": round(before, 2), "graphs": round(after, 2)},
        "bytes": sum(record.bytes for record in done.manifest.files.values()),
    }


def _on_test_images(before: Any, after: Any, folder: Path) -> dict[str, Any]:
    """Image AUROC of the bundle and of its export, and the verdicts that differ."""
    from blemish.evaluation.metrics import auroc
    from blemish.imaging import expand

    paths = expand(folder, recursive=True)
    labels = [int(path.relative_to(folder).parts[0] != "good") for path in paths]
    if len(set(labels)) < 2:
        raise ParameterError(
            f"--test {folder}: an AUROC needs images in {folder / 'good'} and in another folder"
        )
    results = [(before.inspect(path), after.inspect(path)) for path in paths]
    flips = [
        str(path)
        for path, (one, other) in zip(paths, results, strict=True)
        if one.verdict != other.verdict
    ]
    return {
        "images": len(paths),
        "image_auroc": {
            "original": auroc(labels, [one.score for one, _ in results]),
            "graphs": auroc(labels, [other.score for _, other in results]),
        },
        "flips": flips,
    }


def _text(summary: dict[str, Any]) -> str:
    spent, flips = summary["ms_per_image"], len(summary["flips"])
    size, difference = summary["bytes"] / 1e6, summary["relative_difference"]
    saved = f"{size:.1f} MB, {summary['runtime']}, {summary['precision']}"
    verdicts = "" if summary["threshold"] is None else f", {flips} with another verdict"
    parity = f"{summary['images']} images{verdicts}; maps differ by up to"
    allowed = f"{difference:.2g} of the largest value (allowed {summary['tolerance']:g})"
    lines = [
        f"Saved {summary['bundle']} ({saved})",
        f"  parity     {parity} {summary['largest_difference']:.2g}, {allowed}",
        f"  time       view to map {spent['graphs']:.0f} ms, before {spent['original']:.0f} ms",
    ]
    if summary["recalibrated"]:
        lines.append("  threshold  set again by the export's scores, for the same false-alarm rate")
    if summary["threshold"] is None:
        lines.append(
            "  threshold  none, so that all is review: set it on good parts with blemish calibrate "
            f"{summary['bundle']} GOOD_DIR"
        )
    if "test" in summary:
        test = summary["test"]
        auroc = test["image_auroc"]
        lines.append(
            f"  test       {test['images']} images: AUROC {100 * auroc['original']:.2f}, of the "
            f"export {100 * auroc['graphs']:.2f}; {len(test['flips'])} other verdicts"
        )
    return "\n".join(lines)
