"""A table for a terminal: ours, a stroke, the paper's; then what was not run and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from blemish.train.paper.cells import NO_CATEGORY, Summary, Table
from blemish.train.paper.running import Outcome

COST_FIGURES = ("fps_published", "fps_ours", "macs_g", "params_m")
HEADINGS = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "image_auroc_logical": "AUROC log.",
    "image_auroc_structural": "AUROC struct.",
    "image_auroc_kinds": "AUROC l+s",
    "spro_logical": "sPRO log.",
    "spro_structural": "sPRO struct.",
    "spro": "sPRO",
    "latency_ms": "ms",
    "fps": "FPS",
    "fps_published": "FPS",
    "fps_ours": "FPS ours",
    "macs_g": "MACs G",
    "params_m": "params M",
}
PAPERS_NAME = {"fps_published": "fps"}  # what the paper measures is what we call as published
SHOWN = 4  # categories named before the rest are only counted


def text(table: Table, outcomes: Sequence[Outcome], summaries: Sequence[Summary]) -> str:
    """The whole block of one table."""
    parts = [f"{table.title} (ours / the paper's)"]
    costs = [found for found in outcomes if found.cell.method == "cost"]
    learned = [found for found in outcomes if found.cell.method != "cost"]
    for part, figures in ((costs, COST_FIGURES), (learned, table.figures)):
        own = summaries if part is learned else ()
        if rows := [*_rows(part, figures), *_sums(own, figures)]:
            parts.append(_aligned(["", "", *(HEADINGS[name] for name in figures)], rows))
    parts += _not_run(outcomes)
    parts.append(table.note)
    return "\n".join(parts)


def _rows(outcomes: Sequence[Outcome], figures: Sequence[str]) -> list[list[str]]:
    return [
        [found.cell.row, found.cell.category, *_pairs(line["figures"], line["paper"], figures)]
        for found in outcomes
        if (line := found.line) is not None
    ]


def _sums(summaries: Sequence[Summary], figures: Sequence[str]) -> list[list[str]]:
    return [
        [one.what, f"{one.n} of {one.of}", *_pairs(one.ours, one.printed, figures)]
        for one in summaries
    ]


def _pairs(
    ours: Mapping[str, float | None], paper: Mapping[str, float | None], figures: Sequence[str]
) -> list[str]:
    return [
        f"{_number(ours.get(name))} / {_number(paper.get(PAPERS_NAME.get(name, name)))}"
        for name in figures
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _not_run(outcomes: Sequence[Outcome]) -> list[str]:
    """A line a reason, with the rows and categories it keeps from running."""
    reasons: dict[str, list[Outcome]] = {}
    for found in outcomes:
        if found.line is None:
            word = "failed" if found.failed else "not run"
            reasons.setdefault(f"{word}: {found.reason}", []).append(found)
    return [f"{reason} ({_named(group)})" for reason, group in reasons.items()]


def _named(group: Sequence[Outcome]) -> str:
    names = dict.fromkeys(
        found.cell.row if found.cell.category == NO_CATEGORY else found.cell.category
        for found in group
    )
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    cells = "1 cell" if len(group) == 1 else f"{len(group)} cells"
    return f"{cells}: {', '.join(list(names)[:SHOWN])}{more}"


def _aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    return "\n".join(
        "  ".join(
            [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
            + [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
        ).rstrip()
        for cells in [headings, *rows]
    )
