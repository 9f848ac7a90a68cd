"""Bundles on disk: named by content, checked on reading, and whole after any crash."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from blemish.bundle import (
    BackboneRecord,
    Manifest,
    TrainingRecord,
    check_target,
    read_manifest,
    read_part,
    store,
    version_file,
    write_bundle,
)
from blemish.errors import BundleError

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
PARTS = {
    "templates": {"level1": np.arange(12, dtype=np.float16).reshape(3, 4)},
    "backbone": {"w": np.ones((2, 2), np.float32), "fitted": np.array(True)},
}
OTHER = {**PARTS, "templates": {"level1": np.zeros((1, 4), np.float16)}}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A bundle with PARTS."""
    write_bundle(tmp_path / "b.blemish", MANIFEST, PARTS)
    return tmp_path / "b.blemish"


def level1(folder: Path) -> np.ndarray:
    """The one template tensor of the bundle at `folder`, everything checked."""
    return read_part(folder, read_manifest(folder), "templates")["level1"]


def test_round_trip(target: Path) -> None:
    """Tensors come back with values, shapes and dtypes, and the manifest with its fields."""
    manifest = read_manifest(target)
    assert manifest.model_copy(update={"files": MANIFEST.files}) == MANIFEST
    for part, tensors in PARTS.items():
        found = read_part(target, manifest, part)
        assert set(found) == set(tensors)
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype
            np.testing.assert_array_equal(found[name], tensor)


def test_files_are_named_by_their_content(target: Path) -> None:
    """Each file's name holds the start of its sha256, and nothing else lies in the folder."""
    records = read_manifest(target).files
    for part, record in records.items():
        data = (target / record.file).read_bytes()
        assert hashlib.sha256(data).hexdigest() == record.sha256
        assert record.file == f"{part}-{record.sha256[:16]}.safetensors"
        assert record.bytes == len(data)
    expected = {"manifest.json", "versions", *(record.file for record in records.values())}
    assert {path.name for path in target.iterdir()} == expected


def test_same_content_same_bytes(target: Path, tmp_path: Path) -> None:
    """Writing the same twice gives the same files, so a bundle can be compared and kept in git."""
    write_bundle(tmp_path / "again", MANIFEST, PARTS)
    written = [path.relative_to(target) for path in target.rglob("*") if path.is_file()]
    assert len(written) == 4
    for path in written:
        assert (target / path).read_bytes() == (tmp_path / "again" / path).read_bytes()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "was changed"),
        (lambda data: data[: len(data) // 2], "instead of"),
        (lambda data: b"", "has 0 bytes instead of"),
        (lambda data: data + b"\0", "instead of"),
    ],
)
def test_a_damaged_file_is_named(target: Path, damage, said: str) -> None:
    """A file with a bit flipped, cut off or longer is refused by name."""
    path = next(target.glob("templates-*"))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BundleError, match=f"{path.name}.*{said}"):
        level1(target)


def test_a_missing_file_is_named(target: Path) -> None:
    """A file that is gone is refused by name."""
    path = next(target.glob("templates-*"))
    path.unlink()
    with pytest.raises(BundleError, match=rf"{path.name} is missing"):
        level1(target)


def test_a_part_the_bundle_does_not_have(target: Path) -> None:
    """Asking for a part that was never written names it."""
    with pytest.raises(BundleError, match="has no 'graph'"):
        read_part(target, read_manifest(target), "graph")


def test_a_pickle_is_not_loaded(target: Path, tmp_path: Path) -> None:
    """A pickle in a tensor file's place is refused without being run, checksum or not."""
    trap = tmp_path / "ran"
    pickle = f"cos\nsystem\n(S'touch {trap}'\ntR.".encode()
    manifest = read_manifest(target)
    record = manifest.files["templates"].model_copy(
        update={"sha256": hashlib.sha256(pickle).hexdigest(), "bytes": len(pickle)}
    )
    (target / record.file).write_bytes(pickle)
    manifest = manifest.model_copy(update={"files": {"templates": record}})
    with pytest.raises(BundleError, match="not a readable safetensors file"):
        read_part(target, manifest, "templates")
    assert not trap.exists()


@pytest.mark.parametrize("step", [1, 2, 3, 4])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_crash_leaves_the_old_bundle(
    target: Path, monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException
) -> None:
    """Whichever write fails, the bundle that was there still loads, and the user is told."""
    calls = iter(range(1, 9))
    write = store.atomic_write

    def failing(path: Path, data: bytes) -> None:
        if next(calls) == step:
            raise error
        write(path, data)

    monkeypatch.setattr(store, "atomic_write", failing)
    kind = BundleError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(kind):
        write_bundle(target, MANIFEST, OTHER)
    np.testing.assert_array_equal(level1(target), PARTS["templates"]["level1"])
    monkeypatch.undo()
    write_bundle(target, MANIFEST, OTHER)
    np.testing.assert_array_equal(level1(target), OTHER["templates"]["level1"])
    assert len(list(target.glob("*.safetensors"))) == len(PARTS)
    assert [path.name for path in (target / "versions").iterdir()] == [
        version_file(read_manifest(target))
    ]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_crash_in_replace_leaves_no_new_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """A first write that fails leaves neither a half bundle nor anything temporary."""

    def failing(source: object, target: object) -> None:
        raise error

    monkeypatch.setattr(os, "replace", failing)
    kind = BundleError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(kind):
        write_bundle(tmp_path / "new.blemish", MANIFEST, PARTS)
    assert list(tmp_path.iterdir()) == []


def test_overwriting_replaces_and_clears(target: Path) -> None:
    """A new version keeps files it shares with the old one and removes those no longer used."""
    before = {path.name for path in target.iterdir()}
    (target / "notes.txt").write_text("keep me")
    write_bundle(target, MANIFEST, OTHER)
    after = {path.name for path in target.iterdir()}
    assert {name for name in before if name.startswith("backbone")} <= after
    assert not {name for name in before if name.startswith("templates")} & after
    assert "notes.txt" in after
    np.testing.assert_array_equal(level1(target), OTHER["templates"]["level1"])


def test_refused_targets(tmp_path: Path) -> None:
    """A file, a folder with other things in it, and a folder nowhere are refused, and kept."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("mine")
    for name, said in [
        ("file", "is a file"),
        ("photos", "with other things in it"),
        ("nowhere/b", "does not exist"),
    ]:
        with pytest.raises(BundleError, match=said):
            write_bundle(tmp_path / name, MANIFEST, PARTS)
        with pytest.raises(BundleError, match=said):
            check_target(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.png"]


def test_another_programs_manifest_is_not_overwritten(tmp_path: Path) -> None:
    """A folder whose manifest.json is not Blemish's is somebody else's, safetensors and all."""
    (tmp_path / "manifest.json").write_text('{"name": "a web app"}')
    (tmp_path / "model.safetensors").write_text("mine")
    with pytest.raises(BundleError, match="with other things in it"):
        write_bundle(tmp_path, MANIFEST, PARTS)
    assert (tmp_path / "model.safetensors").read_text() == "mine"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    """A folder with nothing in it may become a bundle."""
    (tmp_path / "b").mkdir()
    write_bundle(tmp_path / "b", MANIFEST, PARTS)
    assert level1(tmp_path / "b").shape == (3, 4)


@pytest.mark.parametrize("name", ["nothing", "folder", "file"])
def test_what_is_no_bundle_says_so(tmp_path: Path, name: str) -> None:
    """A path that is missing, a plain folder or a file is named as no bundle."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=rf"{name} (does not exist|is not a bundle)"):
        read_manifest(tmp_path / name)
