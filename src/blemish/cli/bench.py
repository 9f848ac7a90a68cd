"""`blemish bench`: speed on this machine, and the papers' tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli import _options as options
from blemish.cli._output import check_output, say, write_json
from blemish.cli._progress import progress_bar

if TYPE_CHECKING:
    from blemish.train.paper import Asked, Cell, Outcome, Summary, Table

app = typer.Typer(help="Speed on this machine, and the papers' tables.", no_args_is_help=True)


# Two commands or more make a group; with `paper` alone typer would drop its name.
@app.callback()
def _bench() -> None:
    pass


@app.command("paper")
def paper(
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE",
            help="table1, table2, table3, table4, fig13, fig14, fig15, hetmm or all.",
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data", metavar="NAME=DIR", help="Where mvtec, loco, visa or mtd is; repeatable."
        ),
    ] = None,
    category: Annotated[
        list[str] | None,
        typer.Option("--category", metavar="C", help="Repeatable; all of them by default."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", help="[default: the paper's; rows that name their own keep it]"),
    ] = None,
    preset: Annotated[
        str,
        typer.Option("--preset", metavar="NAME", help="TFA-Net's: paper, release, default, small."),
    ] = "paper",
    size: options.Size = 256,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    settings: options.Set = None,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results",
            metavar="FILE.jsonl",
            help="Finished cells are added here at once, and those here are not run again.",
        ),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            "--run-dir", metavar="DIR", help="Checkpoints, from which a stopped training goes on."
        ),
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Train on a CPU, however long it takes.")
    ] = False,
    repeats: Annotated[
        int, typer.Option(min=1, help="Table 3: timed images of each way, after two to warm up.")
    ] = 5,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE|-", help="Everything as JSON.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """A paper's table or figure, run on the data and weights at hand, beside what it prints.

    What cannot be run says why. Percent, as the papers. Exit status: 0, 2 where a cell failed.
    """
    from blemish.train.device import resolve_device
    from blemish.train.paper import (
        Asked,
        Results,
        check_categories,
        check_settings,
        parse_data,
        run,
        tables,
    )
    from blemish.train.tfanet.presets import preset as tfanet_preset

    chosen = tables(table)
    check_output(json_file, "--json")
    check_categories(category or [], [cell for one in chosen for cell in one.cells])
    cells = [cell for one in chosen for cell in one.cells if _wanted(cell, category)]
    check_settings(settings or [], [cell.method for cell in cells])
    tfanet_preset(preset)  # a wrong name raises before any work
    asked = Asked(
        device=resolve_device(device),
        data=parse_data(data or []),
        backbone=backbone,
        preset=preset,
        settings=settings or (),
        size=size,
        seed=seed,
        repeats=repeats,
        anyway=anyway,
        run_dir=run_dir,
    )
    kept = Results(results)
    with progress_bar(quiet=quiet) as progress:
        outcomes = run(
            cells, asked, kept, say=lambda text: say(text, quiet=quiet), progress=progress
        )
    sums = {one.name: _summaries(one, outcomes) for one in chosen}
    write_json(json_file, _document(asked, outcomes, sums))
    if str(json_file) != "-":
        _show(chosen, outcomes, sums)
    if failed := [found for found in outcomes if found.failed]:
        typer.echo(
            f"blemish: {len(failed)} of {len(outcomes)} cells failed, first "
            f"{' / '.join(failed[0].cell.key)}: {failed[0].reason}",
            err=True,
        )
        raise typer.Exit(2)


def _wanted(cell: Cell, categories: list[str] | None) -> bool:
    return not categories or cell.category in categories


def _summaries(table: Table, outcomes: Sequence[Outcome]) -> list[Summary]:
    """The table's means and the like, over the cells that have figures."""
    found = {
        (one.cell.row, one.cell.category): one.line["figures"]
        for one in outcomes
        if one.cell.table == table.name and one.line is not None
    }
    return table.summarise(found)


def _document(
    asked: Asked, outcomes: Sequence[Outcome], sums: dict[str, list[Summary]]
) -> dict[str, Any]:
    from blemish.train.paper import machine_facts

    return {
        **machine_facts(asked),
        "preset": asked.preset,
        "size": asked.size,
        "seed": asked.seed,
        "repeats": asked.repeats,
        "rows": [_row(found, asked) for found in outcomes if found.line is not None],
        "not_run": [
            {**_key(found.cell), "reason": found.reason, "failed": found.failed}
            for found in outcomes
            if found.line is None
        ],
        "summaries": {name: [one.to_dict() for one in them] for name, them in sums.items()},
    }


def _row(found: Outcome, asked: Asked) -> dict[str, Any]:
    """A finished cell, flat: its figures beside its key."""
    assert found.line is not None
    cell = found.cell
    backbone = cell.row if cell.method == "cost" else asked.backbone_of(cell)
    rest = {name: value for name, value in found.line.items() if name != "figures"}
    return {**_key(cell), "backbone": backbone, **found.line["figures"], **rest}


def _key(cell: Cell) -> dict[str, str]:
    return {"table": cell.table, "row": cell.row, "category": cell.category}


def _show(
    chosen: Sequence[Table], outcomes: Sequence[Outcome], sums: dict[str, list[Summary]]
) -> None:
    from blemish.train.paper.text import text

    blocks = [
        text(one, [found for found in outcomes if found.cell.table == one.name], sums[one.name])
        for one in chosen
    ]
    typer.echo("\n\n".join(blocks))
