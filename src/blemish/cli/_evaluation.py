"""How `blemish evaluate` reads its protocols' options, and the tables it prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from blemish.cli._output import check_output
from blemish.errors import MissingExtraError, ParameterError

if TYPE_CHECKING:
    from blemish.evaluation.protocols import Evaluation, Plan
    from blemish.evaluation.results import CategoryResult

Number = TypeVar("Number", int, float)

HEADINGS = {
    "image_auroc": "image AUROC",
    "image_ap": "AP",
    "image_f1max": "F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "AP",
    "aupro": "AUPRO",
    "spro": "sPRO",
}
SPREAD = ("image_auroc", "pixel_auroc", "aupro", "spro")  # a protocol's table: mean +- deviation


def read_plan(
    *,
    seed: int,
    seeds: str | None,
    shots: Sequence[str],
    noise: Sequence[str],
    continual: int | None,
    continual_start: int | None,
    corrupt: Sequence[str],
) -> Plan:
    """The plan that these options describe; `seeds` is a number of them or a list."""
    from blemish.evaluation.protocols import Plan, parse_corruptions

    chosen: tuple[int, ...] = (seed,)
    if seeds is not None:
        chosen = numbers([seeds], int, "--seeds")
        if "," not in seeds:
            if chosen[0] < 1:
                raise ParameterError(f"--seeds {seeds}: give at least one seed")
            chosen = tuple(range(seed, seed + chosen[0]))
    return Plan(
        seeds=chosen,
        shots=numbers(shots, int, "--shots"),
        noise=numbers(noise, float, "--noise"),
        continual=continual or 0,
        continual_start=continual_start,
        corruptions=parse_corruptions(corrupt),
    )


def numbers(texts: Sequence[str], kind: Callable[[str], Number], option: str) -> tuple[Number, ...]:
    """Numbers from a repeatable option whose values may be lists, each number once."""
    try:
        found = [kind(part) for text in texts for part in text.split(",")]
    except ValueError as error:
        raise ParameterError(
            f"{option} {' '.join(texts)}: give numbers, separated by commas"
        ) from error
    return tuple(dict.fromkeys(found))


def check_pages(report: Path | None, plots: Path | None) -> None:
    """Raise before long work when a report or plots could not be made after it."""
    check_output(report, "--report")
    if plots is not None and plots.exists() and not plots.is_dir():
        raise ParameterError(f"--plots {plots}: this is a file; give a folder")
    needed = {"jinja2": report or plots, "matplotlib": plots}
    for package, option in needed.items():
        if option is not None and find_spec(package) is None:
            raise MissingExtraError(
                f"--report and --plots need the package '{package}', which is not installed; "
                "install it with: pip install 'blemish[train]'"
            )


def tables(evaluation: Evaluation) -> str:
    """Everything for a terminal: the categories, then each protocol."""
    document = evaluation.protocol()
    parts = [_categories(evaluation.results, evaluation.mean)]
    if "seeds" in document:
        parts.append(_seeds(document["seeds"]))
    curves = {name: document[name] for name in ("shots", "noise", "continual") if name in document}
    curves |= document.get("corruption", {})
    parts += [_curve(name, found) for name, found in curves.items()]
    return "\n\n".join(parts)


def _categories(results: Sequence[CategoryResult], mean: dict[str, float | None]) -> str:
    names = [name for name in HEADINGS if name in mean]
    headings = ["category", "train", "test", *(HEADINGS[name] for name in names)]
    rows = [
        [
            result.category,
            str(result.n_train),
            str(result.n_test),
            *(_percent(result.figures.get(name)) for name in names),
            f"{result.fit_seconds:.1f}",
            f"{result.latency_ms['p50']:.0f}",
            f"{result.latency_ms['p95']:.0f}",
            "-" if result.peak_rss_mb is None else f"{result.peak_rss_mb:.0f}",
        ]
        for result in results
    ]
    if len(results) > 1:
        rows.append(["mean", "", "", *(_percent(mean[name]) for name in names), *[""] * 4])
    lines = [_aligned([*headings, "fit s", "p50 ms", "p95 ms", "MB"], rows)]
    for result in results:
        if (counted := result.false_alarms) is not None:
            lines.append(
                f"{result.category}: at a false-alarm rate of {counted.rate:g}, "
                f"{counted.rejected} of {counted.good} good parts rejected, "
                f"{counted.escaped} of {counted.defective} defective ones passed"
            )
    return "\n".join(lines)


def _seeds(document: dict[str, Any]) -> str:
    names = [name for name in HEADINGS if name in document["mean"]]
    rows = [[row["category"], *_spread(row, names)] for row in document["categories"]]
    if len(rows) > 1:
        rows.append(["mean", *_spread(document, names)])
    title = f"{len(document['seeds'])} seeds"
    return _aligned([title, *(HEADINGS[name] for name in names)], rows)


def _curve(protocol: str, document: dict[str, Any]) -> str:
    points = document["points"]
    names = [name for name in SPREAD if name in points[0]["mean"]]
    rows = [[_level(row["level"]), *_spread(row, names), _alarms(row)] for row in points]
    headings = [protocol, *(HEADINGS[name] for name in names), "rejected, passed"]
    if not any(row[-1] for row in rows):
        headings, rows = headings[:-1], [row[:-1] for row in rows]
    return f"{protocol}: {document['unit']}\n{_aligned(headings, rows)}"


def _alarms(row: dict[str, Any]) -> str:
    """Good parts rejected and defective ones passed, of all categories and seeds."""
    runs = [run for category in row["categories"] for run in category["runs"]]
    counts = [run["false_alarms"] for run in runs if "false_alarms" in run]
    if not counts or len(counts) < len(runs):
        return ""
    total = {name: sum(count[name] for count in counts) for name in counts[0]}
    return f"{total['rejected']}/{total['good']} good, {total['escaped']}/{total['defective']} bad"


def _spread(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    deviations = [row["std"][name] for name in names]
    return [
        _percent(row["mean"][name]) + ("" if deviation is None else f" ± {100 * deviation:.2f}")
        for name, deviation in zip(names, deviations, strict=True)
    ]


def _level(level: float | None) -> str:
    return "untouched" if level is None else f"{level:g}"


def _aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    return "\n".join(
        "  ".join(
            [cells[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        )
        for cells in [headings, *rows]
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
