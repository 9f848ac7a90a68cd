"""From file to view: the time of reading an image as an inspector does, against the bare decoder.

    python benchmarks/reading.py --originals ORIGINALS/bottle [--size 256]
        [--repeats 40] [--output benchmarks/results/reading.json]

The files lie in memory, so that no disk is measured: a category's own PNGs, the same as JPEG of
quality 90, and those enlarged to 12 megapixels (4000 x 3000, with noise, as a camera has it). Three
things take turns in one process: `decoder` is `cv2.imdecode` of all pixels and nothing else, `view`
is bytes to the view's pixels, `whole` the same by way of all pixels as float32 (`read_image`), as
it was done before. Medians in milliseconds and the least, which a busy machine spoils less; ratios
are to the decoder's.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from _record import write_result
from blemish.imaging import Raster, View, list_images, read_image, read_raster, read_samples
from blemish.imaging.resizing import resized

FILES = 8
LARGE = (3000, 4000)
QUALITY = 90
WARM_UP = 2


def as_jpeg(samples: np.ndarray) -> bytes:
    """JPEG bytes of RGB [H, W, 3]."""
    stream = io.BytesIO()
    Image.fromarray(samples).save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def enlarged(samples: np.ndarray, seed: int) -> np.ndarray:
    """RGB at LARGE, with noise of a camera, without which a decoder has less to do."""
    large = cv2.resize(samples, LARGE[::-1], interpolation=cv2.INTER_CUBIC).astype(np.int16)
    large += np.random.default_rng(seed).integers(-6, 7, large.shape, dtype=np.int16)
    return large.clip(0, 255).astype(np.uint8)


def kinds(folder: Path) -> dict[str, list[bytes]]:
    """The files of each kind, as bytes."""
    png = [path.read_bytes() for path in list_images(folder / "train" / "good")[:FILES]]
    samples = [read_samples(data) for data in png]
    return {
        "png": png,
        "jpeg": [as_jpeg(one) for one in samples],
        "jpeg 12 MP": [as_jpeg(enlarged(one, at)) for at, one in enumerate(samples[:2])],
    }


def decoder(data: bytes) -> Any:
    """All pixels by the decoder alone."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def in_float(data: bytes, hw: tuple[int, int]) -> np.ndarray:
    """The view by way of all pixels as float32."""
    return resized(Raster.of(read_image(data)), hw, "bilinear")


def measured(files: Sequence[bytes], view: View, repeats: int) -> dict[str, Any]:
    """Medians of the three, which take turns."""
    ways: dict[str, Callable[[bytes], Any]] = {
        "decoder": decoder,
        "view": lambda data: view.see(read_raster(data, scale_of=view.scale)),
        "whole": lambda data: in_float(data, view.hw),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(WARM_UP + repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            way(files[turn % len(files)])
            if turn >= WARM_UP:
                spent[name].append(1e3 * (time.perf_counter() - started))
    medians = {name: float(np.median(times)) for name, times in spent.items()}
    least = {name: min(times) for name, times in spent.items()}
    first = read_raster(files[0], scale_of=view.scale)
    few, all_ = view.apply(first), in_float(files[0], view.hw)
    return {
        "hw": list(first.hw),
        "bytes": len(files[0]),
        "scale": first.scale,
        "ms": {name: round(value, 2) for name, value in medians.items()},
        "of_decoder": {
            name: round(value / medians["decoder"], 2) for name, value in medians.items()
        },
        "least_ms": {name: round(value, 2) for name, value in least.items()},
        "least_of_decoder": {
            name: round(value / least["decoder"], 2) for name, value in least.items()
        },
        "grey_levels_apart": {
            "mean": round(255 * float(np.abs(few - all_).mean()), 2),
            "most": round(255 * float(np.abs(few - all_).max()), 2),
        },
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--originals", type=Path, required=True)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/reading.json"))
    options = parser.parse_args()
    view = View(options.size)
    found = {
        name: measured(files, view, options.repeats)
        for name, files in kinds(options.originals).items()
    }
    for name, one in found.items():
        print(f"{name:<12} 1/{one['scale']}", one["ms"], "of the decoder:", one["of_decoder"])
        print(f"{'':<12} least", one["least_ms"], "of the decoder:", one["least_of_decoder"])
    write_result(
        options.output,
        {"size": options.size, "repeats": options.repeats, "threads": cv2.getNumThreads()}
        | {"kinds": found},
    )


if __name__ == "__main__":
    main()
