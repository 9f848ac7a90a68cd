"""`blemish explain`: what a detector sees in an image, and which templates it was compared with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli import _options as options
from blemish.cli._output import check_output, say, write_json
from blemish.errors import ParameterError
from blemish.imaging import MAX_PIXELS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from blemish.inspector import Inspector
    from blemish.verdict import Inspection

MOST_REGIONS = 5  # more pictures than this explain nothing more


def explain(
    bundle: Annotated[Path, typer.Argument(metavar="PART.blemish")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="The folder for the pictures."),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at",
            metavar="X,Y",
            help="A pixel of the image to explain; repeatable. [default: the regions, or the "
            "map's highest point]",
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE|-", help="What matched where, as JSON."),
    ] = None,
    memory: options.LoadMemory = None,
    device: options.Device = "auto",
    max_pixels: options.MaxPixels = MAX_PIXELS,
    quiet: options.Quiet = False,
) -> None:
    """Show what the method sees in one image: one PNG each, all in one sheet, and what matched."""
    from blemish.inspector import Inspector

    if output is None and json_file is None:
        raise ParameterError("explain needs --output DIR for pictures, --json FILE|-, or both")
    if output is not None and output.exists() and not output.is_dir():
        raise ParameterError(f"--output {output}: this is a file; give a folder")
    check_output(json_file, "--json")
    asked = [_point(text) for text in at or []]
    inspector = Inspector.load(bundle, device=device, max_pixels=max_pixels, memory=memory)
    result = inspector.inspect(image)
    places = _places(inspector, result, asked)
    viewed = inspector.view.apply(inspector.raster(image))
    report = _report(inspector, viewed, result, places)
    if output is not None:
        points = [tuple(place["view"]) for place in places]
        pictures = inspector.detector.explain(viewed, inspector.template_pictures(), points)
        _write(output, image.stem, pictures)
        say(f"Wrote {', '.join(pictures)}, sheet of {image.name} to {output}", quiet=quiet)
    write_json(json_file, report)
    if json_file is None and not quiet:
        _show(report)


def _point(text: str) -> tuple[int, int]:
    try:
        x, y = (int(part) for part in text.split(","))
    except ValueError as error:
        raise ParameterError(f"--at {text}: give a pixel as X,Y, for example 120,64") from error
    return x, y


def _places(
    inspector: Inspector, result: Inspection, asked: list[tuple[int, int]]
) -> list[dict[str, Any]]:
    """Where to look: `at` (pixel of the image), `view` (pixel of the view), region's `box`."""
    import numpy as np

    assert result.image_size is not None
    height, width = result.image_size
    rows, columns = result.anomaly_map.shape
    found: list[dict[str, Any]] = []
    for x, y in asked:
        if not (0 <= x < width and 0 <= y < height):
            raise ParameterError(
                f"--at {x},{y}: the image is {width} x {height} pixels, counted from 0"
            )
        found.append({"at": [x, y], "view": [x * columns // width, y * rows // height]})
    if asked:
        return found
    peaks: list[tuple[float, list[int] | None]]
    peaks = [(region.peak, list(region.box)) for region in result.regions[:MOST_REGIONS]]
    for value, box in peaks or [(float(result.anomaly_map.max()), None)]:
        # A region's peak is one of the map's own values, so it can be found by it.
        y, x = np.argwhere(result.anomaly_map == np.float32(value))[0]
        left, top, _, _ = inspector.view.to_source((int(x), int(y), 1, 1), (height, width))
        found.append({"at": [left, top], "view": [int(x), int(y)], "box": box})
    return found


def _report(
    inspector: Inspector,
    viewed: npt.NDArray[np.float32],
    result: Inspection,
    places: list[dict[str, Any]],
) -> dict[str, Any]:
    """The result, and for each place the map's value and its witnesses."""
    from blemish.detectors import HETMM
    from blemish.detectors.hetmm.explain import find_witnesses

    points = [(place["view"][0], place["view"][1]) for place in places]
    witnesses: list[list[Any]] = [[] for _ in places]
    detector = inspector.detector
    if isinstance(detector, HETMM):
        witnesses = find_witnesses(detector, detector.features(viewed), points)
    explained = []
    for place, found in zip(places, witnesses, strict=True):
        x, y = place["view"]
        rows = []
        for witness in found:
            record = inspector.templates[witness.template]
            rows.append({**witness.to_dict(), "template": record.id, "source": record.source})
        explained.append(
            {"box": None, **place, "value": float(result.anomaly_map[y, x]), "witnesses": rows}
        )
    return {**result.to_dict(), "explained": explained}


def _write(folder: Path, stem: str, pictures: dict[str, npt.NDArray[np.uint8]]) -> None:
    from blemish.imaging import atomic_write, encode_png
    from blemish.imaging.contact import contact_sheet

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in {**pictures, "sheet": contact_sheet(pictures)}.items():
            atomic_write(folder / f"{stem}.{name.replace(' ', '_')}.png", encode_png(picture))
    except OSError as error:
        raise ParameterError(
            f"--output {folder}: the pictures cannot be written ({error.strerror or error})"
        ) from error


def _show(report: dict[str, Any]) -> None:
    typer.echo(f"{report['verdict']}  score {report['score']:.4g}")
    for place in report["explained"]:
        box = "" if place["box"] is None else f"  region {place['box']}"
        typer.echo(f"at {place['at'][0]},{place['at'][1]}: map {place['value']:.4g}{box}")
        for found in place["witnesses"]:
            copy = f" ({found['copy']})" if found["copy"] else ""
            typer.echo(
                f"  level {found['level']} {found['direction']:<8}  distance "
                f"{found['distance']:.3f}  adds {found['share']:.3f}  {found['source']}{copy} "
                f"at {found['matched'][0]},{found['matched'][1]} of the view"
            )
