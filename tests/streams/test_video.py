"""Video files: real ones, written here, whole and cut off."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from stream_tools import write_video

from blemish.errors import ParameterError, VideoError
from blemish.streams import VideoFile

COUNT = 20


def colour(number: int) -> np.ndarray:
    """A red frame [48, 64, 3], its blue telling its number."""
    image = np.full((48, 64, 3), (200, 10, 0), np.uint8)
    image[..., 2] = 10 * number
    return image


def noise(count: int) -> list[np.ndarray]:
    """Frames whose data take room, so that a cut falls into one."""
    rng = np.random.default_rng(0)
    return [
        cv2.resize(rng.integers(0, 255, (30, 40, 3), np.uint8), (160, 120)) for _ in range(count)
    ]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Motion JPEG of 20 red frames."""
    path = tmp_path_factory.mktemp("video") / "red.avi"
    return write_video(path, [colour(number) for number in range(COUNT)])


def test_all_frames_as_rgb(video: Path) -> None:
    """Each frame comes once, in order, with red first, named by the file and its index."""
    with VideoFile(video) as source:
        frames = list(source)
    assert [frame.name for frame in frames] == [f"{video}#{n}" for n in range(COUNT)]
    assert [frame.number for frame in frames] == list(range(COUNT))
    for number, frame in enumerate(frames):
        mean = frame.image.reshape(-1, 3).mean(axis=0)
        assert np.abs(mean - (200, 10, 10 * number)).max() < 8
        assert frame.read_ms > 0
    assert (source.health.state, source.health.frames) == ("ended", COUNT)


def test_every_nth(video: Path) -> None:
    """`every` leaves frames out, and the names still say where each one lies in the video."""
    frames = list(VideoFile(video, every=7))
    assert [frame.name for frame in frames] == [f"{video}#{n}" for n in (0, 7, 14)]
    assert abs(float(frames[2].image[..., 2].mean()) - 140) < 8
    with pytest.raises(ParameterError, match="every is 0"):
        VideoFile(video, every=0)


@pytest.mark.parametrize(
    ("suffix", "codec", "share"),
    [
        *[("avi", "MJPG", share) for share in (0.3, 0.45, 0.6, 0.75, 0.9)],
        ("avi", "MJPG", 0.985),  # in the last frame: all 20 can be read, the last one damaged
        *[("mkv", "FFV1", share) for share in (0.5, 0.75)],
    ],
)
def test_cut_off(tmp_path: Path, suffix: str, codec: str, share: float) -> None:
    """A video that is cut off gives its whole frames, none damaged, and then says so."""
    whole = write_video(tmp_path / f"whole.{suffix}", noise(COUNT), codec)
    true = [frame.image for frame in VideoFile(whole)]
    assert len(true) == COUNT
    data = whole.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(data[: int(len(data) * share)])
    got: list[np.ndarray] = []
    source = VideoFile(cut)
    with pytest.raises(VideoError, match=f"cut.{suffix}: the video is cut off after"):
        got.extend(frame.image for frame in source)
    assert 0 < len(got) < COUNT
    np.testing.assert_array_equal(got, true[: len(got)])
    assert (source.health.state, source.health.frames) == ("failed", len(got))


@pytest.mark.parametrize("content", [b"", b"text, no video" * 50, b"RIFF\x00\x10\x00\x00AVI LIST"])
def test_not_a_video(tmp_path: Path, content: bytes) -> None:
    """A file that is no video, or only the start of one, is one clear sentence."""
    (tmp_path / "x.avi").write_bytes(content)
    source = VideoFile(tmp_path / "x.avi")
    with pytest.raises(VideoError, match=r"x\.avi: this is not a video"):
        next(iter(source))


def test_no_such_file(tmp_path: Path) -> None:
    """A missing file and a folder are told apart, before anything is opened."""
    for path, said in ((tmp_path / "none.avi", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(VideoError, match=said):
            VideoFile(path).check()


def test_closing_in_the_middle(video: Path) -> None:
    """A video that is closed ends soon, and is not said to be cut off."""
    source = VideoFile(video)
    frames = iter(source)
    next(frames)
    source.close()
    assert len(list(frames)) <= 1
    assert source.health.state == "closed"
