"""Scores of good and defective parts as one inline SVG: good above the axis, defective below.

The two halves are told apart by place and label, not by colour alone. Colours come from the
page's CSS variables (--good, --bad, --ink, --faint), with fallbacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ParameterError

_WIDTH, _HEIGHT = 600, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 16, 30, 52  # room for labels
_BINS = 30

Floats = NDArray[np.float64]

_STYLE = (
    "<style>.hist text{font:12px system-ui,sans-serif;fill:var(--ink,#222)}"
    ".hist .small{font-size:11px;fill:var(--faint,#666)}"
    "@media(max-width:600px){.hist text,.hist .small{font-size:19px}}"
    ".hist .plain{fill:var(--faint,#666)}"
    ".hist .good{fill:var(--good,#2e7d5b)}.hist .bad{fill:var(--bad,#b3432f)}"
    ".hist .axis{stroke:var(--faint,#666);stroke-width:1}"
    ".hist .limit{stroke:var(--ink,#222);stroke-width:1.5;stroke-dasharray:5 4}</style>"
)


def histogram_svg(
    scores_good: Sequence[float],
    scores_bad: Sequence[float],
    threshold: float | None,
    *,
    labels: tuple[str, str] = ("good", "defective"),
) -> str:
    """An <svg> element with both histograms over one axis, and a dashed line at the threshold.

    Either list may be empty, not both; without `scores_bad` only the upper half is drawn, in a
    neutral colour where the second label is empty (parts whose truth is not known).
    Raises ParameterError for no scores at all or a score that is not a finite number.
    """
    good, bad = _finite(scores_good), _finite(scores_bad)
    if good.size + bad.size == 0:
        raise ParameterError("There is no score to draw; give at least one part's score.")
    if threshold is not None and not np.isfinite(threshold):
        raise ParameterError(f"The threshold is {threshold}; give a finite number, or None.")
    edges = _edges(np.concatenate([good, bad]), threshold)
    up, down = np.histogram(good, edges)[0], np.histogram(bad, edges)[0]
    upper, lower, axis_y = _layout(int(up.max()), int(down.max()), bad.size > 0)

    upper_kind = "good" if labels[1] else "plain"
    body = [_STYLE, _words(good, bad, threshold, labels)]
    body += _bars(up, edges, axis_y, -upper, upper_kind) + _bars(down, edges, axis_y, lower, "bad")
    body.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{axis_y}" '
                f'y2="{axis_y}"/>')  # fmt: skip
    body += _ticks(edges)
    body.append(
        f'<text class="small" text-anchor="end" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}">'
        "anomaly score, higher is worse</text>"
    )
    body += _side_labels(axis_y, labels, good.size, bad.size)
    if threshold is not None:
        body.append(_limit(_x(threshold, edges), threshold))
    return (
        f'<svg class="hist" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'role="img">{"".join(body)}</svg>'
    )


def _finite(scores: Sequence[float]) -> Floats:
    values = np.asarray(scores, np.float64).ravel()
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        at = int(wrong[0])
        raise ParameterError(f"Score number {at} is {values[at]}; only finite scores can be drawn.")
    return values


def _edges(scores: Floats, threshold: float | None) -> Floats:
    """Bin edges over every score and the threshold, with a little room at both ends."""
    seen = scores if threshold is None else np.append(scores, threshold)
    low, high = float(seen.min()), float(seen.max())
    spare = (high - low) * 0.03 or max(abs(high), 1.0) * 0.05
    edges = np.linspace(low - spare, high + spare, _BINS + 1)
    if threshold is None:
        return edges
    # Move an edge onto the threshold, so that no bar straddles it; a score that equals the
    # threshold does not exceed it, and stays on the left.
    width = edges[1] - edges[0]
    before = np.ceil((threshold - edges[0]) / width)
    moved = np.nextafter(threshold, np.inf) + width * (np.arange(_BINS + 2) - before)
    return np.asarray(moved, np.float64)


def _layout(most_up: int, most_down: int, two_sided: bool) -> tuple[float, float, float]:
    """Pixels per part above and below the axis (alike, so areas compare), and the axis' y."""
    room = _HEIGHT - _TOP - _BOTTOM
    if not two_sided:
        return room / max(most_up, 1), 0.0, float(_TOP + room)
    # Each side keeps room for its label even when it is nearly empty.
    share = min(max(most_up / max(most_up + most_down, 1), 0.25), 0.75)
    scale = min(room * share / max(most_up, 1), room * (1 - share) / max(most_down, 1))
    return scale, scale, round(_TOP + room * share, 1)


