"""Sets in scratch files against sets in memory, and what becomes of the files."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hetmm_tools import RAW, Floats, by_pixel, fitted_with, level_of, matcher, sheet_set, unit
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.detectors.hetmm import learning, restoring, vectors
from blemish.detectors.hetmm.templates import TemplateSet
from blemish.detectors.hetmm.vectors import (
    MemoryVectors,
    ScratchFile,
    ScratchVectors,
    SheetStore,
    bands,
    make_vectors,
)
from blemish.errors import BlemishError


@pytest.fixture
def tiny_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mebibyte of four bytes, and bands of a few pixels: small sets go to files, in pieces."""
    monkeypatch.setattr(restoring, "MEBIBYTE", 4)
    monkeypatch.setattr(learning, "MEBIBYTE", 4)
    monkeypatch.setattr(vectors, "BAND_BYTES", 300)


def in_file(sheets: Floats, **settings: object) -> TemplateSet:
    """A set of sheets [N, C, H, W] in a scratch file, whose changes go there too."""
    values = by_pixel(sheets)
    made = make_vectors(values.shape, lambda start, stop: values[start:stop], 0)
    return TemplateSet(level_of(sheets, **settings), made, None, 0)


@settings(deadline=None, max_examples=20)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(1, 5)),
    st.integers(1, 400),
    st.integers(0, 2**20),
)
def test_a_file_equals_memory(shape: tuple, band_bytes: int, seed: int) -> None:
    """The same sheets give the same distances, bit by bit, from memory or from files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "BAND_BYTES", band_bytes)
        sheets, query = unit(shape[0], 6, *shape[1:], seed=seed), unit(1, 6, *shape[1:])[0]
        memory, file = sheet_set(sheets), in_file(sheets)
        assert isinstance(file.vectors, ScratchVectors)
        found = file.distances(matcher(), query)
        np.testing.assert_array_equal(found, memory.distances(matcher(), query))
        np.testing.assert_array_equal(file.state()["level"], memory.state()["level"])


@pytest.mark.usefixtures("tiny_limits")
@pytest.mark.parametrize("sourced", [False, True])
def test_a_changed_set_stays_in_a_file(sourced: bool) -> None:
    """Adding and removing give the vectors of a set in memory, and never bring it all there."""
    sheets, more = unit(6, 4, 5, 3), unit(2, 4, 5, 3, seed=1)
    rng = np.random.default_rng(0)
    sources = np.stack([rng.permutation(9)[:6] for _ in range(15)]).astype(np.int32)
    own = sources if sourced else None
    memory = TemplateSet(level_of(sheets), MemoryVectors(by_pixel(sheets)), own)
    file = TemplateSet(level_of(sheets), in_file(sheets).vectors, own, 0)
    for change in (
        lambda made: made.extended(more, np.array([9, 10])),
        lambda made: made.without(2),
        lambda made: made.extended(more, np.array([9, 10])).without(0).without(4),
    ):
        one, other = change(memory), change(file)
        assert isinstance(one.vectors, MemoryVectors)
        assert isinstance(other.vectors, ScratchVectors)
        for name, values in one.state().items():
            np.testing.assert_array_equal(other.state()[name], values)


@pytest.mark.usefixtures("tiny_limits")
def test_leaving_out_and_single_pixels_from_a_file() -> None:
    """A left-out sample and a pixel's vectors are read from the file as from memory."""
    sheets, query = unit(5, 6, 4, 7), unit(1, 6, 4, 7, seed=1)[0]
    memory, file = sheet_set(sheets), in_file(sheets)
    found = file.distances(matcher(), query, 3)
    np.testing.assert_array_equal(found, memory.distances(matcher(), query, 3))
    for one, other in zip(file.at(3, 6), memory.at(3, 6), strict=True):
        np.testing.assert_array_equal(one, other)


def test_scratch_files_go_with_their_sets() -> None:
    """The file is closed, and so deleted, when no set holds it any longer."""
    made = in_file(unit(2, 3, 4, 4))
    assert isinstance(made.vectors, ScratchVectors)
    file, held = made.vectors.file._file, [made]
    del made
    gc.collect()
    assert not file.closed
    held.clear()
    gc.collect()
    assert file.closed


