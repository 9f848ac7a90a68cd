"""What a SOURCE may be: folders, lists, Parquet, and names that nobody would choose."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blemish.errors import ImageError, NoImagesError, ParameterError
from blemish.scale import score, work
from blemish.scale.sources import WorkList, listed
from blemish.scale.storage import Place

from .scale_tools import positions, rows_of


@pytest.fixture
def images(parts: Path) -> list[Path]:
    """Four good images."""
    return sorted((parts / "test" / "good").iterdir())


def run(bundle: Path, source: Any, out: Path) -> list[dict[str, Any]]:
    """Score a source here, in parts of three; its rows."""
    score(bundle, source, out, workers=1, device="cpu", rows_per_part=3, batch=2)
    return rows_of(out)


def scores(rows: list[dict[str, Any]]) -> list[float]:
    """The score of each row."""
    return [row["score"] for row in rows]


# Lists ----------------------------------------------------------------------------------


def test_a_list_with_a_missing_file(bundle: Path, images: list[Path], tmp_path: Path) -> None:
    """A line that leads nowhere is a row with the error; the others are scored, twice if named so.

    Paths are relative to the list; blank lines, CR LF and a byte order mark are no names.
    """
    lines = [os.path.relpath(images[0], tmp_path), "", "gone.png", str(images[1]), str(images[1])]
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    rows = run(bundle, tmp_path / "list.txt", tmp_path / "out")
    assert [row["id"] for row in rows] == [lines[0], "gone.png", lines[3], lines[4]]
    assert [row["error_code"] for row in rows] == [None, "image_missing", None, None]
    assert rows[0]["image"] == str(images[0])
    assert rows[2]["score"] == rows[3]["score"]
    assert [row["position"] for row in rows] == [0, 1, 2, 3]


def test_lines_that_are_no_addresses_are_rows(
    bundle: Path, images: list[Path], tmp_path: Path
) -> None:
    """Protocols that do not exist, folders, a null character: each is that image's error alone."""
    lines = [str(images[0]), "nonsense://x/y.png", str(tmp_path), "a\0b.png", "memory://no/x.png"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    rows = run(bundle, tmp_path / "list.txt", tmp_path / "out")
    assert [row["error_code"] for row in rows] == [
        None,
        "image",
        "image_format",
        "image_missing",
        "image_missing",
    ]
    assert "'nonsense' is no protocol" in rows[1]["error_message"]


def test_a_file_that_is_nothing_of_this_is_refused(tmp_path: Path) -> None:
    """Binary data under an unknown name is not taken for a list."""
    (tmp_path / "data.bin").write_bytes(b"\x00\xff\xfe\x80" * 100)
    with pytest.raises(ParameterError, match="neither an image, nor Parquet, nor a list"):
        listed(Place.of(tmp_path / "data.bin"))


def test_an_empty_list_names_no_image(tmp_path: Path) -> None:
    """Only blank lines are no source."""
    (tmp_path / "list.txt").write_text("\n  \n")
    with pytest.raises(NoImagesError, match="names no image"):
        listed(Place.of(tmp_path / "list.txt"))


# Folders --------------------------------------------------------------------------------


def test_hostile_names(bundle: Path, images: list[Path], tmp_path: Path) -> None:
    """Names with spaces, newlines, umlauts and bytes that are no text are read and told."""
    folder = tmp_path / "a b"
    folder.mkdir()
    names = [b"1 one.png", b"2\nline.png", "3ü.png".encode(), b"4\xff.png", b"5#%41?.png"]
    for name in names:
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).write_bytes(images[0].read_bytes())
    rows = run(bundle, folder, tmp_path / "out")
    assert [row["id"] for row in rows] == [
        "1 one.png",
        "2\nline.png",
        "3ü.png",
        "4\\udcff.png",
        "5#%41?.png",
    ]
    assert len(set(scores(rows))) == 1


def test_a_folder_of_both_kinds_is_refused(tmp_path: Path, images: list[Path]) -> None:
    """Images beside Parquet could be either source; nothing is guessed."""
    (tmp_path / "a.png").write_bytes(images[0].read_bytes())
    pq.write_table(pa.table({"path": ["a.png"]}), tmp_path / "a.parquet")
    with pytest.raises(ParameterError, match="holds both images and Parquet"):
        listed(Place.of(tmp_path))


