"""A bundle as one file and back: the same bytes, checked names and sizes, whole or not at all."""

from __future__ import annotations

import io
import shutil
import stat
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np
import pytest

from blemish.bundle import (
    BackboneRecord,
    Draft,
    Manifest,
    TrainingRecord,
    pack,
    pack_bundle,
    packing,
    read_manifest,
    read_versions,
    store,
    unpack_bundle,
    write_versions,
)
from blemish.bundle.manifest import FORMAT, _digest
from blemish.errors import BundleError
from blemish.inspector import Inspector

MANIFEST = Manifest(
    name="board",
    version=1,
    created="2026-01-01T00:00:00+00:00",
    method="hetmm",
    parameters={},
    view={"size": 64},
    bit_depth=None,
    backbone=BackboneRecord(name="filterbank", levels=[1], taps="pre", weights_sha256=None),
    training=TrainingRecord(source="good", images=1, seed=0, seconds=0.5),
    calibration=None,
    templates=[],
    software={},
)


def draft(version: int, **parts: bytes) -> Draft:
    """A version with parts of these bytes."""
    manifest = MANIFEST.model_copy(update={"version": version})
    contents = {part: (lambda data=data: data) for part, data in parts.items()}
    return Draft(manifest, contents)


def tensors(value: float) -> bytes:
    """A small safetensors file."""
    return pack({"level1": np.full((3, 4), value, np.float32)})


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two versions, with a file of tensors each and a graph; and the same packed."""
    place = tmp_path_factory.mktemp("shelf")
    target = place / "part.blemish"
    first = write_versions(target, [draft(1, templates=tensors(1))])[-1]
    parts = draft(2, templates=tensors(2)).parts | {"match.onnx": lambda: b"a graph"}
    write_versions(target, [Draft(first.model_copy(update={"version": 2}), parts)], onto=first)
    (target / "notes.txt").write_text("mine")
    pack_bundle(target, place / "part.zip")
    return place


@pytest.fixture
def folder(shelf: Path, tmp_path: Path) -> Path:
    """That bundle, to change or damage at will."""
    return Path(shutil.copytree(shelf / "part.blemish", tmp_path / "part.blemish"))


@pytest.fixture
def packed(shelf: Path, tmp_path: Path) -> Path:
    """The same packed."""
    return Path(shutil.copy(shelf / "part.zip", tmp_path / "part.zip"))


def tree(folder: Path) -> dict[str, bytes]:
    """What lies in a bundle, less the lock."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name != ".lock"}


def test_there_and_back(folder: Path, packed: Path, tmp_path: Path) -> None:
    """Every version's files come back to the last bit, and what is not the bundle's stays away."""
    found = unpack_bundle(packed, tmp_path / "again.blemish")
    expected = tree(folder)
    del expected["notes.txt"]
    assert tree(tmp_path / "again.blemish") == expected
    assert (found.versions, found.manifest) == (2, read_manifest(folder))
    assert found.bytes == sum(map(len, expected.values()))
    assert [m.version for m in read_versions(folder, found.manifest)] == [1]


