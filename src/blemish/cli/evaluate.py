"""`blemish evaluate`: a dataset's protocol, a table on the terminal, JSON for machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli import _options as options
from blemish.cli._output import check_output, say, write_json
from blemish.cli._progress import progress_bar
from blemish.imaging import MAX_PIXELS

if TYPE_CHECKING:
    from blemish.evaluation.protocol import CategoryResult

HEADINGS = {
    "image_auroc": "image AUROC",
    "image_ap": "AP",
    "image_f1max": "F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "AP",
    "aupro": "AUPRO",
}


def evaluate(
    dataset: Annotated[str, typer.Option("--dataset", metavar="NAME", help="mvtec, mtd, folder.")],
    root: Annotated[Path, typer.Option("--root", metavar="DIR", help="The dataset's folder.")],
    category: Annotated[
        list[str] | None,
        typer.Option("--category", metavar="C", help="Repeatable; all of them by default."),
    ] = None,
    method: options.Method = "hetmm",
    backbone: options.Backbone = None,
    sheets: options.Sheets = None,
    size: options.Size = 256,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    settings: options.Set = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(help="Also calibrate, and count rejected good parts and escaped defects."),
    ] = None,
    bit_depth: options.BitDepth = None,
    max_pixels: options.MaxPixels = MAX_PIXELS,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE|-", help="All figures as JSON.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Fit and test on a dataset: one configuration for all its categories."""
    from blemish.evaluation.datasets import load
    from blemish.evaluation.protocol import evaluate_category, mean_figures

    check_output(json_file, "--json")

    def make_inspector() -> Any:
        return options.build_inspector(
            method=method,
            backbone=backbone,
            sheets=sheets,
            size=size,
            device=device,
            seed=seed,
            settings=settings,
            bit_depth=bit_depth,
            max_pixels=max_pixels,
        )

    categories = load(dataset, root, category or None, seed)
    parameters = make_inspector().detector.parameters()
    results = []
    with progress_bar(quiet=quiet) as progress:
        for part in categories:
            results.append(
                evaluate_category(
                    part, make_inspector, false_alarm_rate=false_alarm_rate, progress=progress
                )
            )
    mean = mean_figures(results)
    write_json(
        json_file,
        {
            "dataset": dataset,
            "method": method,
            "config": {**parameters, "size": size, "seed": seed},
            "categories": [result.to_dict() for result in results],
            "mean": mean,
        },
    )
    if str(json_file) != "-":
        typer.echo(_table(results, mean))
        for result in results:
            for note in result.notes:
                say(f"{result.category}: {note}", quiet=quiet)


def _table(results: list[CategoryResult], mean: dict[str, float | None]) -> str:
    headings = ["category", "train", "test", *HEADINGS.values(), "fit s", "p50 ms", "p95 ms", "MB"]
    rows = [
        [
            result.category,
            str(result.n_train),
            str(result.n_test),
            *(_percent(result.figures[name]) for name in HEADINGS),
            f"{result.fit_seconds:.1f}",
            f"{result.latency_ms['p50']:.0f}",
            f"{result.latency_ms['p95']:.0f}",
            "-" if result.peak_rss_mb is None else f"{result.peak_rss_mb:.0f}",
        ]
        for result in results
    ]
    if len(results) > 1:
        rows.append(["mean", "", "", *(_percent(mean[name]) for name in HEADINGS), *[""] * 4])
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    lines = [
        "  ".join(
            [cells[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        )
        for cells in [headings, *rows]
    ]
    for result in results:
        if (counted := result.false_alarms) is not None:
            lines.append(
                f"{result.category}: at a false-alarm rate of {counted.rate:g}, "
                f"{counted.rejected} of {counted.good} good parts rejected, "
                f"{counted.escaped} of {counted.defective} defective ones passed"
            )
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
