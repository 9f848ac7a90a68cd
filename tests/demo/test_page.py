"""The page: one file, no network, every part on it, and its numbers counted right."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from blemish.demo.histogram import histogram_svg
from blemish.demo.page import DemoPage, Facts, Row, write_page
from blemish.errors import ParameterError

JPEG = b"\xff\xd8\xff\xe0picture"
PNG = b"\x89PNG\r\n\x1a\nmask"
VOID = {"meta", "img"}


def _row(name: str, score: float, verdict: str, defective: bool | None = None) -> Row:
    kind = None if defective is None else ("scratch" if defective else "good")
    return Row(
        name=name,
        image_jpeg=JPEG,
        overlay_jpeg=JPEG,
        mask_png=PNG if defective else None,
        score=score,
        p_value=0.5,
        verdict=verdict,
        kind=kind,
        is_defective=defective,
    )


FACTS = Facts(
    method="HETMM",
    backbone="filterbank",
    n_fitted=40,
    fit_seconds=12.34,
    threshold=1.5,
    false_alarm_rate=0.05,
    image_auroc=0.875,
    ms_per_part=42.4,
)
ROWS = (
    _row("good/0.png", 0.5, "pass", False),
    _row("good/1.png", 1.6, "fail", False),
    _row("scratch/0.png", 3.0, "fail", True),
    _row("scratch/1.png", 1.4, "review", True),
    _row("scratch/2.png", 0.6, "pass", True),
)


class _Reader(HTMLParser):
    """Collects tags and text, and checks that every tag is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.words.append(data)


def _read(tmp_path, rows=ROWS, facts=FACTS, title="Demo") -> tuple[str, _Reader, str]:
    path = write_page(tmp_path / "out" / "page.html", DemoPage(title=title, facts=facts, rows=rows))
    text = path.read_text(encoding="utf-8")
    reader = _Reader()
    reader.feed(text)
    assert reader.open == []
    return text, reader, re.sub(r"\s+", " ", "".join(reader.words))


def test_the_page_needs_nothing_but_itself(tmp_path) -> None:
    """No script, no link, no address but embedded data, and a policy that forbids fetching."""
    text, reader, _ = _read(tmp_path)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in reader.tags}
    sources = [attrs["src"] for _, attrs in reader.tags if "src" in attrs]
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert "url(" not in text
    assert set(re.findall(r"https?://[^\"<\s]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text


def test_pictures_are_embedded_unchanged(tmp_path) -> None:
    """Each picture's bytes come back from its data address, typed by what they are."""
    _, reader, _ = _read(tmp_path)
    data = [attrs["src"] for tag, attrs in reader.tags if tag == "img"]
    kinds = [(src.split(";")[0], base64.b64decode(src.split(",")[1])) for src in data]
    assert kinds.count(("data:image/jpeg", JPEG)) == 10
    assert kinds.count(("data:image/png", PNG)) == 3


def test_every_picture_and_table_is_said_in_words(tmp_path) -> None:
    """Images have alt texts that name the part; header cells have a scope; verdicts are words."""
    _, reader, _ = _read(tmp_path)
    alts = [attrs.get("alt") or "" for tag, attrs in reader.tags if tag == "img"]
    assert len(set(alts)) == len(alts) == 13
    assert all(any(row.name in alt for row in ROWS) for alt in alts)
    assert all("scope" in attrs for tag, attrs in reader.tags if tag == "th")
    badges = [attrs["class"] for tag, attrs in reader.tags if "badge" in (attrs.get("class") or "")]
    assert sorted(badge.split()[1] for badge in badges) == sorted(row.verdict for row in ROWS)


def test_found_defects_and_false_alarms_are_counted(tmp_path) -> None:
    """What is not passed counts as found, or as a false alarm, by the truth of the part."""
    _, _, words = _read(tmp_path)
    assert "Defects found2 of 31 failed, 1 sent to review" in words
    assert "False alarms1 of 21 failed, 0 sent to review" in words
    assert words.count("Escape:") == 1
    assert words.count("False alarm:") == 1
    assert "0.875" in words
    assert "42 ms" in words


def test_the_worst_part_comes_first(tmp_path) -> None:
    """Cards are ordered by score, highest first, whatever the order of the rows."""
    text, _, _ = _read(tmp_path)
    names = re.findall(r"<h3>(.*?)</h3>", text)
    assert names == [row.name for row in sorted(ROWS, key=lambda row: -row.score)]


def test_without_truth_the_page_counts_verdicts(tmp_path) -> None:
    """On a user's own parts nothing is said about found defects, AUROC or true kinds."""
    rows = [_row("a.png", 0.5, "pass"), _row("b.png", 2.0, "fail")]
    facts = replace(FACTS, image_auroc=None, ms_per_part=None, false_alarm_rate=None)
    _, _, words = _read(tmp_path, rows, facts)
    assert "Failed1 of 2" in words
    assert "not promised" in words
    for absent in ("Defects found", "False alarms", "AUROC", "True kind", "Truth", "Escape:"):
        assert absent not in words


def test_names_cannot_break_the_page(tmp_path) -> None:
    """A title or file name with markup is shown as text."""
    row = replace(ROWS[0], name='<img src=x onerror="a()">&.png', kind="<i>")
    _, reader, words = _read(tmp_path, [row], title="<script>1</script>")
    assert "<script>1</script>" in words
    assert row.name in words
    assert not {"script", "i"} & {tag for tag, _ in reader.tags}


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ([], "no inspected part"),
        ([replace(ROWS[0], verdict="error")], "verdict 'error'"),
        ([replace(ROWS[0], score=float("nan"))], "score nan"),
    ],
)
def test_a_page_that_cannot_be_shown_is_refused(tmp_path, rows, word) -> None:
    """An empty page, an unknown verdict or a score that is no number raises, and writes nothing."""
    with pytest.raises(ParameterError, match=word):
        _read(tmp_path, rows)
    assert not list(tmp_path.rglob("*.html"))


