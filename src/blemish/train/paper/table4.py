"""Table 4: the two similarities of the anomaly map alone, and their product (eq. 8)."""

from __future__ import annotations

from functools import partial

from blemish.train.paper.cells import Cell, Table, means
from blemish.train.paper.printed import CATEGORIES, TABLE1, TABLE4, both

FIGURES = ("image_auroc", "pixel_auroc")


def table() -> Table:
    """One training a category, scored in three ways."""
    cells = tuple(
        Cell(
            "table4",
            score,
            name,
            "mvtec",
            scoring={"score": score},
            printed=both(TABLE1[name]) if score == "dual" else {},
        )
        for name in CATEGORIES["mvtec"]
        for score in TABLE4
    )
    return Table(
        "table4",
        "TFA-Net, Table 4: dual-mode anomaly segmentation on MVTec AD",
        "The paper prints means over the fifteen categories only.",
        FIGURES,
        cells,
        partial(
            means,
            cells,
            figures=FIGURES,
            printed={score: both(pair) for score, pair in TABLE4.items()},
        ),
    )
