"""No library that Blemish runs keeps or reports who uses it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RUN = """
import numpy as np
from blemish.detectors.hetmm.matching import GraphMatcher, match_graph
one = np.ones((1, 1), np.float32)
print(GraphMatcher(match_graph()).best(one, np.zeros((1, 1), np.int32), one[None]))
"""


def test_onnx_runtime_keeps_no_id_and_no_events(tmp_path: Path) -> None:
    """A home folder in which a graph was run is as empty as before."""
    hidden = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    own = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [sys.executable, "-B", "-c", RUN], env={**own, "HOME": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "[[1.]]\n"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
