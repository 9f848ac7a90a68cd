"""What the fuzzer starts from: small sound images in every format, and small sound bundles."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.imaging.pictures import FORMS, RGB8, RGB16, encoded, encoded_deep

from blemish.bundle import pack_bundle, read_manifest
from blemish.demo.parts import render
from blemish.detectors import HETMM
from blemish.inspector import Inspector
from blemish.train.tfanet import TFANet
from blemish.verdict import Inspection

SIZE = 32  # px: the side of the bundles' view
TINY_NET = {
    "dim": 16, "depth": 1, "heads": 2, "fdrm_dim": 8, "fdrm_depth": 1, "fdrm_heads": 2,
    "grid": 8, "epochs": 1, "precision": "fp32",
}  # fmt: skip
FREE: dict[str, Any] = {
    "level_weights": (0.0, 1.0, 0.0), "free_weights": (0.0, 0.0, 1.0), "free_pool": (1, 1, 1),
    "free_average": 1, "components": 8, "vectors": 200,
}  # fmt: skip
RAW: dict[str, Any] = {"normalise": False, "statistic": "max"}


def part(seed: int) -> np.ndarray:
    """One good made-up part [32, 32, 3], uint8."""
    return np.ascontiguousarray(render(seed, size=2 * SIZE).image[::2, ::2])


PROBE = part(99)


@dataclass(frozen=True)
class Base:
    """A sound bundle: its folder, the same packed, and what it says of PROBE."""

    name: str
    folder: Path
    packed: Path
    verdict: Inspection


def bundles(where: Path, *, quick: bool) -> list[Base]:
    """Bundles of every kind of template set, with some history; quick: only the fast ones."""
    kinds: dict[str, Any] = {
        "whole": HETMM(sheets=None),
        "prototypes": HETMM(sheets=2, selection="pts", precision="float16"),
        "free": HETMM(sheets=3, **FREE, **RAW),
    }
    if not quick:
        kinds["augmented"] = HETMM(sheets=2, augment=("flip-h",), levels=(2,), **one_level())
        kinds["network"] = HETMM(
            backbone="random:mobilenetv3_small_050", levels=(1,), **one_level()
        )
        kinds["anywhere"] = HETMM(sheets=None, windows="global", components=8, vectors=200)
        kinds["tfanet"] = TFANet(calibration_share=0.5, **TINY_NET)
    made = [_made(where, name, detector) for name, detector in kinds.items()]
    if not quick:
        made.append(_exported(where, made[0].folder))
    return made


def one_level() -> dict[str, Any]:
    """HETMM's settings for a single level."""
    return {
        "windows": "manual", "forward": (5,), "backward": (3,), "alpha": (0.5,),
        "level_weights": (1.0,),
    }  # fmt: skip


def _exported(where: Path, folder: Path) -> Base:
    """The same as graphs of the line floor, updated there."""
    os.environ["BLEMISH_THREADS"] = "1"  # a pool of threads would not survive the fork
    target = where / "graphs.blemish"
    Inspector.load(folder, device="cpu").export(target, images=[PROBE, part(70)])
    inspector = Inspector.load(target)
    inspector.update(add=[part(60)])
    inspector.save(target)
    return _base("graphs", target)


def _made(where: Path, name: str, detector: Any) -> Base:
    folder = where / f"{name}.blemish"
    inspector = Inspector(detector, size=SIZE, device="cpu")
    inspector.fit([part(seed) for seed in range(5)]).calibrate(false_alarm_rate=0.4)
    inspector.save(folder)
    if inspector.detector.updates:
        inspector.update(add=[part(50)], by="Ada", note="a new batch")
        inspector.update(remove=[inspector.templates[0].id])
        inspector.save(folder)
    return _base(name, folder)


def _base(name: str, folder: Path) -> Base:
    packed = folder.with_suffix(".zip")
    pack_bundle(folder, packed)
    verdict = Inspector.load(folder, device="cpu").inspect(PROBE)
    assert verdict.verdict in ("pass", "fail"), read_manifest(folder)
    return Base(name, folder, packed, verdict)


def pictures() -> Mapping[str, bytes]:
    """Small sound images: every format, depth, palette and compression that Blemish reads."""
    rgb = Image.fromarray(RGB8)
    grey = Image.fromarray(RGB8[..., 0])
    alpha = rgb.convert("RGBA")
    exif = Image.Exif()
    exif[274] = 6
    large = Image.new("L", (2000, 2000), 77)  # few bytes, many pixels
    return {
        **FORMS,
        "jpeg-large": encoded(large, "JPEG", progressive=True, quality=10),
        "png-palette": encoded(rgb.convert("P"), "PNG", transparency=3),
        "png-bit": encoded(rgb.convert("1"), "PNG"),
        "png-alpha": encoded(alpha, "PNG"),
        "png-grey16": encoded_deep(RGB16[..., 0], ".png"),
        "png-exif": encoded(rgb, "PNG", exif=exif),
        "jpeg-grey": encoded(grey, "JPEG"),
        "jpeg-cmyk": encoded(rgb.convert("CMYK"), "JPEG"),
        "jpeg-exif": encoded(rgb, "JPEG", exif=exif, restart_marker_blocks=1),
        "mpo": encoded(rgb, "MPO", save_all=True, append_images=[rgb]),
        "bmp-bit": encoded(rgb.convert("1"), "BMP"),
        "bmp-palette": encoded(rgb.convert("P"), "BMP"),
        "bmp-alpha": encoded(alpha, "BMP"),
        "tiff-jpeg": encoded(rgb, "TIFF", compression="jpeg"),
        "tiff-deflate": encoded(rgb, "TIFF", compression="tiff_adobe_deflate"),
        "tiff-packbits": encoded(rgb, "TIFF", compression="packbits"),
        "tiff-group4": encoded(rgb.convert("1"), "TIFF", compression="group4"),
        "tiff-palette": encoded(rgb.convert("P"), "TIFF"),
        "tiff-alpha": encoded(alpha, "TIFF"),
        "tiff-big": encoded(rgb, "TIFF", big_tiff=True),
        "tiff-grey16": encoded_deep(RGB16[..., 0], ".tiff"),
        "webp-lossless": encoded(rgb, "WEBP", lossless=True),
        "webp-alpha": encoded(alpha, "WEBP", exif=exif),
        "gif-alpha": encoded(alpha, "GIF"),
        "gif-interlaced": encoded(rgb, "GIF", interlace=1),
    }