def test_the_same_bundle_gives_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    """Packed again from what was unpacked elsewhere and later, not one byte differs."""
    unpack_bundle(packed, tmp_path / "again.blemish")
    pack_bundle(tmp_path / "again.blemish", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def test_any_unzip_gives_the_bundle(packed: Path, tmp_path: Path) -> None:
    """The format is plain zip: extracted by other means, it is the bundle."""
    with ZipFile(packed) as archive:
        archive.extractall(tmp_path / "by-hand")
        assert {info.compress_type for info in archive.infolist()} == {ZIP_STORED}
    assert read_manifest(tmp_path / "by-hand").version == 2


def test_a_packed_bundle_says_that_it_is_one(packed: Path) -> None:
    """Loading the file instead of the folder names the command that is missing."""
    with pytest.raises(
        BundleError, match=r"part\.zip is a packed bundle; unpack it first: blemish"
    ):
        Inspector.load(packed)


def test_packing_checks_every_file(folder: Path, tmp_path: Path) -> None:
    """A changed, cut or missing file is refused by name, and no file is left."""
    for damage in (lambda data: data[:-1] + b"x", lambda data: data[:-1], lambda data: data + b"x"):
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        path = next(copy.glob("match-*.onnx"))
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(BundleError, match=path.name):
            pack_bundle(copy, tmp_path / "bad.zip")
        path.unlink()
        with pytest.raises(BundleError, match=f"{path.name} is missing"):
            pack_bundle(copy, tmp_path / "bad.zip")
        shutil.rmtree(copy)
    assert not (tmp_path / "bad.zip").exists()
    assert not list(tmp_path.glob(".*"))


def test_packing_needs_the_whole_history(folder: Path, tmp_path: Path) -> None:
    """A lost version is named: a file that leaves it out would lose it for good."""
    path = next((folder / "versions").glob("0001-*"))
    path.unlink()
    with pytest.raises(BundleError, match=f"{path.name} is missing"):
        pack_bundle(folder, tmp_path / "bad.zip")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("photo.png", "is there and is no packed bundle"),
        ("folder", "is there and is no packed bundle"),
        ("nowhere/part.zip", "does not exist"),
    ],
)
def test_where_a_packed_bundle_may_not_go(
    folder: Path, tmp_path: Path, name: str, said: str
) -> None:
    """Another file, a folder and a folder nowhere are refused and kept."""
    (tmp_path / "photo.png").write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BundleError, match=said):
        pack_bundle(folder, tmp_path / name)
    assert (tmp_path / "photo.png").read_bytes() == b"mine"


def test_packing_over_a_packed_bundle(folder: Path, packed: Path, tmp_path: Path) -> None:
    """An older file of the bundle is replaced in one step."""
    third = read_manifest(folder).model_copy(update={"version": 3})
    write_versions(folder, [Draft(third)], onto=read_manifest(folder))
    assert pack_bundle(folder, packed).manifest.version == 3
    assert unpack_bundle(packed, tmp_path / "new").versions == 3


# Unpacking onto something ---------------------------------------------------------------


def test_an_older_bundle_is_brought_up_to_date(folder: Path, packed: Path, tmp_path: Path) -> None:
    """A bundle that the packed one follows gets its new versions, and readers see old or new."""
    target = tmp_path / "line.blemish"
    unpack_bundle(packed, target)
    third = draft(3, templates=tensors(3))
    write_versions(folder, [third], onto=read_manifest(folder))
    pack_bundle(folder, packed)
    assert unpack_bundle(packed, target).manifest.version == 3
    assert read_manifest(target) == read_manifest(folder)
    assert unpack_bundle(packed, target).manifest.version == 3  # twice is once


def test_changes_made_on_the_line_are_not_lost(folder: Path, packed: Path, tmp_path: Path) -> None:
    """A bundle with a version that the packed one does not know is left alone."""
    target = tmp_path / "line.blemish"
    unpack_bundle(packed, target)
    write_versions(target, [draft(3, templates=tensors(9))], onto=read_manifest(target))
    before = tree(target)
    with pytest.raises(BundleError, match=r"is at version 3, which .*part\.zip does not know"):
        unpack_bundle(packed, target)
    assert tree(target) == before


def test_a_damaged_bundle_is_made_whole(folder: Path, packed: Path) -> None:
    """Unpacking over a bundle with a damaged file or manifest restores it."""
    before = tree(folder)
    for name in ("match-*.onnx", "manifest.json", "versions/0001-*"):
        path = next(folder.glob(name))
        path.write_bytes(path.read_bytes().replace(b"graph", b"grape").replace(b"good", b"evil"))
        assert tree(folder) != before
        unpack_bundle(packed, folder)
        assert tree(folder) == before


