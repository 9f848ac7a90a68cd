"""HETMM's settings: what they are, what they must be, and the levels that they turn on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from math import inf
from typing import Any, Literal, NamedTuple, get_args

from blemish.detectors.hetmm.selection import METHODS, Method
from blemish.errors import ParameterError
from blemish.imaging.augmentation import copies

WIDEST = 999  # pixels: an average or a Gaussian any wider leaves nothing to see

Preset = Literal["default", "paper"]
Precision = Literal["float32", "float16"]
Search = Literal["both", "manual", "global"]
Statistic = Literal["tail", "max"]


class LevelDefaults(NamedTuple):
    """How a preset matches one level, by the names of the settings."""

    pool: int
    forward: int
    backward: int
    alpha: float
    level_weights: float
    free_weights: float
    free_pool: int


class PresetDefaults(NamedTuple):
    """What a preset says of all levels together, by the names of the settings."""

    windows: Search
    vectors: int
    components: int
    normalise: bool
    statistic: Statistic


class Branch(NamedTuple):
    """One way in which a level is matched: within windows, or location-free over the whole map.

    `position` is the level's in the settings, `average` the side of local averaging, `pool` how
    many pixels, each way, become one.
    """

    position: int
    free: bool
    weight: float
    average: int
    pool: int


# By the level's number. `paper` is the central row of the paper's table of windows by category
# (docs/methods/hetmm.md); how `default` was found is in docs/matching.md.
PRESETS: dict[str, dict[int, LevelDefaults]] = {
    "default": {
        1: LevelDefaults(2, 5, 3, 0.5, 0.5, 0.0, 2),
        2: LevelDefaults(1, 5, 3, 0.5, 1.0, 1.0, 2),
        3: LevelDefaults(1, 3, 3, 0.3, 1.0, 0.5, 1),
    },
    "paper": {
        1: LevelDefaults(1, 13, 3, 0.5, 1.0, 0.0, 2),
        2: LevelDefaults(1, 9, 5, 0.5, 0.5, 1.0, 1),
        3: LevelDefaults(1, 7, 3, 0.3, 0.5, 1.0, 1),
    },
}
WHOLE: dict[str, PresetDefaults] = {
    "default": PresetDefaults("both", 8_000, 64, True, "tail"),
    "paper": PresetDefaults("manual", 50_000, 256, False, "max"),
}


@dataclass(frozen=True, kw_only=True)
class HetmmConfig:
    """The hyper-parameters of `HETMM`, as they were given; `resolved` has the preset's values too.

    `preset`: `default`, or `paper` for the paper's levels and windows; what is None is the
    preset's.
    `sheets`: sheets kept of the good images (None: all); `selection` says how: prototypes chosen
    for each pixel from all images, `kcenter` or `pts` (the paper's), or `spaced` or `random`
    images as they are.
    `levels`: which of the backbone's; `pool`, `free_pool`: how many of a level's pixels, each way,
    are averaged to one before they are matched within windows, and location-free.
    `windows`: `manual` searches within windows around each place, `global` anywhere on the map
    (location-free), `both` adds the two.
    `forward`, `backward`: search windows a level, odd, in pixels of that level; 0 turns a direction
    off (the other then has all the weight), both 0 the level.
    `average`, `free_average`: side of local averaging of features, odd, before they are matched
    within windows and location-free; 1 leaves it out.
    `vectors`, `components`: most template vectors of a location-free level, and their most length.
    `alpha`: weight of the forward direction a level; `level_weights`, `free_weights`: lambda of
    the levels' sum, within windows and location-free.
    `normalise`: distances are taken in units of how good parts vary there (normalisation.py), and
    location-free ones less the radius of the template found.
    `sigma`: Gaussian smoothing of the map, pixels of the view. `statistic`: the score is the map's
    maximum (`max`), or the mean of that and its upper 1 % and 10 % (`tail`).
    `augment`: copies of each template that are matched too, for few good images: some of `rotate`,
    `shift`, `flip-h`, `flip-v` (only what the part allows; `sheets` counts images, not copies).
    `precision`: what templates are kept in, `float32` or `float16`.
    `memory`: MiB the sheets may take; a larger set is read from a scratch file. None: no limit.
    """

    preset: Preset = "default"
    sheets: int | None = 32
    selection: Method = "kcenter"
    backbone: str = "efficientnet_lite0"
    levels: Sequence[int] = (1, 2, 3)
    taps: str = "pre"
    pool: Sequence[int] | None = None
    windows: Search | None = None
    forward: Sequence[int] | None = None
    backward: Sequence[int] | None = None
    alpha: Sequence[float] | None = None
    level_weights: Sequence[float] | None = None
    free_weights: Sequence[float] | None = None
    free_pool: Sequence[int] | None = None
    normalise: bool | None = None
    statistic: Statistic | None = None
    sigma: float = 4.0
    average: int = 1
    free_average: int = 3
    vectors: int | None = None
    components: int | None = None
    augment: str | Sequence[str] = field(default=())
    precision: Precision = "float32"
    memory: int | None = None

    def resolved(self) -> HetmmConfig:
        """Fill in the preset's values; raises ParameterError for the first that cannot work."""
        if self.preset not in PRESETS:
            raise ParameterError(
                f"preset is '{self.preset}'; it must be one of {', '.join(PRESETS)}"
            )
        if not self.levels:
            raise ParameterError("levels is empty; give at least one, such as 1 2 3")
        known = PRESETS[self.preset]
        # A level beyond those of the table is matched as the nearest one in it.
        rows = [known[min(known, key=lambda n: abs(n - level))] for level in self.levels]
        columns = {
            name: tuple(getattr(row, name) for row in rows) for name in LevelDefaults._fields
        }
        defaults: dict[str, Any] = {**columns, **WHOLE[self.preset]._asdict()}
        filled = {
            name: value if getattr(self, name) is None else getattr(self, name)
            for name, value in defaults.items()
        }
        if self.backward is None and self.forward is not None:
            # A level that is off forward does not search backward either.
            filled["backward"] = tuple(
                0 if there == 0 else back
                for there, back in zip(self.forward, defaults["backward"], strict=False)
            )
        made = replace(self, **filled)
        _check_levels(made)
        _check_templates(made)
        _check_numbers(made)
        return made

    @property
    def branches(self) -> list[Branch]:
        """How the levels that count are matched: those within windows first, then location-free."""
        assert self.forward is not None
        assert self.backward is not None
        assert self.level_weights is not None
        assert self.free_weights is not None
        assert self.pool is not None
        assert self.free_pool is not None
        found = []
        if self.windows != "global":
            searched = zip(self.forward, self.backward, self.level_weights, strict=True)
            found += [
                Branch(index, False, weight, self.average, self.pool[index])
                for index, (there, back, weight) in enumerate(searched)
                if weight and (there or back)
            ]
        if self.windows != "manual":
            found += [
                Branch(index, True, weight, self.free_average, self.free_pool[index])
                for index, weight in enumerate(self.free_weights)
                if weight
            ]
        return found

    def directions(self, index: int) -> tuple[int | None, int | None, float]:
        """Search radii of the level at a position, and alpha, without what counts nothing.

        A direction that is off (window 0) leaves all the weight to the other; one of weight 0 is
        off (None).
        """
        assert self.forward is not None
        assert self.backward is not None
        assert self.alpha is not None
        forward, backward, alpha = self.forward[index], self.backward[index], self.alpha[index]
        if forward == 0 or backward == 0:
            alpha = float(backward == 0)
        there = None if alpha == 0 else forward // 2
        back = None if alpha == 1 else backward // 2
        return there, back, alpha

    def parameters(self) -> dict[str, Any]:
        """The hyper-parameters as they were given, by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def _check_levels(config: HetmmConfig) -> None:
    count = len(config.levels)
    for name in (
        "pool",
        "forward",
        "backward",
        "alpha",
        "level_weights",
        "free_weights",
        "free_pool",
    ):
        values = getattr(config, name)
        if len(values) != count:
            raise ParameterError(
                f"{name} has {len(values)} values for {count} levels; give one a level"
            )
    assert config.pool is not None
    assert config.forward is not None
    assert config.backward is not None
    for name in ("pool", "free_pool"):
        sides = getattr(config, name)
        if any(not 1 <= side <= WIDEST for side in sides):
            raise ParameterError(f"{name} is {list(sides)}; each value is at least 1, for none")
    for forward, backward in zip(config.forward, config.backward, strict=True):
        check_windows(forward, backward)
    for name, known in (("windows", Search), ("statistic", Statistic)):
        if getattr(config, name) not in get_args(known):
            raise ParameterError(
                f"{name} is '{getattr(config, name)}'; it must be one of "
                f"{', '.join(get_args(known))}"
            )
    if not config.branches:
        raise ParameterError("all levels are off; give one a window and a weight above 0")


def check_windows(forward: int, backward: int) -> None:
    """Raise unless both window sides are odd whole numbers of pixels, or 0 for off."""
    for name, window in (("forward", forward), ("backward", backward)):
        if window < 0 or (window % 2 == 0 and window != 0):
            raise ParameterError(
                f"the {name} window is {window}; windows are odd whole numbers of pixels, or 0 "
                "for a direction left out"
            )


def _check_templates(config: HetmmConfig) -> None:
    if config.memory is not None and config.memory < 1:
        raise ParameterError(f"memory is {config.memory} MiB; it must be at least 1, or none")
    if config.selection not in METHODS:
        raise ParameterError(
            f"selection is '{config.selection}'; it must be one of {', '.join(METHODS)}"
        )
    if config.sheets is not None and config.sheets < 1:
        raise ParameterError(f"sheets is {config.sheets}; it must be at least 1, or none for all")
    assert config.vectors is not None
    assert config.components is not None
    if config.vectors < 1 or config.components < 1:
        raise ParameterError("vectors and components must be at least 1")
    if config.precision not in get_args(Precision):
        raise ParameterError(
            f"precision is '{config.precision}'; it must be one of {', '.join(get_args(Precision))}"
        )
    copies(config.augment)


def _check_numbers(config: HetmmConfig) -> None:
    assert config.alpha is not None
    for name in ("average", "free_average"):
        side = getattr(config, name)
        if not 1 <= side <= WIDEST or side % 2 == 0:
            raise ParameterError(
                f"{name} is {side}; it is an odd whole number of pixels, 1 for none"
            )
    for name in ("level_weights", "free_weights"):
        if any(not 0 <= value < inf for value in getattr(config, name)):
            raise ParameterError(
                f"{name} is {list(getattr(config, name))}; each value is a number from 0 on"
            )
    if any(not 0 <= value <= 1 for value in config.alpha):
        raise ParameterError(f"alpha is {list(config.alpha)}; each value lies between 0 and 1")
    if not 0 <= config.sigma <= WIDEST:
        raise ParameterError(f"sigma must be at least 0 and at most {WIDEST}")
