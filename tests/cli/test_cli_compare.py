"""`blemish compare` and `blemish explain` on the command line: output, pictures, exit status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest


@pytest.fixture
def images(parts: Path) -> tuple[Path, Path]:
    """A good made-up board and a flawed one."""
    good = sorted((parts / "test" / "good").iterdir())[0]
    flawed = next(
        path for path in sorted((parts / "test").glob("*/*.png")) if path.parent != good.parent
    )
    return good, flawed


def test_compare_prints_one_object_an_image(
    cli: Callable[..., Any], images: tuple[Path, Path], tmp_path: Path
) -> None:
    """The contract's keys and the golden image; exit 1 because one fails; overlays where asked."""
    good, flawed = images
    done = cli("compare", good, good, flawed, "--threshold", 0.2, "--out", tmp_path / "out")
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    keys = "image score p_value threshold review_threshold verdict reason regions inspector version"
    assert list(first) == [*keys.split(), "latency_ms", "golden"]
    assert (first["reason"], second["reason"]) == (None, None)
    assert (first["verdict"], second["verdict"]) == ("pass", "fail")
    assert (first["p_value"], first["threshold"]) == (None, 0.2)
    assert second["regions"]
    assert done.status == 1
    assert cv2.imread(str(tmp_path / "out" / flawed.name)).shape == (64, 64, 3)


def test_compare_with_itself_passes(
    cli: Callable[..., Any], images: tuple[Path, Path], tmp_path: Path
) -> None:
    """Exit status 0, and the JSON goes to the file that was named."""
    target = tmp_path / "result.jsonl"
    done = cli("compare", images[0], images[0], "--json", target)
    assert done.status == 0
    assert json.loads(target.read_text())["score"] < 1e-4
    assert "1 pass" in done.stderr


def test_compare_goes_on_after_an_image_it_cannot_read(
    cli: Callable[..., Any], images: tuple[Path, Path], tmp_path: Path
) -> None:
    """An unreadable image is an error object, the next is still compared; exit status 2."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    done = cli("compare", images[0], broken, images[0])
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["verdict"], second["verdict"], done.status) == ("error", "pass", 2)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--threshold", "0"), "give a number above 0"),
        (("--set", "nothing=1"), "has no 'nothing'"),
        (("--out", __file__), "this is a file"),
    ],
)
def test_compare_refuses_wrong_options(
    cli: Callable[..., Any], images: tuple[Path, Path], options: tuple[str, ...], told: str
) -> None:
    """Each wrong option is one sentence and exit status 2."""
    refused = cli("compare", *images, *options)
    assert refused.status == 2
    assert told in refused.stderr


def test_explain_names_the_templates(
    cli: Callable[..., Any], bundle: Path, images: tuple[Path, Path], tmp_path: Path
) -> None:
    """JSON tells for each place what matched; pictures are the map, the evidence and the sheet."""
    folder = tmp_path / "pictures"
    flawed = images[1]
    done = cli("explain", bundle, flawed, "-o", folder, "--json", "-", "--at", "10,20", "-q")
    assert done.status == 0
    report = json.loads(done.stdout)
    (place,) = report["explained"]
    assert (place["at"], place["view"], place["box"]) == ([10, 20], [10, 20], None)
    assert len(place["witnesses"]) == 6
    sources = {witness["source"] for witness in place["witnesses"]}
    assert all(source.endswith(".png") for source in sources)
    names = {path.name.removeprefix(f"{flawed.stem}.") for path in folder.iterdir()}
    assert names == {"anomaly.png", "evidence_1.png", "sheet.png"}


def test_explain_looks_into_the_regions(
    cli: Callable[..., Any], bundle: Path, images: tuple[Path, Path]
) -> None:
    """Without --at, each region of the result is explained at its peak."""
    report = json.loads(cli("explain", bundle, images[1], "--json", "-").stdout)
    assert len(report["explained"]) == min(5, max(1, len(report["regions"])))
    for place, region in zip(report["explained"], report["regions"], strict=False):
        assert place["box"] == region["box"]
        assert place["value"] == pytest.approx(region["peak"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "--output DIR for pictures, --json FILE|-, or both"),
        (("--json", "-", "--at", "5"), "give a pixel as X,Y"),
        (("--json", "-", "--at", "64,0"), "the image is 64 x 64 pixels"),
    ],
)
def test_explain_refuses_wrong_questions(
    cli: Callable[..., Any],
    bundle: Path,
    images: tuple[Path, Path],
    options: tuple[str, ...],
    told: str,
) -> None:
    """No place for an answer, or a pixel that is none, is one sentence and exit status 2."""
    refused = cli("explain", bundle, images[1], *options)
    assert refused.status == 2
    assert told in refused.stderr
