"""The line that closes a run of the tests: what was skipped, and how to run it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import skips

HERE = Path(__file__).parent
REASONS = {
    "station/served.py": "Chromium",
    "conftest.py": "PostgreSQL",
    "station/mosquitto.py": "Mosquitto",
    "station/test_line_tls.py": "openssl",
    "test_compare.py": "shared folder",
}


@pytest.mark.parametrize(("file", "lacks"), REASONS.items())
def test_what_a_test_lacks_is_told_with_its_remedy(file: str, lacks: str) -> None:
    """The reasons that tests give are known to the line, which names the way out."""
    said = re.findall(r"skip\(f?\"([^\"]+)\"", (HERE / file).read_text())
    reason = next(each for each in said if lacks in each)
    line = skips.told([f"Skipped: {reason}"] * 2)
    assert re.fullmatch(r"2 tests skipped: 2 for want of .+ \((apt-get|set) .+\)", line)


def test_what_is_told_counts_all() -> None:
    """The commonest want comes first, and what no one can get is counted too."""
    no_browser = "Skipped: there is no Chromium at /usr/bin/chromium"
    assert skips.told([no_browser, "Skipped: this machine has a camera", no_browser]) == (
        "3 tests skipped: 2 for want of a browser (apt-get install chromium), "
        "1 for want of what this system has not (see above)"
    )
