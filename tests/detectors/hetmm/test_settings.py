"""HETMM's settings: presets, levels of other lengths, and what is refused, in one sentence each."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hetmm_tools import RAW, fitted_with

from blemish.detectors import HETMM, parse_settings
from blemish.detectors.base import check_settings
from blemish.detectors.hetmm import HetmmConfig
from blemish.detectors.hetmm.settings import PRESETS, WHOLE, Branch, LevelDefaults
from blemish.errors import BlemishError, ParameterError


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_fills_in_what_was_not_given(preset: Any) -> None:
    """Each level gets the row of its number; nothing else changes."""
    found = HetmmConfig(preset=preset, sheets=7).resolved()
    rows = [PRESETS[preset][number] for number in (1, 2, 3)]
    for name in LevelDefaults._fields:
        assert getattr(found, name) == tuple(getattr(row, name) for row in rows)
    for name, value in WHOLE[preset]._asdict().items():
        assert getattr(found, name) == value
    assert (found.sheets, found.selection) == (7, "kcenter")


def test_the_default_matches_in_place_and_anywhere() -> None:
    """Three levels within windows, two of them anywhere too, each with its side and pooling."""
    found = HetmmConfig().resolved()
    assert (found.windows, found.normalise, found.statistic) == ("both", True, "tail")
    assert (found.vectors, found.components) == (8_000, 64)
    assert found.branches == [
        Branch(0, False, 0.5, 1, 2), Branch(1, False, 1.0, 1, 1), Branch(2, False, 1.0, 1, 1),
        Branch(1, True, 1.0, 3, 2), Branch(2, True, 0.5, 3, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("windows", ["both", "manual", "global"])
def test_windows_say_where_is_searched(windows: Any) -> None:
    """`manual` leaves out what is matched anywhere, `global` what is matched in place."""
    every = HetmmConfig().resolved().branches
    wanted = {"both": every, "manual": every[:3], "global": every[3:]}[windows]
    assert HetmmConfig(windows=windows).resolved().branches == wanted


def test_the_paper_has_its_own_windows() -> None:
    """`paper` is the central row of the paper's table, on unpooled levels."""
    found = HetmmConfig(preset="paper").resolved()
    assert (found.forward, found.backward) == ((13, 9, 7), (3, 5, 3))
    assert (found.pool, found.alpha) == ((1, 1, 1), (0.5, 0.5, 0.3))
    assert (found.windows, found.normalise, found.statistic) == ("manual", False, "max")
    assert (found.vectors, found.components) == (50_000, 256)
    assert [branch.position for branch in found.branches] == [0, 1, 2]


def test_what_was_given_goes_before_the_preset() -> None:
    """A value of the user's is kept as it is; the others are the preset's."""
    found = HetmmConfig(preset="paper", forward=(3, 3, 3), pool=[2, 2, 1]).resolved()
    assert (found.forward, found.pool, found.backward) == ((3, 3, 3), [2, 2, 1], (3, 5, 3))
    assert HetmmConfig(preset="paper").parameters()["forward"] is None  # as given
    mixed = HetmmConfig(preset="paper", windows="both", normalise=True, vectors=9).resolved()
    assert (mixed.windows, mixed.normalise, mixed.vectors, mixed.components) == (
        "both", True, 9, 256,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("levels", "rows"),
    [((2,), (2,)), ((1, 3), (1, 3)), ((0, 1, 2, 3, 4), (1, 1, 2, 3, 3)), ((7,), (3,))],
)
def test_levels_of_any_number_take_the_nearest_row(
    levels: tuple[int, ...], rows: tuple[int, ...]
) -> None:
    """A level beyond the table is matched as the nearest in it."""
    found = HetmmConfig(levels=levels).resolved()
    assert found.forward == tuple(PRESETS["default"][row].forward for row in rows)
    assert found.pool == tuple(PRESETS["default"][row].pool for row in rows)
    assert found.free_pool == tuple(PRESETS["default"][row].free_pool for row in rows)
    in_place = [branch.position for branch in found.branches if not branch.free]
    assert in_place == list(range(len(levels)))


