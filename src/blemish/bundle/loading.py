"""Putting a bundle's parts together: what does not fit is one sentence, told when it is loaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.bundle.manifest import Manifest
from blemish.bundle.tensors import Tensors
from blemish.errors import BlemishError, BundleError, MissingExtraError

# View pixels a side of a feature map's pixel: no network shrinks further, so a larger view is a lie
# that would cost memory before the maps are found not to fit.
LARGEST_STRIDE = 64
_LEVEL = re.compile(
    r"(|tile[0-9]+\.)level([0-9]+(?:-free)?)"
)  # a tile's name leads where there are tiles
_SHOWN = 200  # characters of another package's message


@contextmanager
def fitting_together(where: str) -> Iterator[None]:
    """Turn what goes wrong in the block into one BundleError that names the bundle `where`."""
    try:
        yield
    except (BundleError, MissingExtraError):
        raise
    except BlemishError as error:
        raise BundleError(f"{where} cannot be loaded: {error}") from error
    except Exception as error:
        # NumPy, torch and the runtimes meet what does not fit with a dozen kinds of exception; all
        # mean the same to a user.
        why = " ".join(str(error).split())[:_SHOWN].rstrip(".:") or type(error).__name__
        raise BundleError(
            f"{where} is damaged: its parts do not fit together ({why}); restore it, or make it "
            "again"
        ) from error


def check_runs(
    run: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
    hw: tuple[int, int],
    map_hw: tuple[int, int],
    where: str,
) -> None:
    """Raise BundleError unless a plain grey image of the view, `hw`, gets a map of `map_hw`.

    So a bundle whose parts do not fit is refused on loading, and not with the line's first part.
    """
    with fitting_together(where):
        found = run(np.full((*hw, 3), 0.5, np.float32))
        if found.shape != map_hw or not np.isfinite(found).all():
            raise BundleError(
                f"{where} is damaged: it gives a map of {list(found.shape)} that is not all "
                "numbers; restore it, or make it again"
            )


def check_templates(manifest: Manifest, templates: Tensors, where: str) -> None:
    """Raise BundleError unless HETMM's template tensors agree with one another and the manifest.

    `templates` are those of the part `templates`, as they were before the steps.
    """
    with fitting_together(where):
        levels = [found for name in templates if (found := _LEVEL.fullmatch(name))]
        if not levels:
            raise ValueError("there are no templates")
        for name, values in templates.items():
            # A sum passes on what is no number, and is faster than looking at each value.
            if values.dtype.kind == "f" and not np.isfinite(values.sum(dtype=np.float64)):
                raise ValueError(f"'{name}' holds what is no number")
        for found in levels:
            _check_level(templates, found[1], found[2], manifest)


def check_added(manifest: Manifest, sheets: Tensors, samples: int, where: str) -> None:
    """Raise BundleError unless the sheets of an update are those of `samples` images."""
    copies = manifest.parameters.get("augment")
    for name, values in sheets.items():
        count = values.shape[0] if values.ndim == 4 else 0
        fits = count > 0 and count % samples == 0 if copies else count == samples
        if not fits:
            raise BundleError(
                f"{where} is damaged: '{name}' holds {count} sheets of {samples} added images; "
                "restore it, or make it again"
            )


def _check_level(templates: Tensors, tile: str, level: str, manifest: Manifest) -> None:
    values, sources = templates[f"{tile}level{level}"], templates.get(f"{tile}sources{level}")
    if values.dtype.kind != "f" or values.ndim not in (2, 4) or 0 in values.shape:
        raise ValueError(f"level {level} is {values.dtype} of shape {list(values.shape)}")
    place: tuple[int, ...]
    if values.ndim == 2:  # vectors [M, D] without a place
        height, width = (int(side) for side in templates[f"{tile}shape{level}"])
        place = values.shape[:1]
        _check_numbers(templates, f"{tile}places{level}", place)
    else:  # sheets [H, W, C, N]
        height, width = values.shape[:2]
        place = (height, width, values.shape[3])
    side = manifest.view["size"]
    if not isinstance(side, int) or not side / LARGEST_STRIDE <= max(height, width) <= side:
        raise ValueError(f"level {level} is {width} x {height} in a view of {side} pixels")
    samples = manifest.whole_templates
    if sources is not None:
        _check_numbers(templates, f"{tile}sources{level}", place, samples)
    elif values.ndim == 2 or values.shape[3] != samples:
        raise ValueError(f"level {level} does not hold the {samples} templates that are listed")


def _check_numbers(
    templates: Mapping[str, Any], name: str, shape: tuple[int, ...], below: int | None = None
) -> None:
    """Raise ValueError unless a tensor holds whole numbers from 0, under `below`, in `shape`."""
    values = templates[name]
    if values.dtype.kind not in "iu" or values.shape != shape:
        raise ValueError(f"'{name}' is {values.dtype} of shape {list(values.shape)}")
    if values.min() < 0 or (below is not None and values.max() >= below):
        raise ValueError(f"'{name}' names templates that are not there")
