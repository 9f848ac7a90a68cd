"""The demo's page: one HTML file that shows every inspected part, and opens without a network.

Pictures are embedded, the chart is inline SVG, there is no script, and a content security
policy forbids the browser to fetch anything.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path

from blemish.demo.histogram import histogram_svg
from blemish.errors import ParameterError

VERDICTS = ("pass", "review", "fail")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One inspected part."""

    name: str
    """What the part is called: a file name, or a path inside its folder."""
    image_jpeg: bytes
    """The picture that was inspected, as a JPEG (or PNG) file's bytes."""
    overlay_jpeg: bytes
    """The same picture with its anomaly map and outlines over it."""
    score: float
    """Raw anomaly score, higher is worse."""
    verdict: str
    """One of VERDICTS."""
    p_value: float | None = None
    """Share of good parts expected to score at least as high; None if not calibrated."""
    mask_png: bytes | None = None
    """The true outline of the defect, if known."""
    kind: str | None = None
    """The true kind, say "scratch" or "good", if known."""
    is_defective: bool | None = None
    """The truth, if known."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was done, in figures."""

    method: str
    """The method's name, say "HETMM"."""
    backbone: str
    """The backbone's name, say "filterbank"."""
    n_fitted: int
    """How many good parts it learned from."""
    fit_seconds: float
    """How long learning and calibrating took."""
    threshold: float
    """The score above which a part fails."""
    false_alarm_rate: float | None = None
    """The promised share of good parts that fail; None if nothing is promised."""
    image_auroc: float | None = None
    """Image AUROC on the inspected parts, 0 to 1, where the truth is known."""
    ms_per_part: float | None = None
    """Milliseconds to inspect one part (median)."""
    machine: str | None = None
    """The hardware these times come from."""


@dataclass(frozen=True, kw_only=True)
class DemoPage:
    """All that the page shows; rows may come in any order."""

    title: str
    facts: Facts
    rows: Sequence[Row]


def write_page(path: Path | str, page: DemoPage) -> Path:
    """Write the page to `path` as one self-contained HTML file, and return the path.

    Raises ParameterError when there is no row, or a row that cannot be shown.
    """
    target = Path(path)
    text = _html(page)
    if target.is_dir():
        raise ParameterError(f"{target} is a folder; give a file name for the page.")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return target


def _html(page: DemoPage) -> str:
    if not page.rows:
        raise ParameterError("The page has no inspected part to show; inspect at least one image.")
    for row in page.rows:
        _check(row)
    css = resources.files("blemish.demo").joinpath("page.css").read_text(encoding="utf-8")
    title = escape(page.title)
    worst_first = sorted(page.rows, key=lambda row: row.score, reverse=True)
    cards = "\n".join(_card(row) for row in worst_first)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{css}</style>
