"""What HETMM's settings must be, told before the long work, and which levels they turn on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from blemish.errors import ParameterError
from blemish.features import precision_dtype
from blemish.hetmm.matching import check_windows
from blemish.hetmm.selection import METHODS, WHOLE_SHEETS
from blemish.hetmm.windows import Windows
from blemish.imaging.augmentation import copies

if TYPE_CHECKING:
    from blemish.hetmm.detector import HETMM

WIDEST = 999  # pixels: an average or a Gaussian any wider leaves nothing to see


def levels_on(windows: Windows, weights: Sequence[float]) -> list[int]:
    """Which levels count: those with a window in some direction and a weight."""
    searched = zip(windows.forward, windows.backward, weights, strict=True)
    return [i for i, (there, back, weight) in enumerate(searched) if weight and (there or back)]


def free_levels(windows: Windows, weights: Sequence[float]) -> list[int]:
    """Which of these are matched location-free."""
    return [index for index in levels_on(windows, weights) if windows.forward[index] == "map"]


def check_settings(detector: HETMM) -> None:
    """Raise ParameterError for the first setting that cannot work."""
    _check_levels(detector)
    _check_templates(detector)
    _check_numbers(detector)
    precision_dtype(detector.precision)


def _check_levels(detector: HETMM) -> None:
    count = len(detector.levels)
    for name in ("forward", "backward", "alpha", "level_weights"):
        if len(getattr(detector, name)) != count:
            raise ParameterError(
                f"{name} has {len(getattr(detector, name))} values for {count} levels; "
                "give one a level"
            )
    for forward, backward in zip(detector.forward, detector.backward, strict=True):
        if forward != "map":
            check_windows(forward, backward)
        elif backward != 0:
            raise ParameterError(
                f"a forward window 'map' has no backward direction: give 0, not {backward}"
            )
    if detector.windows not in ("given", "auto"):
        raise ParameterError(f"windows is '{detector.windows}'; it must be given or auto")
    if not levels_on(detector.given, detector.level_weights):
        raise ParameterError("all levels are off; give one a window and a weight above 0")


def _check_templates(detector: HETMM) -> None:
    if detector.memory is not None and detector.memory < 1:
        raise ParameterError(f"memory is {detector.memory} MiB; it must be at least 1, or none")
    if detector.selection not in METHODS:
        raise ParameterError(
            f"selection is '{detector.selection}'; it must be one of {', '.join(METHODS)}"
        )
    if detector.sheets is not None and detector.sheets < 1:
        raise ParameterError(f"sheets is {detector.sheets}; it must be at least 1, or none for all")
    if len(copies(detector.augment)) > 1 and detector.selection not in WHOLE_SHEETS:
        raise ParameterError(
            f"augment needs whole sheets: with selection '{detector.selection}' leave it out, "
            f"or use {' or '.join(sorted(WHOLE_SHEETS))}"
        )
    if detector.vectors < 1 or (detector.components is not None and detector.components < 1):
        raise ParameterError("vectors and components must be at least 1")


def _check_numbers(detector: HETMM) -> None:
    if not 1 <= detector.average <= WIDEST or detector.average % 2 == 0:
        raise ParameterError(
            f"average is {detector.average}; it is an odd whole number of pixels, 1 for none"
        )
    if any(not 0 <= value <= 1 for value in detector.alpha):
        raise ParameterError(f"alpha is {list(detector.alpha)}; each value lies between 0 and 1")
    if not 0 <= detector.sigma <= WIDEST or detector.batch_size < 1:
        raise ParameterError(
            f"sigma must be at least 0 and at most {WIDEST}, and batch_size at least 1"
        )