def test_results_lying_inside_the_source_are_not_images(
    bundle: Path, images: list[Path], tmp_path: Path
) -> None:
    """Hidden files and those that begin with `_` are no data, as Spark and Arrow see it."""
    (tmp_path / "in" / "_old").mkdir(parents=True)
    (tmp_path / "in" / "a.png").write_bytes(images[0].read_bytes())
    pq.write_table(pa.table({"path": ["a.png"]}), tmp_path / "in" / "_old" / "x.parquet")
    assert listed(Place.of(tmp_path / "in")).ids == ["a.png"]


# Parquet --------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["path", "image"])
def test_parquet_of_paths(bundle: Path, images: list[Path], tmp_path: Path, column: str) -> None:
    """A column of paths, with names of its own in `id`, gives what the files give."""
    table = pa.table({column: [str(path) for path in images], "id": [7, 8, 9, 10]})
    pq.write_table(table, tmp_path / "t.parquet")
    rows = run(bundle, tmp_path / "t.parquet", tmp_path / "out")
    assert [row["id"] for row in rows] == ["7", "8", "9", "10"]
    assert scores(rows) == scores(run(bundle, images[0].parent, tmp_path / "folder"))


@pytest.mark.parametrize("group", [1, 2, 100])
def test_parquet_of_bytes(bundle: Path, images: list[Path], tmp_path: Path, group: int) -> None:
    """Encoded images in two files, however their row groups lie across the parts of the results."""
    data = [path.read_bytes() for path in images]
    (tmp_path / "in").mkdir()
    first = pa.table({"bytes": [*data[:2], None, b"junk", data[2]]})
    pq.write_table(first, tmp_path / "in" / "a.parquet", row_group_size=group)
    pq.write_table(pa.table({"bytes": data[3:]}), tmp_path / "in" / "b.parquet")
    rows = run(bundle, tmp_path / "in", tmp_path / "out")
    assert [row["id"] for row in rows] == [*(f"a.parquet#{n}" for n in range(5)), "b.parquet#0"]
    assert [row["error_code"] for row in rows] == [
        None,
        None,
        "image_empty",
        "image_format",
        None,
        None,
    ]
    wanted = scores(run(bundle, images[0].parent, tmp_path / "folder"))
    assert [score for score in scores(rows) if score is not None] == wanted
    assert positions(tmp_path / "out") == list(range(6))


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (pa.table({"picture": ["x"]}), "none of the columns 'path', 'image'"),
        (pa.table({"bytes": ["text"]}), "has string in its column 'bytes'"),
        (pa.table({"bytes": pa.array([], pa.binary())}), "names no image"),
    ],
)
def test_parquet_without_images_is_refused(tmp_path: Path, table: pa.Table, match: str) -> None:
    """A table that has no image says which columns it should have."""
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises((ParameterError, NoImagesError), match=match):
        listed(Place.of(tmp_path / "t.parquet"))


def test_a_file_that_only_claims_to_be_parquet(tmp_path: Path) -> None:
    """A damaged table is named."""
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ParameterError, match=r"t\.parquet is not a readable Parquet file"):
        listed(Place.of(tmp_path / "t.parquet"))


# Reading ahead --------------------------------------------------------------------------


def test_no_more_is_read_ahead_than_asked(
    images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many images a part has, only so many wait in memory: this is the back-pressure."""
    read: list[str] = []

    def fetch(place: Place, _: int) -> bytes:
        read.append(place.address)
        if place.address.endswith("/7"):
            raise ImageError("seven")
        return place.address.encode()

    monkeypatch.setattr(work, "fetch", fetch)
    items = [work.Item(n, str(n), Place(f"/{n}")) for n in range(50)]
    stream = work.loaded(items, "images", ahead=4, max_pixels=1)
    for count, (item, data) in enumerate(stream, start=1):
        assert item.position == count - 1
        assert len(read) <= count + 4
        assert isinstance(data, ImageError) if count == 8 else data == f"/{count - 1}".encode()
    assert len(read) == 50


def test_a_long_list_is_frozen_and_read_by_parts(tmp_path: Path) -> None:
    """A hundred thousand names: each part gives its own, the last one what is left."""
    found = WorkList(
        ids=[f"n{n}" for n in range(100_000)],
        places=[f"/data/{n}.png" for n in range(100_000)],
        rows=[None] * 100_000,
    )
    work.freeze(found, 999, Place.of(tmp_path))
    frozen = work.FrozenList(Place.of(tmp_path))
    assert [item.position for item in frozen.part(3, 999)] == list(range(2997, 3996))
    assert frozen.part(100, 999)[-1].place.address == "/data/99999.png"
    assert len(frozen.part(100, 999)) == 100
