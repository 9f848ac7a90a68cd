"""The papers' numbers, as printed, in percent unless a unit is named.

TFA-Net: Luo, Yao, Yu, "Template-Based Feature Aggregation Network for Industrial Anomaly
Detection". HETMM: Chen, Xie, Yang, Lai, IJCV 2024; only the abstract and the headline list were
at hand.
"""

from __future__ import annotations

Printed = dict[str, float]

# Table 1, the column TFA-Net: image / pixel AUROC.
TABLE1: dict[str, tuple[float, float]] = {
    "carpet": (99.8, 99.3),
    "grid": (99.7, 99.0),
    "leather": (100.0, 99.4),
    "tile": (100.0, 95.9),
    "wood": (99.7, 95.8),
    "bottle": (100.0, 98.5),
    "cable": (96.5, 98.1),
    "capsule": (94.8, 99.0),
    "hazelnut": (100.0, 98.9),
    "metal_nut": (99.1, 96.8),
    "pill": (96.8, 98.4),
    "screw": (98.0, 99.3),
    "toothbrush": (100.0, 99.1),
    "transistor": (99.8, 97.7),
    "zipper": (96.0, 98.8),
}
TABLE1_MEAN = (98.7, 98.3)

# Table 2, the row TFA-Net, each a mean over the five categories. Printed so: the mean of 62.0 and
# 72.3 is 67.15, not 67.0.
TABLE2: Printed = {
    "image_auroc_logical": 77.7,
    "image_auroc_structural": 85.4,
    "image_auroc_kinds": 81.6,
    "spro_logical": 62.0,
    "spro_structural": 72.3,
    "spro": 67.0,
}

# Table 4: image / pixel AUROC of each map alone and of their product.
TABLE4: dict[str, tuple[float, float]] = {
    "euclidean": (97.7, 97.8),
    "cosine": (97.8, 98.0),
    "dual": (98.7, 98.3),
}

# 4.3.3, the text on Fig. 14: the largest fluctuation of image / pixel AUROC over ten templates.
FIG14: dict[str, tuple[float, float]] = {
    "hazelnut": (0.0, 0.09),
    "screw": (0.9, 0.21),
    "metal_nut": (0.6, 0.37),
}

# 4.3.4, the text on Fig. 15: points that TFAM gains over the vanilla ViT.
FIG15_IMAGE: Printed = {"cable": 6.8, "screw": 5.6, "transistor": 9.6}
FIG15_PIXEL: Printed = {"cable": 3.3, "transistor": 7.9}

# HETMM's headline: image AUROC (of MVTec LOCO AD "average detection AUROC"), and the abstract's
# frames a second of the 60-sheet set on a Quadro RTX 8000.
HETMM: Printed = {"mvtec": 99.8, "visa": 98.1, "mtd": 99.5, "loco": 88.1}
HETMM_60_SHEETS_FPS = 26.1

CATEGORIES: dict[str, tuple[str, ...]] = {
    "mvtec": tuple(TABLE1),
    "loco": (
        "breakfast_box",
        "juice_bottle",
        "pushpins",
        "screw_bag",
        "splicing_connectors",
    ),
    "visa": (
        "candle",
        "capsules",
        "cashew",
        "chewinggum",
        "fryum",
        "macaroni1",
        "macaroni2",
        "pcb1",
        "pcb2",
        "pcb3",
        "pcb4",
        "pipe_fryum",
    ),
    "mtd": ("mtd",),
}
"""The categories of each dataset that the papers report on."""

TITLES = {"mvtec": "MVTec AD", "loco": "MVTec LOCO AD", "visa": "VisA", "mtd": "MTD"}


def both(pair: tuple[float, float]) -> Printed:
    """An image / pixel AUROC pair by name."""
    return {"image_auroc": pair[0], "pixel_auroc": pair[1]}
