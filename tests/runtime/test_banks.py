"""The line floor's template sets against PyTorch's: every change gives the same vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from blemish.bundle import LevelRecord
from blemish.errors import BlemishError, BundleError, CalibrationError, ParameterError
from blemish.hetmm.bank import TileBank as TorchTiles
from blemish.hetmm.free import FreeBank as TorchFree
from blemish.hetmm.matching import best_match, mutual_match
from blemish.runtime.banks import FreeBank, TileBank, rounded
from blemish.runtime.nearest import Match, backward_match, forward_match
from blemish.runtime.tiles import from_tiles, to_tiles
from tolerances import rounding

C, H, W = 6, 5, 7  # odd sides: the last tiles are padded


def level(kind: str = "tiles", dtype: str = "float32") -> LevelRecord:
    """A level of small maps."""
    return LevelRecord(
        level=1, kind=kind, channels=C, height=H, width=W, features="level1",
        templates="templates1", dtype=dtype, forward=1, backward=1, alpha=0.5,
    )  # fmt: skip


def sheets(count: int, seed: int = 0) -> torch.Tensor:
    """Unit vectors [N, C, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, C, H, W, generator=generator), dim=1)


def selected(count: int, samples: int, seed: int = 0) -> torch.Tensor:
    """The samples [N, H, W] that selected prototypes come from, distinct at each pixel."""
    rng = np.random.default_rng(seed)
    order = np.stack([rng.permutation(samples)[:count] for _ in range(H * W)], axis=1)
    return torch.from_numpy(order.reshape(count, H, W).astype(np.int32))


def both(count: int, sources: torch.Tensor | None = None) -> tuple[TorchTiles, TileBank]:
    """One set on either floor."""
    made = sheets(count)
    torch_bank = TorchTiles.from_sheets(made, sources=sources)
    state: dict[str, Any] = {"level": made.numpy()}
    if sources is not None:
        state["sources"] = sources.numpy()
    return torch_bank, TileBank.from_state(level(), state, "here")


def assert_same(torch_bank: TorchTiles, bank: TileBank) -> None:
    """Both hold the same vectors and sources in the same places."""
    state = bank.state()
    np.testing.assert_array_equal(state["level"], torch_bank.sheets_tensor().numpy())
    sources = torch_bank.sources_tensor()
    assert (sources is None) == ("sources" not in state)
    if sources is not None:
        np.testing.assert_array_equal(state["sources"], sources.numpy())


def test_tiles_are_undone() -> None:
    """Cutting into tiles and back loses nothing, at odd sides too."""
    made = sheets(3).numpy()
    tiles = to_tiles(made)
    assert tiles.shape == (3, 4, 4, 3, C)
    np.testing.assert_array_equal(from_tiles(tiles, H, W), made)
    assert not tiles[-1, :, 2:].any()  # the padding's pixels are zero vectors


@pytest.mark.parametrize("sample", [0, 2, 4])
def test_sheets_come_and_go_as_in_pytorch(sample: int) -> None:
    """Adding and removing whole sheets leaves the vectors that PyTorch's bank has."""
    torch_bank, bank = both(5)
    more = sheets(2, seed=9)
    assert_same(torch_bank.extended(more), bank.extended(more.numpy(), np.array([5, 6])))
    assert_same(torch_bank.without(sample), bank.without(sample))
    assert_same(torch_bank, bank)  # the bank itself never changes


@pytest.mark.parametrize("sample", [0, 3, 5])
def test_prototypes_come_and_go_as_in_pytorch(sample: int) -> None:
    """A removed sample's prototypes are replaced by others of their pixel, sources move down."""
    sources = selected(4, 6)
    torch_bank, bank = both(4, sources)
    more = sheets(1, seed=9)
    numbers = torch.full((1, H, W), 6, dtype=torch.int32)
    assert_same(
        torch_bank.extended(more, sources=numbers), bank.extended(more.numpy(), np.array([6]))
    )
    assert_same(torch_bank.without(sample), bank.without(sample))


@pytest.mark.parametrize("chosen", [False, True])
def test_leaving_out_matches_as_if_a_sample_was_not_there(chosen: bool) -> None:
    """The graph's input without a sample gives the distances of PyTorch's exclusion."""
    torch_bank, bank = both(4, selected(4, 6) if chosen else None)
    query = sheets(1, seed=4)
    without = torch.from_numpy(from_tiles(bank.leaving_out(2), H, W))
    found = mutual_match(query, TorchTiles.from_sheets(without), forward=3, backward=3)
    wanted = mutual_match(query, torch_bank, forward=3, backward=3, exclude=torch.tensor([2]))
    torch.testing.assert_close(found, wanted)


