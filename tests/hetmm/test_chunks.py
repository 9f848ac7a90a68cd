"""Banks in scratch files against banks in memory, and how banks grow and shrink."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from blemish.errors import BlemishError, ParameterError
from blemish.hetmm import HETMM, bank, chunks
from blemish.hetmm.bank import TileBank
from blemish.hetmm.chunks import BankBuilder, ChunkedBank, ScratchBlock, ScratchFile
from blemish.hetmm.matching import mutual_match

KINDS = [TileBank, ChunkedBank]


def unit(*shape: int, seed: int = 0) -> Tensor:
    """Unit vectors [N, C, H, W]."""
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def match(query: Tensor, bank: TileBank, **rest: Tensor) -> Tensor:
    """Both distances, [2, B, H, W]."""
    return torch.stack(mutual_match(query, bank, forward=5, backward=3, **rest))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of three sheets, so that few sheets make several."""
    monkeypatch.setattr(bank, "BLOCK_SHEETS", 3)
    monkeypatch.setattr(bank, "MERGE_SHEETS", 2)


@settings(deadline=None, max_examples=20)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(1, 5)),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    st.integers(0, 2**20),
)
def test_chunked_equals_unchunked(shape: tuple, dtype: torch.dtype, seed: int) -> None:
    """The same sheets give the same distances, bit by bit, from memory or from files."""
    sheets, query = unit(shape[0], 6, *shape[1:], seed=seed), unit(2, 6, *shape[1:], seed=seed + 1)
    memory, files = (kind.from_sheets(sheets, dtype) for kind in KINDS)
    assert all(isinstance(block, ScratchBlock) for block in files.blocks)
    assert torch.equal(match(query, files), match(query, memory))
    assert torch.equal(files.sheets_tensor(), memory.sheets_tensor())


@pytest.mark.usefixtures("small_blocks")
def test_blocks_change_nothing() -> None:
    """Many small blocks give the distances of one, also with a sheet left out."""
    sheets, query = unit(8, 6, 5, 7), unit(2, 6, 5, 7, seed=1)
    several = TileBank.from_sheets(sheets)
    assert len(several.blocks) == 3
    for exclude in (torch.tensor([-1, -1]), torch.tensor([7, 0])):
        expected = [
            match(
                query[i : i + 1], TileBank.from_sheets(sheets[[k for k in range(8) if k != left]])
            )
            for i, left in enumerate(exclude.tolist())
        ]
        torch.testing.assert_close(match(query, several, exclude=exclude), torch.cat(expected, 1))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", KINDS)
def test_extended_and_without(kind: type[TileBank]) -> None:
    """Adding and removing sheets gives the sheets one expects, and leaves the old bank alone."""
    sheets = unit(9, 4, 5, 3)
    first = kind.from_sheets(sheets[:4])
    more = first.extended(sheets[4:5]).extended(sheets[5:])
    assert isinstance(more, kind)
    assert torch.equal(more.sheets_tensor(), sheets)
    assert torch.equal(first.sheets_tensor(), sheets[:4])
    fewer = more.without(4).without(0).without(6)
    assert torch.equal(fewer.sheets_tensor(), sheets[[1, 2, 3, 5, 6, 7]])
    assert more.sheets == 9
    added = more.extended(sheets[:1])
    assert float(match(sheets[:1], added).abs().max()) < 1e-5


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", KINDS)
def test_a_removed_source_gives_way_to_another(kind: type[TileBank]) -> None:
    """Without a sample, a bank of prototypes matches as with that sample left out."""
    sheets, query = unit(7, 4, 5, 3), unit(1, 4, 5, 3, seed=1)
    sources = torch.stack([torch.randperm(9).reshape(1, 9)[:, :7] for _ in range(15)], 2)
    sources = sources[0].reshape(7, 5, 3).int()
    full = kind.from_sheets(sheets, sources=sources)
    for sample in (0, 4, 8):
        fewer = full.without(sample)
        expected = match(query, full, exclude=torch.tensor([sample]))
        torch.testing.assert_close(match(query, fewer), expected, atol=1e-6, rtol=0)
        left = fewer.sources_tensor()
        assert left is not None
        numbers = sorted(set(sources.unique().tolist()) - {sample})
        moved = [number - (number > sample) for number in numbers]
        assert set(left.unique().tolist()) <= set(moved)