def test_a_level_that_is_off_forward_is_off_backward() -> None:
    """Where only forward windows are given, 0 has no backward direction; anywhere stays."""
    found = HetmmConfig(forward=(5, 0, 3)).resolved()
    assert found.backward == (3, 0, 3)
    assert [(branch.position, branch.free) for branch in found.branches] == [
        (0, False), (2, False), (1, True), (2, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("forward", "backward", "alpha", "expected"),
    [
        (5, 3, 0.5, (2, 1, 0.5)),
        (5, 0, 0.5, (2, None, 1)),
        (0, 3, 0.5, (None, 1, 0)),
        (5, 3, 1.0, (2, None, 1)),
        (5, 3, 0.0, (None, 1, 0)),
        (5, 0, 0.0, (2, None, 1)),
        (0, 3, 1.0, (None, 1, 0)),
        (1, 1, 0.25, (0, 0, 0.25)),
    ],
)
def test_only_what_counts_is_matched(
    forward: int, backward: int, alpha: float, expected: tuple
) -> None:
    """A direction of weight 0 is not matched; one that is off leaves its weight to the other."""
    config = HetmmConfig(levels=(1,), forward=(forward,), backward=(backward,), alpha=(alpha,))
    assert config.resolved().directions(0) == expected


def test_a_level_without_weight_is_off() -> None:
    """It is neither matched nor learned."""
    config = HetmmConfig(level_weights=(1.0, 0.0, 0.5), free_weights=(0.0, 0.0, 2.0)).resolved()
    assert [(branch.position, branch.free, branch.weight) for branch in config.branches] == [
        (0, False, 1.0), (2, False, 0.5), (2, True, 2.0),
    ]  # fmt: skip


REFUSED = [
    ({"preset": "best"}, "preset is 'best'; it must be one of default, paper"),
    ({"forward": (13, 9)}, "forward has 2 values for 3 levels; give one a level"),
    ({"levels": (1, 2), "forward": (5, 5, 5)}, "forward has 3 values for 2 levels"),
    ({"backward": (3,)}, "backward has 1 values for 3 levels"),
    ({"pool": (1, 1)}, "pool has 2 values for 3 levels"),
    ({"alpha": ()}, "alpha has 0 values for 3 levels"),
    ({"level_weights": (1.0,)}, "level_weights has 1 values for 3 levels"),
    ({"pool": (0, 1, 1)}, r"pool is \[0, 1, 1\]; each value is at least 1"),
    ({"forward": (13, 8, 7)}, "the forward window is 8; windows are odd"),
    ({"backward": (3, -1, 3)}, "the backward window is -1; windows are odd"),
    ({"windows": "manual", "forward": (0, 0, 0)}, "all levels are off"),
    ({"windows": "manual", "level_weights": (0.0, 0.0, 0.0)}, "all levels are off"),
    ({"windows": "global", "free_weights": (0.0, 0.0, 0.0)}, "all levels are off"),
    ({"level_weights": (0.0,) * 3, "free_weights": (0.0,) * 3}, "all levels are off"),
    ({"free_weights": (1.0,)}, "free_weights has 1 values for 3 levels"),
    ({"free_weights": (1.0, -0.5, 0.5)}, "free_weights is"),
    ({"free_weights": (1.0, float("nan"), 0.5)}, "free_weights is"),
    ({"free_pool": (1, 1)}, "free_pool has 2 values for 3 levels"),
    ({"free_pool": (1, 0, 1)}, r"free_pool is \[1, 0, 1\]; each value is at least 1"),
    ({"free_average": 4}, "free_average is 4; it is an odd whole number of pixels"),
    ({"statistic": "mean"}, "statistic is 'mean'; it must be one of tail, max"),
    ({"level_weights": (1.0, -0.5, 0.5)}, "level_weights is"),
    ({"level_weights": (1.0, float("nan"), 0.5)}, "level_weights is"),
    ({"level_weights": (1.0, float("inf"), 0.5)}, "level_weights is"),
    ({"windows": "some"}, "windows is 'some'; it must be one of both, manual, global"),
    ({"alpha": (0.5, 0.5, 1.5)}, "each value lies between 0 and 1"),
    ({"alpha": (0.5, float("nan"), 0.5)}, "each value lies between 0 and 1"),
    ({"sheets": 0}, "sheets is 0; it must be at least 1"),
    ({"selection": "best"}, "selection is 'best'; it must be one of kcenter, pts, random, spaced"),
    ({"sigma": -1.0}, "sigma must be at least 0"),
    ({"sigma": float("nan")}, "sigma must be at least 0"),
    ({"average": 2}, "average is 2; it is an odd whole number of pixels"),
    ({"average": 0}, "average is 0"),
    ({"precision": "double"}, "precision is 'double'; it must be one of float32, float16"),
    ({"memory": 0}, "memory is 0 MiB; it must be at least 1"),
    ({"vectors": 0}, "vectors and components must be at least 1"),
    ({"components": 0}, "vectors and components must be at least 1"),
    ({"augment": "twist"}, "augment has no 'twist'"),
    ({"taps": "none"}, "taps is 'none'"),
    ({"levels": ()}, "levels is empty; give at least one"),
    ({"levels": (2, 1)}, r"levels are \[2, 1\]; give increasing whole numbers"),
    ({"levels": (1, 1)}, r"levels are \[1, 1\]; give increasing whole numbers"),
    ({"levels": (1, 9)}, "efficientnet_lite0 has the levels .*1, 9"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_bad_options_are_refused_before_any_work(options: dict[str, Any], said: str) -> None:
    """What cannot work is said by fit, in one sentence, before an image is touched."""

    class Untouchable(list):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: object) -> np.ndarray:
            if index != 0:  # whose size is looked at
                raise AssertionError("an image was read")
            return np.zeros((64, 64, 3), np.float32)

    with pytest.raises(ParameterError, match=said) as caught:
        HETMM(**options).fit(Untouchable())
    assert "\n" not in str(caught.value)


def test_an_unknown_option_is_refused_with_those_that_are_known() -> None:
    """One sentence names the option and lists all there are."""
    with pytest.raises(ParameterError, match=r"HETMM has no option 'colour'; it has preset, .*"):
        HETMM(colour="red")
    assert HETMM.setting_names() == [each.name for each in fields(HetmmConfig)]


def test_settings_are_kept_as_they_were_given() -> None:
    """What the constructor was told is what it tells, and `repr` shows it."""
    given = {"sheets": 3, "forward": (3, 3, 3), "augment": ("flip-h",), "precision": "float16"}
    detector = HETMM(**given)
    assert {name: detector.parameters()[name] for name in given} == given
    again = HETMM(**detector.parameters())
    assert again.config == detector.config
    assert "sheets=3" in repr(detector)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("sheets=7", 7),
        ("sheets=none", None),
        ("sheets=null", None),
        ("sigma=2.5", 2.5),
        ("level-weights=1,0.5,0.5", (1, 0.5, 0.5)),
        ("forward=[5, 3, 3]", [5, 3, 3]),
        ("free_weights=1,0,0.5", (1, 0, 0.5)),
        ("windows=global", "global"),
        ("normalise=false", False),
        ("preset=paper", "paper"),
        ('taps="post"', "post"),
        (" taps = post ", "post"),
        ("backbone=a=b", "a=b"),
    ],
)
def test_settings_are_read(setting: str, value: object) -> None:
    """key=value takes JSON, bare words and comma lists, with dashes for underscores."""
    (found,) = parse_settings(HETMM, [setting]).values()
    assert found == value
    check_settings(HETMM, parse_settings(HETMM, [setting]))


