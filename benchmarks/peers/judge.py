"""Every figure of the table from raw maps and scores, by Blemish's metrics, whoever made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from blemish.evaluation.datasets import Category, load_mask
from blemish.evaluation.metrics import PixelMetrics, auroc, average_precision, f1_max
from blemish.imaging import read_image

COLUMNS = (
    "part",
    "method",
    "backbone",
    "way",
    "image AUROC",
    "image AP",
    "pixel AUROC",
    "AUPRO",
    "fit",
    "load",
    "p50",
    "p95",
    "peak memory",
    "installed",
    "import",
    "`--help`",
)


def figures(category: Category, maps: Path, scores: list[float]) -> dict[str, float | None]:
    """Image and pixel figures; None where one cannot be computed (say, without masks)."""
    labels = np.array([sample.label for sample in category.test])
    values = np.array(scores)
    pixels = PixelMetrics()
    for index, sample in enumerate(category.test):
        mask = load_mask(sample)
        size = read_image(sample.image).shape[:2] if mask is None else None
        pixels.add(np.load(maps / f"{index:05d}.npy"), mask, size=size, label=sample.label)
    of_pixels = pixels.compute()
    best = f1_max(labels, values)
    return {
        "image_auroc": auroc(labels, values),
        "image_ap": average_precision(labels, values),
        "image_f1max": None if best is None else best.value,
        "pixel_auroc": of_pixels.auroc,
        "pixel_ap": of_pixels.ap,
        "aupro": of_pixels.aupro,
    }


def table(rows: list[dict[str, Any]], environments: dict[str, dict[str, Any]]) -> str:
    """The one table, ours and theirs, as Markdown; a run that failed says why."""
    lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS))]
    # A stable sort: within a part the rows stay in the order of the runs.
    for row in sorted(rows, key=lambda row: str(row["category"])):
        lines.append(_line(_cells(row, environments)))
    return "\n".join(lines)


def installed(environments: dict[str, dict[str, Any]]) -> str:
    """The environments by themselves: the line floor has no row of accuracy of its own."""
    head = ("environment", "installed", "packages", "import", "memory of it", "`--help`")
    lines = [_line(head), _line(["---"] * len(head))]
    for name, found in environments.items():
        lines.append(
            _line(
                [
                    name,
                    _megabytes(found["installed_mb"]),
                    str(found["packages"]),
                    _seconds(found["import_seconds"]),
                    _megabytes(found["import_rss_mb"]),
                    _seconds(found["help_seconds"]),
                ]
            )
        )
    return "\n".join(lines)


def _cells(row: dict[str, Any], environments: dict[str, dict[str, Any]]) -> list[str]:
    cells = [row["category"], row["label"], row["backbone"], row["way"]]
    if row["error"] is not None:
        return [*cells, f"failed: {row['error']}", *[""] * (len(COLUMNS) - len(cells) - 1)]
    own = environments.get(row["side"], {})
    return [
        *cells,
        *(_percent(row[name]) for name in ("image_auroc", "image_ap", "pixel_auroc", "aupro")),
        _seconds(row["fit_seconds"]),
        _seconds(row["load_seconds"]),
        f"{row['latency_ms']['p50']:.0f} ms",
        f"{row['latency_ms']['p95']:.0f} ms",
        _megabytes(row["peak_rss_mb"]),
        _megabytes(own.get("installed_mb")),
        _seconds(own.get("import_seconds")),
        _seconds(own.get("help_seconds")),
    ]


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"


def _megabytes(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1e3:.1f} GB" if value >= 1e3 else f"{value:.0f} MB"