def test_the_last_template_stays() -> None:
    """A set that would be empty, or a pixel without prototypes, is refused in a sentence."""
    _, one = both(1)
    with pytest.raises(ParameterError, match="nothing would be left"):
        one.without(0)
    with pytest.raises(CalibrationError, match="without one another"):
        one.leaving_out(0)
    _, lonely = both(2, torch.zeros(2, H, W, dtype=torch.int32))
    with pytest.raises(ParameterError, match="no other prototype"):
        lonely.without(0)
    with pytest.raises(CalibrationError, match="without one another"):
        lonely.leaving_out(0)


def free_banks() -> tuple[TorchFree, FreeBank]:
    """A location-free set on either floor."""
    generator = torch.Generator().manual_seed(2)
    components = torch.linalg.qr(torch.randn(C, 4, generator=generator)).Q.contiguous()
    state = {
        "level": F.normalize(torch.randn(30, 4, generator=generator), dim=1),
        "sources": torch.arange(30, dtype=torch.int32) % 5,
        "places": torch.arange(30, dtype=torch.int32),
        "components": components,
        "shape": torch.tensor([H, W], dtype=torch.int32),
    }
    arrays = {name: value.numpy() for name, value in state.items()}
    return TorchFree.from_state(state), FreeBank.from_state(level("free"), arrays, "here")


def test_location_free_vectors_come_and_go_as_in_pytorch() -> None:
    """Vectors, sources and places after adding two copies of a sample and removing another."""
    torch_bank, bank = free_banks()
    more = sheets(2, seed=9)
    numbers = torch.full((2, H, W), 5, dtype=torch.int32)
    wanted = torch_bank.extended(more, sources=numbers)
    found = bank.extended(more.numpy(), np.array([5, 5]))
    for changed, torch_changed in ((found, wanted), (found.without(3), wanted.without(3))):
        for name, value in torch_changed.state().items():
            assert value is not None
            np.testing.assert_allclose(changed.state()[name], value.numpy(), atol=1e-6)
    assert len(bank.leaving_out(3)) == 24
    assert bank.leaving_out(7) is bank.tensor


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounding_is_pytorchs(dtype: str) -> None:
    """Half-precision values are those that PyTorch keeps, ties and all."""
    values = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    values = np.concatenate([values, np.float32([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-9, 0])])
    wanted = torch.from_numpy(values).to(getattr(torch, dtype)).float().numpy()
    np.testing.assert_array_equal(rounded(values, dtype), wanted)


def near(match: Match) -> Any:
    """Its distance, however the product of two vectors of C numbers was added up."""
    return pytest.approx(match.distance, rel=0, abs=rounding(C))


def test_the_nearest_template_is_pytorchs() -> None:
    """One search explains on both floors: sheet, place and distance agree."""
    torch_bank, bank = both(4)
    query = sheets(1, seed=4)
    points = [(0, 0), (2, 3), (4, 6)]
    for (y, x), wanted in zip(
        points, best_match(query, torch_bank, points, forward=3, backward=3), strict=True
    ):
        there = forward_match(query[0].numpy(), bank.vectors, y, x, 1)
        back = backward_match(query[0].numpy(), bank.vectors, y, x, 1)
        for found, expected in ((there, wanted["forward"]), (back, wanted["backward"])):
            assert found == replace(expected, distance=near(expected))


@pytest.mark.parametrize(
    "state",
    [
        {"level": np.zeros((2, C, H, W + 1), np.float32)},
        {"level": np.zeros((0, C, H, W), np.float32)},
        {"level": np.zeros((2, C, H, W), np.int32)},
        {"level": np.zeros((2, C, H, W), np.float32), "sources": np.zeros((2, H, 1), np.int32)},
    ],
)
def test_templates_that_do_not_fit_the_graph_are_refused(state: dict[str, Any]) -> None:
    """Wrong shapes and types are told with the level, not found by the runtime."""
    with pytest.raises(BundleError, match="level 1"):
        TileBank.from_state(level(), state, "here")
    assert issubclass(BundleError, BlemishError)