def test_bad_settings() -> None:
    """No `=`, and a key the method does not have, are errors; the latter lists the keys."""
    with pytest.raises(ParameterError, match="write it as key=value"):
        parse_settings(HETMM, ["sheets"])
    with pytest.raises(ParameterError, match="has no 'colour'; it has preset, sheets, "):
        parse_settings(HETMM, ["colour=red"])


@pytest.mark.parametrize(
    "setting",
    [
        "sheets=many", "forward=13", "sigma=[]", "forward=a,b,c", "backbone=3", "sheets=1.5",
        "preset=best", "windows=auto", "statistic=std", "forward=5,3,map", "precision=bfloat16",
        "selection=best", "levels=1",
    ],
)  # fmt: skip
def test_settings_of_the_wrong_kind(setting: str) -> None:
    """A value that the option cannot take is refused by name, not somewhere deep inside."""
    with pytest.raises(ParameterError, match=f"--set {setting.partition('=')[0]}"):
        HETMM(**parse_settings(HETMM, [setting]))


@pytest.mark.parametrize("levels", [(1,), (2, 3), (1, 2, 3)])
def test_any_levels_can_be_matched(levels: tuple[int, ...], good_images: list[np.ndarray]) -> None:
    """A detector of one, two or three levels has their sets, and finds what it knows."""
    detector = fitted_with(good_images[:3], levels=levels, **RAW)
    assert [own.level.number for own in detector.sets_] == list(levels)
    assert float(np.abs(detector.maps(good_images[:1])).max()) < 1e-5
    assert float(detector.maps(good_images[5:6]).max()) > 0.001


def test_a_backbone_that_is_not_there_is_refused(good_images: list[np.ndarray]) -> None:
    """A name without weights is one sentence, not a fall back to the filter bank."""
    with pytest.raises(BlemishError, match="no_such_network"):
        HETMM(backbone="no_such_network").fit(good_images[:2])
