"""Fig. 15: what TFAM gains over the vanilla ViT, by category (4.3.4)."""

from __future__ import annotations

from functools import partial

from blemish.train.paper.cells import Cell, Found, Summary, Table, means
from blemish.train.paper.printed import (
    FIG15_IMAGE,
    FIG15_PIXEL,
    TABLE1,
    TABLE1_MEAN,
    both,
)

WITH, WITHOUT = "with TFAM", "without TFAM"
FIGURES = ("image_auroc", "pixel_auroc")


def table() -> Table:
    """Each category with TFAM and with the plain ViT: no template, the same blocks."""
    cells = tuple(
        Cell(
            "fig15",
            row,
            name,
            "mvtec",
            options={} if row == WITH else {"variant": "plain"},
            printed=both(pair) if row == WITH else {},
        )
        for name, pair in TABLE1.items()
        for row in (WITH, WITHOUT)
    )
    return Table(
        "fig15",
        "TFA-Net, Fig. 15: TFAM against the vanilla ViT on MVTec AD",
        "The figure is drawn; its text prints the gains of three categories, and the values with "
        "TFAM are Table 1's.",
        FIGURES,
        cells,
        partial(_summaries, cells),
    )


def _summaries(cells: tuple[Cell, ...], found: Found) -> list[Summary]:
    return [
        *_gains(found),
        *means(cells, found, FIGURES, {WITH: both(TABLE1_MEAN)}),
    ]


def _gains(found: Found) -> list[Summary]:
    """Points gained in each category that was learned both ways."""
    summaries = []
    for name in TABLE1:
        if (WITH, name) not in found or (WITHOUT, name) not in found:
            continue
        gain: dict[str, float | None] = {}
        for figure in FIGURES:
            more, less = found[WITH, name].get(figure), found[WITHOUT, name].get(figure)
            gain[figure] = None if more is None or less is None else more - less
        columns = {"image_auroc": FIG15_IMAGE, "pixel_auroc": FIG15_PIXEL}
        printed = {figure: them[name] for figure, them in columns.items() if name in them}
        summaries.append(Summary(f"gain, {name}", 2, 2, gain, printed))
    return summaries
