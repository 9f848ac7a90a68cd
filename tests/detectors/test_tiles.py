"""Large images in tiles: one verdict, boxes in the image's pixels, templates of each place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from blemish.detectors import HETMM, TiledDetector
from blemish.detectors import tile_learning as learning
from blemish.detectors.tile_learning import fit_tiles
from blemish.errors import BlemishError, ImageError, ParameterError
from blemish.imaging import TiledView, Tiling, View
from blemish.inspector import Inspector

HEIGHT, WIDTH, TILE, SIZE = 120, 200, 80, 32
FAST: dict[str, Any] = {"backbone": "filterbank", "pool": (1, 1, 1)}
RAW: dict[str, Any] = {"windows": "manual", "normalise": False, "statistic": "max"}


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


def inspector(**options: Any) -> Inspector:
    """An inspector of twenty large pictures, calibrated at 0.05."""
    made = Inspector(HETMM(sheets=None, **FAST, **options), size=SIZE, tile=TILE, device="cpu")
    return made.fit([large(seed) for seed in range(20)]).calibrate(false_alarm_rate=0.05)


@pytest.fixture(scope="module")
def tiled() -> Inspector:
    """By the default settings, with few of the location-free vectors."""
    return inspector(vectors=500)


@pytest.fixture(scope="module")
def raw() -> Inspector:
    """Of distances as they are, within windows."""
    return inspector(**RAW)


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


@pytest.mark.parametrize("memory", [None, 1])
@pytest.mark.parametrize("kind", ["tiled", "raw"])
def test_tiles_are_saved_and_updated(
    kind: str, memory: int | None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Loading gives the same bits, and so it does after an update."""
    tiled: Inspector = request.getfixturevalue(kind)
    tiled.save(tmp_path / "part")
    again = Inspector.load(tmp_path / "part", device="cpu", memory=memory)
    assert isinstance(again.detector, TiledDetector)
    probe = large(52, (30, 70))
    wanted = tiled.inspect(probe)
    np.testing.assert_array_equal(again.inspect(probe).anomaly_map, wanted.anomaly_map)
    assert [r.box for r in again.inspect(probe).regions] == [r.box for r in wanted.regions]
    again.update(add=[probe])
    if kind == "raw":
        assert again.inspect(probe).score == pytest.approx(0, abs=1e-4)
    else:  # in units of how good parts vary, 0 is what is usual
        assert again.inspect(probe).score < 0 < wanted.score
    again.save(tmp_path / "part")
    saved = Inspector.load(tmp_path / "part").inspect(probe)
    np.testing.assert_array_equal(saved.anomaly_map, again.inspect(probe).anomaly_map)
    assert saved.score == again.inspect(probe).score


@pytest.mark.parametrize("windows", ["both", "global"])
def test_tiles_share_their_graphs(windows: str, tmp_path: Path) -> None:
    """One graph and one record for all, each its own measurement: a bundle brings all back."""
    options = {**FAST, "levels": (1, 2), "pool": (1, 1), "windows": windows, "vectors": 200}
    made = Inspector(HETMM(**options), size=SIZE, tile=TILE, device="cpu")
    made.fit([large(seed) for seed in range(6)])
    assert isinstance(made.detector, TiledDetector)
    for tile in made.detector.tiles:
        assert tile.graphs() == made.detector.graphs()
    measured = [tile.measurement()["sums"] for tile in made.detector.tiles]
    assert len({values.tobytes() for values in measured}) == len(measured) > 1
    made.save(tmp_path / "part")
    again, probe = Inspector.load(tmp_path / "part", device="cpu"), large(52, (30, 70))
    np.testing.assert_array_equal(again.inspect(probe).anomaly_map, made.inspect(probe).anomaly_map)


def test_a_tile_left_out_is_a_tile_never_seen(raw: Inspector) -> None:
    """Calibration leaves an image out of every tile: the map is that of a set without it."""
    detector, images = raw.detector, Counted()
    assert isinstance(detector, TiledDetector)
    (found,) = detector.calibration_maps(images, [3], [3])
    wanted = detector.removed([3]).maps([images[3]])
    np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=0)


def test_an_image_of_another_size_is_refused(tiled: Inspector) -> None:
    """Tiles lie at fixed places: an image they do not fit is an error that tells both sizes."""
    with pytest.raises(ImageError, match="200x120"):
        tiled.inspect(large(0)[:, :-1])


def test_what_has_no_templates_has_no_tiles() -> None:
    """TFA-Net would need a network a tile: it is refused before an image is read."""
    images, other = Counted(), SimpleNamespace(method="tfanet")
    with pytest.raises(ParameterError, match="tiles need templates of their own, which tfanet"):
        images.fitted(other)  # type: ignore[arg-type]
    assert not images.read


class Counted(Sequence[Any]):
    """Tall images of six pictures, and how often each was asked for."""

    def __init__(self) -> None:
        view = TiledView(View(size=SIZE), Tiling.over((HEIGHT, WIDTH), TILE))
        self.tiling = view.tiling
        self.images = [view.apply(large(seed)) for seed in range(6)]
        self.read: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        self.read[index] += 1
        return self.images[index]

    def fitted(self, detector: HETMM) -> TiledDetector:
        return fit_tiles(detector, self, self.tiling, device="cpu")


@pytest.mark.parametrize("options", [{"sheets": 3}, {"sheets": 3, **RAW}])
def test_each_image_is_read_once(options: dict[str, Any]) -> None:
    """However many tiles look at it, and however often: reading a large image is the slow part."""
    images = Counted()
    images.fitted(HETMM(**FAST, **options))
    assert set(images.read.values()) == {1}


def test_images_beyond_the_memory_lie_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two of six images the others are read from a file: once, and to the bit."""
    images = Counted()
    wanted = images.fitted(HETMM(sheets=None, **FAST)).state()
    again = Counted()
    monkeypatch.setattr(learning, "IN_MEMORY", 2 * images.images[0].nbytes)
    found = again.fitted(HETMM(sheets=None, **FAST)).state()
    assert set(again.read.values()) == {1}
    for part, tensors in wanted.items():
        for name, value in tensors.items():
            np.testing.assert_array_equal(found[part][name], value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into memory or the temporary folder is an error that says what helps."""
    monkeypatch.setattr(learning, "IN_MEMORY", 0)
    with Path("/dev/full").open("r+b", 0) as full:
        monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: full)
        with pytest.raises(BlemishError, match=r"tiles' scratch file.*No space.*fewer good"):
            Counted().fitted(HETMM(**FAST))


def test_an_update_reads_each_image_once(tiled: Inspector) -> None:
    """New templates of all tiles come from one reading, and are those of one image at a time."""
    detector, images = tiled.detector, Counted()
    found = detector.sheets_of(images, [4, 1])
    assert images.read == {4: 1, 1: 1}
    for number, position in enumerate([4, 1]):
        for name, value in detector.sheets_of(images, [position]).items():
            np.testing.assert_array_equal(found[name][number], value[0])
