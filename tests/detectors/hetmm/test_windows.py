"""Windows chosen from good images: the right ones, the same ones each time, kept in the bundle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from blemish.detectors import HETMM
from blemish.detectors.hetmm.windows import (
    CLOSE,
    DEFECTS,
    EXAMINED,
    QUERIES,
    Choice,
    Image,
    Windows,
    choose,
    ways,
    with_defect,
)
from blemish.errors import NoImagesError
from blemish.inspector import Inspector

GIVEN = Windows("given", (5, 3), (3, 3))
FAST = {"levels": (1, 2), "forward": (1, 1), "backward": (1, 1), "sheets": None, "pool": (1, 1)}
FAST |= {"alpha": (0.5, 0.5), "level_weights": (1.0, 1.0), "windows": "auto"}
FAST |= {"backbone": "filterbank"}  # made for textures


def weave(seed: int) -> Image:
    """A texture of fine threads [64, 64, 3] that begins anywhere, a little noisy."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64] + rng.uniform(0, 64, (2, 1, 1))
    value = 0.5 + 0.2 * np.sin(2 * np.pi * y / 11) * np.sin(2 * np.pi * x / 13)
    noisy = value[..., None] * (1.0, 0.9, 0.7) + rng.normal(0, 0.01, (64, 64, 3))
    return noisy.clip(0, 1).astype(np.float32)


def plate(seed: int) -> Image:
    """A plate of light and dark squares, each like many others, laid out alike on every one."""
    layout = np.random.default_rng(7).integers(0, 2, (4, 4, 1)).repeat(16, 0).repeat(16, 1)
    noise = np.random.default_rng(seed).normal(0, 0.05, (64, 64, 3))
    return (0.25 + 0.5 * layout + noise).clip(0, 1).astype(np.float32)


def chosen(images: Sequence[Image], seed: int = 0) -> HETMM:
    """A detector that chose its windows from these images."""
    return HETMM(**FAST).fit(images, seed=seed)


@pytest.fixture(scope="module")
def woven() -> HETMM:
    """What was chosen for a texture."""
    return chosen([weave(seed) for seed in range(6)])


def fixed(scores: dict[str, tuple[float, float]]):
    """A way's good images and its defects score these two values, with the position added."""

    def score(way: Windows, images: Sequence[Image], queries: list[tuple[int, Image]]):
        good, bad = scores[way.name]
        part = np.arange(len(queries)) % (DEFECTS + 1) == 0
        return np.where(part, good, bad) + np.linspace(0, 1, len(queries))

    return score


def test_a_texture_is_matched_anywhere(woven: HETMM) -> None:
    """Threads that begin anywhere have no place, so a location-free way is chosen."""
    assert woven.choice_ is not None
    assert woven.choice_.taken.name.startswith("anywhere")
    assert woven.searched.forward is not None
    assert "map" in woven.searched.forward
    assert woven.searched.backward == (0, 0)
    assert {own.level.kind for own in woven.sets_} == {"free"}
    assert {own.level.pool for own in woven.sets_} == {1}
    # What was given stays as it was.
    assert (woven.config.forward, woven.config.windows) == ((1, 1), "auto")


def test_a_rigid_part_is_matched_in_place() -> None:
    """Squares at the same places on every part are searched there, and found better so."""
    detector = chosen([plate(seed) for seed in range(6)])
    assert detector.choice_ is not None
    (_, in_place), *others = detector.choice_.tried
    assert in_place > max(auroc for _, auroc in others) + 0.05
    assert detector.choice_.taken.name == "in place"
    assert detector.searched.given == Windows("given", (1, 1), (1, 1))
    assert {own.level.kind for own in detector.sets_} == {"sheets"}


def test_one_seed_one_choice() -> None:
    """The same images and seed give the same AUROCs, to the last bit; another seed others."""
    rng = np.random.default_rng(0)
    images = [rng.random((16, 16, 3), np.float32) for _ in range(5)]

    def spread(way: Windows, examined: Sequence[Image], queries: list[tuple[int, Image]]):
        return np.array([float(image.sum() % 0.01) for _, image in queries])

    one, two, other = (choose(ways(GIVEN, (0, 1)), images, spread, seed=s) for s in (1, 1, 2))
    assert one == two
    assert one != other


def test_the_choice_is_kept_in_the_bundle(woven: HETMM, tmp_path: Path) -> None:
    """A loaded inspector searches as the saved one did, and gives its maps, bit by bit."""
    images = [weave(seed) for seed in range(6)]
    inspector = Inspector(HETMM(**FAST), size=64, device="cpu").fit(images)
    inspector.save(tmp_path / "weave.blemish")
    loaded = Inspector.load(tmp_path / "weave.blemish", device="cpu")
    probe = weave(99)
    assert isinstance(loaded.detector, HETMM)
    assert isinstance(inspector.detector, HETMM)
    assert inspector.detector.searched == woven.searched
    assert loaded.detector.searched.given == woven.searched.given
    assert np.array_equal(loaded.inspect(probe).anomaly_map, inspector.inspect(probe).anomaly_map)
    manifest = json.loads((tmp_path / "weave.blemish" / "manifest.json").read_text())
    tried = manifest["learned"]["windows"]["tried"]
    assert next(way["name"] for way in tried) == "in place"
    assert all(0 <= way["auroc"] <= 1 for way in tried)
    loaded.update(add=[weave(50)], recalibrate=False)
    assert loaded.detector.searched.given == woven.searched.given


