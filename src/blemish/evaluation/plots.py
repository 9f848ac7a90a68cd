"""The evaluation's charts as files, PNG and SVG: score histograms, ROC curves, figures compared.

For papers and slides, so white and without a theme; the report draws its own inside the page.
The same results give the same bytes: no dates, fixed ids, and letters as outlines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import MissingExtraError, ParameterError
from blemish.evaluation.report.curves import limit_of, operating_point, roc_of, scores_of
from blemish.evaluation.report.tables import figure_names, heading
from blemish.evaluation.results import CategoryResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GOOD, BAD, LINE, INK, FAINT = "#2b7a58", "#b2402c", "#2c5f8f", "#1d2327", "#8a9298"
_BINS = 30
_COMPARED = ("image_auroc", "pixel_auroc", "aupro")
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "blemish",  # ids from the drawing alone, so that files can be compared
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


def write_plots(
    folder: str | Path,
    results: Sequence[CategoryResult],
    protocol: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write each chart as PNG (200 dpi) and SVG into `folder`; returns the files.

    `CATEGORY.scores` and `CATEGORY.roc` where the test images allow, and `figures` where there
    are several categories; with `Evaluation.protocol()`, a curve of every protocol with levels
    (`shots`, `blur`, ...). Raises MissingExtraError without matplotlib and ParameterError where
    the folder cannot be written.
    """
    target = Path(folder)
    if not results:
        raise ParameterError(f"--plots {target}: there is no result to draw")
    if target.exists() and not target.is_dir():
        raise ParameterError(f"--plots {target}: this is a file; give a folder")
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtraError(
            f"plots need matplotlib ({error}); install it with: pip install 'blemish[train]'"
        ) from error
    with matplotlib.rc_context(_STYLE):
        figures = _figures(results) + _curves(protocol or {})
        try:
            target.mkdir(parents=True, exist_ok=True)
            return [path for name, drawn in figures for path in _save(target, name, drawn)]
        except OSError as error:
            raise ParameterError(
                f"--plots {target}: the plots cannot be written ({error.strerror or error})"
            ) from error


def _figures(results: Sequence[CategoryResult]) -> list[tuple[str, Figure]]:
    """Every chart that the results allow, by its file's name."""
    found = []
    for name, result in zip(_file_names(results), results, strict=True):
        if result.cases:
            found.append((f"{name}.scores", _histogram(result)))
        if roc_of(result.cases) is not None:
            found.append((f"{name}.roc", _roc(result)))
    if len(results) > 1:
        found.append(("figures", _comparison(results)))
    return found


def _file_names(results: Sequence[CategoryResult]) -> list[str]:
    """Category names as file names; two that become the same get a number."""
    names: list[str] = []
    for result in results:
        name = re.sub(r"[^\w-]+", "_", result.category) or "category"
        same = sum(re.fullmatch(rf"{re.escape(name)}(-\d+)?", other) is not None for other in names)
        names.append(f"{name}-{same + 1}" if same else name)
    return names


def _save(folder: Path, name: str, figure: Figure) -> list[Path]:
    written = []
    for suffix in ("png", "svg"):
        path = folder / f"{name}.{suffix}"
        # A date or a version inside would make equal results unequal files.
        unsaid = {"Software": None} if suffix == "png" else {"Date": None, "Creator": None}
        figure.savefig(path, dpi=200, metadata=unsaid)
        written.append(path)
    return written


