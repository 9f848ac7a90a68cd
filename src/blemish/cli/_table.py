"""`blemish fit --table`: many inspectors, and a line for each."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from blemish.cli._options import FitOptions
from blemish.cli.fit import learned
from blemish.imaging import Progress
from blemish.scale.fitting import fit_rows

STATUS = {"ok": "green", "failed": "red"}


def fit_table(
    table: Path,
    folder: Path,
    asked: FitOptions,
    *,
    engine: str,
    workers: int | None,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Fit every row; options of a row stand before those of the command."""
    return fit_rows(
        table, folder, learn, asdict(asked), engine=engine, workers=workers, progress=progress
    )


def learn(good: Path, output: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """One row, in a worker's process."""
    found = learned(good, output, FitOptions(**asked))
    assert found is not None  # one row is one process
    return found[0]


def text(rows: list[dict[str, Any]], folder: Path) -> str:
    """A line a row, and how many there are of each status."""
    width = max(len(row["name"]) for row in rows)
    lines = [_line(row, width) for row in rows]
    counts = [(sum(row["status"] == status for row in rows), status) for status in STATUS]
    told = ", ".join(f"{count} {status}" for count, status in counts if count)
    return "\n".join([*lines, f"{len(rows)} parts: {told}; {folder / '_summary.csv'}"])


def _line(row: dict[str, Any], width: int) -> str:
    import typer

    label = typer.style(f"{row['status']:<6}", fg=STATUS[row["status"]], bold=True)
    head = f"{label} {row['name']:<{width}}  "
    if row["status"] == "failed":
        return head + str(row["message"])
    told = f" ({row['message']})" if row["message"] else ""
    return (
        f"{head}{row['images']} images, threshold {row['threshold']:.4g} for a rate of "
        f"{row['false_alarm_rate']:.3g}, {row['seconds']:.1f} s{told}"
    )
