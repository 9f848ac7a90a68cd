"""Location-free matching: its distances by definition, its set thinned, extended and cut back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blemish.detector import to_batch
from blemish.errors import NoImagesError, ParameterError
from blemish.hetmm import HETMM, free
from blemish.hetmm.bank import TileBank
from blemish.hetmm.explain import find_witnesses
from blemish.hetmm.free import FreeBank, FreeBuilder, principal_components
from blemish.hetmm.matching import mutual_match
from blemish.imaging import silent
from blemish.inspector import Inspector

TEXTURE = {"levels": (2, 3), "forward": (0, "map"), "backward": (0, 0)}
TEXTURE |= {"alpha": (0.5, 0.5), "level_weights": (1.0, 1.0)}


def unit(count: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Random unit vectors [count, channels, height, width]."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, channels, height, width, generator=generator), dim=1)


def bank_of(
    sheets: Tensor,
    *,
    components: Tensor | None = None,
    limit: int = 10_000,
    dtype: torch.dtype = torch.float32,
) -> FreeBank:
    """All vectors of sheets, each sheet a sample."""
    builder = FreeBuilder(components, limit=limit, dtype=dtype, progress=silent)
    builder.add(sheets, torch.arange(len(sheets)))
    return builder.bank()


def brute_force(query: Tensor, vectors: Tensor) -> Tensor:
    """1 - max cosine of each query pixel with vectors [M, C], in float64: [B, H, W]."""
    cosines = torch.einsum("mc,bchw->mbhw", vectors.double(), query.double())
    return (1 - cosines.amax(0)).float()


def flat(sheets: Tensor) -> Tensor:
    """Sheets [N, C, H, W] as vectors [N H W, C]."""
    return sheets.movedim(1, -1).flatten(0, -2)


@settings(deadline=None, max_examples=50)
@given(
    samples=st.integers(1, 4),
    batch=st.integers(1, 3),
    channels=st.integers(2, 6),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    seed=st.integers(0, 10_000),
)
def test_distances_are_those_of_the_definition(
    samples: int, batch: int, channels: int, height: int, width: int, seed: int
) -> None:
    """F is one minus the largest cosine with any template vector, wherever it was."""
    sheets = unit(samples, channels, height, width, seed)
    query = unit(batch, channels, height, width, seed + 1)
    torch.testing.assert_close(
        bank_of(sheets).distances(query), brute_force(query, flat(sheets)), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(("height", "width"), [(6, 6), (4, 7)])
@pytest.mark.parametrize("excluded", [None, [0, -1, 2]])
def test_a_window_over_the_whole_map_is_the_same(
    height: int, width: int, excluded: list[int] | None
) -> None:
    """ATMM's forward direction, its window covering the map from any pixel, gives these F."""
    sheets, query = unit(3, 5, height, width), unit(3, 5, height, width, 1)
    exclude = None if excluded is None else torch.tensor(excluded)
    window = 2 * max(height, width) - 1
    there, _ = mutual_match(
        query, TileBank.from_sheets(sheets), forward=window, backward=0, exclude=exclude
    )
    found = bank_of(sheets).distances(query, exclude=exclude)
    torch.testing.assert_close(found, there, atol=1e-5, rtol=0)


