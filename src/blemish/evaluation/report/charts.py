"""The ROC curve as one inline SVG, a sibling of the demo's histogram: colours follow the page.

Inline because the page's light and dark colours then apply, and the picture has words for those
who do not see it; `blemish.evaluation.plots` draws the same curves as files.
"""

from __future__ import annotations

from blemish.evaluation.report.curves import Roc

_SIDE = 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 46  # room for labels
_SPAN_X, _SPAN_Y = _SIDE - _LEFT - _RIGHT, _SIDE - _TOP - _BOTTOM
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def roc_svg(roc: Roc, auroc: float | None, point: tuple[float, float] | None) -> str:
    """An <svg> with the curve, chance as a thin diagonal, and a dot at the operating point.

    `point` is the (false, true) positive rate at the threshold, if there is one.
    """
    pairs = zip(roc.false_positive_rate, roc.true_positive_rate, strict=True)
    line = " ".join(f"{_x(false)},{_y(true)}" for false, true in pairs)
    body = [
        _words(auroc, point),
        *_grid(),
        f'<line class="chance" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>',
        f'<polygon class="area" points="{line} {_x(1)},{_y(0)}"/>',
        f'<polyline class="curve" points="{line}"/>',
    ]
    if point is not None:
        body += _dot(*point)
    if auroc is not None:
        body.append(
            f'<text class="value" text-anchor="end" x="{_x(0.97)}" y="{_y(0.06)}">'
            f"AUROC {auroc:.3f}</text>"
        )
    return (
        f'<svg class="roc" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SIDE} {_SIDE}" '
        f'role="img">{"".join(body)}</svg>'
    )


def _x(rate: float) -> float:
    return round(_LEFT + float(rate) * _SPAN_X, 1)


def _y(rate: float) -> float:
    return round(_TOP + (1 - float(rate)) * _SPAN_Y, 1)


def _grid() -> list[str]:
    lines = []
    for at in _TICKS:
        lines.append(f'<line class="grid" x1="{_x(at)}" x2="{_x(at)}" y1="{_y(0)}" y2="{_y(1)}"/>')
        lines.append(f'<line class="grid" x1="{_x(0)}" x2="{_x(1)}" y1="{_y(at)}" y2="{_y(at)}"/>')
        lines.append(
            f'<text class="small" text-anchor="middle" x="{_x(at)}" y="{_y(0) + 16}">{at:g}</text>'
        )
        lines.append(
            f'<text class="small" text-anchor="end" x="{_x(0) - 6}" y="{_y(at) + 4}">{at:g}</text>'
        )
    middle = _y(0.5)
    lines.append(
        f'<text class="small" text-anchor="middle" x="{_x(0.5)}" y="{_SIDE - 8}">'
        "good parts called defective</text>"
    )
    lines.append(
        f'<text class="small" text-anchor="middle" transform="rotate(-90 11 {middle})" x="11" '
        f'y="{middle}">defects found</text>'
    )
    return lines


def _dot(false: float, true: float) -> list[str]:
    """The operating point, labelled on the side where there is room."""
    anchor, shift = ("end", -9) if false > 0.6 else ("start", 9)
    x, y = _x(false) + shift, _y(true) + (15 if true > 0.5 else -9)
    return [
        f'<circle class="dot" cx="{_x(false)}" cy="{_y(true)}" r="4.5"/>',
        f'<text text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}">threshold</text>',
    ]


def _words(auroc: float | None, point: tuple[float, float] | None) -> str:
    said = "ROC curve." if auroc is None else f"ROC curve with an area of {auroc:.4f}."
    if point is not None:
        said += (
            f" At the threshold {100 * point[1]:.1f} % of the defects are found and "
            f"{100 * point[0]:.1f} % of the good parts called defective."
        )
    return f"<title>{said}</title>"
