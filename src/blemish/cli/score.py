"""`blemish score`: very many images into Parquet, resumed after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli import _options as options
from blemish.cli._output import check_output, say, write_json
from blemish.cli._progress import progress_bar
from blemish.imaging import MAX_PIXELS

if TYPE_CHECKING:
    from blemish.scale import Summary


def score(
    bundle: Annotated[Path, typer.Argument(metavar="PART.blemish")],
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder with its subfolders, an image, a list (a path or URL a line), or "
            "Parquet with a column path, image or bytes; each also as a URL (s3://, gs://).",
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "-o", "--output", metavar="OUT", help="The folder of results, a path or a URL."
        ),
    ],
    engine: options.Engine = "local",
    num_workers: options.NumWorkers = None,
    device: options.Device = "auto",
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=1, help="Images a worker reads ahead.")
    ] = 16,
    maps: Annotated[
        bool, typer.Option("--maps", help="Keep the anomaly maps, compressed, in a column.")
    ] = False,
    rows_per_part: Annotated[
        int,
        typer.Option(
            "--rows-per-part", metavar="N", min=1, help="Images a file of the results holds."
        ),
    ] = 500,
    max_pixels: options.MaxPixels = MAX_PIXELS,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE|-", help="The summary as JSON.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Score very many images into Parquet. The same command goes on after a stop or a kill.

    Exit status: 0 all were scored, 2 some could not be read (or an error); verdicts do not change
    it.
    """
    from blemish import scale

    check_output(json_file, "--json")
    try:
        with progress_bar(quiet=quiet) as progress:
            summary = scale.score(
                bundle,
                source,
                output,
                engine=engine,
                workers=num_workers,
                device=device,
                batch=batch,
                maps=maps,
                rows_per_part=rows_per_part,
                max_pixels=max_pixels,
                progress=progress,
            )
    except KeyboardInterrupt:
        say("What is scored is kept; the same command goes on with the rest.", quiet=quiet)
        raise
    write_json(json_file, summary.to_dict())
    if str(json_file) != "-":
        say(_text(summary), quiet=quiet)
    raise typer.Exit(2 if summary.verdicts["error"] else 0)


def _text(summary: Summary) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in summary.verdicts.items() if count)
    rate = summary.images_per_second
    speed = f", {rate:.1f} images/s" if rate else ""
    before = summary.images - summary.scored
    there = f" ({before} were there)" if before else ""
    return (
        f"Scored {summary.scored} images in {summary.seconds:.1f} s{speed}{there}\n"
        f"  verdicts   {counts}\n"
        f"  results    {summary.out}, {summary.parts} files of Parquet"
    )
