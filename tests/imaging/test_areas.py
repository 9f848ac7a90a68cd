"""Regions of interest and ignore regions: polygons and masks become pixels, or one clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.errors import BlemishError, ImageMissingError, ParameterError
from blemish.imaging.areas import Area, counted, read_area, to_area

BOX = [[10, 5], [30, 5], [30, 25], [10, 25]]


def written(path: Path, body: Any) -> Path:
    """A JSON file."""
    path.write_text(json.dumps(body))
    return path


def test_a_polygon_covers_the_pixels_whose_centre_is_inside() -> None:
    """A box from 10 to 30 is the pixels 10 to 29, not one more on each side."""
    expected = np.zeros((40, 50), bool)
    expected[5:25, 10:30] = True
    np.testing.assert_array_equal(to_area([BOX]).drawn((40, 50)), expected)


@given(
    points=st.lists(
        st.tuples(st.floats(-20, 60, width=32), st.floats(-20, 60, width=32)),
        min_size=3,
        max_size=7,
    )
)
def test_filling_agrees_with_a_test_of_each_centre(points: list[tuple[float, float]]) -> None:
    """Crossings counted along a ray from each pixel's centre say the same."""
    found = to_area([points]).drawn((40, 40))
    for y, x in [(0, 0), (7, 31), (20, 20), (39, 5), (33, 39)]:
        crossings = 0
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
            if (y0 <= y + 0.5) != (y1 <= y + 0.5):
                crossings += x0 + (y + 0.5 - y0) * (x1 - x0) / (y1 - y0) <= x + 0.5
        near = min(abs(y + 0.5 - py) for _, py in points) < 1e-6
        assert near or found[y, x] == bool(crossings % 2)


def test_polygons_unite_and_what_is_ignored_goes() -> None:
    """What counts is any polygon of the region less any of those to ignore."""
    other = [[25, 20], [45, 20], [45, 38], [25, 38]]
    mask = counted(
        (40, 50), to_area([BOX, other]), to_area([[[10, 5], [20, 5], [20, 25], [10, 25]]])
    )
    assert mask[10, 25]
    assert mask[30, 40]
    assert mask[22, 27]
    assert not mask[10, 15]
    assert not mask[2, 2]


def test_forms_of_a_file_agree(tmp_path: Path) -> None:
    """Bare polygons, our JSON, LabelMe's, and a mask image give the same pixels."""
    drawn = to_area([BOX]).drawn((40, 50))
    cv2.imwrite(str(tmp_path / "mask.png"), drawn.astype(np.uint8) * 255)
    labelme = {
        "version": "5.4.1",
        "imagePath": "part.png",
        "imageHeight": 40,
        "imageWidth": 50,
        "shapes": [{"label": "roi", "shape_type": "rectangle", "points": [[10, 5], [30, 25]]}],
    }
    files = [
        written(tmp_path / "bare.json", [BOX]),
        written(tmp_path / "ours.json", {"polygons": [BOX], "image": [50, 40]}),
        written(tmp_path / "labelme.json", labelme),
        tmp_path / "mask.png",
    ]
    for path in files:
        np.testing.assert_array_equal(read_area(path).drawn((40, 50)), drawn)


def test_an_area_drawn_on_a_larger_picture_shrinks_with_it() -> None:
    """A size that the file names says in which pixels the polygons are."""
    area = Area(polygons=(tuple((2 * x, 2 * y) for x, y in BOX),), hw=(80, 100))
    np.testing.assert_array_equal(area.drawn((40, 50)), to_area([BOX]).drawn((40, 50)))
    with pytest.raises(ParameterError, match="100x80 pixels, and the golden image has 50x50"):
        area.drawn((50, 50))


def test_a_boolean_mask_is_an_area() -> None:
    """An array is taken as it is, and shrunk by the nearest pixel."""
    mask = np.zeros((40, 50), bool)
    mask[:20] = True
    np.testing.assert_array_equal(to_area(mask).drawn((40, 50)), mask)
    assert to_area(mask).drawn((20, 25)).sum() == 10 * 25


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"polygons": []}, "holds no polygons"),
        ({"polygon": [BOX]}, "holds no polygons"),
        ("text", "holds no polygons"),
        ({"polygons": [[[1, 2], [3, 4]]]}, "fewer than 3 points"),
        ({"polygons": [[[1, 2], [3, 4], [5]]]}, r"a point is \[x, y\]"),
        ({"polygons": [[[1, 2], [3, 4], [5, "6"]]]}, "in pixels"),
        ({"polygons": [[[1, 2], [3, 4], [5, 10**400]]]}, "in pixels"),
        ({"polygons": [[[1, 2], [3, 4], [5, True]]]}, "in pixels"),
        ({"polygons": [5]}, "a list of points"),
        ({"polygons": [BOX], "image": [50]}, "width, height"),
        ({"polygons": [BOX], "image": [0, 40]}, "width, height"),
        ({"shapes": 5}, "LabelMe"),
        ({"shapes": [{"shape_type": "circle", "points": [[1, 2], [3, 4]]}]}, "a shape is a circle"),
        ({"shapes": [{"shape_type": "polygon"}]}, "a list of points"),
        ({"shapes": []}, "holds no polygons"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, body: Any, says: str) -> None:
    """One sentence that names the file."""
    path = written(tmp_path / "roi.json", body)
    with pytest.raises(ParameterError, match=says) as caught:
        read_area(path)
    assert str(path) in str(caught.value)


def test_files_that_are_no_areas(tmp_path: Path) -> None:
    """Missing, not JSON, nested without end, and too large."""
    with pytest.raises(ParameterError, match="No such file"):
        read_area(tmp_path / "none.json")
    with pytest.raises(ImageMissingError):
        read_area(tmp_path / "none.png")
    path = tmp_path / "roi.json"
    for text, says in [("{", "not JSON"), ("[" * 10**5, "not JSON"), (" " * (5 << 20), "MiB")]:
        path.write_text(text)
        with pytest.raises(ParameterError, match=says):
            read_area(path)


NUMBERS = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3)
POINTS = st.lists(NUMBERS | st.lists(NUMBERS, max_size=3), max_size=4)


@settings(max_examples=60)
@given(st.lists(POINTS | NUMBERS, max_size=3))
def test_any_json_is_an_area_or_one_error(body: Any) -> None:
    """Whatever JSON holds, nothing but BlemishError comes of it."""
    try:
        area = to_area(json.loads(json.dumps(body)))
    except BlemishError:
        return
    assert area.drawn((8, 8)).shape == (8, 8)


def test_nothing_left_to_inspect_is_an_error() -> None:
    """A region beside the image, or ignored whole, is a mistake in the coordinates."""
    with pytest.raises(ParameterError, match=r"no pixel of the golden image \(50x40\)"):
        counted((40, 50), to_area([[[60, 5], [70, 5], [70, 25]]]), None)
    with pytest.raises(ParameterError, match="no pixel"):
        counted((40, 50), to_area([BOX]), to_area([[[0, 0], [50, 0], [50, 40], [0, 40]]]))
    with pytest.raises(ParameterError, match="not int"):
        to_area(5)
