"""CONTRIBUTING.md is true: its recipes run as printed, and what they make works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blemish.detectors import METHODS
from blemish.evaluation.datasets import LOADERS
from blemish.inspector import Inspector
from common import Outcome

ROOT = Path(__file__).resolve().parents[1]
RECIPE = re.compile(r"<!-- recipe: (\w+) -->\n```python\n(.*?)```", re.DOTALL)
RECIPES = dict(RECIPE.findall((ROOT / "CONTRIBUTING.md").read_text()))


def run(recipe: str) -> dict[str, Any]:
    """Run a recipe's code; gives the names that it defines."""
    names: dict[str, Any] = {"__name__": f"recipe_{recipe}"}
    exec(compile(RECIPES[recipe], f"CONTRIBUTING.md, {recipe}", "exec"), names)
    return names


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, or fail."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_every_python_block_is_a_recipe_that_a_test_runs() -> None:
    """No code stands in the document that nothing runs."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert text.count("```python") == len(RECIPES)
    assert set(RECIPES) == {"detector", "dataset", "stream", "intake", "sink"}


PLUGIN = """
import re, sys
from pathlib import Path

text = Path({document!r}).read_text()
exec(compile({code!r}, "CONTRIBUTING.md", "exec"), globals())

def pytest_collection_modifyitems(items):
    sys.modules["test_detector_contract"].FACTORIES["nearest"] = Nearest
"""


@pytest.mark.slow
def test_the_detector_passes_the_contract(tmp_path: Path) -> None:
    """Registered as the recipe says, the toy passes every test that a detector has to pass."""
    plugin = PLUGIN.format(document=str(ROOT / "CONTRIBUTING.md"), code=RECIPES["detector"])
    (tmp_path / "toy_detector.py").write_text(plugin)
    paths = [str(tmp_path), *sys.path]
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "toy_detector", "-p", "no:cacheprovider",
            "-k", "nearest", "tests/test_detector_contract.py", f"--basetemp={tmp_path / 'base'}",
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert re.search(r"\b(2[5-9]|[3-9]\d) passed", done.stdout), done.stdout[-500:]


def test_the_detector_is_a_method_of_the_command_line(
    monkeypatch: pytest.MonkeyPatch, parts: Path, tmp_path: Path, cli: Callable[..., Outcome]
) -> None:
    """`fit --method nearest` and `inspect` know it, with its options."""
    monkeypatch.setitem(METHODS, "nearest", METHODS["hetmm"])  # and taken away at the end
    run("detector")
    bundle = tmp_path / "part.blemish"
    good = parts / "train" / "good"
    fitted = cli("fit", good, "-o", bundle, "--method", "nearest", "--size", 64, "--set", "sigma=1")
    assert fitted.status == 0, fitted.stderr
    assert Inspector.load(bundle).detector.parameters()["sigma"] == 1
    outcome = cli("inspect", bundle, good / "000.png", "--json", "-")
    assert '"verdict"' in outcome.stdout
    refused = cli("fit", good, "-o", bundle, "--method", "nearest", "--set", "colour=red")
    assert "colour" in refused.stderr


def test_the_dataset_is_evaluated(
    monkeypatch: pytest.MonkeyPatch, parts: Path, tmp_path: Path, cli: Callable[..., Outcome]
) -> None:
    """`evaluate --dataset lids` runs the protocol on it."""
    monkeypatch.setitem(LOADERS, "lids", LOADERS["folder"])
    run("dataset")
    (tmp_path / "check").mkdir()
    (tmp_path / "fit").symlink_to(parts / "train" / "good")
    for image in parts.glob("test/*/*.png"):
        kind = "ok" if image.parent.name == "good" else "ng"
        shutil.copy(image, tmp_path / "check" / f"{kind}-{image.parent.name}-{image.name}")
    options = ("--size", 64, "--sheets", 4, "--backbone", "filterbank")
    outcome = cli("evaluate", "--dataset", "lids", "--root", tmp_path, *options, "--json", "-")
    assert outcome.status == 0, outcome.stderr
    assert '"lids"' in outcome.stdout
    assert '"image_auroc": null' not in outcome.stdout


def test_the_source_of_frames_is_inspected(fitted: Inspector, good_images: Any) -> None:
    """Each picture of the source has a verdict, in order."""
    pictures = [(image * 255).astype("uint8") for image in good_images[:3]]
    found = run("stream")["verdicts"](fitted, pictures)
    assert found == [fitted.inspect(picture).verdict for picture in pictures]


def test_source_and_sink_of_ones_own_work_in_a_station(quick_bundle: Path, tmp_path: Path) -> None:
    """Parts from the source are on record once, and their results reach the sink."""
    pytest.importorskip("fastapi", reason="the extra `station` is not installed")
    from blemish.demo.parts import render
    from blemish.errors import ParameterError
    from blemish.imaging import encode_png
    from blemish.station.core import Station
    from blemish.station.inspecting import Part
    from blemish.station.settings import read_settings
    from blemish.station.sinks import dead_letters

    shutil.copytree(quick_bundle, tmp_path / "board.blemish")
    lines: list[str] = []
    data = [encode_png(render(seed, size=64).image) for seed in range(2)]
    scans = [("a1", data[0]), ("a2", data[1]), ("a1", data[0])]
    station = Station(read_settings(tmp_path, name="line-1", device="cpu"))
    run("sink")["with_printer"](station, lines)
    run("intake")["with_scanner"](station, scans)
    with pytest.raises(ParameterError, match="a sink is called 'labels' already"):
        run("sink")["with_printer"](station, lines)
    with station:
        until(lambda: not scans and len(lines) == 2)
        entry = next(one for one in station.health() if one.name == "scanner")
        assert entry.counts["recorded"] == 2
        assert entry.counts["repeated"] == 1
        station.inspecting.inspect(Part("board", data[0]))  # without a number
        until(lambda: dead_letters(station.database))
    assert [line.split()[0] for line in lines] == ["a1", "a2"]
