"""HETMM's template set as named tensors for the bundle, and back, bit by bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.features import precision_dtype
from blemish.hetmm.bank import TileBank
from blemish.hetmm.chunks import ChunkedBank, bank_type, block_sheets
from blemish.hetmm.free import FreeBank

Bank = TileBank | FreeBank | None  # None: the level is off

_NAMES = ("level", "sources", "places", "components", "shape")


def storage_dtype(precision: str) -> torch.dtype:
    """What sheets are kept as in this precision.

    NumPy, and so the line floor, has no bfloat16: half-precision sheets are float16 from the
    start, which makes a saved and loaded set equal to the fitted one, bit by bit.
    """
    return torch.float32 if precision == "float32" else torch.float16


def template_tensors(
    levels: Sequence[int], banks: Sequence[Bank], precision: str
) -> dict[str, npt.NDArray[np.generic]]:
    """The levels' banks as named tensors: `level1`, `sources1`..."""
    found = {}
    for level, bank in zip(levels, banks, strict=True):
        if bank is None:
            continue
        tensors: Mapping[str, Tensor | None]
        if isinstance(bank, FreeBank):
            tensors = bank.state()
        else:
            sheets = bank.sheets_tensor().to(storage_dtype(precision))
            tensors = {"level": sheets, "sources": bank.sources_tensor()}
        for name, tensor in tensors.items():
            if tensor is not None:
                found[f"{name}{level}"] = tensor.cpu().numpy()
    return found


def template_banks(
    templates: Mapping[str, Any],
    levels: Sequence[int],
    *,
    on: Sequence[int],
    free: Sequence[int],
    precision: str,
    memory: int | None,
    device: torch.device,
) -> list[Bank]:
    """What `template_tensors` gave, as banks; `on` and `free` are positions in `levels`."""
    banks: list[Bank] = []
    for index, level in enumerate(levels):
        if index not in on:
            banks.append(None)
            continue
        found = {
            name: torch.from_numpy(templates[f"{name}{level}"]).to(device)
            for name in _NAMES
            if f"{name}{level}" in templates
        }
        if index in free:
            banks.append(FreeBank.from_state(found))
        else:
            sheets, sources = found["level"], found.get("sources")
            banks.append(_tile_bank(sheets, sources, len(levels), precision, memory))
    return banks


def _tile_bank(
    sheets: Tensor, sources: Tensor | None, levels: int, precision: str, memory: int | None
) -> TileBank:
    if sources is not None:
        sources = sources.int()
    # Each level gets an even share of the limit: what the others take is not known here.
    dtype = precision_dtype(precision)
    total = levels * sheets.numel() * dtype.itemsize
    kind = bank_type(total, memory)
    bank = kind.from_sheets(sheets[:0], dtype, sources=None if sources is None else sources[:0])
    a_sheet = total // max(1, len(sheets))
    block = block_sheets(a_sheet, memory if kind is ChunkedBank else None)
    for start in range(0, len(sheets), block):
        part = slice(start, start + block)
        bank = bank.extended(sheets[part], sources=None if sources is None else sources[part])
    return bank
