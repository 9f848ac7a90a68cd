"""What stands on the report's page, category by category, and the writing of the file.

The page's look is the demo's (demo/page.css) with additions; Jinja2 escapes every text that
comes from a file name or a setting.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from blemish.demo.histogram import histogram_svg
from blemish.errors import ParameterError
from blemish.evaluation.report import facts, tables
from blemish.evaluation.report.cases import (
    Explain,
    Scale,
    Strip,
    choose,
    display_name,
    scale_of,
    strip_of,
)
from blemish.evaluation.report.charts import roc_svg
from blemish.evaluation.report.curves import (
    Limit,
    limit_of,
    operating_point,
    roc_of,
    scores_of,
)
from blemish.evaluation.report.tables import Table
from blemish.evaluation.results import Case, CategoryResult
from blemish.imaging import atomic_write

METHODS = {"hetmm": "HETMM", "tfanet": "TFA-Net"}


@dataclass(frozen=True)
class Figure:
    """One of the few numbers at the top."""

    name: str
    value: str
    unit: str
    note: str


@dataclass(frozen=True)
class Card:
    """One test image: its pictures, what the method said, and whether that was right."""

    name: str
    strip: Strip
    verdict: str  # empty where nothing was calibrated: nobody judged then
    facts: list[tuple[str, str]]
    mistake: str
    rank: str


@dataclass(frozen=True)
class Group:
    """Cards under one heading; a folded group opens on a click."""

    heading: str
    cards: list[Card]
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """One category."""

    anchor: str
    result: CategoryResult
    counts: tuple[int, int]  # good and defective test images
    histogram: Markup | None
    roc: Markup | None
    caption: str
    scale: str
    defects: Table | None
    groups: list[Group]


def write_report(
    path: str | Path,
    *,
    dataset: str,
    results: Sequence[CategoryResult],
    config: Mapping[str, Any],
    mean: Mapping[str, float | None],
    protocol: Mapping[str, Any] | None = None,
    explain: Explain | None = None,
) -> None:
    """Write one self-contained HTML file on the results of an evaluation.

    `config` is shown as it is (`method` also in the title); `protocol` is
    `Evaluation.protocol()`, shown as tables; `explain` gives more pictures of an image by name,
    which are shown for the worst cases. Raises ParameterError when there is no result, or the
    file cannot be written.
    """
    target = Path(path)
    if not results:
        raise ParameterError(f"--report {target}: there is no result to report on")
    if target.is_dir():
        raise ParameterError(f"--report {target}: this is a folder; give a file name")
    text = _html(dataset, results, config, mean, protocol or {}, explain)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(target, text.encode("utf-8"))
    except OSError as error:
        raise ParameterError(
            f"--report {target}: the file cannot be written ({error.strerror or error})"
        ) from error


def _html(
    dataset: str,
    results: Sequence[CategoryResult],
    config: Mapping[str, Any],
    mean: Mapping[str, float | None],
    protocol: Mapping[str, Any],
    explain: Explain | None,
) -> str:
    pages = Environment(
        loader=PackageLoader("blemish.evaluation.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    method = str(config.get("method", ""))
    sections = [
        _section(number, result, config, explain) for number, result in enumerate(results, start=1)
    ]
    return pages.get_template("report.html.j2").render(
        title=f"{METHODS.get(method, method) or 'Evaluation'} on {dataset}",
        css=Markup(_css()),
        lead=_lead(results),
        figures=_figures(results, mean),
        figure_table=tables.figures(results, mean),
        outcome=tables.outcome(results),
        protocols=tables.protocols(protocol),
        sections=sections,
        timing=tables.timing(results),
        facts=[
            ("Configuration", facts.configuration({"dataset": dataset, **config})),
            ("Machine", facts.machine()),
            ("Versions", facts.versions()),
        ],
        has_spro=any(name.startswith("spro") for name in tables.figure_names(results)),
    )


def _css() -> str:
    """The demo's style sheet, then the report's own."""
    shared = resources.files("blemish.demo").joinpath("page.css").read_text(encoding="utf-8")
    folder = resources.files("blemish.evaluation.report").joinpath("templates")
    return shared + folder.joinpath("report.css").read_text(encoding="utf-8")


def _lead(results: Sequence[CategoryResult]) -> str:
    learned, tested = sum(r.n_train for r in results), sum(r.n_test for r in results)
    said = f"Learned from {learned:,} good images and nothing else, tested on {tested:,} others"
    if len(results) > 1:
        said += f", in {len(results)} categories with one configuration"
    return said + "."


def _figures(results: Sequence[CategoryResult], mean: Mapping[str, float | None]) -> list[Figure]:
    note = f"mean of {len(results)} categories" if len(results) > 1 else results[0].category
    found = [
        Figure(tables.heading(name), tables.percent(mean.get(name)), "%", note)
        for name in ("image_auroc", "pixel_auroc", "aupro")
        if mean.get(name) is not None
    ]
    counted = [r.false_alarms for r in results if r.false_alarms is not None]
    if counted:
        bad, good = sum(c.defective for c in counted), sum(c.good for c in counted)
        caught = bad - sum(c.escaped for c in counted)
        rates = " or ".join(f"{100 * rate:.3g} %" for rate in sorted({c.rate for c in counted}))
        found += [
            Figure("Defects found", str(caught), f"of {bad}", "at the calibrated threshold"),
            Figure(
                "False alarms",
                str(sum(c.rejected for c in counted)),
                f"of {good}",
                f"promised: {rates} on average",
            ),
        ]
    paces = [r.latency_ms["p50"] for r in results if "p50" in r.latency_ms]
    if paces:
        pace = statistics.median(paces)
        found.append(Figure("Time per image", f"{pace:.0f}", "ms", "median, file to verdict"))
    return found


def _section(
    number: int, result: CategoryResult, config: Mapping[str, Any], explain: Explain | None
) -> Section:
    cases = result.cases
    good, bad = scores_of(cases, 0), scores_of(cases, 1)
    limit = limit_of(result)
    roc = roc_of(cases)
    point = operating_point(cases, limit) if roc is not None and limit is not None else None
    drawable = bool(cases) and all(map(math.isfinite, good + bad))
    scale = scale_of(result) if cases else None
    return Section(
        anchor=f"category-{number}",
        result=result,
        counts=(len(good), len(bad)),
        histogram=Markup(histogram_svg(good, bad, None if limit is None else limit.value))
        if drawable
        else None,
        roc=None if roc is None else Markup(roc_svg(roc, result.figures["image_auroc"], point)),
        caption=_caption(limit),
        scale="" if scale is None else _scale_text(scale, result),
        defects=tables.defects(result) if cases else None,
        groups=[] if scale is None else _groups(result, scale, config, explain),
    )


def _caption(limit: Limit | None) -> str:
    if limit is None:
        return "No threshold was calibrated."
    if limit.promised_rate is None:
        return (
            "No threshold was calibrated. The dashed line is where F1 is greatest on these very "
            "test images: nobody knows it beforehand, and nothing is promised."
        )
    return (
        "A part fails above the threshold. It was set on good parts alone, so that on average at "
        f"most {100 * limit.promised_rate:.3g} % of good parts fail."
    )


def _scale_text(scale: Scale, result: CategoryResult) -> str:
    level = f"{scale.level:.4g}"
    if result.false_alarms is not None:
        meant = f"the calibrated threshold of pixels, {level}"
    else:
        meant = f"{level}, which 95 % of the good test parts stay below"
    return (
        "All anomaly maps of this category share one colour scale, from "
        f"{scale.low:.3g} (black) to {scale.high:.3g} (bright); overlays outline what is above "
        f"{meant}."
    )


def _groups(
    result: CategoryResult, scale: Scale, config: Mapping[str, Any], explain: Explain | None
) -> list[Group]:
    shown = choose(result.cases)

    def cards(cases: Sequence[Case], more: Explain | None) -> list[Card]:
        return [_card(case, result, strip_of(case, scale, config, more)) for case in cases]

    groups = [
        Group("Hardest defects, lowest score first", cards(shown.missed, explain)),
        Group("Most suspicious good parts, highest score first", cards(shown.alarming, explain)),
        Group("The clearest cases", cards(shown.clear, None), folded=True),
    ]
    return [group for group in groups if group.cards]


def _card(case: Case, result: CategoryResult, strip: Strip) -> Card:
    calibrated = result.false_alarms is not None
    said = [("Truth", case.defect), ("Score", f"{case.score:.4g}")]
    if case.p_value is not None:
        said.append(("p", f"{case.p_value:.3g}"))
    height, width = case.image_size
    said += [
        ("Time", f"{case.latency_ms:.0f} ms"),
        ("Size", f"{width} \N{MULTIPLICATION SIGN} {height}"),
    ]
    mistake = ""
    if calibrated and case.label == 1 and case.verdict != "fail":
        mistake = "Escape: this defect was not rejected."
    if calibrated and case.label == 0 and case.verdict == "fail":
        mistake = "False alarm: this part is good."
    return Card(
        name=display_name(case),
        strip=strip,
        verdict=case.verdict if calibrated else "",
        facts=said,
        mistake=mistake,
        rank=_rank(case, result.cases),
    )


def _rank(case: Case, cases: Sequence[Case]) -> str:
    """Where the score stands among those of the other label: what AUROC counts."""
    others = scores_of(cases, 1 - case.label)
    if not others:
        return ""
    if case.label == 1:
        above = sum(score >= case.score for score in others)
        return f"{above or 'none'} of {len(others)} good parts scored as high"
    below = sum(score <= case.score for score in others)
    return f"{below or 'none'} of {len(others)} defective parts scored as low"
