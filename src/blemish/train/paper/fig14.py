"""Fig. 14: ten templates each for three categories of varied pose (4.3.3)."""

from __future__ import annotations

from functools import partial

from blemish.train.paper.cells import Cell, Found, Summary, Table
from blemish.train.paper.printed import FIG14, both

TEMPLATES = 10
FIGURES = ("image_auroc", "pixel_auroc")


def table() -> Table:
    """A training for each template; the paper does not say which images its ten are."""
    cells = tuple(
        Cell(
            "fig14",
            f"template {number + 1}",
            name,
            "mvtec",
            template=number / (TEMPLATES - 1),
        )
        for name in FIG14
        for number in range(TEMPLATES)
    )
    return Table(
        "fig14",
        "TFA-Net, Fig. 14: ten templates",
        "The paper does not name its templates; ours are spaced evenly over the training images. "
        "Its text gives the largest difference among the ten.",
        FIGURES,
        cells,
        partial(_ranges, cells),
    )


def _ranges(cells: tuple[Cell, ...], found: Found) -> list[Summary]:
    """The difference between the best and the worst template of a category."""
    summaries = []
    for name, printed in FIG14.items():
        own = [cell for cell in cells if cell.category == name]
        there = [found[cell.row, name] for cell in own if (cell.row, name) in found]
        if len(there) < 2:
            continue
        spread: dict[str, float | None] = {}
        for figure in FIGURES:
            values = [one.get(figure) for one in there]
            known = [value for value in values if value is not None]
            spread[figure] = max(known) - min(known) if len(known) == len(values) else None
        theirs = both(printed) if len(there) == len(own) else {}
        summaries.append(Summary(f"range, {name}", len(there), len(own), spread, theirs))
    return summaries
