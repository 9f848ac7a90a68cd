"""Large images in tiles: one verdict, boxes in the image's pixels, on both floors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blemish.errors import ImageError, ParameterError
from blemish.hetmm import HETMM
from blemish.inspector import Inspector
from blemish.tfanet import TFANet

HEIGHT, WIDTH, TILE, SIZE = 120, 200, 80, 32


def large(seed: int, flaw: tuple[int, int] | None = None) -> np.ndarray:
    """A picture [120, 200, 3] whose texture differs from place to place; a flaw at (x, y)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    base = 0.5 + 0.2 * np.sin(x / 5 + y / 40) + 0.2 * np.cos(y / (4 + x / 50))
    image = np.stack([base, base[::-1], 1 - base], axis=2) + rng.normal(0, 0.02, (HEIGHT, WIDTH, 3))
    image = np.clip(image, 0, 1).astype(np.float32)
    if flaw is not None:
        image[flaw[1] : flaw[1] + 16, flaw[0] : flaw[0] + 16] = (1, 0, 1)
    return image


@pytest.fixture(scope="module")
def tiled() -> Inspector:
    """An inspector of twenty large pictures, calibrated at 0.05."""
    made = Inspector(HETMM(sheets=None), size=SIZE, tile=TILE, device="cpu")
    return made.fit([large(seed) for seed in range(20)]).calibrate(false_alarm_rate=0.05)


@pytest.mark.parametrize("flaw", [(10, 10), (100, 60), (180, 100)])
def test_a_flaw_is_boxed_where_it_is(tiled: Inspector, flaw: tuple[int, int]) -> None:
    """In the middle, in an overlap and at the edge: the worst region's box covers the flaw."""
    result = tiled.inspect(large(50, flaw))
    assert result.verdict == "fail"
    x, y, width, height = result.regions[0].box
    assert x <= flaw[0] + 8 <= x + width
    assert y <= flaw[1] + 8 <= y + height
    assert result.regions[0].template in {template.id for template in tiled.templates}
    assert tiled.inspect(large(51)).score < result.score / 2


def test_tiles_are_saved_updated_and_exported(tiled: Inspector, tmp_path: Path) -> None:
    """Loading gives the same bits, the export PyTorch's maps, and an update works on both."""
    tiled.save(tmp_path / "part")
    again = Inspector.load(tmp_path / "part", device="cpu")
    probe = large(52, (30, 70))
    wanted = tiled.inspect(probe)
    assert np.array_equal(again.inspect(probe).anomaly_map, wanted.anomaly_map)
    again.export(tmp_path / "line")
    line = Inspector.load(tmp_path / "line")
    found = line.inspect(probe)
    np.testing.assert_allclose(found.anomaly_map, wanted.anomaly_map, atol=1e-5)
    assert [r.box for r in found.regions] == [r.box for r in wanted.regions]
    for made in (again, line):
        made.update(add=[probe])
        assert made.inspect(probe).score == pytest.approx(0, abs=1e-4)
    line.save(tmp_path / "line")
    assert Inspector.load(tmp_path / "line").inspect(probe).score == line.inspect(probe).score


def test_an_image_of_another_size_is_refused(tiled: Inspector) -> None:
    """Tiles lie at fixed places: an image they do not fit is an error that tells both sizes."""
    with pytest.raises(ImageError, match="200x120"):
        tiled.inspect(large(0)[:, :-1])


def test_what_has_no_templates_has_no_tiles() -> None:
    """TFA-Net would need a network a tile: it is refused before the work."""
    made = Inspector(TFANet(), size=SIZE, tile=TILE, device="cpu")
    with pytest.raises(ParameterError, match="tiles need templates"):
        made.fit([large(seed) for seed in range(2)])
