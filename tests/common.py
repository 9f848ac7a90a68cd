"""What tests in several folders import: made-up parts as arrays, and what a command left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blemish.demo.parts import render

SIZE = 64  # px: the side of the view in all tests on made-up parts


def picture(seed: int, defect: str | None = None) -> np.ndarray:
    """One made-up part as a detector sees it."""
    return (render(seed, defect, size=SIZE).image / 255).astype(np.float32)


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit status and what it printed."""

    status: int
    stdout: str
    stderr: str
