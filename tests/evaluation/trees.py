"""Small made-up trees of each dataset's exact layout, for the loaders' tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (6, 4)  # width, height
VISA_HEADER = "object,split,label,image,mask"
LOCO_CONFIG = [
    {
        "defect_name": "missing_pin",
        "pixel_value": 255,
        "saturation_threshold": 3,
        "relative_saturation": False,
    },
    {
        "defect_name": "bent_pin",
        "pixel_value": 254,
        "saturation_threshold": 0.5,
        "relative_saturation": True,
    },
]


def picture(path: Path, size: tuple[int, int] = SIZE, value: int = 90) -> Path:
    """Write a grey image of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


def mask_file(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    """Write an array as a mask, converted to `mode` where one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)
    return path


def marks(value: int, pixels: int = 6) -> np.ndarray:
    """A mask [4, 6] whose first `pixels` px, row by row, have one value."""
    values = np.zeros(SIZE[0] * SIZE[1], np.uint8)
    values[:pixels] = value
    return values.reshape(SIZE[1], SIZE[0])


def mvtec(root: Path, category: str = "cap") -> Path:
    """MVTec AD and MPDD: one category with a good and a defective test image."""
    folder = root / category
    for i in range(3):
        picture(folder / "train" / "good" / f"{i:03}.png")
    picture(folder / "test" / "good" / "000.png")
    picture(folder / "test" / "scratches" / "000.png")
    picture(folder / "ground_truth" / "scratches" / "000_mask.png", value=255)
    return root


def loco(root: Path, category: str = "pushpins") -> Path:
    """MVTec LOCO AD: a logical anomaly with two masks, a structural one with one."""
    folder = root / category
    for i in range(3):
        picture(folder / "train" / "good" / f"{i:03}.png")
    picture(folder / "validation" / "good" / "000.png")
    truth = folder / "ground_truth"
    for kind in ("good", "logical_anomalies", "structural_anomalies"):
        picture(folder / "test" / kind / "000.png")
    mask_file(truth / "logical_anomalies" / "000" / "000.png", marks(255, 5))
    mask_file(truth / "logical_anomalies" / "000" / "001.png", marks(255, 2))
    mask_file(truth / "structural_anomalies" / "000" / "000.png", marks(254, 9))
    (folder / "defects_config.json").write_text(json.dumps(LOCO_CONFIG))
    return root


def btad(root: Path) -> Path:
    """BTAD: product 01 of bitmaps with masks in PNG, 03 with masks in BMP."""
    for name, suffix in (("01", "png"), ("03", "bmp")):
        folder = root / name
        for i in range(2):
            picture(folder / "train" / "ok" / f"{i:04}.bmp")
        picture(folder / "test" / "ok" / "0002.bmp")
        picture(folder / "test" / "ko" / "0003.bmp")
        mask_file(folder / "ground_truth" / "ko" / f"0003.{suffix}", marks(255))
    return root


def visa(root: Path, objects: tuple[str, ...] = ("candle", "pcb1")) -> Path:
    """VisA: two training images and one of each kind to test on, for each object."""
    lines = [VISA_HEADER]
    for name in objects:
        data = Path(name) / "Data"
        for number, split in ((0, "train"), (2, "train"), (1, "test")):
            image = data / "Images" / "Normal" / f"{number:04}.JPG"
            picture(root / image)
            lines.append(f"{name},{split},normal,{image.as_posix()},")
        image = data / "Images" / "Anomaly" / "000.JPG"
        mask = data / "Masks" / "Anomaly" / "000.png"
        picture(root / image)
        mask_file(root / mask, marks(3))
        lines.append(f"{name},test,anomaly,{image.as_posix()},{mask.as_posix()}")
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text("\n".join(lines) + "\n")
    return root


def mtd(root: Path) -> Path:
    """Magnetic tiles: ten free, two cracked, one with a blowhole, each with its mask beside it."""
    for kind, count, value in (("Free", 10, 0), ("Crack", 2, 255), ("Blowhole", 1, 255)):
        for i in range(count):
            picture(root / f"MT_{kind}" / "Imgs" / f"exp{i}.jpg")
            picture(root / f"MT_{kind}" / "Imgs" / f"exp{i}.png", value=value)
    return root


def kolektorsdd(root: Path) -> Path:
    """KolektorSDD: three items of four surfaces, the third of the first item defective."""
    for item in (1, 2, 3):
        for part in range(4):
            folder = root / f"kos{item:02}"
            picture(folder / f"Part{part}.jpg")
            value = 1 if (item, part) == (1, 2) else 0
            mask_file(folder / f"Part{part}_label.bmp", marks(value))
    return root


def kolektorsdd2(root: Path) -> Path:
    """KolektorSDD2: per split two good surfaces and a defective one, and the archive's stray."""
    for split, first in (("train", 10300), ("test", 20000)):
        for number in range(first, first + 3):
            picture(root / split / f"{number}.png")
            mask_file(root / split / f"{number}_GT.png", marks(255 if number == first else 0))
    picture(root / "train" / "10301 (copy).png")
    picture(root / "train" / "10301_GT (copy).png", value=0)
    return root


def deeppcb(root: Path) -> Path:
    """DeepPCB: two groups of one pair, the first in the authors' training list."""
    for number in ("00041", "12000"):
        group = root / "PCBData" / f"group{number}"
        for kind in ("temp", "test"):
            picture(group / number / f"{number}200_{kind}.jpg", (640, 640))
        boxes = group / f"{number}_not" / f"{number}200.txt"
        boxes.parent.mkdir()
        boxes.write_text("77 315 110 373 1\n188 254 227 281 3\n")
    listed = "group00041/00041/00041200.jpg group00041/00041_not/00041200.txt\n"
    (root / "PCBData" / "trainval.txt").write_text(listed)
    return root


def folder(root: Path) -> Path:
    """One's own folder of good parts and one kind of defect."""
    for i in range(5):
        picture(root / "good" / f"{i}.png")
    picture(root / "dent" / "0.png")
    return root


def listed(root: Path) -> Path:
    """One's own CSV list; gives the file."""
    for name in ("a", "b", "c", "d"):
        picture(root / "img" / f"{name}.png")
    picture(root / "img" / "d_mask.png", value=255)
    rows = ["image,label,defect,mask,split", "img/a.png,good,,,train", "img/b.png,good,,,train"]
    rows += ["img/c.png,good,,,test", "img/d.png,defective,dent,img/d_mask.png,test"]
    (root / "list.csv").write_text("\n".join(rows) + "\n")
    return root / "list.csv"


TREES = {
    "mvtec": lambda root: mvtec(root, "bottle"),
    "loco": loco,
    "visa": visa,
    "btad": btad,
    "mtd": mtd,
    "kolektorsdd": kolektorsdd,
    "kolektorsdd2": kolektorsdd2,
    "mpdd": lambda root: mvtec(root, "tubes"),
    "deeppcb": deeppcb,
    "folder": folder,
    "list": listed,
}