def test_no_file_is_left_in_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever ends the process: the file has no name in the folder while it is in use."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = in_file(unit(2, 3, 4, 4))
    if sys.platform != "win32":
        assert list(tmp_path.iterdir()) == []
    del made
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written is one sentence that names the folder and the way out."""
    scratch = ScratchFile()

    class Full:
        def seek(self, *_: object) -> None:
            """Anywhere is as good."""

        def write(self, _: object) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(scratch, "_file", Full())
    with pytest.raises(BlemishError, match=r"templates'.*No space left on device.*TMPDIR"):
        scratch.append(np.zeros(3))


def test_a_file_that_was_cut_off_is_said() -> None:
    """Bytes that are gone are an error, never zeros."""
    scratch = ScratchFile()
    scratch.append(np.arange(6, dtype=np.float32))
    np.testing.assert_array_equal(scratch.read(8, (2, 2)), [[2, 3], [4, 5]])
    with pytest.raises(BlemishError, match="cut off"):
        scratch.read(8, (5,))


@pytest.mark.parametrize("limit", [0, 3 * 4 * 35 * 4, 1 << 30], ids=["file", "both", "memory"])
def test_a_store_keeps_order_on_either_side_of_its_limit(limit: int) -> None:
    """Sheets taken in one by one come back by bands of pixels, from memory or a file or both."""
    sheets = unit(8, 4, 5, 7)
    store = SheetStore(limit)
    for sheet in sheets:
        store.append(sheet)
    assert len(store) == 8
    assert store.shape == (35, 4)
    wanted = sheets.reshape(8, 4, 35).transpose(2, 0, 1)  # [P, N, C]
    for start, stop in [(0, 35), (3, 4), (30, 35)]:
        np.testing.assert_array_equal(store.band(start, stop), wanted[start:stop])
    assert sum(rows.nbytes for rows in store._kept) <= limit


def test_bands_cover_all_pixels_once() -> None:
    """Runs follow one another, each within the limit unless it is a single pixel."""
    for pixels, size in [(1, 1), (100, 1 << 20), (7, 1 << 40), (0, 4)]:
        runs = list(bands(pixels, size))
        assert [pixel for start, stop in runs for pixel in range(start, stop)] == list(
            range(pixels)
        )
        assert all(stop - start == 1 or (stop - start) * size <= 16 << 20 for start, stop in runs)


def test_default_limit_is_none() -> None:
    """Without a limit every set is in memory, however large; at the limit it still is."""

    def band(start: int, stop: int) -> Floats:
        return np.zeros((stop - start, 5, 7), np.float32)

    assert isinstance(make_vectors((3, 5, 7), band, None), MemoryVectors)
    assert isinstance(make_vectors((3, 5, 7), band, 4 * 3 * 5 * 7), MemoryVectors)
    assert isinstance(make_vectors((3, 5, 7), band, 4 * 3 * 5 * 7 - 1), ScratchVectors)


@pytest.mark.usefixtures("tiny_limits")
@pytest.mark.parametrize("selection", ["spaced", "kcenter"])
def test_a_limited_detector_gives_the_same_maps(
    selection: str, good_images: list[np.ndarray]
) -> None:
    """Fitted under a limit it exceeds, a detector's maps are those of one without a limit."""
    options = {"sheets": 5, "selection": selection, **RAW}
    free = fitted_with(good_images[:8], **options)
    limited = fitted_with(good_images[:8], memory=3, **options)
    assert all(isinstance(own.vectors, ScratchVectors) for own in limited.sets_)
    probe = good_images[9:]
    np.testing.assert_array_equal(limited.maps(probe), free.maps(probe))
    more = limited.added(limited.sheets_of(probe, [0]), 1)
    assert all(isinstance(own.vectors, ScratchVectors) for own in more.sets_)
    assert more.maps(probe).max() < 1e-5
    np.testing.assert_array_equal(
        more.removed([8 if selection == "kcenter" else 5]).maps(probe), free.maps(probe)
    )


@pytest.mark.usefixtures("tiny_limits")
def test_a_limited_detector_measures_the_same(good_images: list[np.ndarray]) -> None:
    """Under the default settings too: sheets lie in a file, and what was measured is the same."""
    free, limited = (fitted_with(good_images[:8], sheets=5, memory=m) for m in (None, 3))
    assert [isinstance(own.vectors, ScratchVectors) for own in limited.sets_] == [
        own.level.kind == "sheets" for own in limited.sets_
    ]
    probe = good_images[9:]
    np.testing.assert_array_equal(limited.maps(probe), free.maps(probe))
    more = limited.added(limited.sheets_of(probe, [0]), 1)
    np.testing.assert_array_equal(more.removed([8]).maps(probe), free.maps(probe))


# VmHWM is this process's own peak; getrusage's is inherited from the one that started it.
MEASURE = """
import re
from pathlib import Path
import numpy as np
from blemish.bundle import Level
from blemish.detectors.hetmm import vectors
from blemish.detectors.hetmm.matching import GraphMatcher, match_graph
from blemish.detectors.hetmm.templates import TemplateSet
rng = np.random.default_rng(0)
level = Level(number=1, kind="sheets", channels=64, height=64, width=64, features="level1",
              dtype="float32", forward=2, backward=1, alpha=0.5)
matcher = GraphMatcher(match_graph())
query = rng.standard_normal((64, 64, 64), np.float32)
def peak():
    return int(re.search(r"VmHWM:\\s+([0-9]+)", Path("/proc/self/status").read_text())[1])
def band(count):
    return lambda start, stop: rng.standard_normal((stop - start, 64, count), np.float32)
warm = TemplateSet(level, vectors.make_vectors((4096, 64, 16), band(16), 8 << 20), None, 8 << 20)
more = rng.standard_normal((1, 64, 64, 64))
warm.extended(more, np.array([16])).distances(matcher, query)
before = peak()
own = TemplateSet(level, vectors.make_vectors((4096, 64, 200), band(200), 8 << 20), None, 8 << 20)
more = rng.standard_normal((1, 64, 64, 64))
own.extended(more, np.array([200])).distances(matcher, query)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a peak so")
def test_memory_stays_near_the_limit() -> None:
    """200 MiB of sheets under a limit of 8 MiB are made, changed and matched in 64 MiB more."""
    run = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=False, timeout=200
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 64 * 1024


def test_threads_share_a_file() -> None:
    """Several threads read bands of one file at once, each what it asked for."""
    from concurrent.futures import ThreadPoolExecutor

    made = in_file(unit(3, 4, 6, 6)).vectors
    whole = made.band(0, 36)
    read: Callable[[int], Floats] = lambda start: made.band(start, start + 4)  # noqa: E731
    with ThreadPoolExecutor(4) as pool:
        for start, found in zip(range(32), pool.map(read, range(32)), strict=True):
            np.testing.assert_array_equal(found, whole[start : start + 4])
