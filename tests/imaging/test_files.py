"""Folders are listed in one fixed order, and files are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from blemish.errors import NoImagesError
from blemish.imaging import atomic_write, expand, list_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with images, other files, hidden files and subfolders."""
    root = tmp_path / "parts"
    (root / "deep" / "er").mkdir(parents=True)
    (root / ".hidden").mkdir()
    (root / "folder.png").mkdir()
    names = ["10.png", "2.PNG", "a1.jpeg", "notes.txt", ".DS_Store.png", "._2.png", "broken.tif"]
    names += ["deep/1.bmp", "deep/er/3.webp", ".hidden/4.png"]
    for name in names:
        (root / name).write_bytes(b"not an image")
    return root


def names(paths: list[Path], root: Path) -> list[str]:
    """Paths relative to `root`."""
    return [path.relative_to(root).as_posix() for path in paths]


def test_list_is_natural_and_by_suffix(folder: Path) -> None:
    """2 comes before 10; hidden files, other suffixes and folders are skipped, nothing opened."""
    assert names(list_images(folder), folder) == ["2.PNG", "10.png", "a1.jpeg", "broken.tif"]


def test_list_recursive(folder: Path) -> None:
    """recursive=True adds the images of subfolders that are not hidden."""
    found = names(list_images(folder, recursive=True), folder)
    assert sorted(found) == sorted(
        ["2.PNG", "10.png", "a1.jpeg", "broken.tif", "deep/1.bmp", "deep/er/3.webp"]
    )


def test_recursive_list_survives_a_link_to_its_parent(folder: Path) -> None:
    """A link back up does not make a recursive listing endless."""
    try:
        (folder / "deep" / "loop").symlink_to(folder, target_is_directory=True)
    except OSError:
        pytest.skip("this system does not let us make links")
    assert len(list_images(folder, recursive=True)) == 6


def test_order_is_total(tmp_path: Path) -> None:
    """Names that differ only in case or leading zeros still have one order, run after run."""
    for name in ("a01.png", "A1.png", "a1.png", "a001.png"):
        (tmp_path / name).touch()
    first = list_images(tmp_path)
    assert first == sorted(first, key=str)


def test_no_images_errors_name_the_folder(tmp_path: Path, folder: Path) -> None:
    """A missing folder, a file, and a folder without images are each named with the reason."""
    for path, reason in [
        (tmp_path / "none", "does not exist"),
        (folder / "10.png", "is a file"),
        (folder / "folder.png", "holds no image"),
    ]:
        with pytest.raises(NoImagesError, match=reason) as caught:
            list_images(path)
        assert str(path) in str(caught.value)


def test_expand_mixes_files_and_folders(folder: Path) -> None:
    """Sources keep their order; a folder becomes its images; a missing file is kept as given."""
    found = expand([folder / "notes.txt", str(folder / "deep"), folder / "missing.png"])
    assert names(found, folder) == ["notes.txt", "deep/1.bmp", "missing.png"]
    assert expand(str(folder / "10.png")) == [folder / "10.png"]


def test_expand_refuses_nothing_and_missing_folders(folder: Path) -> None:
    """An empty list, and a missing name without suffix, which is meant as a folder, are errors."""
    with pytest.raises(NoImagesError, match="No image was given"):
        expand([])
    with pytest.raises(NoImagesError, match=r"nowhere: the folder does not exist"):
        expand([folder / "10.png", folder / "nowhere"])


def test_atomic_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    """New content replaces old, readable by others, with no temporary file beside it."""
    path = tmp_path / "out.json"
    atomic_write(path, b"old")
    atomic_write(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["out.json"]
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_interrupted_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, step: str
) -> None:
    """A full disk or Ctrl-C at any step leaves the old content and no temporary file."""
    path = tmp_path / "out.json"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.json"]