@pytest.mark.parametrize("name", ["file", "photos"])
def test_what_is_no_bundle_is_not_written_over(packed: Path, tmp_path: Path, name: str) -> None:
    """A file and a folder with other things in it are refused, and kept."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("mine")
    with pytest.raises(BundleError, match=f"{name} is a (file|folder with other things)"):
        unpack_bundle(packed, tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.png"]


@pytest.mark.parametrize("step", range(1, 7))
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_unpacking_is_whole_or_not_at_all(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException
) -> None:
    """Whichever file cannot be written, there is no bundle and nothing else either."""
    calls = iter(range(1, 9))
    write = packing.atomic_file

    def failing(path: Path) -> object:
        if next(calls) == step:
            raise error
        return write(path)

    monkeypatch.setattr(packing, "atomic_file", failing)
    monkeypatch.setattr(store, "atomic_write", lambda *_: pytest.fail("not asked for"))
    (tmp_path / "place").mkdir()
    kind = BundleError if isinstance(error, OSError) else KeyboardInterrupt
    if step == 6:  # of the five files that go before the manifest
        unpack_bundle(packed, tmp_path / "place" / "b")
        return
    with pytest.raises(kind):
        unpack_bundle(packed, tmp_path / "place" / "b")
    assert list((tmp_path / "place").iterdir()) == []


# Files that are no packed bundle --------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not a packed bundle"),
        (b"hello", "is not a packed bundle"),
        (b"PK\x03\x04", "is damaged or cut short"),
        (b"PK\x03\x04" + bytes(100), "is damaged or cut short"),
    ],
)
def test_other_files(tmp_path: Path, data: bytes, said: str) -> None:
    """Empty, foreign and header-only files are told apart in one sentence."""
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(BundleError, match=rf"x\.zip {said}"):
        unpack_bundle(tmp_path / "x.zip", tmp_path / "b")
    with pytest.raises(BundleError, match=r"nothing\.zip does not exist"):
        unpack_bundle(tmp_path / "nothing.zip", tmp_path / "b")
    with pytest.raises(BundleError, match="is not a packed bundle"):
        unpack_bundle(tmp_path, tmp_path / "b")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_short(packed: Path, tmp_path: Path, share: float) -> None:
    """A copy that stopped early is no bundle, and leaves none."""
    data = packed.read_bytes()
    packed.write_bytes(data[: int(share * len(data))])
    with pytest.raises(BundleError, match="is damaged or cut short"):
        unpack_bundle(packed, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def rewritten(packed: Path, change: Callable[[list[tuple[ZipInfo, bytes]]], None]) -> None:
    """Write the archive again with its members changed."""
    with ZipFile(packed) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    change(members)
    with warnings.catch_warnings(), ZipFile(packed, "w") as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for info, data in members:
            fresh = ZipInfo(info.filename)
            fresh.external_attr, fresh.compress_type = info.external_attr, info.compress_type
            fresh.create_system = 3
            archive.writestr(fresh, data)


def add(name: str, mode: int = stat.S_IFREG | 0o644, data: bytes = b"x") -> Callable:
    """A change that adds a member."""

    def change(members: list[tuple[ZipInfo, bytes]]) -> None:
        info = ZipInfo(name)
        info.external_attr = mode << 16
        members.append((info, data))

    return change


def link(members: list[tuple[ZipInfo, bytes]]) -> None:
    """Turn the graph into a link that leads out."""
    for index, (info, _) in enumerate(members):
        if info.filename.startswith("match-"):
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            members[index] = (info, b"/nowhere")


def squeeze(members: list[tuple[ZipInfo, bytes]]) -> None:
    """Compress the graph."""
    for info, _ in members:
        info.compress_type = ZIP_DEFLATED


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (add("../outside"), r"'\.\./outside' is no file of the bundle"),
        (add("versions/../../outside"), "is no file of the bundle"),
        (add("C:\\outside"), "is no file of the bundle"),
        (add("extra.safetensors"), r"'extra\.safetensors' is no file of the bundle"),
        (add("folder/"), "'folder/' is no plain file"),
        (add("manifest.json"), r"'manifest\.json' is there twice"),
        (add("pipe", stat.S_IFIFO | 0o644), "'pipe' is no plain file"),
        (add("x" * 3000), r"'x{80}\.\.\.' is no file of the bundle"),
        (link, "is no plain file"),
        (squeeze, "is compressed or encrypted"),
        (lambda members: members.pop(0), r"it has no manifest\.json"),
        (lambda members: members.pop(1), "is missing"),
        (lambda members: members.clear(), "is not a packed bundle"),
    ],
)
def test_members_that_a_bundle_does_not_have(
    packed: Path, tmp_path: Path, change: Callable, said: str
) -> None:
    """Names that lead out, links, pipes, strangers, twins and gaps are refused; nothing is left."""
    rewritten(packed, change)
    place = tmp_path / "deep" / "place"
    place.mkdir(parents=True)
    with pytest.raises(BundleError, match=said):
        unpack_bundle(packed, place / "b")
    assert [path.name for path in place.parent.rglob("*")] == ["place"]


def test_a_member_with_an_absolute_name(packed: Path, tmp_path: Path) -> None:
    """A name from the root on is refused, and nothing is written there."""
    outside = tmp_path / "outside"
    rewritten(packed, add(str(outside)))
    with pytest.raises(BundleError, match="is no file of the bundle"):
        unpack_bundle(packed, tmp_path / "place" / "b")
    assert not outside.exists()


def test_a_member_longer_than_its_record(packed: Path, tmp_path: Path) -> None:
    """Sizes are compared with the manifest before anything is written."""

    def longer(members: list[tuple[ZipInfo, bytes]]) -> None:
        for index, (info, data) in enumerate(members):
            if info.filename.startswith("match-"):
                members[index] = (info, data + bytes(10_000_000))

    rewritten(packed, longer)
    with pytest.raises(BundleError, match=r"match-\w+\.onnx has 10000007 bytes instead of 7"):
        unpack_bundle(packed, tmp_path / "b")


def test_members_may_not_overlap(packed: Path, tmp_path: Path) -> None:
    """Entries that share their bytes, as a zip bomb's do, are refused by their sum."""
    data = bytearray(packed.read_bytes())
    at, places = 0, []
    while (at := data.find(b"PK\x01\x02", at + 1)) >= 0:
        places.append(at)
    for place in places:  # each claims to be as large as the whole file
        struct.pack_into("<II", data, place + 20, len(data) - 100, len(data) - 100)
    packed.write_bytes(bytes(data))
    with pytest.raises(BundleError, match="its files are larger than itself"):
        unpack_bundle(packed, tmp_path / "b")


def test_a_directory_without_end_is_not_read(tmp_path: Path) -> None:
    """An archive whose directory alone would fill memory is refused before it is read."""
    path = tmp_path / "x.zip"
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 9999, 9999, 100 << 20, 4, 0)
    with path.open("wb") as file:
        file.write(b"PK\3\4")
        file.truncate(4 + (100 << 20))
        file.seek(0, io.SEEK_END)
        file.write(end)
    with pytest.raises(BundleError, match="its directory is too large"):
        unpack_bundle(path, tmp_path / "b")


def test_a_newer_format_says_so(packed: Path, tmp_path: Path) -> None:
    """What a newer Blemish packed asks for an upgrade."""
    import json

    def newer(members: list[tuple[ZipInfo, bytes]]) -> None:
        body = {**json.loads(members[0][1]), "format": FORMAT + 1}
        del body["sha256"]
        members[0] = (members[0][0], json.dumps({**body, "sha256": _digest(body)}).encode())

    rewritten(packed, newer)
    with pytest.raises(BundleError, match=rf"format {FORMAT + 1}, newer .* pip install -U blemish"):
        unpack_bundle(packed, tmp_path / "b")
