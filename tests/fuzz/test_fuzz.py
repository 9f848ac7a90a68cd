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
    """500 images, manifests, tensors and packed bundles: no crash, hang, wrong verdict or leak."""
    done = fuzz("--inputs", 500, "--seed", 4)
    assert done.returncode == 0, done.stdout
    assert "500 inputs" in done.stdout
    assert "0 findings" in done.stdout


@needs_fork
def test_what_must_not_happen_is_noticed() -> None:
    """A crash, memory beyond the limit and a stray exception are found, and the rest goes on."""
    done = fuzz("--inputs", 12, "--trap", "crash,memory,error")
    assert done.returncode == 1, done.stderr
    assert all(f"1 x {trap}, " in done.stdout for trap in ("crash", "memory", "error"))
    assert "12 inputs" in done.stdout
    assert "3 findings" in done.stdout
