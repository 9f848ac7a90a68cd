"""Table 3: what four backbones cost (random weights) and what they find on MVTec AD."""

from __future__ import annotations

from functools import partial

from blemish.train.paper.cells import Cell, Table, means
from blemish.train.paper.printed import TABLE1, both
from blemish.train.tfanet.table3 import PRINTED

WEIGHTS = {
    "mobilenet_v2": "mobilenet_v2.onnxzoo_in1k",
    "vgg19": "vgg19.tv_in1k",
    "wide_resnet50_2": "wide_resnet50_2.tv_in1k",
    "wide_resnet101_2": "wide_resnet101_2.tv_in1k",
}
PAPERS_OWN = "wide_resnet50_2"
FIGURES = ("image_auroc", "pixel_auroc")


def table() -> Table:
    """A cost cell a backbone, then a cell a backbone and category."""
    costs = tuple(Cell("table3", name, method="cost") for name in WEIGHTS)
    learned = tuple(
        Cell(
            "table3",
            name,
            category,
            "mvtec",
            backbone=weights,
            # The default backbone's row is Table 1's column.
            printed=both(pair) if name == PAPERS_OWN else {},
        )
        for category, pair in TABLE1.items()
        for name, weights in WEIGHTS.items()
    )
    printed = {
        name: both((PRINTED[name].image_auroc, PRINTED[name].pixel_auroc)) for name in WEIGHTS
    }
    return Table(
        "table3",
        "TFA-Net, Table 3: backbones",
        "FPS: template recomputed for each image, as published; ours keeps it; random weights. "
        "The paper's FPS are of an RTX 3060, without anomaly map and score. MobileNetV2 is costed "
        "at the paper's taps and learned at deeper ones.",
        FIGURES,
        (*costs, *learned),
        partial(means, learned, figures=FIGURES, printed=printed),
    )