def test_runs_of_vectors_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors taken a few at a time, because memory is bounded, give the same distances."""
    bank, query = bank_of(unit(4, 5, 6, 6)), unit(2, 5, 6, 6, 1)
    exclude = torch.tensor([1, -1])
    at_once = bank.distances(query, exclude=exclude)
    monkeypatch.setattr(free, "BUFFER_BYTES", 4 * 72 * 7)  # seven vectors
    torch.testing.assert_close(bank.distances(query, exclude=exclude), at_once)


def test_a_left_out_sample_does_not_count() -> None:
    """A template finds itself; left out, it is matched with all others; -1 leaves none out."""
    sheets = unit(3, 6, 4, 4)
    bank = bank_of(sheets)
    assert float(bank.distances(sheets).abs().max()) < 1e-5
    found = bank.distances(sheets[[1, 1]], exclude=torch.tensor([1, -1]))
    expected = brute_force(sheets[[1]], flat(sheets[[0, 2]]))[0]
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=0)
    assert float(found[1].abs().max()) < 1e-5


def test_components_that_hold_all_energy_change_nothing() -> None:
    """Vectors of a plane are told apart by its two components as by all eight channels."""
    plane = torch.linalg.qr(torch.randn(8, 2, generator=torch.Generator().manual_seed(3)))[0]
    sheets, query = (
        torch.einsum("cd,bdhw->bchw", plane, unit(3, 2, 5, 5, seed)) for seed in (0, 1)
    )
    components = principal_components(iter([sheets[:2], sheets[2:]]), 2)
    assert components is not None
    assert components.shape == (8, 2)
    torch.testing.assert_close(
        bank_of(sheets, components=components).distances(query),
        brute_force(query, flat(sheets)),
        atol=1e-5,
        rtol=0,
    )


@settings(deadline=None, max_examples=50)
@given(lost=st.floats(0.0, 0.2), seed=st.integers(0, 1000))
def test_components_err_by_the_energy_they_lose(lost: float, seed: int) -> None:
    """Where each vector loses at most the share e of its energy, a distance errs by 4 e at most.

    With a = 1 - x, b = 1 - y the kept energies, |<a', b'> - <a, b>| <= sqrt(x y) + 1 - sqrt(a b).
    """
    kept, rest = unit(4, 3, 3, 3, seed), unit(4, 5, 3, 3, seed + 1)
    maps = torch.cat([kept * (1 - lost) ** 0.5, rest * lost**0.5], dim=1)
    components = torch.eye(8)[:, :3]
    found = bank_of(maps[:2], components=components).distances(maps[2:])
    exact = brute_force(maps[2:], flat(maps[:2]))
    assert float((found - exact).abs().max()) <= 4 * lost + 1e-5


def test_components_are_the_strongest_directions() -> None:
    """They are orthonormal, and no other plane keeps more of the vectors' energy."""
    maps = F.normalize(unit(4, 6, 5, 5) * torch.arange(1.0, 7)[:, None, None], dim=1)
    components = principal_components(iter([maps]), 2)
    assert components is not None
    torch.testing.assert_close(components.T @ components, torch.eye(2), atol=1e-5, rtol=0)
    singular = torch.linalg.svdvals(flat(maps))
    kept = (flat(maps) @ components).square().sum()
    torch.testing.assert_close(kept, singular[:2].square().sum())


@pytest.mark.parametrize("count", [None, 6, 9])
def test_nothing_to_reduce(count: int | None) -> None:
    """With no number, or no more channels than components, features stay as they are."""
    assert principal_components(iter([unit(1, 6, 2, 2)]), count) is None


def test_an_added_sample_is_known_and_a_removed_one_forgotten() -> None:
    """After `extended` the new sheet scores 0; after `without` it scores as it did before."""
    sheets, new = unit(3, 6, 4, 4), unit(1, 6, 4, 4, 7)
    bank = bank_of(sheets)
    before = bank.distances(new)
    more = bank.extended(new, sources=torch.full((1, 4, 4), 3))
    assert float(more.distances(new).abs().max()) < 1e-5
    assert torch.equal(more.without(3).distances(new), before)
    assert torch.equal(bank.distances(new), before)
    with pytest.raises(ParameterError, match="need their samples' numbers"):
        bank.extended(new, sources=None)


def test_later_samples_move_down() -> None:
    """Without the first sample the set is that of the others, under their new numbers."""
    sheets = unit(3, 6, 4, 4)
    rest, expected = bank_of(sheets).without(0), bank_of(sheets[1:])
    assert torch.equal(rest.vectors, expected.vectors)
    assert torch.equal(rest.sources, expected.sources)
    assert torch.equal(rest.places, expected.places)


def test_the_last_sample_stays() -> None:
    """A set without vectors could match nothing, so removing the last sample is refused."""
    with pytest.raises(ParameterError, match="last template"):
        bank_of(unit(1, 4, 3, 3)).without(0)


def test_no_more_vectors_than_the_limit() -> None:
    """A set keeps at most `limit` vectors, each with the sample and place it was seen at."""
    sheets = unit(5, 6, 6, 6)
    bank = bank_of(sheets, limit=40)
    assert len(bank.vectors) == len(bank.sources) == len(bank.places) == 40
    at = flat(sheets).reshape(5, 36, 6)[bank.sources.long(), bank.places.long()]
    assert torch.equal(bank.vectors, at)


