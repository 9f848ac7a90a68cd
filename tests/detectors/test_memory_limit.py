"""Templates of a bundle larger than the memory allowed: mapped, not read, when it is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from blemish.hetmm.chunks import ChunkedBank

from blemish.bundle import read_manifest
from blemish.detectors import HETMM
from blemish.errors import BundleError
from blemish.inspector import Inspector, opening
from common import SIZE, picture


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The parts of a bundle that are read whole."""
    found: list[str] = []
    read = opening.read_part

    def noted(folder: Path, manifest: object, part: str) -> object:
        found.append(part)
        return read(folder, manifest, part)  # type: ignore[arg-type]

    monkeypatch.setattr(opening, "read_part", noted)
    return found


@pytest.mark.parametrize(
    "options",
    [
        {"sheets": None},
        {"sheets": 4, "selection": "pts"},
        {"sheets": None, "precision": "float16"},
        {"forward": ("map", 5, 5), "backward": (0, 3, 3)},
    ],
    ids=["sheets", "prototypes", "float16", "location-free"],
)
def test_a_limit_changes_no_score(
    options: dict[str, object],
    good_images: list[np.ndarray],
    reads: list[str],
    tmp_path: Path,
) -> None:
    """Loaded under a limit the templates are never read whole, and scores are equal to the bit."""
    images = [*good_images, *(picture(seed) for seed in range(10, 20))]
    fitted = Inspector(HETMM(**options), size=SIZE, device="cpu").fit(images)  # type: ignore[arg-type]
    fitted.save(tmp_path / "board.blemish")
    whole = Inspector.load(tmp_path / "board.blemish", device="cpu")
    assert "templates" in reads
    reads.clear()
    mapped = Inspector.load(tmp_path / "board.blemish", device="cpu", memory=1)
    assert "templates" not in reads
    for seed in (30, 31):
        assert mapped.inspect(picture(seed)).score == whole.inspect(picture(seed)).score
    if options == {"sheets": None}:
        assert isinstance(mapped.detector.banks_[0], ChunkedBank)  # type: ignore[attr-defined]


def test_what_is_mapped_can_be_saved_and_updated(bundle: Path, tmp_path: Path) -> None:
    """A bundle loaded under a limit changes as any other does."""
    before = Inspector.load(bundle, device="cpu")
    with Inspector.changing(bundle, device="cpu", memory=1) as mapped:
        mapped.update(add=[picture(40)])
    again = Inspector.load(bundle, device="cpu")
    assert len(again.templates) == len(before.templates) + 1
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
def test_a_damaged_file_is_refused(damage: object, said: str, bundle: Path) -> None:
    """Size and checksum are looked at before anything is mapped."""
    path = bundle / read_manifest(bundle).files["templates"].file
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(BundleError, match=said):
        Inspector.load(bundle, device="cpu", memory=1)
