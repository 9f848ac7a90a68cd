"""`blemish check`: what an inspector cannot see, told by synthetic defects on its good parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from blemish.cli import _options as options
from blemish.cli._output import check_output, say, write_json
from blemish.cli._progress import progress_bar
from blemish.errors import ParameterError


def check(
    bundle: Annotated[Path, typer.Argument(metavar="PART.blemish")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE.png", help="A picture: where defects pass."),
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Lay defects anew, of other places and shapes."),
    ] = False,
    defects: Annotated[int, typer.Option("--defects", min=9, help="How many, then.")] = 180,
    seed: options.Seed = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE|-", help="All of it as JSON.")
    ] = None,
    memory: options.LoadMemory = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Tell which defects an inspector finds: from what size, of what kind, and where they pass.

    Told is what `fit` found out, or, of a version changed since then and with --again, what is
    found now. The bundle stays as it is.
    """
    from blemish.imaging import atomic_write, encode_png
    from blemish.inspector import Inspector
    from blemish.inspector.detection import draw_detection, remedies, study_detection

    check_output(json_file, "--json")
    if output is not None and output.suffix.lower() != ".png":
        raise ParameterError(f"--output {output}: the picture is a PNG; give a name ending in .png")
    check_output(output, "--output")
    inspector = Inspector.load(bundle, device=device, memory=memory)
    now, found = inspector.snapshot(), inspector.detection
    with progress_bar(quiet=quiet) as progress:
        if again or found is None or found.threshold != getattr(now.calibration, "threshold", None):
            found = study_detection(now, trials=defects, seed=seed, progress=progress)
        advice = remedies(now, progress) if found.poor else []
    if output is not None:
        atomic_write(output, encode_png(draw_detection(now, found)))
    write_json(json_file, {"bundle": str(bundle), **found.to_dict(), "advice": advice})
    if str(json_file) != "-":
        say("\n".join(_lines(str(bundle), found, advice)), quiet=quiet)


def _lines(bundle: str, found: Any, advice: list[str]) -> list[str]:
    first, second = found.summary
    kinds = ", ".join(
        f"{kind} {100 * passed / trials:.0f} %"
        for kind, (trials, passed) in sorted(
            found.kinds.items(), key=lambda item: -item[1][1] / item[1][0]
        )
    )
    asked = f"{found.trials} synthetic defects on {found.parts} good parts"
    lines = [
        f"{bundle}, version {found.version}: {asked}",
        f"  finds      {first}",
        f"  passes     {second}",
        f"  by kind    {kinds}",
    ]
    if advice:
        lines += ["  That is little; what would help:", *(f"    - {a}" for a in advice)]
    return lines