def _empty(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # not pyplot, which keeps figures and picks a window

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _histogram(result: CategoryResult) -> Figure:
    """Scores of good and defective images over common bins, with the threshold."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _empty(5, 3)
    good, bad = scores_of(result.cases, 0), scores_of(result.cases, 1)
    limit = limit_of(result)
    edges = _edges(good + bad, None if limit is None else limit.value)
    for scores, label, colour in ((good, "good", GOOD), (bad, "defective", BAD)):
        if scores:
            axes.hist(
                scores, edges.tolist(), label=f"{label} ({len(scores)})", color=colour, alpha=0.65
            )
    if limit is not None:
        kind = "threshold" if limit.promised_rate is not None else "best F1 on these images"
        axes.axvline(limit.value, color=INK, ls="--", lw=1.2, label=f"{kind}: {limit.value:.4g}")
    axes.set(xlabel="anomaly score", ylabel="images", title=_plain(result.category))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _edges(scores: Sequence[float], limit: float | None) -> NDArray[np.float64]:
    """Bin edges over all scores, one of them just above the limit: no bar stands on both sides."""
    seen = np.array([*scores] if limit is None else [*scores, limit])
    low, high = float(seen.min()), float(seen.max())
    width = max((high - low) / _BINS, 1e-9 * max(abs(low), abs(high))) or 1.0
    origin, left = low, 0.0
    if limit is not None:
        # One bin more on the left, since the edge above the limit moves all to the right.
        origin, left = float(np.nextafter(limit, np.inf)), np.ceil((limit - low) / width) + 1
    return np.asarray(origin + width * (np.arange(_BINS + 4) - left), np.float64)


def _roc(result: CategoryResult) -> Figure:
    """The ROC curve of image scores, chance, and the point at the threshold."""
    figure, axes = _empty(3.6, 3.6)
    curve, limit = roc_of(result.cases), limit_of(result)
    assert curve is not None
    assert limit is not None  # both labels occur, so that there is at least a best F1
    area = result.figures["image_auroc"]
    name = "ROC" if area is None else f"AUROC {100 * area:.2f} %"
    axes.plot(curve.false_positive_rate, curve.true_positive_rate, color=LINE, lw=1.8, label=name)
    axes.plot([0, 1], [0, 1], color=FAINT, lw=0.8, ls=":")
    at = operating_point(result.cases, limit)
    kind = "threshold" if limit.promised_rate is not None else "best F1"
    axes.plot(*at, "o", ms=5, mfc="white", mec=INK, mew=1.4, clip_on=False, label=kind)
    axes.set(
        xlabel="good parts called defective",
        ylabel="defects found",
        title=_plain(result.category),
        aspect="equal",
        xlim=(0, 1),
        ylim=(0, 1.005),
    )
    axes.legend(loc="lower right")
    return figure


def _comparison(results: Sequence[CategoryResult]) -> Figure:
    """One row a category, one mark a figure; a figure that a category lacks has no mark."""
    figure, axes = _empty(5, 1.1 + 0.28 * len(results))
    rows = np.arange(len(results))
    named = [name for name in _COMPARED if name in figure_names(results)]
    for name, mark, colour in zip(named, "osD", (LINE, GOOD, BAD), strict=False):
        shares = _percents(result.figures.get(name) for result in results)
        axes.plot(shares, rows, mark, color=colour, ms=5, alpha=0.85, label=heading(name))
    axes.set_yticks(rows, [_plain(result.category) for result in results])
    axes.set_ylim(len(results) - 0.5, -0.5)
    axes.grid(axis="x", color=FAINT, alpha=0.35, lw=0.6)
    axes.set(xlabel="percent")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _curves(protocol: Mapping[str, Any]) -> list[tuple[str, Figure]]:
    """Mean figures over the levels of each protocol that has any."""
    curves = {name: protocol[name] for name in ("shots", "noise", "continual") if name in protocol}
    named = {**curves, **protocol.get("corruption", {})}
    return [(f"protocol.{name}", _curve(name, curve)) for name, curve in named.items()]


def _curve(name: str, curve: Mapping[str, Any]) -> Figure:
    """Levels at equal steps, since they seldom are; bars show one deviation over seeds."""
    figure, axes = _empty(4.4, 3)
    points = curve["points"]
    at = np.arange(len(points))
    for figure_name, colour in zip(_COMPARED, (LINE, GOOD, BAD), strict=True):
        means = _percents(point["mean"].get(figure_name) for point in points)
        if np.isnan(means).all():
            continue
        # A single seed has no deviation, and no bar.
        bars = np.nan_to_num(_percents(point["std"].get(figure_name) for point in points))
        label = heading(figure_name)
        axes.errorbar(at, means, bars, fmt="o-", color=colour, ms=4, capsize=2, label=label)
    axes.set_xticks(at, ["none" if p["level"] is None else f"{p['level']:g}" for p in points])
    axes.set(xlabel=_plain(curve["unit"]), ylabel="percent", title=_plain(name))
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def _percents(values: Iterable[float | None]) -> NDArray[np.float64]:
    """Shares in percent, NaN where there is none."""
    return np.array([np.nan if value is None else 100 * value for value in values], np.float64)


def _plain(name: str) -> str:
    """A name that matplotlib takes as it is: a dollar sign would begin a formula."""
    return name.replace("$", r"\$")