def _x(score: float, edges: Floats) -> float:
    share = (score - edges[0]) / (edges[-1] - edges[0])
    return float(round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1))


def _bars(
    counts: NDArray[np.int64], edges: Floats, axis_y: float, per_part: float, side: str
) -> list[str]:
    """One rectangle for each bin that holds a part; `per_part` < 0 grows upward."""
    width = (_WIDTH - _LEFT - _RIGHT) / (len(edges) - 1) - 1.5
    bars = []
    for index in np.flatnonzero(counts):
        tall = abs(per_part) * int(counts[index])
        top = axis_y - tall if per_part < 0 else axis_y
        span = f"{edges[index]:.3g} to {edges[index + 1]:.3g}"
        bars.append(
            f'<rect class="{side}" x="{_x(edges[index], edges) + 0.75:.1f}" y="{top:.1f}" '
            f'width="{width:.1f}" height="{tall:.1f}" rx="1.5">'
            f"<title>{int(counts[index])} from {span}</title></rect>"
        )
    return bars


def _ticks(edges: Floats) -> list[str]:
    """Round score values under the picture."""
    rough = (edges[-1] - edges[0]) / 6
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda m: abs(m * power - rough))
    values = np.arange(np.ceil(edges[0] / step), np.floor(edges[-1] / step) + 1) * step
    return [
        f'<text class="small" text-anchor="middle" x="{_x(v, edges)}" y="{_HEIGHT - _BOTTOM + 20}">'
        f"{v + 0.0:.4g}</text>"
        for v in values
    ]


def _side_labels(axis_y: float, labels: tuple[str, str], n_good: int, n_bad: int) -> list[str]:
    """The name and count of each half, written along the left side."""
    halves = [(labels[0], n_good, (_TOP + axis_y) / 2)]
    if n_bad:
        halves.append((labels[1], n_bad, (axis_y + _HEIGHT - _BOTTOM) / 2))
    return [
        f'<text text-anchor="middle" transform="rotate(-90 16 {y:.1f})" x="16" y="{y:.1f}">'
        f'{escape(label)}</text><text class="small" text-anchor="middle" '
        f'transform="rotate(-90 36 {y:.1f})" x="36" y="{y:.1f}">{count}</text>'
        for label, count, y in halves
    ]


def _limit(x: float, threshold: float) -> str:
    anchor, shift = ("end", -6) if x > _WIDTH * 0.7 else ("start", 6)
    return (
        f'<line class="limit" x1="{x}" x2="{x}" y1="8" y2="{_HEIGHT - _BOTTOM}"/>'
        f'<text text-anchor="{anchor}" x="{x + shift:.1f}" y="20">threshold {threshold:.4g}</text>'
    )


def _words(good: Floats, bad: Floats, threshold: float | None, labels: tuple[str, str]) -> str:
    """The picture in words, for those who do not see it."""
    said = []
    for name, scores in zip(labels, (good, bad), strict=True):
        if scores.size:
            line = f"{scores.size} {name}: {scores.min():.4g} to {scores.max():.4g}"
            over = "" if threshold is None else f", {int((scores > threshold).sum())} above"
            said.append(line + over)
    limit = "" if threshold is None else f" The threshold is {threshold:.4g}."
    return f"<title>Histogram of scores. {escape('; '.join(said))}.{limit}</title>"