</head>
<body>
<main>
<header>
<h1>{title}</h1>
<p class="lead">{_lead(page)}</p>
</header>
{_figures(page)}
<h2>Scores</h2>
{_scores(page)}
<h2>How it was done</h2>
<div class="pair">{_facts(page.facts)}{_kinds(page.rows)}</div>
<h2>Every part, worst first</h2>
<ol class="cards">
{cards}
</ol>
{_NEXT}
</main>
</body>
</html>
"""


def _lead(page: DemoPage) -> str:
    facts = page.facts
    return (
        f"{escape(facts.method)} learned from {facts.n_fitted} good parts and nothing else, then "
        f"inspected {len(page.rows)} parts that it had never seen."
    )


def _figures(page: DemoPage) -> str:
    """The few numbers that matter; those that need the truth only where it is known."""
    rows, facts = page.rows, page.facts
    defective = [row for row in rows if row.is_defective is True]
    good = [row for row in rows if row.is_defective is False]
    tiles = []
    if defective:
        tiles.append(("Defects found", *_not_passed(defective)))
    if good:
        tiles.append(("False alarms", *_not_passed(good)))
    if not defective and not good:
        for verdict, label in (("fail", "Failed"), ("review", "To review"), ("pass", "Passed")):
            count = sum(row.verdict == verdict for row in rows)
            tiles.append((label, f"{count} <small>of {len(rows)}</small>", ""))
    if facts.image_auroc is not None:
        note = "1 ranks every defect above every good part"
        tiles.append(("Image AUROC", f"{facts.image_auroc:.3f}", note))
    if facts.ms_per_part is not None:
        tiles.append(("Time per part", f"{facts.ms_per_part:.0f} <small>ms</small>", "median"))
    inner = "".join(
        f'<div><dt>{label}</dt><dd class="value">{value}</dd><dd class="note">{note}</dd></div>'
        for label, value, note in tiles
    )
    return f'<dl class="figures">{inner}</dl>'


def _not_passed(rows: Iterable[Row]) -> tuple[str, str]:
    verdicts = [row.verdict for row in rows]
    fail, review = verdicts.count("fail"), verdicts.count("review")
    return (
        f"{fail + review} <small>of {len(verdicts)}</small>",
        f"{fail} failed, {review} sent to review",
    )


def _scores(page: DemoPage) -> str:
    rows, threshold = page.rows, page.facts.threshold
    bad = [row.score for row in rows if row.is_defective is True]
    good = [row.score for row in rows if row.is_defective is False]
    if len(good) + len(bad) == len(rows):
        chart = histogram_svg(good, bad, threshold)
    else:  # some truth is missing: show all scores alike rather than a part of them
        chart = histogram_svg([row.score for row in rows], [], threshold, labels=("inspected", ""))
    rate = page.facts.false_alarm_rate
    promise = "" if rate is None else (
        f" It was set on good parts alone, so that on average at most {100 * rate:.3g} % of good "
        "parts fail."
    )  # fmt: skip
    return (
        f'<figure class="sheet">{chart}<figcaption>A part fails when its score is above the '
        f"threshold.{promise}</figcaption></figure>"
    )


def _facts(facts: Facts) -> str:
    rate = facts.false_alarm_rate
    lines = [
        ("Learned from", f"{facts.n_fitted} good parts"),
        ("Method", facts.method),
        ("Backbone", facts.backbone),
        ("Time to learn", f"{facts.fit_seconds:.1f} s"),
        ("False-alarm rate", "not promised" if rate is None else f"{100 * rate:.3g} %"),
        ("Threshold", f"{facts.threshold:.4g}"),
    ]
    if facts.machine:
        lines.append(("Machine", facts.machine))
    body = "".join(
        f'<tr><th scope="row">{name}</th><td>{escape(value)}</td></tr>' for name, value in lines
    )
    return f'<div class="sheet"><table><tbody>{body}</tbody></table></div>'


def _kinds(rows: Sequence[Row]) -> str:
    """Verdicts by true kind; nothing when no kind is known."""
    kinds = sorted(
        {row.kind for row in rows if row.kind is not None}, key=lambda k: (k != "good", k)
    )
    if not kinds:
        return ""
    body = ""
    for kind in kinds:
        verdicts = [row.verdict for row in rows if row.kind == kind]
        counts = "".join(f"<td>{verdicts.count(verdict)}</td>" for verdict in VERDICTS)
        body += f'<tr><th scope="row">{escape(kind)}</th><td>{len(verdicts)}</td>{counts}</tr>'
    heads = "".join(
        f'<th scope="col">{head}</th>' for head in ("True kind", "Parts", "Pass", "Review", "Fail")
    )
    return (
        f'<div class="sheet"><table class="kinds"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _card(row: Row) -> str:
    name = escape(row.name)
    strip = _img(row.image_jpeg, f"{name}, as photographed")
    strip += _img(row.overlay_jpeg, f"{name}, with what deviates marked")
    if row.mask_png is not None:
        strip += _img(row.mask_png, f"{name}, the true outline in white")
    facts = [("Score", f"{row.score:.4g}")]
    if row.p_value is not None:
        facts.append(("p", f"{row.p_value:.3g}"))
    if row.kind is not None:
        facts.append(("Truth", escape(row.kind)))
    listed = "".join(f"<div><dt>{term}</dt><dd>{said}</dd></div>" for term, said in facts)
    return (
        f'<li class="card"><div class="strip">{strip}</div><div class="text">'
        f'<div class="top"><h3>{name}</h3>{_badge(row.verdict)}</div>'
        f"<dl>{listed}</dl>{_mistake(row)}</div></li>"
    )


def _mistake(row: Row) -> str:
    if row.is_defective is True and row.verdict == "pass":
        return '<p class="wrong">Escape: this defect was passed.</p>'
    if row.is_defective is False and row.verdict != "pass":
        return '<p class="wrong">False alarm: this part is good.</p>'
    return ""


_ICONS = {
    "pass": "M3 8.5l3.2 3.2L13 4.8",
    "review": "M8 3v6M8 12.6v.1",
    "fail": "M4 4l8 8M12 4l-8 8",
}


def _badge(verdict: str) -> str:
    icon = f'<svg viewBox="0 0 16 16" aria-hidden="true"><path d="{_ICONS[verdict]}"/></svg>'
    return f'<span class="badge {verdict}">{icon}{verdict}</span>'


def _img(data: bytes, alt: str) -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    text = base64.b64encode(data).decode("ascii")
    return f'<img alt="{alt}" decoding="async" src="data:image/{kind};base64,{text}">'


def _check(row: Row) -> None:
    if row.verdict not in VERDICTS:
        raise ParameterError(
            f"{row.name} has the verdict {row.verdict!r}; the page shows {', '.join(VERDICTS)}."
        )
    if not math.isfinite(row.score):
        raise ParameterError(f"{row.name} has the score {row.score}; give a finite number.")


_NEXT = """<h2>What next</h2>
<p>The same on your own parts: one folder of good pictures, one of pictures to inspect.</p>
<pre><code>make demo GOOD=parts/good TEST=parts/new</code></pre>
<p>Or step by step: learn, set the false-alarm rate, inspect.</p>
<pre><code>blemish fit parts/good -o part.blemish
blemish calibrate part.blemish --false-alarm-rate 0.01
blemish inspect part.blemish parts/new --out overlays</code></pre>
<p class="note">A backbone with ImageNet weights finds more than the embedded one:
<code>blemish weights list</code> shows what is there.</p>"""