def test_a_folder_is_not_a_page(tmp_path) -> None:
    """A path that is a folder is refused in words."""
    with pytest.raises(ParameterError, match="is a folder"):
        write_page(tmp_path, DemoPage(title="Demo", facts=FACTS, rows=ROWS))


def _bars(svg: str, side: str) -> list[tuple[float, float]]:
    """(y, height) of each bar of one side."""
    tree = ET.fromstring(svg)
    found = [e for e in tree.iter() if e.get("class") == side]
    return [(float(e.get("y", "nan")), float(e.get("height", "nan"))) for e in found]


def test_the_histogram_draws_every_part_once() -> None:
    """Bar heights are in proportion to counts, at one scale on both sides of the axis."""
    good, bad = [1.0] * 6 + [1.5] * 3, [4.0] * 6
    svg = histogram_svg(good, bad, 2.0)
    up = sorted(height for _, height in _bars(svg, "good"))
    down = [height for _, height in _bars(svg, "bad")]
    assert up[1] == pytest.approx(2 * up[0], abs=0.2)
    assert down == [pytest.approx(up[1], abs=0.2)]
    axis = {round(y + height, 1) for y, height in _bars(svg, "good")}
    assert axis == {y for y, _ in _bars(svg, "bad")}


def test_the_histogram_says_itself_in_words() -> None:
    """The title gives counts, ranges, the threshold, and how many lie above it."""
    title = ET.fromstring(histogram_svg([1, 2], [1.5, 9], 1.75)).findtext(
        "{http://www.w3.org/2000/svg}title"
    )
    assert title is not None
    assert "2 good: 1 to 2, 1 above; 2 defective: 1.5 to 9, 1 above." in title
    assert "threshold is 1.75" in title


@pytest.mark.parametrize("threshold", [1.01, 5.0, 8.99, 1.0])
def test_the_threshold_stands_between_the_scores_it_parts(threshold) -> None:
    """No bar straddles the dashed line, and a score equal to the threshold is drawn below it."""
    tree = ET.fromstring(histogram_svg([0.0, 1.0], [9.0, 10.0], threshold))
    limit = next(float(e.get("x1", "nan")) for e in tree.iter() if e.get("class") == "limit")
    edges = {
        side: [
            (float(e.get("x", "nan")), float(e.get("x", "nan")) + float(e.get("width", "nan")))
            for e in tree.iter()
            if e.get("class") == side
        ]
        for side in ("good", "bad")
    }
    assert max(right for _, right in edges["good"]) < limit < min(left for left, _ in edges["bad"])


@pytest.mark.parametrize(
    ("good", "bad", "threshold"),
    [([1.0], [], None), ([], [2.0], 1.0), ([3.0, 3.0], [3.0], 3.0), ([-5e6], [2e6], 0.0)],
)
def test_odd_scores_still_make_a_picture(good, bad, threshold) -> None:
    """One score, equal scores, one side only and huge ranges all draw inside the frame."""
    svg = histogram_svg(good, bad, threshold)
    _, _, _, height = map(float, ET.fromstring(svg).get("viewBox", "").split())
    for y, tall in _bars(svg, "good") + _bars(svg, "bad"):
        assert y >= 0
        assert y + tall <= height
    assert "nan" not in svg


@pytest.mark.parametrize(
    ("good", "bad", "threshold"),
    [([], [], 1.0), ([1.0, float("nan")], [], 1.0), ([1.0], [], float("inf"))],
)
def test_scores_that_cannot_be_drawn_are_refused(good, bad, threshold) -> None:
    """No score, or one that is not finite, raises instead of drawing something else."""
    with pytest.raises(ParameterError):
        histogram_svg(good, bad, threshold)
