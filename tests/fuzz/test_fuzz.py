"""A short run of the fuzzer on every change, and that it notices what it is there to notice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def fuzz(*options: object) -> subprocess.CompletedProcess[str]:
    """Run it on the bundles that are made fast."""
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--quick", *map(str, options)],
        cwd=ROOT,
        env={**os.environ, "BLEMISH_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks and limits memory")


@needs_fork
def test_nothing_comes_of_damaged_and_hostile_inputs() -> None:
    """800 images, manifests, tensors and packed bundles: no crash, hang, wrong verdict or leak."""
    done = fuzz("--inputs", 800, "--seed", 4)
    assert done.returncode == 0, done.stdout
    assert "800 inputs" in done.stdout
    assert "0 findings" in done.stdout


@needs_fork
@pytest.mark.parametrize("trap", ["crash", "memory", "error"])
def test_what_must_not_happen_is_noticed(trap: str) -> None:
    """A crash, memory beyond the limit and a stray exception are found, and the rest goes on."""
    done = fuzz("--inputs", 12, "--trap", trap)
    assert done.returncode == 1, done.stderr
    assert f"1 x {trap}, " in done.stdout
    assert "12 inputs" in done.stdout
