"""Fig. 13: the patch size K against accuracy and inference time."""

from __future__ import annotations

from functools import partial

from blemish.train.paper.cells import Cell, Table, means
from blemish.train.paper.printed import CATEGORIES, TABLE1, TABLE1_MEAN, both

SIZES = (2, 4, 8, 16)
PAPERS_OWN = 4
FIGURES = ("image_auroc", "pixel_auroc", "latency_ms")


def table() -> Table:
    """Each K on each category; only K = 4, the default, is printed as numbers elsewhere."""
    cells = tuple(
        Cell(
            "fig13",
            f"K={size}",
            name,
            "mvtec",
            options={"patch": size},
            printed=both(TABLE1[name]) if size == PAPERS_OWN else {},
        )
        for name in CATEGORIES["mvtec"]
        for size in SIZES
    )
    return Table(
        "fig13",
        "TFA-Net, Fig. 13: patch size K on MVTec AD",
        "The figure is drawn without numbers; those of K=4 are Table 1's. Times: median of one "
        "image, file to verdict, here.",
        FIGURES,
        cells,
        partial(means, cells, figures=FIGURES, printed={f"K={PAPERS_OWN}": both(TABLE1_MEAN)}),
    )
