"""A bundle loaded under a limit on memory: its sheets lie in a file, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blemish.bundle import read_manifest
from blemish.detectors import HETMM
from blemish.detectors.hetmm import restoring
from blemish.detectors.hetmm.vectors import MemoryVectors, ScratchVectors
from blemish.errors import BundleError
from blemish.inspector import Inspector
from common import SIZE, picture

FAST = {"backbone": "filterbank", "levels": (1, 2)}


@pytest.fixture(autouse=True)
def _small_mebibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    """The templates of made-up parts are small, so a mebibyte is too."""
    monkeypatch.setattr(restoring, "MEBIBYTE", 1 << 10)


@pytest.mark.parametrize(
    "options",
    [
        {"sheets": None},
        {"sheets": 4, "selection": "pts"},
        {"sheets": None, "precision": "float16"},
        {"level_weights": (0.0, 1.0), "free_weights": (1.0, 0.0)},
    ],
    ids=["sheets", "prototypes", "float16", "location-free"],
)
def test_a_limit_changes_no_score(
    options: dict, good_images: list[np.ndarray], tmp_path: Path
) -> None:
    """Loaded under a limit, sheets lie in a file, and scores are equal to the bit."""
    if options.get("selection") == "pts":
        pytest.importorskip("sklearn")
    fitted = Inspector(HETMM(**FAST, **options), size=SIZE, device="cpu").fit(good_images)
    fitted.save(tmp_path / "board.blemish")
    whole = Inspector.load(tmp_path / "board.blemish", device="cpu")
    limited = Inspector.load(tmp_path / "board.blemish", device="cpu", memory=1)
    for seed in (30, 31):
        probe = picture(seed)
        assert limited.inspect(probe).score == whole.inspect(probe).score
    for made, kind in ((whole, MemoryVectors), (limited, ScratchVectors)):
        sets = [own for own in made.detector.sets_ if own.level.kind == "sheets"]  # type: ignore[attr-defined]
        assert sets
        assert all(isinstance(own.vectors, kind) for own in sets)


def test_a_limited_bundle_can_be_saved_and_updated(bundle: Path) -> None:
    """A bundle loaded under a limit changes as any other does, and is saved whole."""
    before = Inspector.load(bundle, device="cpu")
    with Inspector.changing(bundle, device="cpu", memory=1) as limited:
        limited.update(add=[picture(40)])
    again = Inspector.load(bundle, device="cpu")
    assert len(again.templates) == len(before.templates) + 1
    assert again.inspect(picture(40)).score < 1e-4
    assert again.rollback(1).inspect(picture(30)).score == before.inspect(picture(30)).score


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "sha256 does not match"),
        (lambda data: data[:-1], "bytes instead of"),
        (lambda data: b"", "0 bytes instead of"),
        (None, "is missing"),
    ],
    ids=["changed", "cut-off", "empty", "gone"],
)
@pytest.mark.parametrize("memory", [None, 1])
def test_a_damaged_file_is_refused(
    damage: object, said: str, memory: int | None, bundle: Path
) -> None:
    """Size and checksum are looked at, with or without a limit."""
    path = bundle / read_manifest(bundle).files["templates"].file
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(BundleError, match=said):
        Inspector.load(bundle, device="cpu", memory=memory)
