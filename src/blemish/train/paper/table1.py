"""Table 1: TFA-Net on the fifteen categories of MVTec AD."""

from __future__ import annotations

from functools import partial

from blemish.train.paper.cells import Cell, Table, means
from blemish.train.paper.printed import TABLE1, TABLE1_MEAN, both

ROW = "TFA-Net"
FIGURES = ("image_auroc", "pixel_auroc")


def table() -> Table:
    """Image and pixel AUROC by category, and their mean."""
    cells = tuple(
        Cell("table1", ROW, name, "mvtec", printed=both(pair)) for name, pair in TABLE1.items()
    )
    return Table(
        "table1",
        "TFA-Net, Table 1: MVTec AD",
        "Ours: the last checkpoint. The paper's are, by its released code, the best on the test.",
        FIGURES,
        cells,
        partial(means, cells, figures=FIGURES, printed={ROW: both(TABLE1_MEAN)}),
    )