def test_thinning_keeps_the_rare() -> None:
    """Ten odd vectors among a crowd are all kept, which a random tenth would not do."""
    crowd = F.normalize(unit(1, 80, 20, 20) * 0.05 + unit(1, 80, 1, 1, 1), dim=1)
    odd = unit(1, 80, 1, 10, 2)
    crowd[0, :, 7, :10] = odd[0, :, 0]
    bank = bank_of(crowd, limit=40)
    assert set(range(140, 150)) <= set(bank.places.tolist())


def test_memory_is_bounded_while_building(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many sheets come, what is held never exceeds four limits and a batch."""
    held: list[int] = []
    builder = FreeBuilder(None, limit=20, dtype=torch.float32, progress=silent)
    for sample in range(30):
        builder.add(unit(1, 4, 3, 3, sample), torch.tensor([sample]))
        held.append(sum(len(part) for part in builder._parts))
    assert max(held) <= 4 * 20 + 9
    assert len(builder.bank().vectors) == 20


def test_half_precision_is_nearly_the_same() -> None:
    """Vectors kept in half the bytes give distances within 2^-10, a template's own included."""
    sheets, query = unit(3, 16, 5, 5), unit(2, 16, 5, 5, 1)
    exact, half = bank_of(sheets), bank_of(sheets, dtype=torch.float16)
    assert 2 * half.vectors.nbytes == exact.vectors.nbytes
    both = torch.cat([query, sheets[:1]])
    torch.testing.assert_close(half.distances(both), exact.distances(both), atol=2**-10, rtol=0)


def test_state_brings_every_bit_back() -> None:
    """A set rebuilt from its named tensors gives the same distances."""
    sheets, query = unit(2, 6, 3, 4), unit(1, 6, 3, 4, 1)
    for components in (None, principal_components(iter([sheets]), 3)):
        bank = bank_of(sheets, components=components)
        state = {name: tensor for name, tensor in bank.state().items() if tensor is not None}
        assert torch.equal(FreeBank.from_state(state).distances(query), bank.distances(query))


def test_another_size_is_refused() -> None:
    """A query of other channels or size is told what the templates have."""
    with pytest.raises(ParameterError, match="map is 6x3x4, the templates' 6x4x4"):
        bank_of(unit(1, 6, 4, 4)).distances(unit(1, 6, 3, 4))


# The detector


@pytest.fixture(scope="module")
def fitted(good_images: list[np.ndarray]) -> Inspector:
    """Five made-up parts matched location-free on the last level, every vector kept."""
    detector = HETMM(sheets=2, sigma=0.0, components=None, **TEXTURE)
    return Inspector(detector, size=64, device="cpu").fit(good_images[:5])


def test_all_images_give_vectors(fitted: Inspector) -> None:
    """A location-free level learns from every good image, not from the sheets alone."""
    assert isinstance(fitted.detector, HETMM)
    off, bank = fitted.detector.banks_
    assert off is None
    assert isinstance(bank, FreeBank)
    assert bank.sources.unique().tolist() == fitted.detector.templates_ == [0, 1, 2, 3, 4]


def test_where_a_part_lies_does_not_matter(good_images: list[np.ndarray]) -> None:
    """A known image moved by whole pixels of the level is found again, but not in a window."""
    settings = {"levels": (1,), "backward": (0,), "alpha": (0.5,), "level_weights": (1.0,)}
    batch = to_batch([np.roll(good_images[0], (16, 24), axis=(0, 1))], "cpu")
    anywhere, in_place = (
        HETMM(forward=(window,), sigma=0.0, **settings).fit(good_images[:2]).anomaly_maps(batch)
        for window in ("map", 3)
    )
    assert float(anywhere.median()) < 0.5 * float(in_place.median())


def test_levels_in_place_and_anywhere_add_up(good_images: list[np.ndarray]) -> None:
    """A windowed level keeps its sheets beside a location-free one; the map is their sum."""
    settings = {**TEXTURE, "forward": (3, "map"), "backward": (3, 0), "sheets": 2}
    both = HETMM(**settings).fit(good_images[:5])
    batch = to_batch(good_images[7:8], "cpu")
    expected = sum(
        HETMM(**{**settings, "level_weights": weights}).fit(good_images[:5]).anomaly_maps(batch)
        for weights in ((1.0, 0.0), (0.0, 1.0))
    )
    torch.testing.assert_close(both.anomaly_maps(batch), expected, atol=1e-5, rtol=1e-4)
    maps = both.calibration_maps(good_images, [0, 3], [0, 3])
    assert all(bool((batch.amax((1, 2)) > 0.005).all()) for batch in maps)


def test_calibration_leaves_one_out(fitted: Inspector, good_images: list[np.ndarray]) -> None:
    """A template's calibration map is that of a set which never held it."""
    detector = fitted.detector
    assert isinstance(detector, HETMM)
    (left_out,) = detector.calibration_maps(good_images, [2], [2])
    without = detector.removed([2]).anomaly_maps(to_batch(good_images[2:3], "cpu"))
    torch.testing.assert_close(left_out, without, atol=1e-5, rtol=1e-4)
    assert float(left_out.max()) > 0.01


def test_nothing_left_to_match_is_said(good_images: list[np.ndarray]) -> None:
    """Where leaving an image out leaves no vector, calibration says so instead of infinity."""
    detector = HETMM(vectors=1, **TEXTURE).fit(good_images[:3])
    bank = detector.banks_[1]
    assert isinstance(bank, FreeBank)
    own = int(bank.sources[0])
    with pytest.raises(NoImagesError, match="keep more sheets or vectors"):
        list(detector.calibration_maps(good_images, [own], [own]))


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_save_update_and_rollback(
    precision: str, good_images: list[np.ndarray], tmp_path: Path
) -> None:
    """A bundle gives the same maps back; an added part scores 0 until it is removed again."""
    detector = HETMM(precision=precision, components=24, **TEXTURE)
    inspector = Inspector(detector, size=32, device="cpu").fit(good_images[:5])
    inspector.calibrate(false_alarm_rate=0.2)
    inspector.save(tmp_path / "part.blemish")
    loaded = Inspector.load(tmp_path / "part.blemish", device="cpu")
    new = (good_images[8] * 255).round().astype(np.uint8)
    first = inspector.inspect(new)
    assert np.array_equal(loaded.inspect(new).anomaly_map, first.anomaly_map)

    loaded.update(add=[new], false_alarm_rate=0.2)
    assert loaded.inspect(new).score < 2**-9 < first.score
    loaded.save(tmp_path / "part.blemish")
    again = Inspector.load(tmp_path / "part.blemish", device="cpu")
    assert again.inspect(new).score == loaded.inspect(new).score
    again.rollback(1)
    assert again.inspect(new).score == first.score


def test_the_witness_tells_sample_and_place(
    fitted: Inspector, good_images: list[np.ndarray]
) -> None:
    """A template's pixel is explained by itself, forward only, with no distance."""
    (witnesses,) = find_witnesses(fitted.detector, to_batch(good_images[3:4], "cpu"), [(21, 42)])
    (witness,) = witnesses
    assert (witness.level, witness.direction, witness.template) == (3, "forward", 3)
    assert witness.matched == witness.image
    assert witness.distance < 1e-5
    pictures = fitted.detector.explain(to_batch(good_images[7:8], "cpu"))
    assert set(pictures) == {"anomaly", "evidence 1"}


def test_a_flipped_copy_is_named(good_images: list[np.ndarray]) -> None:
    """A mirrored template's witness is its flipped copy, at the mirrored place of the template."""
    detector = HETMM(augment=("flip-h",), **TEXTURE).fit(good_images[:2])
    mirrored = np.ascontiguousarray(good_images[1][:, ::-1])
    ((witness,),) = find_witnesses(detector, to_batch([mirrored], "cpu"), [(17, 30)])
    assert (witness.template, witness.copy) == (1, "flip-h")
    assert witness.matched[0] == pytest.approx(63 - witness.image[0], abs=1)
    assert witness.matched[1] == witness.image[1]
    more = detector.added(detector.sheets_of(to_batch(good_images[2:3], "cpu")), 1)
    mirrored = np.ascontiguousarray(good_images[2][:, ::-1])
    ((witness,),) = find_witnesses(more, to_batch([mirrored], "cpu"), [(17, 30)])
    assert (witness.template, witness.copy) == (2, "flip-h")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backward": (0, 3)}, "has no backward direction: give 0, not 3"),
        ({"vectors": 0}, "vectors and components must be at least 1"),
        ({"components": 0}, "vectors and components must be at least 1"),
        ({"average": 2}, "average is 2"),
        ({"windows": "some"}, "windows is 'some'; it must be given or auto"),
    ],
)
def test_bad_options(options: dict, said: str) -> None:
    """What cannot work is said before any work, in one sentence."""
    with pytest.raises(ParameterError, match=said):
        HETMM(**{**TEXTURE, **options}).fit([np.zeros((64, 64, 3), np.float32)] * 5)
