"""The view that an inspector learns before its detector learns: alignment, areas, tiles."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from blemish.imaging import ImageSequence, Progress, TiledView, Tiling, View
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
) -> tuple[View | TiledView, AlignChoice | None]:
    """The view with what it needs of good images, and the choice that was made for `auto`.

    What an earlier fit chose and learned is asked anew. `tile` is the tiles' side in pixels.
    """
    from blemish.imaging.learning import learn_view

    base = view.base if isinstance(view, TiledView) else view
    base, choice = learn_view(
        replace(base, align=align, golden=None),
        images.sources(),
        roi=roi,
        ignore=ignore,
        progress=progress,
    )
    if tile is None:
        return base, choice
    hw = images.read(0).shape[:2] if base.golden is None else base.golden.hw
    return TiledView(base, Tiling.over((hw[0], hw[1]), tile)), choice
