"""The report's tables as plain text cells: figures, defects, time and the threshold's outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from blemish.evaluation.metrics import auroc
from blemish.evaluation.report.curves import scores_of
from blemish.evaluation.results import Case, CategoryResult

NONE = "\N{EN DASH}"  # a figure that cannot be computed; the notes say why

HEADINGS = {
    "image_auroc": "Image AUROC",
    "image_ap": "Image AP",
    "image_f1max": "Image F1-max",
    "pixel_auroc": "Pixel AUROC",
    "pixel_ap": "Pixel AP",
    "pixel_f1max": "Pixel F1-max",
    "aupro": "AUPRO",
    "aupro_005": "AUPRO 5 %",
    "spro": "sPRO",
    "spro_logical": "sPRO logical",
    "spro_structural": "sPRO structural",
}


@dataclass(frozen=True)
class Table:
    """A caption, column heads, and rows whose first cell names them; `last` is a mean or total."""

    caption: str
    heads: list[str]
    rows: list[list[str]]
    last: list[str] = field(default_factory=list)


def heading(figure: str) -> str:
    """A figure's name for people."""
    return HEADINGS.get(figure, figure.replace("_", " "))


def percent(value: float | None) -> str:
    """A figure in percent to two decimals, or a dash."""
    return NONE if value is None else f"{100 * value:.2f}"


def figure_names(results: Sequence[CategoryResult]) -> list[str]:
    """Every figure that a category has or lacks, in the order they came."""
    return list(dict.fromkeys(name for result in results for name in result.figures))


def figures(results: Sequence[CategoryResult], mean: Mapping[str, float | None]) -> Table:
    """Each category's figures, and their mean where there are several."""
    names = figure_names(results)
    return Table(
        "Figures in percent, higher is better.",
        ["Category", *map(heading, names)],
        [[r.category, *(percent(r.figures.get(name)) for name in names)] for r in results],
        ["Mean", *(percent(mean.get(name)) for name in names)] if len(results) > 1 else [],
    )


def timing(results: Sequence[CategoryResult]) -> Table:
    """Images, seconds to learn, milliseconds an image, and memory."""
    marks = list(dict.fromkeys(mark for result in results for mark in result.latency_ms))
    return Table(
        "Time from file to verdict, one image at a time; memory is the process's peak so far.",
        ["Category", "Learned from", "Tested", "Fit s", "Calibrate s"]
        + [f"{mark} ms" for mark in marks]
        + ["Memory MB"],
        [
            [
                r.category,
                str(r.n_train),
                str(r.n_test),
                f"{r.fit_seconds:.1f}",
                NONE if r.calibrate_seconds is None else f"{r.calibrate_seconds:.1f}",
                *(f"{r.latency_ms[mark]:.1f}" if mark in r.latency_ms else NONE for mark in marks),
                NONE if r.peak_rss_mb is None else f"{r.peak_rss_mb:.0f}",
            ]
            for r in results
        ],
    )


def outcome(results: Sequence[CategoryResult]) -> Table | None:
    """What the calibrated thresholds did; None where nothing was calibrated."""
    counted = [(result.category, result.false_alarms) for result in results]
    rows = [
        [
            category,
            f"{found.rejected} of {found.good}",
            f"{found.escaped} of {found.defective}",
            f"{found.threshold:.4g}",
            f"{100 * found.rate:.3g} %",
        ]
        for category, found in counted
        if found is not None
    ]
    if not rows:
        return None
    heads = ["Category", "False alarms", "Escapes", "Threshold", "Promised rate"]
    return Table("Good parts rejected and defective ones passed.", heads, rows)


def defects(result: CategoryResult) -> Table:
    """One row a kind of defect: its images, what became of them, and its figures."""
    calibrated = result.false_alarms is not None
    names = [
        name
        for name in dict.fromkeys(name for own in result.defects.values() for name in own)
        if name in HEADINGS and name != "image_auroc"
    ]
    good = [case for case in result.cases if case.label == 0]
    rows = [_kind_row("good", good, calibrated, [NONE] * (1 + len(names)))] if good else []
    for kind in sorted({case.defect for case in result.cases if case.label == 1}):
        own = [case for case in result.cases if case.label == 1 and case.defect == kind]
        known = result.defects.get(kind, {})
        ranked = known["image_auroc"] if "image_auroc" in known else _auroc([*good, *own])
        cells = [percent(ranked), *(percent(known.get(name)) for name in names)]
        rows.append(_kind_row(kind, own, calibrated, cells))
    heads = ["Kind", "Images", *(["Failed"] if calibrated else []), "Median score"]
    heads += ["Image AUROC", *map(heading, names)]
    return Table("By kind of defect; each kind's figures are against the good parts.", heads, rows)


def _kind_row(kind: str, cases: Sequence[Case], calibrated: bool, figures: list[str]) -> list[str]:
    failed = sum(case.verdict == "fail" for case in cases)
    median = float(np.median([case.score for case in cases]))
    middle = [str(failed)] if calibrated else []
    return [kind, str(len(cases)), *middle, f"{median:.4g}", *figures]


def _auroc(cases: Sequence[Case]) -> float | None:
    return auroc(
        [0] * len(scores_of(cases, 0)) + [1] * len(scores_of(cases, 1)),
        scores_of(cases, 0) + scores_of(cases, 1),
    )


def protocols(protocol: Mapping[str, Any]) -> list[Table]:
    """One table a protocol, a row a level: the mean over categories, and its spread over seeds.

    `protocol` is what `Evaluation.protocol()` gives.
    """
    found = []
    if "seeds" in protocol:
        seeds = protocol["seeds"]
        caption = f"Mean and standard deviation over {len(seeds['seeds'])} seeds."
        found.append(_levels(caption, "Seeds", [({"level": _seed_text(seeds)} | seeds)]))
    curves = {name: protocol[name] for name in ("shots", "noise", "continual") if name in protocol}
    for name, curve in {**curves, **protocol.get("corruption", {})}.items():
        caption = f"{name.capitalize()}: by {curve['unit']}."
        found.append(_levels(caption, "Level", curve["points"]))
    return found


def _seed_text(seeds: Mapping[str, Any]) -> str:
    return ", ".join(str(seed) for seed in seeds["seeds"])


def _levels(caption: str, first: str, points: Sequence[Mapping[str, Any]]) -> Table:
    names = list(dict.fromkeys(name for point in points for name in point["mean"]))
    rows = [[_level(point["level"]), *(_spread(point, name) for name in names)] for point in points]
    return Table(caption, [first, *map(heading, names)], rows)


def _level(level: float | str | None) -> str:
    if level is None:
        return "untouched"
    return level if isinstance(level, str) else f"{level:g}"


def _spread(point: Mapping[str, Any], name: str) -> str:
    mean, deviation = point["mean"].get(name), point["std"].get(name)
    if mean is None or deviation is None:
        return percent(mean)
    return f"{percent(mean)} \N{PLUS-MINUS SIGN} {percent(deviation)}"
