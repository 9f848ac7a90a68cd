"""`blemish evaluate`: a dataset's protocol, a table on the terminal, JSON for machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli import _options as options
from blemish.cli._evaluation import check_pages, read_plan, tables
from blemish.cli._output import check_output, say, write_json
from blemish.cli._progress import progress_bar
from blemish.imaging import MAX_PIXELS

if TYPE_CHECKING:
    from blemish.evaluation.protocols import Evaluation
    from blemish.evaluation.report import Explanations
    from blemish.inspector import Inspector


def evaluate(
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset",
            metavar="NAME",
            help="mvtec, loco, visa, btad, mtd, kolektorsdd, kolektorsdd2, mpdd, folder or list.",
        ),
    ],
    root: Annotated[
        Path, typer.Option("--root", metavar="DIR", help="The dataset's folder; a list's file.")
    ],
    category: Annotated[
        list[str] | None,
        typer.Option("--category", metavar="C", help="Repeatable; all of them by default."),
    ] = None,
    method: options.Method = "hetmm",
    backbone: options.Backbone = None,
    sheets: options.Sheets = None,
    memory: options.Memory = None,
    windows: options.Windows = None,
    size: options.Size = 256,
    align: options.Align = "none",
    aspect: options.Aspect = "stretch",
    device: options.Device = "auto",
    seed: options.Seed = 0,
    settings: options.Set = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(help="Also calibrate, and count rejected good parts and escaped defects."),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="K|LIST",
            help="K seeds from --seed upward, or a list as in 0,3,7: mean and deviation.",
        ),
    ] = None,
    shots: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N", help="Also learn from N training images only, as in 1,4; repeatable."
        ),
    ] = None,
    noise: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHARE",
            help="Also with this share of the defective test images among those to learn from.",
        ),
    ] = None,
    continual: Annotated[
        int | None,
        typer.Option(min=1, metavar="STEPS", help="Also learn in steps, figures after each."),
    ] = None,
    continual_start: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Images that --continual starts with. [default: one part]"
        ),
    ] = None,
    corrupt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=LEVELS]",
            help="Also on corrupted test images: brightness, blur, jpeg, shift, rotation or all; "
            "repeatable, levels as in blur=1,2.",
        ),
    ] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[C:]FIGURE=VALUE",
            help="Exit with 1 if a figure's mean (or category C's) is lower; repeatable.",
        ),
    ] = None,
    bit_depth: options.BitDepth = None,
    max_pixels: options.MaxPixels = MAX_PIXELS,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE|-", help="All figures as JSON.")
    ] = None,
    cases: Annotated[
        bool, typer.Option("--cases", help="Put every test image's score into the JSON too.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="A page with charts and the worst cases."),
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The charts as PNG and SVG.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Fit and test on a dataset: one configuration for all its categories.

    Exit status: 0, 1 where a figure is under --fail-under, 2 an error.
    """
    from blemish.evaluation.datasets import load
    from blemish.evaluation.protocols import (
        check_categories,
        parse_floors,
        shortfalls,
    )
    from blemish.evaluation.protocols import (
        evaluate as run,
    )

    check_output(json_file, "--json")
    check_pages(report, plots)
    floors = parse_floors(fail_under or [])
    plan = read_plan(
        seed=seed,
        seeds=seeds,
        shots=shots or [],
        noise=noise or [],
        continual=continual,
        continual_start=continual_start,
        corrupt=corrupt or [],
    )

    def make_inspector(seed: int) -> Inspector:
        return options.InspectorOptions(
            method=method,
            backbone=backbone,
            sheets=sheets,
            memory=memory,
            windows=windows,
            size=size,
            device=device,
            seed=seed,
            settings=settings,
            bit_depth=bit_depth,
            max_pixels=max_pixels,
            align=align,
            aspect=aspect,
        ).build()

    def load_categories(seed: int) -> Any:
        found = load(dataset, root, category or None, seed)
        check_categories(floors, [part.name for part in found])
        return found

    parameters = make_inspector(plan.seeds[0]).detector.parameters()
    explanations = _explanations(report)
    with progress_bar(quiet=quiet) as progress:
        evaluation = run(
            load_categories,
            make_inspector,
            plan,
            false_alarm_rate=false_alarm_rate,
            examine=None if explanations is None else explanations.add,
            progress=progress,
        )
    config = {
        **parameters,
        "size": size,
        "seed": plan.seeds[0],
        "device": device,
        "bit_depth": bit_depth,
        "false_alarm_rate": false_alarm_rate,
    }
    write_json(
        json_file,
        {
            "dataset": dataset,
            "method": method,
            "config": config,
            "categories": [result.to_dict(cases=cases) for result in evaluation.results],
            "mean": evaluation.mean,
            "protocol": evaluation.protocol(),
        },
    )
    if str(json_file) != "-":
        typer.echo(tables(evaluation))
        for result in evaluation.results:
            for note in result.notes:
                say(f"{result.category}: {note}", quiet=quiet)
    written = {"dataset": dataset, "method": method, **config}
    title = root.absolute().stem if dataset in ("folder", "list") else dataset
    _write_pages(report, plots, title, evaluation, written, explanations)
    # Last, so that what explains a shortfall is there to be read.
    if short := shortfalls(floors, evaluation):
        for sentence in short:
            typer.echo(f"blemish: {sentence}", err=True)
        raise typer.Exit(1)


def _explanations(report: Path | None) -> Explanations | None:
    """Where pictures for the report are gathered; None without a report, which alone has them."""
    if report is None:
        return None
    from blemish.evaluation.report import Explanations

    return Explanations()


def _write_pages(
    report: Path | None,
    plots: Path | None,
    title: str,
    evaluation: Evaluation,
    config: dict[str, Any],
    explanations: Explanations | None,
) -> None:
    protocol = evaluation.protocol()
    if report is not None:
        from blemish.evaluation.report import write_report

        write_report(
            report,
            dataset=title,
            results=evaluation.results,
            config=config,
            mean=evaluation.mean,
            protocol=protocol,
            explain=explanations,
        )
    if plots is not None:
        from blemish.evaluation.plots import write_plots

        write_plots(plots, evaluation.results, protocol=protocol)
