"""`blemish data`: what is there of a dataset, and what is missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli import _options as options
from blemish.cli._progress import progress_bar

if TYPE_CHECKING:
    from blemish.evaluation.datasets.check import CategoryCheck

NAMED = 5  # missing files named a category; --json names all

app = typer.Typer(help="Datasets on this machine; nothing is downloaded.", no_args_is_help=True)


@app.command("check")
def check(
    dataset: Annotated[
        str, typer.Option("--dataset", metavar="NAME", help="One of docs/datasets.md's names.")
    ],
    root: Annotated[
        Path, typer.Option("--root", metavar="DIR", help="The dataset's folder (list: its file).")
    ],
    category: Annotated[
        list[str] | None,
        typer.Option("--category", metavar="C", help="Repeatable; all of them by default."),
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also read every image and mask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Count images against the published numbers, and name what is missing.

    Exit status: 0 complete, 1 something is missing, unreadable or too many, 2 an error.
    """
    from blemish.evaluation.datasets import check as checking

    with progress_bar(quiet=quiet) as progress:
        found = checking.check(dataset, root, category or None, deep=deep, progress=progress)
    complete = all(part.complete for part in found)
    if as_json:
        result = {
            "dataset": dataset,
            "root": str(root),
            "source": checking.source(dataset),
            "complete": complete,
            "categories": [part.to_dict() for part in found],
        }
        typer.echo(json.dumps(result, indent=2))
    else:
        typer.echo(_table(found))
        for part in found:
            for line in _remarks(part):
                typer.echo(line)
        published = checking.source(dataset)
        typer.echo(f"expected: {published or 'nobody published numbers for this'}")
        typer.echo(f"{dataset}: {'complete' if complete else 'not complete'}")
    if not complete:
        raise typer.Exit(1)


def _table(found: Sequence[CategoryCheck]) -> str:
    rows = [("category", "images", "expected", "found", "")]
    for part in found:
        for row in part.rows:
            expected = "-" if row.expected is None else str(row.expected)
            wrong = row.expected not in (None, row.found)
            images = row.images.removeprefix("*/")  # where the authors give no split
            rows.append((part.category, images, expected, str(row.found), "<--" * wrong))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  "
        f"{row[3]:>{widths[3]}}  {row[4]}".rstrip()
        for row in rows
    )


def _remarks(part: CategoryCheck) -> list[str]:
    lines = [] if part.problem is None else [f"{part.category}: {part.problem}"]
    required = "" if part.masks_required else ", which may be so"
    lists = [
        ("files are missing", [str(path) for path in part.missing_files]),
        (f"defective images have no mask{required}", [str(p) for p in part.missing_masks]),
        ("files cannot be used", [why for _, why in part.unreadable or ()]),
        ("masks mark nothing, which may be so", [str(path) for path in part.empty_masks or ()]),
    ]
    for what, names in lists:
        if names:
            lines.append(f"{part.category}: {len(names)} {what}:")
            lines += [f"  {name}" for name in names[:NAMED]]
            if len(names) > NAMED:
                lines.append(f"  and {len(names) - NAMED} more (all with --json)")
    return lines
