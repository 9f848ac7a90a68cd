"""The Triton kernel against the torch path, run by Triton's interpreter where there is no GPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from blemish.errors import ParameterError
from blemish.hetmm.bank import TileBank
from blemish.hetmm.matching import mutual_match

pytest.importorskip("triton", reason="Triton is not installed")

# The interpreter is chosen when triton is imported, so it needs a process of its own.
COMPARE = """
import os
import torch
from torch.nn.functional import normalize
from blemish.hetmm import matching
from blemish.hetmm.bank import TileBank

def unit(*shape):
    return normalize(torch.randn(*shape), dim=1)

torch.manual_seed(0)
cases = [
    ((5, 4), (5, 3), "float32", 1e-5),
    ((3, 7), (1, 1), "float32", 1e-5),
    ((4, 4), (3, 0), "float16", 1e-3),
    ((1, 3), (0, 5), "float16", 1e-3),
]
ways = [(False, None), (False, torch.tensor([3, -1])), (True, torch.tensor([-1, 2]))]
for size, windows, name, close in cases:
    sheets, query = unit(19, 70, *size), unit(2, 70, *size)
    sources = torch.randint(5, (19, *size), dtype=torch.int32)
    for sourced, exclude in ways:
        own = sources if sourced else None
        bank = TileBank.from_sheets(sheets, getattr(torch, name), sources=own).extended(
            sheets[:17].flip(1), sources=None if own is None else own[:17]
        )
        assert len(bank.blocks) == 2
        answers = []
        for way in ("torch", "triton"):
            os.environ["BLEMISH_MATCHING"] = way
            answers.append(matching.mutual_match(
                query, bank, forward=windows[0], backward=windows[1], exclude=exclude
            ))
        for a, b in zip(*answers, strict=True):
            torch.testing.assert_close(a, b, atol=close, rtol=0)
        assert float(sum(a.sum() for a in answers[1])) > 1
print("agree")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Triton runs on Linux")
def test_kernel_equals_the_torch_path() -> None:
    """Odd maps, both windows, either off, two blocks, sheets left out: the same distances."""
    done = subprocess.run(
        [sys.executable, "-c", COMPARE],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "agree"


def test_an_unknown_way_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """BLEMISH_MATCHING takes three words, and the message names them."""
    monkeypatch.setenv("BLEMISH_MATCHING", "cuda")
    bank = TileBank.from_sheets(torch.ones(1, 1, 2, 2))
    with pytest.raises(ParameterError, match="it must be auto, torch or triton"):
        mutual_match(torch.ones(1, 1, 2, 2), bank, forward=1, backward=1)
