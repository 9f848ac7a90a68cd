"""HETMM's settings: what they are, what they must be, and the levels that they turn on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from math import inf
from typing import Any, Literal, NamedTuple, get_args

from blemish.detectors.hetmm.selection import METHODS, Method
from blemish.detectors.hetmm.windows import Window, Windows
from blemish.errors import ParameterError
from blemish.imaging.augmentation import copies

WIDEST = 999  # pixels: an average or a Gaussian any wider leaves nothing to see

Preset = Literal["default", "paper"]
Precision = Literal["float32", "float16"]


class LevelDefaults(NamedTuple):
    """How a preset matches one level."""

    pool: int
    forward: int
    backward: int
    alpha: float
    weight: float


# By the level's number. `paper` is the central row of the paper's table of windows by category
# (docs/methods/hetmm.md); how `default` was found is in docs/matching.md.
PRESETS: dict[str, dict[int, LevelDefaults]] = {
    "default": {
        1: LevelDefaults(2, 5, 3, 0.5, 1.0),
        2: LevelDefaults(1, 5, 3, 0.5, 0.5),
        3: LevelDefaults(1, 3, 3, 0.3, 0.5),
    },
    "paper": {
        1: LevelDefaults(1, 13, 3, 0.5, 1.0),
        2: LevelDefaults(1, 9, 5, 0.5, 0.5),
        3: LevelDefaults(1, 7, 3, 0.3, 0.5),
    },
}


@dataclass(frozen=True, kw_only=True)
class HetmmConfig:
    """The hyper-parameters of `HETMM`, as they were given; `resolved` has the preset's values too.

    `preset`: `default`, or `paper` for the paper's levels and windows; what is None is the
    preset's.
    `sheets`: sheets kept of the good images (None: all); `selection` says how: prototypes chosen
    for each pixel from all images, `kcenter` or `pts` (the paper's), or `spaced` or `random`
    images as they are.
    `levels`: which of the backbone's; `pool`: how many of a level's pixels, each way, are averaged
    to one before matching.
    `forward`, `backward`: search windows a level, odd, in pixels of that level; 0 turns a direction
    off (the other then has all the weight), both 0 the level; a forward window `map` is as large
    as the map, which then has no backward direction and takes vectors from all images.
    `windows`: `given`, or `auto` to choose them and `average` from the good images (windows.py).
    `average`: side of local averaging of features, odd; 1 leaves it out.
    `vectors`, `components`: most template vectors of a location-free level, and their length.
    `alpha`: weight of the forward direction a level; `level_weights`: lambda of the levels' sum.
    `sigma`: Gaussian smoothing of the map, pixels of the view. The score is the map's maximum.
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
    windows: Literal["given", "auto"] = "given"
    forward: Sequence[Window] | None = None
    backward: Sequence[int] | None = None
    alpha: Sequence[float] | None = None
    level_weights: Sequence[float] | None = None
    sigma: float = 4.0
    average: int = 1
    vectors: int = 50_000
    components: int | None = 256
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
        given: dict[str, Any] = {
            "pool": self.pool, "forward": self.forward, "backward": self.backward,
            "alpha": self.alpha, "level_weights": self.level_weights,
        }  # fmt: skip
        columns = dict(zip(given, zip(*rows, strict=True), strict=True))
        filled: dict[str, Any] = {
            name: columns[name] if value is None else value for name, value in given.items()
        }
        if self.backward is None and self.forward is not None:
            # A level that is off forward, or has no place, does not search backward either.
            filled["backward"] = tuple(
                0 if there in (0, "map") else back
                for there, back in zip(self.forward, columns["backward"], strict=False)
            )
        made = replace(self, **filled)
        _check_levels(made)
        _check_templates(made)
        _check_numbers(made)
        return made

    def searched(self, windows: Windows | None) -> HetmmConfig:
        """Take other windows than those given, where some were chosen."""
        if windows is None:
            return self
        return replace(self, **windows.settings())

    @property
    def given(self) -> Windows:
        """The windows as they stand in a resolved configuration, whatever `windows` says."""
        assert self.forward is not None
        assert self.backward is not None
        return Windows("given", tuple(self.forward), tuple(self.backward), self.average)

    @property
    def on(self) -> list[int]:
        """Positions of the levels that count: those with a window in some direction, a weight."""
        assert self.forward is not None
        assert self.backward is not None
        assert self.level_weights is not None
        searched = zip(self.forward, self.backward, self.level_weights, strict=True)
        return [i for i, (there, back, weight) in enumerate(searched) if weight and (there or back)]

    @property
    def free(self) -> list[int]:
        """Positions of the levels that are matched location-free."""
        assert self.forward is not None
        return [index for index in self.on if self.forward[index] == "map"]

    def directions(self, index: int) -> tuple[int | None, int | None, float]:
        """Search radii of the level at a position, and alpha, without what counts nothing.

        A direction that is off (window 0) leaves all the weight to the other; one of weight 0 is
        off (None).
        """
        assert self.forward is not None
        assert self.backward is not None
        assert self.alpha is not None
        forward, backward, alpha = self.forward[index], self.backward[index], self.alpha[index]
        assert forward != "map"
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
    for name in ("pool", "forward", "backward", "alpha", "level_weights"):
        values = getattr(config, name)
        if len(values) != count:
            raise ParameterError(
                f"{name} has {len(values)} values for {count} levels; give one a level"
            )
    assert config.pool is not None
    assert config.forward is not None
    assert config.backward is not None
    if any(not 1 <= pool <= WIDEST for pool in config.pool):
        raise ParameterError(f"pool is {list(config.pool)}; each value is at least 1, for none")
    for forward, backward in zip(config.forward, config.backward, strict=True):
        if forward != "map":
            check_windows(forward, backward)
        elif backward != 0:
            raise ParameterError(
                f"a forward window 'map' has no backward direction: give 0, not {backward}"
            )
    if config.windows not in ("given", "auto"):
        raise ParameterError(f"windows is '{config.windows}'; it must be given or auto")
    if not config.on:
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
    if config.vectors < 1 or (config.components is not None and config.components < 1):
        raise ParameterError("vectors and components must be at least 1")
    if config.precision not in get_args(Precision):
        raise ParameterError(
            f"precision is '{config.precision}'; it must be one of {', '.join(get_args(Precision))}"
        )
    copies(config.augment)


def _check_numbers(config: HetmmConfig) -> None:
    assert config.alpha is not None
    assert config.level_weights is not None
    if not 1 <= config.average <= WIDEST or config.average % 2 == 0:
        raise ParameterError(
            f"average is {config.average}; it is an odd whole number of pixels, 1 for none"
        )
    if any(not 0 <= value < inf for value in config.level_weights):
        raise ParameterError(
            f"level_weights is {list(config.level_weights)}; each value is a number from 0 on"
        )
    if any(not 0 <= value <= 1 for value in config.alpha):
        raise ParameterError(f"alpha is {list(config.alpha)}; each value lies between 0 and 1")
    if not 0 <= config.sigma <= WIDEST:
        raise ParameterError(f"sigma must be at least 0 and at most {WIDEST}")
