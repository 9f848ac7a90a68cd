"""The view that an inspector learns before its detector learns: alignment, areas, tiles."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from blemish.errors import ParameterError
from blemish.imaging import ImageSequence, Progress, Raster, TiledView, Tiling, View
from blemish.imaging.view import Align

if TYPE_CHECKING:
    from blemish.imaging.learning import AlignChoice


def learned_view(
    view: View | TiledView,
    images: ImageSequence,
    align: Align,
    roi: Any,
    ignore: Any,
    tile: int | None,
    progress: Progress,
    golden: Raster | None = None,
) -> tuple[View | TiledView, AlignChoice | None]:
    """The view with what it needs of good images, and the choice that was made for `auto`.

    What an earlier fit chose and learned is asked anew. `tile` is the tiles' side in pixels.
    Raises ParameterError for a `golden` image that nothing would be laid onto.
    """
    if golden is not None and align == "none" and roi is None and ignore is None:
        raise ParameterError(
            "a golden image is what parts are laid onto and areas are drawn on; say how to align, "
            "or give a region of interest or an ignore region, or leave it out"
        )
    from blemish.imaging.learning import learn_view

    base = view.base if isinstance(view, TiledView) else view
    base, choice = learn_view(
        replace(base, align=align, golden=None),
        images.sources(),
        roi=roi,
        ignore=ignore,
        golden=golden,
        progress=progress,
    )
    if tile is None:
        return base, choice
    hw = images.read(0).hw if base.golden is None else base.golden.hw
    return TiledView(base, Tiling.over(hw, tile)), choice
