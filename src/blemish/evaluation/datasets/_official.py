"""How many images each dataset has by its authors' account, for `check` to compare with.

A row `split/kind` counts images: `*` is any split, `defective` any kind but good.
"""

from __future__ import annotations

from dataclasses import dataclass

from blemish.evaluation.datasets import deeppcb, kolektorsdd, kolektorsdd2, mtd

Rows = dict[str, int]


@dataclass(frozen=True)
class Official:
    """The images of each category by row, and where the numbers come from."""

    source: str
    counts: dict[str, Rows]


def _split(train: int, good: int, defective: int) -> Rows:
    return {"train/good": train, "test/good": good, "test/defective": defective}


def _loco(train: int, validation: int, good: int, logical: int, structural: int) -> Rows:
    return {
        "train/good": train,
        "validation/good": validation,
        "test/good": good,
        "test/logical_anomalies": logical,
        "test/structural_anomalies": structural,
    }


OFFICIAL: dict[str, Official] = {
    "mvtec": Official(
        "Bergmann et al., IJCV 2021, table 1: 3629 train, 467 good and 1258 defective test images",
        {
            "bottle": _split(209, 20, 63),
            "cable": _split(224, 58, 92),
            "capsule": _split(219, 23, 109),
            "carpet": _split(280, 28, 89),
            "grid": _split(264, 21, 57),
            "hazelnut": _split(391, 40, 70),
            "leather": _split(245, 32, 92),
            "metal_nut": _split(220, 22, 93),
            "pill": _split(267, 26, 141),
            "screw": _split(320, 41, 119),
            "tile": _split(230, 33, 84),
            "toothbrush": _split(60, 12, 30),
            "transistor": _split(213, 60, 40),
            "wood": _split(247, 19, 60),
            "zipper": _split(240, 32, 119),
        },
    ),
    "loco": Official(
        # The article says 1772 and 304; the archive has six and one more, in splicing_connectors.
        "the published archive: 1778 train, 305 validation, 575 good, 561 logical, 432 structural",
        {
            "breakfast_box": _loco(351, 62, 102, 83, 90),
            "juice_bottle": _loco(335, 54, 94, 142, 94),
            "pushpins": _loco(372, 69, 138, 91, 81),
            "screw_bag": _loco(360, 60, 122, 137, 82),
            "splicing_connectors": _loco(360, 60, 119, 108, 85),
        },
    ),
    "visa": Official(
        "the authors' split_csv/1cls.csv: 8659 train, 962 good and 1200 defective test images",
        {
            "candle": _split(900, 100, 100),
            "capsules": _split(542, 60, 100),
            "cashew": _split(450, 50, 100),
            "chewinggum": _split(453, 50, 100),
            "fryum": _split(450, 50, 100),
            "macaroni1": _split(900, 100, 100),
            "macaroni2": _split(900, 100, 100),
            "pcb1": _split(904, 100, 100),
            "pcb2": _split(901, 100, 100),
            "pcb3": _split(905, 101, 100),
            "pcb4": _split(904, 101, 100),
            "pipe_fryum": _split(450, 50, 100),
        },
    ),
    "btad": Official(
        "the published archive: 1799 train, 451 good and 290 defective test images",
        {
            "01": _split(400, 21, 49),
            "02": _split(399, 30, 200),
            "03": _split(1000, 400, 41),
        },
    ),
    "mtd": Official(
        "the authors' repository: 952 free and 392 defective tiles",
        {
            mtd.NAME: {
                "*/good": 952,
                "*/blowhole": 115,
                "*/break": 85,
                "*/crack": 57,
                "*/fray": 32,
                "*/uneven": 103,
            }
        },
    ),
    "kolektorsdd": Official(
        "Tabernik et al., J. Intelligent Manufacturing 2020: 347 good and 52 defective surfaces",
        {kolektorsdd.NAME: {"*/good": 347, "*/defective": 52}},
    ),
    "kolektorsdd2": Official(
        "Bozic et al., Computers in Industry 2021: 2331 train and 1004 test images",
        {
            kolektorsdd2.NAME: {
                "train/good": 2085,
                "train/defective": 246,
                "test/good": 894,
                "test/defective": 110,
            }
        },
    ),
    "mpdd": Official(
        "Jezek et al., ICUMT 2021: 888 train, 176 good and 282 defective test images",
        {
            "bracket_black": _split(289, 32, 47),
            "bracket_brown": _split(185, 26, 51),
            "bracket_white": _split(110, 30, 30),
            "connector": _split(128, 30, 14),
            "metal_plate": _split(54, 26, 71),
            "tubes": _split(122, 32, 69),
        },
    ),
    "deeppcb": Official(
        "the authors' repository: 1500 pairs", {deeppcb.NAME: {"*/defective": 1500}}
    ),
}
