"""Location-free matching: its distances by definition, its set thinned, extended and cut back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hetmm_tools import (
    CLOSE,
    RAW,
    Doubles,
    Floats,
    fitted_with,
    forward_by_loops,
    free_set,
    matcher,
    sheet_set,
    unit,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.backbones import LevelFeatures
from blemish.detectors import HETMM
from blemish.detectors.hetmm import templates
from blemish.detectors.hetmm.explain import find_witnesses
from blemish.detectors.hetmm.learning import (
    _DRAWN,
    Choose,
    _FreeVectors,
    principal_components,
    threaded_map,
)
from blemish.detectors.hetmm.settings import HetmmConfig
from blemish.detectors.hetmm.templates import FreeSet
from blemish.errors import CalibrationError
from blemish.imaging import silent
from blemish.inspector import Inspector

ANYWHERE: dict[str, Any] = {
    "levels": (2, 3), "windows": "global", "free_weights": (0.0, 1.0), "free_pool": (1, 1),
    "free_average": 1,
}  # fmt: skip
TEXTURE = {**RAW, **ANYWHERE}
# Level 2 within windows, level 3 anywhere.
BESIDE = {**TEXTURE, "windows": "both", "forward": (3, 0), "backward": (3, 0)}
BESIDE["level_weights"] = (1.0, 0.0)


def flat(sheets: Floats) -> Floats:
    """Sheets [N, C, H, W] as vectors [N H W, C]."""
    return np.moveaxis(sheets, 1, -1).reshape(-1, sheets.shape[1])


def brute_force(query: Floats, vectors: Floats) -> Doubles:
    """1 - the largest cosine of each query pixel with vectors [M, C], in float64: [H, W]."""
    pixels = query.reshape(len(query), -1).T.astype(np.float64)
    found: Doubles = 1 - (pixels @ vectors.T.astype(np.float64)).max(axis=1)
    return found.reshape(query.shape[1:])


def distances(made: FreeSet, query: Floats, without: int = -1) -> Floats:
    """F [H, W] of a query [C, H, W]."""
    return made.distances(matcher(), query, without)


def thinned(sheets: Floats, limit: int, held: list[int] | None = None) -> FreeSet:
    """At most `limit` vectors of sheets, each a sample; `held` is told how many are in memory."""
    config = HetmmConfig(
        vectors=limit, components=sheets.shape[1], levels=(1,), windows="global",
        free_weights=(1.0,), normalise=False,
    ).resolved()  # fmt: skip
    asked = LevelFeatures(number=1, output="free1")

    def features(image: Floats) -> dict[str, Floats]:
        return {"free1": image}

    first, (branch,) = list(sheets[:1]), config.branches
    gatherer = _FreeVectors(config, branch, asked, first, [0], features, silent)
    for sample, sheet in enumerate(sheets):
        gatherer.add(sheet, sample, 0)
        if held is not None:
            held.append(sum(len(part) for part in gatherer._parts))
    return gatherer.templates(Choose(None, "kcenter"), False, threaded_map, silent)


@settings(deadline=None, max_examples=50)
@given(
    samples=st.integers(1, 4),
    channels=st.integers(2, 6),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    seed=st.integers(0, 10_000),
)
def test_distances_are_those_of_the_definition(
    samples: int, channels: int, height: int, width: int, seed: int
) -> None:
    """F is one minus the largest cosine with any template vector, wherever it was."""
    sheets = unit(samples, channels, height, width, seed=seed)
    query = unit(1, channels, height, width, seed=seed + 1)[0]
    wanted = brute_force(query, flat(sheets))
    np.testing.assert_allclose(distances(free_set(sheets), query), wanted, atol=CLOSE, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(6, 6), (4, 7)])
@pytest.mark.parametrize("without", [-1, 0, 2])
def test_a_window_over_the_whole_map_is_the_same(height: int, width: int, without: int) -> None:
    """ATMM's forward direction, its window covering the map from any pixel, gives these F."""
    sheets, query = unit(3, 5, height, width), unit(1, 5, height, width, seed=1)[0]
    radius = max(height, width) - 1
    there = sheet_set(sheets, forward=radius, backward=None, alpha=1.0)
    wanted = there.distances(matcher(), query, without)
    found = distances(free_set(sheets), query, without)
    np.testing.assert_allclose(found, wanted, atol=CLOSE, rtol=0)
    rest = sheets if without < 0 else np.delete(sheets, without, axis=0)
    wanted = forward_by_loops(query, rest, radius)
    np.testing.assert_allclose(found, wanted, atol=CLOSE, rtol=0)


