"""The view resizes without aliasing, changes nothing it need not, and maps boxes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blemish.errors import ImageArrayError, ParameterError
from blemish.imaging import View

RESAMPLES = ["bilinear", "lanczos", "area"]
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("resample", RESAMPLES)
@pytest.mark.parametrize("shape", [(90, 70, 3), (16, 200, 3), (10, 10, 3), (1, 1, 3)])
def test_shape_and_range(resample: str, shape: tuple[int, int, int]) -> None:
    """Any source becomes a float32 square within [0, 1], also where Lanczos overshoots."""
    image = RNG.integers(0, 2, shape).astype(np.float32)
    square = View(32, resample).apply(image)
    assert square.shape == (32, 32, 3)
    assert square.dtype == np.float32
    assert 0 <= square.min() <= square.max() <= 1


@pytest.mark.parametrize("resample", RESAMPLES)
def test_identity(resample: str) -> None:
    """An image that has the size already is returned as it is."""
    image = RNG.random((32, 32, 3), dtype=np.float32)
    assert View(32, resample).apply(image) is image


@pytest.mark.parametrize("resample", RESAMPLES)
@pytest.mark.parametrize("shape", [(256, 256), (256, 16), (16, 256)])
def test_shrinking_averages(resample: str, shape: tuple[int, int]) -> None:
    """A one-pixel checkerboard shrinks to grey, on whichever axis shrinks: no skipped pixels."""
    rows, columns = np.indices(shape)
    board = np.repeat(((rows + columns) % 2)[..., None], 3, 2).astype(np.float32)
    inner = View(32, resample).apply(board)[4:-4, 4:-4]
    np.testing.assert_allclose(inner, 0.5, atol=0.02)


@pytest.mark.parametrize(
    ("resample", "method"),
    [("bilinear", Image.Resampling.BILINEAR), ("lanczos", Image.Resampling.LANCZOS)],
)
def test_agrees_with_pillow_on_eight_bits(resample: str, method: Image.Resampling) -> None:
    """The float resize is Pillow's 8-bit RGB resize, which both papers used, but for rounding."""
    # Mid-range values: Pillow's 8-bit path also clips between its two passes, ours only at the end.
    image = RNG.integers(90, 166, (90, 70, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((32, 32), method)) / 255
    square = View(32, resample).apply(image / np.float32(255))
    assert np.abs(square - expected).max() < 1.5 / 255


def test_area_is_the_mean_of_each_block() -> None:
    """At a whole factor, area is exactly the mean of each block."""
    image = RNG.random((64, 96, 3), dtype=np.float32)
    blocks = image.reshape(16, 4, 16, 6, 3).mean(axis=(1, 3))  # [16, 16, 3]
    np.testing.assert_allclose(View(16, "area").apply(image), blocks, atol=1e-6)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 4), np.float32),
        np.zeros((0, 4, 3), np.float32),
    ],
)
def test_apply_refuses_other_arrays(image: np.ndarray) -> None:
    """Anything but float32 [H, W, 3] is refused, and the error points to read_image."""
    with pytest.raises(ImageArrayError, match="use read_image first"):
        View().apply(image)


@pytest.mark.parametrize(
    "options", [{"size": 0}, {"size": 7}, {"size": 2.5}, {"size": True}, {"resample": "cubic"}]
)
def test_bad_options(options: dict) -> None:
    """A view that cannot work is refused when it is made, naming the option."""
    with pytest.raises(ParameterError, match=next(iter(options))):
        View(**options)


def test_to_source_scales_each_axis() -> None:
    """Boxes follow the squashed aspect: x by the width's factor, y by the height's."""
    assert View(256).to_source((64, 64, 128, 128), (512, 1024)) == (256, 128, 512, 256)
    assert View(256).to_source((0, 0, 256, 256), (900, 700)) == (0, 0, 700, 900)


@given(
    box=st.tuples(*[st.integers(0, 63)] * 2, *[st.integers(1, 64)] * 2),
    height=st.integers(1, 500),
    width=st.integers(1, 500),
)
def test_to_source_covers_and_stays_inside(
    box: tuple[int, int, int, int], height: int, width: int
) -> None:
    """A mapped box is never empty, lies inside the source, and covers what the view's box did."""
    x, y, w, h = View(64).to_source(box, (height, width))
    assert w >= 1
    assert h >= 1
    assert 0 <= x <= box[0] * width / 64
    assert 0 <= y <= box[1] * height / 64
    assert min((box[0] + box[2]) * width / 64, width) <= x + w <= width
    assert min((box[1] + box[3]) * height / 64, height) <= y + h <= height


def test_to_source_clips_a_box_outside() -> None:
    """A box beyond the view's edge becomes the nearest pixel of the source."""
    assert View(64).to_source((64, -9, 5, 4), (128, 128)) == (127, 0, 1, 1)
    with pytest.raises(ParameterError, match="source_hw"):
        View().to_source((0, 0, 1, 1), (0, 10))


def test_dict_round_trip() -> None:
    """from_dict(to_dict()) is the same view, and a name from the future is refused."""
    view = View(320, "area")
    assert View.from_dict(view.to_dict()) == view
    with pytest.raises(ParameterError, match="'roi'"):
        View.from_dict({"size": 256, "roi": [0, 0, 8, 8]})
