"""`blemish inspect`: verdicts for images and folders, one JSON object a line."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli import _options as options
from blemish.cli._output import check_output, say, write_text
from blemish.cli._progress import progress_bar
from blemish.errors import BlemishError, ImageError, ParameterError
from blemish.imaging import MAX_PIXELS

if TYPE_CHECKING:
    from blemish.inspector import Inspector

STYLES = {"pass": "green", "review": "yellow", "fail": "red", "error": "magenta"}


def inspect(
    bundle: Annotated[Path, typer.Argument(metavar="PART.blemish")],
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[IMAGE_OR_DIR...]", help="Images, and folders with their subfolders."
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE|-", help="One JSON object a line (stdout when piped)."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write an overlay beside each result."),
    ] = None,
    watch: Annotated[
        Path | None,
        typer.Option("--watch", metavar="DIR", help="Images as they appear, until Ctrl-C."),
    ] = None,
    settle: Annotated[
        float | None,
        typer.Option(
            "--settle",
            metavar="SECONDS",
            help="With --watch: a file is complete once unchanged for so long. [default: 0.5]",
        ),
    ] = None,
    new_only: Annotated[
        bool, typer.Option("--new-only", help="With --watch: leave out what is there already.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="With --watch: leave out what has its line in --json's file already."
        ),
    ] = False,
    video: Annotated[
        Path | None, typer.Option("--video", metavar="FILE", help="The frames of a video.")
    ] = None,
    every: Annotated[
        int | None,
        typer.Option("--every", metavar="N", help="With --video: each N-th frame. [default: 1]"),
    ] = None,
    camera: Annotated[
        str | None,
        typer.Option("--camera", metavar="INDEX|URL", help="A camera's frames, until Ctrl-C."),
    ] = None,
    reconnect: Annotated[
        bool, typer.Option("--reconnect", help="With --camera: open it again when it is gone.")
    ] = False,
    memory: options.LoadMemory = None,
    device: options.Device = "auto",
    max_pixels: options.MaxPixels = MAX_PIXELS,
    quiet: options.Quiet = False,
) -> None:
    """Inspect images. Exit status: 0 all pass, 1 some review or fail, 2 some error."""
    from blemish.cli import _streaming as streaming
    from blemish.imaging import expand
    from blemish.inspector import Inspector

    check_output(json_file, "--json")
    wanted = streaming.Wanted(
        sources or [], watch, settle, new_only, resume, video, every, camera, reconnect
    )
    stream = streaming.source_of(wanted, out, json_file, quiet=quiet)
    if out is not None and out.exists() and not out.is_dir():
        raise ParameterError(f"--out {out}: this is a file; give a folder")
    sources = sources or []
    images = [(path, source) for source in sources for path in expand(source, recursive=True)]
    # Folders may hold the same names; with several of them each keeps its own place under --out.
    nested = len([source for source in sources if source.is_dir()]) > 1
    inspector = Inspector.load(bundle, device=device, max_pixels=max_pixels, memory=memory)
    if stream is not None:
        streaming.run(inspector, stream, json_file, out, quiet=quiet)
    # People at a terminal get a line a part; pipes and --json get JSON.
    as_json = str(json_file) == "-" or (json_file is None and not sys.stdout.isatty())
    lines: list[str] = []
    verdicts: Counter[str] = Counter()
    with progress_bar(quiet=quiet or as_json or json_file is None) as progress:
        progress("inspecting", 0, len(images))
        for done, (path, source) in enumerate(images, start=1):
            target = None if out is None else out / overlay_name(path, source, nested=nested)
            result = _inspect(inspector, path, target)
            verdicts[result["verdict"]] += 1
            line = json.dumps(result)
            if as_json:
                typer.echo(line)
            elif json_file is None:
                show(result)
            if json_file is not None and not as_json:
                lines.append(line + "\n")
            progress("inspecting", done, len(images))
    if not as_json:
        write_text(json_file, "".join(lines))
        counts = ", ".join(f"{verdicts[name]} {name}" for name in STYLES if verdicts[name])
        say(f"{len(images)} images: {counts}", quiet=quiet)
    raise typer.Exit(2 if verdicts["error"] else 1 if verdicts["review"] + verdicts["fail"] else 0)


def _inspect(inspector: Inspector, path: Path, target: Path | None) -> dict[str, Any]:
    from blemish.verdict import error_to_dict

    try:
        result = inspector.inspect(path)
        if target is not None:
            write_overlay(inspector, path, target, result)
    except ImageError as error:
        return error_to_dict(str(path), error)
    return result.to_dict()


def overlay_name(path: Path, source: Path, *, nested: bool = False) -> Path:
    """The overlay's name under --out: the image's own below its folder, made to end in .png.

    With `nested` the folder's own name leads.
    """
    relative = path.relative_to(source) if path != source else Path(path.name)
    if nested and path != source:
        relative = Path(source.absolute().name) / relative
    if relative.suffix == ".png":
        return relative
    return relative.with_name(relative.name + ".png")  # 7.jpg.png: a 7.png may lie beside it


def write_overlay(inspector: Inspector, image: Any, target: Path, result: Any) -> None:
    """Draw a result over its image (a path or samples) into `target`."""
    from blemish.imaging import atomic_write, encode_png, overlay

    calibration = inspector.calibration
    picture = overlay(
        inspector.read(image),
        result.image_map,
        threshold=None if calibration is None else calibration.region_level(result.score),
        regions=result.regions,
        scale=max(result.score, 1e-6) if calibration is None else None,
        counted=result.image_counted,
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(target, encode_png(picture))
    except OSError as error:
        raise BlemishError(f"{target} could not be written ({error.strerror or error})") from error


def show(result: dict[str, Any]) -> None:
    """A result's line for people."""
    verdict = result["verdict"]
    label = typer.style(f"{verdict:<6}", fg=STYLES[verdict], bold=True)
    if verdict == "error":
        typer.echo(f"{label} {result['error']['message']}")
        return
    p_value = "" if result["p_value"] is None else f"  p {result['p_value']:.3f}"
    regions = len(result["regions"])
    where = f"  {regions} region{'s' if regions > 1 else ''}" if regions else ""
    why = f"  {result['reason']}" if result["reason"] else ""
    typer.echo(f"{label} {result['image']}  score {result['score']:.4g}{p_value}{where}{why}")