@pytest.mark.parametrize("run", [1, 7, 36, 143, 144, 1000])
def test_blocks_and_their_padding_change_nothing(run: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors in blocks of any length, the last filled up, give the same distances."""
    sheets, query = unit(4, 5, 6, 6), unit(1, 5, 6, 6, seed=1)[0]
    monkeypatch.setattr(templates, "RUN", run)
    made = free_set(sheets)
    assert made.blocks.shape[2] == min(run, 144)
    np.testing.assert_array_equal(made.vectors, flat(sheets))
    wanted = brute_force(query, flat(sheets))
    np.testing.assert_allclose(distances(made, query), wanted, atol=CLOSE, rtol=0)
    # The padding is copies of the first sample's first vector, which goes when the sample does.
    wanted = brute_force(sheets[0], flat(sheets[1:]))
    np.testing.assert_allclose(distances(made, sheets[0], 0), wanted, atol=CLOSE, rtol=0)


def test_a_left_out_sample_does_not_count() -> None:
    """A template finds itself; left out, it is matched with all others; -1 leaves none out."""
    sheets = unit(3, 6, 4, 4)
    made = free_set(sheets)
    assert np.abs(distances(made, sheets[1])).max() < CLOSE
    wanted = brute_force(sheets[1], flat(sheets[[0, 2]]))
    np.testing.assert_allclose(distances(made, sheets[1], 1), wanted, atol=CLOSE, rtol=0)


def test_components_that_hold_all_energy_change_nothing() -> None:
    """Vectors of a plane are told apart by its two components as by all eight channels."""
    plane = np.linalg.qr(np.random.default_rng(3).standard_normal((8, 2)))[0]
    sheets, query = (
        np.einsum("cd,bdhw->bchw", plane, unit(3, 2, 5, 5, seed=seed)).astype(np.float32)
        for seed in (0, 1)
    )
    components = principal_components(iter(sheets), 2)
    assert components is not None
    assert components.shape == (8, 2)
    found = distances(free_set(sheets, components), query[0])
    wanted = brute_force(query[0], flat(sheets))
    # The plane is found to the roundings of 75 vectors' second moment in float32.
    np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=50)
@given(lost=st.floats(0.0, 0.2), seed=st.integers(0, 1000))
def test_components_err_by_the_energy_they_lose(lost: float, seed: int) -> None:
    """Where each vector loses at most the share e of its energy, a distance errs by 4 e at most.

    With a = 1 - x, b = 1 - y the kept energies, |<a', b'> - <a, b>| <= sqrt(x y) + 1 - sqrt(a b).
    """
    kept, rest = unit(4, 3, 3, 3, seed=seed), unit(4, 5, 3, 3, seed=seed + 1)
    maps = np.concatenate([kept * (1 - lost) ** 0.5, rest * lost**0.5], axis=1, dtype=np.float32)
    found = distances(free_set(maps[:2], np.eye(8, 3, dtype=np.float32)), maps[2])
    exact = brute_force(maps[2], flat(maps[:2]))
    assert np.abs(found - exact).max() <= 4 * lost + CLOSE


def test_components_are_the_strongest_directions() -> None:
    """They are orthonormal, and no other plane keeps more of the vectors' energy."""
    stretched = unit(4, 6, 5, 5) * np.arange(1, 7, dtype=np.float32)[:, None, None]
    maps = stretched / np.linalg.norm(stretched, axis=1, keepdims=True)
    components = principal_components(iter(maps), 2)
    assert components is not None
    np.testing.assert_allclose(components.T @ components, np.eye(2), atol=CLOSE)
    singular = np.linalg.svd(flat(maps), compute_uv=False)
    kept = np.square(flat(maps) @ components).sum()
    np.testing.assert_allclose(kept, np.square(singular[:2]).sum(), rtol=1e-5)


@pytest.mark.parametrize("count", [6, 9])
def test_nothing_to_reduce(count: int) -> None:
    """With no more channels than components, features stay as they are."""
    assert principal_components(iter(unit(1, 6, 2, 2)), count) is None


def test_an_added_sample_is_known_and_a_removed_one_forgotten() -> None:
    """After `extended` the new sheet scores 0; after `without` it scores as it did before."""
    sheets, new = unit(3, 6, 4, 4), unit(1, 6, 4, 4, seed=7)
    for components in (None, np.eye(6, 4, dtype=np.float32)):
        made = free_set(sheets, components)
        before = distances(made, new[0])
        more = made.extended(new, np.array([3], np.int32))
        assert np.abs(distances(more, new[0])).max() < CLOSE
        np.testing.assert_array_equal(distances(more.without(3), new[0]), before)
        np.testing.assert_array_equal(distances(made, new[0]), before)


def test_later_samples_move_down() -> None:
    """Without the first sample the set is that of the others, under their new numbers."""
    sheets = unit(3, 6, 4, 4)
    rest, expected = free_set(sheets).without(0), free_set(sheets[1:])
    np.testing.assert_array_equal(rest.vectors, expected.vectors)
    np.testing.assert_array_equal(rest.sources, expected.sources)
    np.testing.assert_array_equal(rest.places, expected.places)


def test_copies_of_an_added_sample_have_places_of_their_own() -> None:
    """A place is (copy * H + y) * W + x, for sheets that come later as for the first ones."""
    made = free_set(unit(4, 6, 3, 4), copies=2)
    more = made.extended(unit(2, 6, 3, 4, seed=1), np.array([2, 2], np.int32))
    new = more.sources == 2
    assert more.places[new].tolist() == list(range(2 * 12))
    assert more.places[more.sources == 1].tolist() == list(range(2 * 12))


def test_no_more_vectors_than_the_limit() -> None:
    """A set keeps at most `limit` vectors, each with the sample and place it was seen at."""
    sheets = unit(5, 6, 6, 6)
    made = thinned(sheets, 40)
    assert len(made.vectors) == len(made.sources) == len(made.places) == 40
    at = flat(sheets).reshape(5, 36, 6)[made.sources, made.places]
    np.testing.assert_array_equal(made.vectors, at)
    assert len(thinned(sheets, 180).vectors) == 180


def test_thinning_keeps_the_rare() -> None:
    """Ten odd vectors among a crowd are all kept, which a random tenth would not do."""
    crowd = unit(1, 80, 20, 20) * 0.05 + unit(1, 80, 1, 1, seed=1)
    crowd /= np.linalg.norm(crowd, axis=1, keepdims=True)
    crowd[0, :, 7, :10] = unit(1, 80, 10, seed=2)[0]
    made = thinned(crowd, 40)
    assert set(range(140, 150)) <= set(made.places.tolist())


def test_memory_is_bounded_while_building() -> None:
    """However many sheets come, no more is held than twice what is drawn for the limit."""
    held: list[int] = []
    made = thinned(unit(30, 4, 3, 3), 4, held)
    assert held[0] == 9
    assert max(held) <= 2 * _DRAWN * 4 < 30 * 9
    assert len(made.vectors) == 4


def test_half_precision_is_nearly_the_same() -> None:
    """Vectors kept in half the bytes give distances within 2^-10, a template's own included."""
    sheets, query = unit(3, 16, 5, 5), unit(1, 16, 5, 5, seed=1)
    exact, half = free_set(sheets), free_set(sheets, dtype="float16")
    assert 2 * half.state()["level"].nbytes == exact.state()["level"].nbytes
    for probe in (query[0], sheets[0]):
        found, wanted = distances(half, probe), distances(exact, probe)
        np.testing.assert_allclose(found, wanted, atol=2**-10, rtol=0)


# The detector


@pytest.fixture(scope="module")
def fitted(good_images: list[np.ndarray]) -> HETMM:
    """Five made-up parts matched location-free on the last level, every vector kept."""
    return fitted_with(good_images[:5], sheets=2, sigma=0.0, **TEXTURE)


def test_all_images_give_vectors(fitted: HETMM) -> None:
    """A location-free level learns from every good image, not from the sheets alone."""
    (own,) = fitted.sets_
    assert isinstance(own, FreeSet)
    assert own.level.number == 3
    assert sorted(set(own.sources.tolist())) == fitted.templates_ == [0, 1, 2, 3, 4]


def test_a_fitted_set_is_all_features_of_all_images(
    fitted: HETMM, good_images: list[np.ndarray]
) -> None:
    """Below the limit every vector is kept, with its sample and place."""
    (own,) = fitted.sets_
    assert isinstance(own, FreeSet)
    every = np.stack([fitted.features(image)[0] for image in good_images[:5]])
    np.testing.assert_array_equal(own.vectors, flat(every))
    assert own.places.tolist() == list(range(16)) * 5


def test_where_a_part_lies_does_not_matter(good_images: list[np.ndarray]) -> None:
    """A known image moved by whole pixels of the level is found again, but not in a window."""
    options = {
        **RAW, "levels": (1,), "pool": (1,), "free_pool": (1,), "free_average": 1,
        "forward": (3,), "backward": (0,), "level_weights": (1.0,), "free_weights": (1.0,),
        "sigma": 0.0,
    }  # fmt: skip
    moved = [np.roll(good_images[0], (16, 24), axis=(0, 1))]
    anywhere, in_place = (
        fitted_with(good_images[:2], **{**options, "windows": windows}).maps(moved)
        for windows in ("global", "manual")
    )
    assert float(anywhere.max()) < 1e-5  # this network's layers see whole cells alone
    assert float(np.median(in_place)) > 1e-3


def test_levels_in_place_and_anywhere_add_up(good_images: list[np.ndarray]) -> None:
    """A windowed level keeps its sheets beside a location-free one; the map is their sum."""
    options = {**BESIDE, "sheets": 2}
    both = fitted_with(good_images[:5], **options)
    expected = sum(
        fitted_with(good_images[:5], **{**options, "windows": windows}).maps(good_images[7:8])
        for windows in ("manual", "global")
    )
    np.testing.assert_allclose(both.maps(good_images[7:8]), expected, atol=1e-5, rtol=0)
    found = both.calibration_maps(good_images, [0, 3], [0, 3])
    assert all(float(maps.max()) > 0.005 for maps in found)


def test_spaced_sheets_stand_beside_vectors_of_all_images(good_images: list[np.ndarray]) -> None:
    """The windowed level keeps the chosen images; their numbers are those of all images."""
    both = fitted_with(good_images[:5], sheets=2, selection="spaced", **BESIDE)
    sheets, free = both.sets_
    assert sheets.sources is not None
    assert sorted(set(sheets.sources.ravel().tolist())) == [0, 4]
    assert both.templates_ == [0, 1, 2, 3, 4]
    fewer = both.removed([0, 2])
    assert sorted(set(fewer.sets_[0].sources.ravel().tolist())) == [2]
    assert sorted(set(fewer.sets_[1].sources.tolist())) == [0, 1, 2]
    assert free.level.kind == "free"


def test_calibration_leaves_one_out(fitted: HETMM, good_images: list[np.ndarray]) -> None:
    """A template's calibration map is that of a set which never held it."""
    (left_out,) = fitted.calibration_maps(good_images, [2], [2])
    without = fitted.removed([2]).maps(good_images[2:3])
    np.testing.assert_allclose(left_out, without, atol=1e-5, rtol=0)
    assert float(left_out.max()) > 0.001


def test_nothing_left_to_match_is_said(good_images: list[np.ndarray]) -> None:
    """Where leaving an image out leaves no vector, calibration says so instead of infinity."""
    detector = fitted_with(good_images[:3], vectors=1, **TEXTURE)
    (own,) = detector.sets_
    assert isinstance(own, FreeSet)
    sample = int(own.sources[0])
    with pytest.raises(CalibrationError, match="without one another"):
        list(detector.calibration_maps(good_images, [sample], [sample]))


@pytest.mark.parametrize("options", [TEXTURE, ANYWHERE], ids=["raw", "normalised"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_save_update_and_rollback(
    precision: str, options: dict[str, Any], good_images: list[np.ndarray], tmp_path: Path
) -> None:
    """A bundle gives the same maps back; an added part is known until it is removed again."""
    detector = HETMM(precision=precision, components=24, backbone="filterbank", **options)
    inspector = Inspector(detector, size=32, device="cpu").fit(good_images[:5])
    inspector.calibrate(false_alarm_rate=0.2)
    inspector.save(tmp_path / "part.blemish")
    loaded = Inspector.load(tmp_path / "part.blemish", device="cpu")
    new = (good_images[8] * 255).round().astype(np.uint8)
    first = inspector.inspect(new)
    np.testing.assert_array_equal(loaded.inspect(new).anomaly_map, first.anomaly_map)

    loaded.update(add=[new], false_alarm_rate=0.2)
    if options is TEXTURE:
        assert loaded.inspect(new).score < 2**-9 < first.score
    else:  # in units of how good parts vary, 0 is what is usual
        assert loaded.inspect(new).score < 0
    loaded.save(tmp_path / "part.blemish")
    again = Inspector.load(tmp_path / "part.blemish", device="cpu")
    assert again.inspect(new).score == loaded.inspect(new).score
    again.rollback(1)
    assert again.inspect(new).score == first.score


def test_the_witness_tells_sample_and_place(fitted: HETMM, good_images: list[np.ndarray]) -> None:
    """A template's pixel is explained by itself, in one direction, with no distance."""
    ((witness,),) = find_witnesses(fitted, fitted.features(good_images[3]), [(21, 42)])
    assert (witness.level, witness.direction, witness.template) == (3, "anywhere", 3)
    assert witness.matched == witness.image
    assert abs(witness.distance) < CLOSE
    assert set(fitted.explain(good_images[7])) == {"anomaly", "evidence 1"}


def test_a_flipped_copy_is_named(good_images: list[np.ndarray]) -> None:
    """A mirrored template's witness is its flipped copy, at the mirrored place of the template."""
    detector = fitted_with(good_images[:2], augment=("flip-h",), **TEXTURE)
    more = detector.added(detector.sheets_of(good_images, [2]), 1)
    for made, template in ((detector, 1), (more, 2)):
        mirrored = np.ascontiguousarray(good_images[template][:, ::-1])
        ((witness,),) = find_witnesses(made, made.features(mirrored), [(17, 30)])
        assert (witness.template, witness.copy) == (template, "flip-h")
        assert witness.matched[0] == pytest.approx(63 - witness.image[0], abs=1)
        assert witness.matched[1] == witness.image[1]