@pytest.mark.parametrize("kind", KINDS)
def test_an_added_prototype_goes_as_it_came(kind: type[TileBank]) -> None:
    """A sheet added to prototypes with one source is gone, slot and all, once that is removed."""
    sheets, sources = unit(3, 4, 3, 3), torch.tensor([0, 2, 1]).int().expand(3, 3, 3)
    before = kind.from_sheets(sheets[:2], sources=sources.permute(2, 0, 1)[:2])
    after = before.extended(sheets[2:], sources=torch.full((1, 3, 3), 7)).without(7)
    assert torch.equal(after.sheets_tensor(), before.sheets_tensor())
    assert torch.equal(after.sources_tensor(), before.sources_tensor())


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_added_or_removed(kind: type[TileBank]) -> None:
    """Unknown samples, the last vector, other shapes and missing sources are errors that say so."""
    sheets = unit(1, 2, 3, 3)
    plain = kind.from_sheets(sheets)
    sourced = kind.from_sheets(sheets, sources=torch.zeros(1, 3, 3))
    with pytest.raises(ParameterError, match="the last sheet cannot be removed"):
        plain.without(0)
    with pytest.raises(ParameterError, match="there is no sample 1"):
        plain.without(1)
    with pytest.raises(ParameterError, match="some pixels have no other"):
        sourced.without(0)
    with pytest.raises(ParameterError, match="the new sheets are 2x3x4, the templates' 2x3x3"):
        plain.extended(unit(1, 2, 3, 4))
    with pytest.raises(ParameterError, match="give all or none"):
        sourced.extended(sheets)


def test_scratch_files_go_with_their_blocks() -> None:
    """The file is closed, and so deleted, when no bank holds its block any longer."""
    held = ChunkedBank.from_sheets(unit(2, 3, 4, 4))
    (block,) = held.blocks
    assert isinstance(block, ScratchBlock)
    file = block.file._file
    del block
    assert not file.closed
    del held
    gc.collect()
    assert file.closed


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written is one sentence that names the folder and the way out."""
    scratch = ScratchFile()

    class Full:
        def write(self, _: object) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(scratch, "_file", Full())
    with pytest.raises(BlemishError, match=r"No space left on device.*TMPDIR"):
        scratch.append(torch.zeros(3))


@pytest.mark.parametrize("memory", [None, 1])
def test_builder_keeps_order_and_sources(memory: int | None) -> None:
    """Batches of any size become the sheets in their order, on either side of the limit."""
    sheets, sources = unit(150, 32, 9, 9), torch.arange(150)[:, None, None].expand(-1, 9, 9)
    builder = BankBuilder(150, dtype=torch.float32, memory=memory)
    for start in range(0, 150, 40):
        part = slice(start, start + 40)
        builder.add([sheets[part], sheets[part]], [sources[part], None])
    first, second = builder.banks()
    assert isinstance(first, ChunkedBank) == (memory is not None)
    assert torch.equal(first.sheets_tensor(), sheets)
    assert torch.equal(second.sheets_tensor(), sheets)
    assert torch.equal(first.sources_tensor(), sources)
    assert second.sources_tensor() is None


@pytest.mark.parametrize("selection", ["spaced", "kcenter"])
def test_a_limited_detector_gives_the_same_maps(
    selection: str, good_images: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fitted under a limit it exceeds, a detector's maps are those of one without a limit."""
    options = {"backbone": "random:resnet18", "sheets": 5, "selection": selection}
    free = HETMM(**options).fit(good_images[:8])
    monkeypatch.setattr(chunks, "MEBIBYTE", 1 << 16)  # the sheets of these images are small
    limited = HETMM(**options, memory=1).fit(good_images[:8])
    assert any(isinstance(level, ChunkedBank) for level in limited.banks_)
    batch = torch.from_numpy(good_images[9]).permute(2, 0, 1)[None]
    torch.testing.assert_close(limited.anomaly_maps(batch), free.anomaly_maps(batch))


MEASURE = """
import resource, torch
from blemish.hetmm.chunks import BankBuilder
from blemish.hetmm.matching import mutual_match
torch.set_num_threads(1)
def batch():
    return torch.randn(2, 64, 64, 64)
warm = BankBuilder(2, dtype=torch.float16, memory=8)
warm.add([batch()], [None])
mutual_match(batch()[:1], warm.banks()[0], forward=5, backward=3)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
builder = BankBuilder(400, dtype=torch.float16, memory=8)
for _ in range(200):
    builder.add([batch()], [None])
(bank,) = builder.banks()
mutual_match(batch()[:1], bank, forward=5, backward=3)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_memory_stays_near_the_limit() -> None:
    """200 MiB of sheets under a limit of 8 MiB are fitted and matched in 48 MiB more at most."""
    run = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=False, timeout=200
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 48 * 1024


def test_default_limit_is_none() -> None:
    """Without a limit every bank is in memory, however large."""
    assert chunks.bank_type(1 << 50, None) is TileBank
    assert chunks.bank_type(1 << 20, 1) is TileBank
    assert chunks.bank_type((1 << 20) + 1, 1) is ChunkedBank
