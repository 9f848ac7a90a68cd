"""HETMM with prototypes chosen for each pixel: saved, loaded and calibrated like whole sheets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from blemish.errors import ParameterError
from blemish.hetmm import HETMM
from blemish.hetmm.matching import TileBank, mutual_match
from blemish.hetmm.selection import METHODS, gather, select
from blemish.inspector import Inspector

SIZE = 64
WINDOWS = {"forward": 3, "backward": 3}


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random unit vectors [N, C, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator), dim=1)


@pytest.fixture
def good(parts: Path) -> list[Path]:
    """Made-up good boards."""
    return sorted(next(parts.rglob("train")).glob("good/*.png"))


@pytest.mark.parametrize("method", ["pts", "kcenter"])
def test_excluding_a_sample_masks_its_prototypes(method: str) -> None:
    """A sample left out is matched as if its prototypes had been removed, wherever they sit."""
    sheets = unit(7, 5, 6, 7)
    sources = select(sheets, 4, method=method)
    prototypes = gather(sheets, sources)
    query, sample = unit(1, 5, 6, 7, seed=1), 2
    assert bool((sources == sample).any()), "the sample must have been chosen somewhere"
    bank = TileBank.from_sheets(prototypes, sources=sources)
    found = mutual_match(query, bank, **WINDOWS, exclude=torch.tensor([sample]))
    # Without its prototypes: each replaced by another of the same pixel, which changes no maximum.
    other = (sources == sample).int().argmin(dim=0, keepdim=True)
    replaced = torch.where(sources == sample, sources.gather(0, other), sources)
    expected = mutual_match(query, TileBank.from_sheets(gather(sheets, replaced)), **WINDOWS)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_bank_gives_sources_back() -> None:
    """What a bundle keeps of the sources is what the selection gave, borders included."""
    sheets = unit(5, 3, 5, 7)
    sources = select(sheets, 3, method="pts")
    bank = TileBank.from_sheets(gather(sheets, sources), sources=sources)
    found = bank.sources_tensor()
    assert found is not None
    assert torch.equal(found, sources)


@pytest.mark.parametrize("method", METHODS)
def test_saved_selection_scores_alike(method: str, good: list[Path], tmp_path: Path) -> None:
    """Scores and leave-one-out calibration are bit-equal after saving and loading."""
    fitted = Inspector(HETMM(sheets=4, selection=method), size=SIZE, device="cpu").fit(good)
    fitted.calibrate(false_alarm_rate=0.2)
    fitted.save(tmp_path / "part.blemish")
    loaded = Inspector.load(tmp_path / "part.blemish", device="cpu")
    assert loaded.inspect(good[0]).score == fitted.inspect(good[0]).score
    assert fitted.calibration is not None
    again = loaded.calibrate(good, false_alarm_rate=0.2).calibration
    assert again is not None
    np.testing.assert_array_equal(again.scores, fitted.calibration.scores)
    assert again.method == "leave-one-out"


def test_keeping_as_many_as_there_are_changes_nothing(good: list[Path]) -> None:
    """PTS with K >= N keeps every sheet, so scores equal those of the whole set."""
    whole = Inspector(HETMM(sheets=None), size=SIZE, device="cpu").fit(good)
    chosen = Inspector(HETMM(sheets=len(good), selection="pts"), size=SIZE, device="cpu").fit(good)
    assert chosen.inspect(good[1]).score == whole.inspect(good[1]).score


def test_unknown_selection_is_refused() -> None:
    """A selection that does not exist is refused before any image is read."""
    with pytest.raises(ParameterError, match="selection is 'best'"):
        HETMM(selection="best").fit([])  # type: ignore[arg-type]