def test_local_averaging_that_was_chosen_is_in_the_graph(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Features, and those of an update, are averaged where that way was taken."""
    images = [weave(seed) for seed in range(4)]
    taken: list[Windows] = []

    def third(candidates: Sequence[Windows], *_: object, **__: object) -> Choice:
        taken.append(candidates[2])
        return Choice(candidates[2], ())

    monkeypatch.setattr("blemish.detectors.hetmm.windows.choose", third)
    found = chosen(images)
    (way,) = taken
    assert (way.name, way.average) == ("anywhere, averaged", 3)
    wanted = HETMM(**{**FAST, **way.settings()}).fit(images)
    np.testing.assert_array_equal(found.maps([weave(9)]), wanted.maps([weave(9)]))
    for one, other in zip(found.features(weave(9)), wanted.features(weave(9)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_too_few_images_to_choose_from() -> None:
    """Three good images are refused in one sentence that says how many it takes."""
    with pytest.raises(NoImagesError, match=r"3 good images are too few .* at least 4"):
        chosen([weave(seed) for seed in range(3)])


def test_the_best_way_is_taken() -> None:
    """The way with the largest AUROC wins, wherever in the list it stands."""
    images = [np.zeros((16, 16, 3), np.float32)] * 4
    scores = {way.name: (0.0, 0.5) for way in ways(GIVEN, (0, 1))}
    choice = choose(ways(GIVEN, (0, 1)), images, fixed({**scores, "anywhere, averaged": (0, 2)}))
    assert choice.taken.name == "anywhere, averaged"
    assert {way.name: auroc for way, auroc in choice.tried}["anywhere, averaged"] == 1.0


def test_the_earlier_of_two_that_are_as_good() -> None:
    """Ways nearly as good as the best count as equal, and the first of them is taken."""
    images = [np.zeros((16, 16, 3), np.float32)] * 8
    far = {way.name: (0.0, 2.0) for way in ways(GIVEN, (0, 1))}
    assert choose(ways(GIVEN, (0, 1)), images, fixed(far)).taken.name == "in place"
    worse = choose(ways(GIVEN, (0, 1)), images, fixed({**far, "in place": (0.0, 0.5)}))
    assert 1 - {way.name: auroc for way, auroc in worse.tried}["in place"] > CLOSE
    assert worse.taken.name == "anywhere"


def test_each_query_is_made_from_the_image_at_its_position() -> None:
    """At most EXAMINED images are looked at, QUERIES scored: one as it is, DEFECTS changed."""
    images = [np.full((16, 16, 3), index / 300, np.float32) for index in range(300)]
    images = [image + np.linspace(0, 0.5, 16, dtype=np.float32)[:, None] for image in images]

    def score(way: Windows, examined: Sequence[Image], queries: list[tuple[int, Image]]):
        assert (len(examined), len(queries)) == (EXAMINED, QUERIES * (1 + DEFECTS))
        for number, (position, image) in enumerate(queries):
            is_good = number % (DEFECTS + 1) == 0
            assert np.array_equal(image, examined[position]) == is_good
        return np.zeros(len(queries))

    assert all(auroc == 0.5 for _, auroc in choose(ways(GIVEN, (0, 1)), images, score).tried)


def test_what_is_tried() -> None:
    """The windows as given come first; a level that is off stays off in every way."""
    names = {way.name: way.forward for way in ways(GIVEN, (0, 1))}
    assert list(names) == ["in place", "anywhere", "anywhere, averaged", "anywhere, two levels"]
    assert list(names.values()) == [(5, 3), (0, "map"), (0, "map"), ("map", "map")]
    assert [way.forward for way in ways(GIVEN, (0,))] == [(5, 3), ("map", 0), ("map", 0)]


def test_a_level_without_weight_is_never_the_only_one() -> None:
    """With no weight on the last level, the location-free ways use the one before it."""
    settings = {**FAST, "level_weights": (1.0, 0.0)}
    detector = HETMM(**settings).fit([weave(seed) for seed in range(4)])
    assert detector.choice_ is not None
    assert [way.forward for way, _ in detector.choice_.tried] == [(1, 1), ("map", 0), ("map", 0)]


def test_a_choice_survives_json() -> None:
    """The manifest's values bring the choice back, and its text names the way taken."""
    first, second, *_ = ways(GIVEN, (0, 1))
    choice = Choice(second, ((first, 0.75), (second, 0.875)))
    assert Choice.from_dict(json.loads(json.dumps(choice.to_dict()))) == choice
    assert str(choice) == "anywhere (synthetic defects found, AUROC: in place 75.0, anywhere 87.5)"


@pytest.mark.parametrize("shape", [(48, 48), (32, 64)])
def test_a_made_up_defect_is_small(shape: tuple[int, int]) -> None:
    """A defect changes some pixels, at most 4 % of the area and a rim, and stays in [0, 1]."""
    image = np.random.default_rng(1).random((*shape, 3), np.float32)
    rng = np.random.default_rng(2)
    sizes = []
    for _ in range(200):
        made = with_defect(image, rng)
        assert (made.dtype, made.shape) == (np.float32, image.shape)
        assert made.min() >= 0
        assert made.max() <= 1
        sizes.append(int((made != image).any(-1).sum()))
    area = shape[0] * shape[1]
    assert max(sizes) <= 0.04 * area + 4 * 0.25 * area**0.5
    assert min(sizes) > 0  # an image without any change would count as a missed defect
