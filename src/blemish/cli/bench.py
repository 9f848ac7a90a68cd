"""`blemish bench`: speed on this machine, and the papers' tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli import _options as options
from blemish.cli._output import check_output, say, write_json

if TYPE_CHECKING:
    from blemish.tfanet.table3 import Row

app = typer.Typer(help="Speed on this machine, and the papers' tables.", no_args_is_help=True)
paper = typer.Typer(help="Tables of the papers, recomputed here.", no_args_is_help=True)
app.add_typer(paper, name="paper")


@paper.command("table3")
def table3(
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE|-", help="The table as JSON.")
    ] = None,
    device: options.Device = "auto",
    repeats: Annotated[
        int, typer.Option(min=1, help="Timed images of each way, after two to warm up.")
    ] = 5,
    quiet: options.Quiet = False,
) -> None:
    """TFA-Net's Table 3: FPS, MACs and parameters of four backbones, beside the printed values.

    Weights are random: they do not change what a pass costs. FPS as published recomputes the
    template's features for every image; ours keeps them. Both at batch 1 and 256 x 256, the
    anomaly map and score included.
    """
    from blemish.inspector import resolve_device
    from blemish.tfanet.macs import TABLE3_TAPS
    from blemish.tfanet.table3 import measure_row

    check_output(json_file, "--json")
    place = resolve_device(device)
    rows = []
    for backbone in TABLE3_TAPS:
        say(f"measuring {backbone}", quiet=quiet)
        rows.append(measure_row(backbone, place, repeats=repeats))
    write_json(json_file, _document(rows, str(place), repeats))
    if str(json_file) != "-":
        _show(rows)


def _document(rows: list[Row], device: str, repeats: int) -> dict[str, Any]:
    import platform

    import torch

    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor()
    return {
        "table": "TFA-Net, Table 3",
        "device": device,
        "device_name": name or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "repeats": repeats,
        "weights": "random",
        "rows": [row.to_dict() for row in rows],
    }


def _show(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="TFA-Net, Table 3 (the paper's value behind each)")
    for heading in ("backbone", "FPS", "FPS ours", "MACs G", "params M"):
        align = "left" if heading == "backbone" else "right"
        table.add_column(heading, justify=align, no_wrap=True)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(
            row.backbone,
            f"{row.fps_published:.2f} / {row.paper.fps:.1f}",
            f"{row.fps_ours:.2f}",
            f"{row.macs_g:.2f} / {row.paper.macs_g:.2f}",
            f"{row.params_m:.2f} / {row.paper.params_m:.2f}",
        )
    console = Console()
    console.print(table)
    console.print(
        "FPS: template recomputed for each image, as published; ours keeps it. Random weights.\n"
        "The paper's FPS are of an RTX 3060, without anomaly map and score."
    )
