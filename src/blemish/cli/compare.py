"""`blemish compare`: what differs between a golden image and others, with no bundle at all."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli import _options as options
from blemish.cli._output import check_output, say, write_text
from blemish.errors import BlemishError, ImageError, ParameterError
from blemish.imaging import MAX_PIXELS

if TYPE_CHECKING:
    from blemish.compare import Comparer
    from blemish.verdict import Inspection


def compare(
    golden: Annotated[Path, typer.Argument(metavar="GOLDEN", help="The good image.")],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Aligned images of the same size.")
    ],
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE|-", help="One JSON object a line (stdout when piped)."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write an overlay of each image.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Scores above it fail. [default: 0.6; 0.65 for other networks, 1.3 for filterbank]"
        ),
    ] = None,
    backbone: options.Backbone = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            help="Side of the square view. [default: twice the longer side, at most 2048]",
        ),
    ] = None,
    settings: options.Set = None,
    device: options.Device = "auto",
    max_pixels: options.MaxPixels = MAX_PIXELS,
    quiet: options.Quiet = False,
) -> None:
    """Compare images with one golden image. Exit status: 0 all pass, 1 some fail, 2 some error."""
    from blemish.compare import EMBEDDED, Comparer
    from blemish.detectors import HETMM, parse_settings

    check_output(json_file, "--json")
    if out is not None and out.exists() and not out.is_dir():
        raise ParameterError(f"--out {out}: this is a file; give a folder")
    comparer = Comparer(
        golden,
        backbone=backbone or EMBEDDED,
        threshold=threshold,
        size=size,
        device=device,
        max_pixels=max_pixels,
        settings=parse_settings(HETMM, settings or []),
    )
    as_json = str(json_file) == "-" or (json_file is None and not sys.stdout.isatty())
    lines: list[str] = []
    for image in images:
        result = _compare(comparer, image, out)
        lines.append(json.dumps({**result, "golden": str(golden)}))
        if as_json:
            typer.echo(lines[-1])
        elif json_file is None:
            _show(result)
    if not as_json:
        write_text(json_file, "".join(line + "\n" for line in lines))
    verdicts = [json.loads(line)["verdict"] for line in lines]
    counts = ", ".join(
        f"{verdicts.count(name)} {name}" for name in ("pass", "fail", "error") if name in verdicts
    )
    say(f"{len(images)} compared with {golden.name}: {counts}", quiet=quiet or as_json)
    raise typer.Exit(2 if "error" in verdicts else 1 if "fail" in verdicts else 0)


def _compare(comparer: Comparer, image: Path, out: Path | None) -> dict[str, Any]:
    from blemish.verdict import error_to_dict

    try:
        result = comparer.compare(image)
        if out is not None:
            _write_overlay(comparer, image, out, result)
    except ImageError as error:
        return error_to_dict(str(image), error)
    return result.to_dict()


def _show(result: dict[str, Any]) -> None:
    from blemish.cli.inspect import STYLES

    label = typer.style(f"{result['verdict']:<6}", fg=STYLES[result["verdict"]], bold=True)
    if result["verdict"] == "error":
        typer.echo(f"{label} {result['error']['message']}")
        return
    typer.echo(f"{label} {result['image']}  score {result['score']:.4g}")
    for region in result["regions"]:
        typer.echo(f"       at {region['box']}  peak {region['peak']:.4g}")


def _write_overlay(comparer: Comparer, image: Path, out: Path, result: Inspection) -> None:
    from blemish.cli.inspect import overlay_name
    from blemish.imaging import atomic_write, encode_png, overlay

    target = out / overlay_name(image, image)
    picture = overlay(
        comparer.inspector.read(image),
        result.anomaly_map,
        threshold=result.threshold,
        regions=result.regions,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        atomic_write(target, encode_png(picture))
    except OSError as error:
        raise BlemishError(f"{target} could not be written ({error.strerror or error})") from error
