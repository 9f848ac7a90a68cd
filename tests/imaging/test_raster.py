"""Reading for a view: the same pixels from a path, bytes and samples, and a JPEG no larger."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from blemish.errors import ImageArrayError, ImageError, ImageSizeError, ImageTruncatedError
from blemish.imaging import (
    ImageSequence,
    Raster,
    Tiling,
    View,
    read_image,
    read_raster,
    read_samples,
)
from blemish.imaging.resizing import jpeg_scale, resized
from blemish.imaging.tiled_view import TiledView

from .pictures import FORMS, encoded

# A part's picture has few sharp edges to a pixel; of those, none moves by more grey levels than
MOST = 4 / 255
MEAN = 0.5 / 255
RNG = np.random.default_rng(3)


def part(height: int, width: int) -> np.ndarray:
    """A bright disc and fine noise on a slope, with nothing alike under a turn or a flip."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    grey = 90 + 60 * x + 30 * y + 60 * ((x - 0.3) ** 2 + (y - 0.2) ** 2 < 0.02)
    rgb = cv2.GaussianBlur(np.dstack([grey, grey * 0.8, 200 - grey * 0.5]), (0, 0), height / 300)
    return (rgb + RNG.normal(0, 2, rgb.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("aspect", ["stretch", "pad"])
def test_png_path_bytes_file_and_array_agree(tmp_path: Path, kind: str, aspect: str) -> None:
    """Bit for bit, also grey and with alpha: an image has one id however it is handed over."""
    image = Image.fromarray(part(150, 130)).convert(kind)
    data = encoded(image, "PNG")
    (tmp_path / "part.png").write_bytes(data)
    view = View(32, aspect=aspect)
    expected = view.apply(read_raster(data))
    for source in (tmp_path / "part.png", bytearray(data), io.BytesIO(data), np.array(image)):
        found = view.apply(read_raster(source, scale_of=view.scale))
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(view.apply(read_image(data)), expected)


def test_grey_and_its_three_channels_agree() -> None:
    """A grey file and the same as RGB show the same."""
    grey = part(90, 130)[..., 0]
    seen = View(32).apply(read_raster(grey))
    np.testing.assert_array_equal(seen, View(32).apply(read_raster(np.dstack([grey] * 3))))


@pytest.mark.parametrize("form", FORMS)
def test_a_raster_has_the_pixels_of_read_image(form: str) -> None:
    """Both are one reading: what `read_image` gives is the raster's samples in [0, 1]."""
    raster = read_raster(FORMS[form])
    np.testing.assert_array_equal(read_image(raster), read_image(FORMS[form]))
    assert raster.hw == read_image(FORMS[form]).shape[:2]
    assert raster.samples.dtype == (np.float32 if "16" in form or "float" in form else np.uint8)


def test_sixteen_bits_are_kept_through_the_view() -> None:
    """Deep samples are not rounded to 8 bits on the way."""
    deep = (part(64, 64).astype(np.uint16) << 3) + 5
    seen = View(32).apply(read_raster(deep, bit_depth=11))
    assert np.abs(seen * 255 - np.rint(seen * 255)).max() > 0.1


@pytest.mark.parametrize("resample", ["bilinear", "lanczos", "area"])
def test_eight_bits_agree_with_float(resample: str) -> None:
    """8-bit samples show what the same image in float does, but for rounding, also much smaller."""
    image = part(700, 900)
    for size, most in ((256, 1.5), (40, 4)):  # the smaller is averaged first
        seen = View(size, resample).apply(read_raster(image))
        real = resized(Raster.of(read_image(image)), (size, size), resample)
        assert np.abs(seen - real).max() <= most / 255
        assert np.abs(seen - real).mean() <= 0.5 / 255


def test_threads_change_nothing() -> None:
    """The same bits by one thread and by two."""
    image, before = part(700, 900), cv2.getNumThreads()
    found = []
    for count in (1, 2):
        cv2.setNumThreads(count)
        found.append([View(size).apply(read_raster(image)) for size in (256, 40)])
    cv2.setNumThreads(before)
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_caller_s_array_is_not_changed_nor_kept() -> None:
    """What `read_image` gives is never the caller's own memory."""
    own = RNG.random((8, 8, 3), dtype=np.float32)
    assert not np.shares_memory(read_image(own), own)
    assert not np.shares_memory(read_image(read_raster(own)), own)


# A JPEG at a reduced scale -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hw", "wanted", "scale"),
    [
        ((3000, 4000), (256, 256), 4),
        ((4096, 4096), (256, 256), 8),
        ((4095, 9999), (256, 256), 8),
        ((9999, 1024), (256, 256), 2),
        ((1024, 1024), (256, 256), 2),
        ((896, 1024), (256, 256), 2),
        ((900, 900), (256, 256), 2),
        ((895, 1024), (256, 256), 1),
        ((1000, 10), (8, 8), 1),
        ((100_000, 100_000), (8, 8), 8),
    ],
)
def test_the_scale_leaves_both_sides_larger_than_the_view(
    hw: tuple[int, int], wanted: tuple[int, int], scale: int
) -> None:
    """The smallest of 1/8, 1/4, 1/2 at which the resize still does the antialiasing."""
    assert jpeg_scale(hw, wanted, "bilinear") == scale
    assert jpeg_scale(hw, wanted, "area") == 1


def test_only_a_view_of_the_whole_image_reads_less() -> None:
    """Aligned views, windows and tiles look at all pixels; padding counts what it shows."""
    hw = (3000, 4000)
    assert View(256).scale(hw) == 4
    assert View(256, aspect="pad").scale(hw) == 8
    assert View(256, aspect="pad").scale((500, 8000)) == 8
    assert View(256, align="rigid").scale(hw) == 1
    assert View(256, align="auto").scale(hw) == 1
    assert View(256).tile((0, 0, 2048, 2048)).scale(hw) == 1
    assert TiledView(View(256), Tiling.over(hw, 1000)).scale(hw) == 1


@pytest.mark.parametrize("hw", [(512, 640), (509, 643), (385, 391)])
@pytest.mark.parametrize("kind", ["RGB", "L", "CMYK", "progressive"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_jpeg_shows_what_the_whole_one_does(
    hw: tuple[int, int], kind: str, orientation: int
) -> None:
    """Within MOST, at every size, kind and orientation; it tells the size of the image itself."""
    exif = Image.Exif()
    exif[274] = orientation
    mode = "RGB" if kind == "progressive" else kind
    picture = Image.fromarray(part(*hw)).convert(mode)
    data = encoded(picture, "JPEG", quality=95, exif=exif, progressive=kind == "progressive")
    view = View(24, aspect="pad")
    reduced = read_raster(data, scale_of=view.scale)
    upright = hw if orientation < 5 else hw[::-1]
    assert (reduced.scale, reduced.hw) == (8, upright)
    assert max(reduced.samples.shape[:2]) == -(-max(hw) // 8)
    few, all_ = view.see(reduced), view.see(read_samples_raster(data))
    assert np.abs(few.pixels - all_.pixels).max() <= MOST
    assert np.abs(few.pixels - all_.pixels).mean() <= MEAN
    assert few.hw == all_.hw == upright
    np.testing.assert_array_equal(few.matrix, all_.matrix)
    assert few.to_source((3, 4, 5, 6)) == view.to_source((3, 4, 5, 6), upright)


def read_samples_raster(data: bytes):
    """The raster of all pixels, as a camera's array would have them."""
    return read_raster(np.ascontiguousarray(read_samples(data)))


def test_a_jpeg_from_path_bytes_and_file_agrees(tmp_path: Path) -> None:
    """Bit for bit at the reduced scale, and a sequence (what `fit` reads) sees the same."""
    data = encoded(part(512, 640), "JPEG")
    (tmp_path / "part.jpg").write_bytes(data)
    view = View(64)
    expected = view.apply(read_raster(data, scale_of=view.scale))
    for source in (tmp_path / "part.jpg", memoryview(data), io.BytesIO(data)):
        found = view.apply(read_raster(source, scale_of=view.scale))
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(ImageSequence(tmp_path, view)[0], expected)


def test_a_raster_is_read_anew_at_another_scale() -> None:
    """Handed on, it still becomes all pixels, or those that another view looks at."""
    data = encoded(part(512, 640), "JPEG")
    small, large = View(32), View(128)
    raster = read_raster(data, scale_of=small.scale)
    assert raster.scale == 8
    np.testing.assert_array_equal(read_image(raster), read_image(data))
    again = read_raster(raster, scale_of=large.scale)
    assert again.scale == 2
    whole = read_raster(read_raster(data), scale_of=small.scale)
    np.testing.assert_array_equal(small.apply(whole), small.apply(raster))
    assert read_raster(raster, scale_of=small.scale) is raster
    with pytest.raises(ImageArrayError, match=r"read at 1/8, and this view looks at 1/2"):
        large.see(raster)


def test_limits_and_damage_are_told_as_of_the_whole_image() -> None:
    """The size limit is of the image, not of what is read of it; a cut file stays an error."""
    data = encoded(part(512, 640), "JPEG")
    read = View(32).scale
    with pytest.raises(ImageSizeError, match="640 x 512 = 327680 pixels"):
        read_raster(data, max_pixels=320_000, scale_of=read)
    for cut in (data[:-1], data[: len(data) // 2], data[:700]):
        with pytest.raises(ImageTruncatedError) as reduced:
            read_raster(cut, scale_of=read)
        with pytest.raises(ImageTruncatedError) as whole:
            read_image(cut)
        assert str(reduced.value).split("(")[0] == str(whole.value).split("(")[0]


# Reading ahead --------------------------------------------------------------------------------


def test_iterating_reads_ahead_in_order_and_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several threads, few images ahead, and what was indexed is what is iterated."""
    for index in range(12):
        (tmp_path / f"{index}.png").write_bytes(encoded(np.roll(part(40, 50), index, 0), "PNG"))
    images = ImageSequence(tmp_path, View(16))
    expected = [images[index] for index in range(12)]
    begun, names, original = [], set(), View.see

    def see(self: View, *arguments):
        begun.append(1)
        names.add(threading.current_thread().name)
        return original(self, *arguments)

    monkeypatch.setattr(View, "see", see)
    monkeypatch.setattr("blemish.imaging.sequence.os.cpu_count", lambda: 2)
    for index, image in enumerate(images):
        assert len(begun) <= index + 1 + 2
        np.testing.assert_array_equal(image, expected[index])
        assert images.inside(index) is None
    assert len(begun) == 12
    assert all(name.startswith("blemish-read") for name in names)


def test_a_loop_that_ends_early_leaves_no_thread() -> None:
    """Breaking out, or an image that cannot be read, joins the reading threads."""
    images = ImageSequence([part(40, 50)] * 20 + [np.full((4, 4), np.nan)], View(16))
    for _ in images:
        break
    with pytest.raises(ImageError, match="array: float values"):
        list(images)
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith("blemish-read") for name in names)
