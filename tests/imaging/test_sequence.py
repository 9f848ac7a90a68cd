"""Many images as one sequence: every kind of source, and broken images all named at once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from blemish.errors import ImageArrayError, ImageError, ImageTruncatedError, NoImagesError
from blemish.imaging import ImageSequence, View, digest, sequence
from blemish.imaging.alignment import Placement
from blemish.imaging.golden import Golden

from .pictures import RGB8, encoded

VIEW = View(16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images named so that natural and plain order differ."""
    for index in (10, 2, 1):
        (tmp_path / f"{index}.png").write_bytes(encoded(np.roll(RGB8, index, 0), "PNG"))
    return tmp_path


def test_every_kind_of_source_is_the_same(folder: Path) -> None:
    """A folder, its paths, its arrays, an array of them and a category give equal images."""
    paths = [folder / f"{index}.png" for index in (1, 2, 10)]
    arrays = [np.roll(RGB8, index, 0) for index in (1, 2, 10)]
    expected = ImageSequence(folder, VIEW).digests()
    assert len(set(expected)) == 3
    for source in (
        str(folder),
        paths,
        iter(map(str, paths)),
        arrays,
        np.stack(arrays),
        [paths[0], *arrays[1:]],
        SimpleNamespace(train=tuple(paths), test=()),
    ):
        assert ImageSequence(source, VIEW).digests() == expected


def test_images_are_read_when_indexed(folder: Path) -> None:
    """Making the sequence opens no file, and each image comes in the view."""
    images = ImageSequence([folder / "1.png", folder / "missing.png"], VIEW)
    assert len(images) == 2
    assert (images[0].shape, images[0].dtype) == ((16, 16, 3), np.float32)
    with pytest.raises(ImageError, match=r"missing\.png"):
        images[1]


def test_what_was_checked_is_not_read_again(folder: Path) -> None:
    """A pass after the check gives the same pixels without the files; another view reads them."""
    images = ImageSequence(folder, VIEW)
    expected = [np.array(image) for image in images]
    digests = images.digests()
    for path in folder.iterdir():
        path.unlink()
    for passed in (list(images), [images[index] for index in range(3)]):
        assert all(np.array_equal(one, other) for one, other in zip(passed, expected, strict=True))
    rest = images.without([0])
    assert np.array_equal(rest[0], expected[1])
    assert rest.digests() == digests[1:]
    with pytest.raises(ImageError):  # another view shows other pixels
        images.viewed(View(8))[0]


def test_images_beyond_the_room_are_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only so many views stay in memory; the others come from their files."""
    monkeypatch.setattr(sequence, "KEPT_BYTES", VIEW.size**2 * 3)  # one image's
    images = ImageSequence(folder, VIEW)
    images.digests()
    (folder / "1.png").unlink()
    (folder / "2.png").unlink()
    assert images[0].shape == (16, 16, 3)
    with pytest.raises(ImageError):
        images[1]


def test_names(folder: Path) -> None:
    """Files are called by their path, arrays by their position."""
    assert ImageSequence(folder, VIEW).name(0) == str(folder / "1.png")
    assert ImageSequence([RGB8, RGB8], VIEW).name(1) == "array 1"


def test_one_broken_image_keeps_its_own_error(folder: Path) -> None:
    """A single broken file raises its own kind of error, with its name."""
    path = folder / "2.png"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ImageTruncatedError, match=r"2\.png"):
        ImageSequence(folder, VIEW).digests()


def test_many_broken_images_are_counted_and_named(folder: Path) -> None:
    """Several broken files are one error: how many of how many, and the first three by name."""
    for index in range(20, 25):
        (folder / f"{index}.png").write_text("no image")
    with pytest.raises(ImageError) as caught:
        ImageSequence(folder, VIEW).digests()
    message = str(caught.value)
    assert "5 of 8 images cannot be read" in message
    assert [name in message for name in ("20.png", "21.png", "22.png", "23.png")] == [
        True,
        True,
        True,
        False,
    ]


def test_a_broken_array_is_named_by_its_position() -> None:
    """Among arrays, the one that breaks the contract is told by its position."""
    with pytest.raises(ImageArrayError, match=r"array 1: .*NaN"):
        ImageSequence([RGB8, np.full((4, 4, 3), np.nan)], VIEW).digests()


def test_progress_counts_to_the_end(folder: Path) -> None:
    """Checking reports from 0 to all, image by image."""
    steps: list[tuple[int, int]] = []
    ImageSequence(folder, VIEW).digests(lambda _, done, total: steps.append((done, total)))
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_an_aligned_image_is_known_however_it_was_aligned() -> None:
    """The last bits of where a part was found to lie belong to the machine, not to its image."""
    golden = Golden(hw=(16, 16), picture=np.zeros((16, 16, 3), np.uint8), limit=1, least=0)
    still = ImageSequence([RGB8, RGB8[::-1]], View(16, align="rigid", golden=golden))
    moved = ImageSequence([RGB8, RGB8[::-1]], View(16, align="rigid", golden=golden))
    for images, step in ((still, 0), (moved, 1e-7)):
        turned = np.array([[1, step, 0], [0, 1, 0], [0, 0, 1]])
        images._placements = {each: Placement(turned, 0.0, 1.0) for each in (0, 1)}
    assert not np.array_equal(still[0], moved[0])
    assert still.digests() == moved.digests()
    assert len(set(still.digests())) == 2


def test_digest_is_of_the_pixels(folder: Path) -> None:
    """The same pixels in another format or memory layout have the same fingerprint."""
    image = ImageSequence(folder, VIEW)[0]
    assert digest(image) == digest(np.asfortranarray(image))
    assert digest(image) != digest(np.nextafter(image, np.float32(2)))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ([], "the list is empty"),
        (np.zeros((8, 8, 3), np.uint8), r"\[N, H, W, 3\]; this one has shape \[8, 8, 3\]"),
        (7, "not int"),
        (None, "not NoneType"),
        ("no/such/folder", "does not exist"),
    ],
)
def test_no_images(source: object, said: str) -> None:
    """What holds no images is one sentence, said at once."""
    with pytest.raises(NoImagesError, match=said):
        ImageSequence(source, VIEW)
