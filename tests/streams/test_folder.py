"""A watched folder, with real files: written in pieces, renamed, deleted, replaced, unreadable."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stream_tools import DEADLINE, encoded, eventually, picture, save, value_of

from blemish.errors import ImageError, ImageTruncatedError, ParameterError, SourceError
from blemish.imaging import read_samples
from blemish.streams import Frame, Source, WatchedFolder

SETTLE = 0.05


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder to watch."""
    (tmp_path / "line").mkdir()
    return tmp_path / "line"


@pytest.fixture
def watch(folder: Path) -> Iterator[Callable[..., WatchedFolder]]:
    """`watch(**options)` watches it; at the deadline it is closed, so that no test hangs."""
    opened: list[WatchedFolder] = []

    def close() -> None:
        for source in opened:
            source.close()

    def begin(**options: Any) -> WatchedFolder:
        source = WatchedFolder(
            folder, **{"settle": SETTLE, "timeout": DEADLINE, "poll": 0.01, **options}
        )
        opened.append(source)
        return source

    timer = threading.Timer(DEADLINE, close)
    timer.start()
    yield begin
    timer.cancel()
    close()


def values(frames: Iterator[Frame], count: int) -> list[int]:
    """The next pictures."""
    return [value_of(next(frames).image) for _ in range(count)]


def test_existing_files_by_time_then_name(folder: Path, watch) -> None:
    """What is there at the start comes first, by time of writing and then name, as RGB."""
    for name, value, when in (("c", 1, 30), ("a", 2, 50), ("b", 3, 40), ("d", 4, 40)):
        os.utime(save(folder / f"{name}.png", value), (when, when))
    source = watch()
    assert source.health.state == "ready"
    frames = iter(source)
    first = next(frames)
    assert (first.name, first.number, first.time) == (str(folder / "c.png"), 0, 30.0)
    np.testing.assert_array_equal(first.image, picture(1))
    assert first.read_ms > 0
    assert values(frames, 3) == [3, 4, 2]
    assert isinstance(source, Source)
    assert (source.health.state, source.health.frames) == ("running", 4)
    assert source.health.last_frame is not None


def test_existing_files_left_out(folder: Path, watch) -> None:
    """With existing=False only what appears later is taken."""
    save(folder / "old.png", 1)
    source = watch(existing=False)
    found = collected(source)
    eventually(lambda: source.health.counts, "a first look")
    save(folder / "new.png", 2)
    eventually(lambda: found, "the new file")
    assert [value_of(frame.image) for frame in found] == [2]


def collected(source: WatchedFolder) -> list[Frame]:
    """A list that a thread of its own fills with the source's frames."""
    found: list[Frame] = []
    threading.Thread(target=lambda: found.extend(source), daemon=True).start()
    return found


def test_writer_process_in_pieces(folder: Path, watch) -> None:
    """A PNG that another process writes piece by piece is taken once, whole."""
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    whole = folder.parent / "whole.png"
    import cv2

    cv2.imwrite(str(whole), image)
    writer = (
        "import sys, time\n"
        "data = open(sys.argv[1], 'rb').read()\n"
        "with open(sys.argv[2], 'wb', buffering=0) as file:\n"
        "    for start in range(0, len(data), len(data) // 12):\n"
        "        file.write(data[start : start + len(data) // 12])\n"
        "        time.sleep(0.1)\n"
    )
    source = watch()
    found = collected(source)
    done = subprocess.run(
        [sys.executable, "-c", writer, str(whole), str(folder / "part.png")],
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0
    eventually(lambda: found, "the file")
    save(folder / "after.png", 5)
    eventually(lambda: len(found) == 2, "the next file")
    np.testing.assert_array_equal(found[0].image, image[..., ::-1])
    assert [frame.error for frame in found] == [None, None]


def test_renamed_into_place(folder: Path, watch) -> None:
    """A file written under another ending is taken when it gets its name, and only then."""
    source = watch()
    frames = iter(source)
    save(folder / "part.png.tmp", 7)
    save(folder / "other.png", 1)
    assert values(frames, 1) == [1]
    (folder / "part.png.tmp").rename(folder / "part.png")
    assert next(frames).name == str(folder / "part.png")


def test_moved_on_after_it_was_taken(folder: Path, watch) -> None:
    """A taken file that is renamed is no new part; a new file under its old name is."""
    source = watch()
    frames = iter(source)
    save(folder / "part.png", 1)
    assert values(frames, 1) == [1]
    (folder / "part.png").rename(folder / "part-done.png")
    save(folder / "part.png", 2)
    assert values(frames, 1) == [2]
    save(folder / "last.png", 3)
    assert values(frames, 1) == [3]
    assert source.health.counts["renamed"] == 1


def test_replaced_file_is_a_new_part(folder: Path, watch) -> None:
    """The same name with other content is another part, written over or renamed over."""
    frames = iter(watch())
    save(folder / "part.png", 1)
    assert values(frames, 1) == [1]
    save(folder / "part.png", 2, size=9)
    assert values(frames, 1) == [2]
    save(folder / "next.tmp", 3, size=10).replace(folder / "part.png")
    assert values(frames, 1) == [3]


def test_deleted_before_it_was_read(folder: Path, watch) -> None:
    """A file that goes before its turn is noted, and the ones after it come."""
    for value in (1, 2, 3):
        os.utime(save(folder / f"{value}.png", value), (value, value))
    source = watch()
    frames = iter(source)
    assert values(frames, 1) == [1]
    (folder / "2.png").unlink()
    assert values(frames, 1) == [3]
    eventually(lambda: source.health.counts["vanished"] == 1, "the note")
    assert source.health.last_error is None


def test_deleted_while_it_was_opened(folder: Path, watch) -> None:
    """A file that goes at the very moment of reading is noted like any other."""

    def read(path: Path) -> Any:
        if path.name == "1.png":
            path.unlink()
        return read_samples(path)

    for value in (1, 2):
        os.utime(save(folder / f"{value}.png", value), (value, value))
    source = watch(read=read)
    assert values(iter(source), 1) == [2]
    assert source.health.counts["vanished"] == 1


def test_changed_while_it_was_read(folder: Path, watch) -> None:
    """A file written over while it is read is read again: what is there now is the part."""
    changed: list[Path] = []

    def read(path: Path) -> Any:
        image = read_samples(path)
        if not changed:
            changed.append(save(path, 2, size=9))
        return image

    save(folder / "part.png", 1)
    source = watch(read=read)
    frames = iter(source)
    assert values(frames, 1) == [2]
    assert source.health.frames == 1


def test_gone_once_it_was_read(folder: Path, watch) -> None:
    """A picture that was read whole counts, even when its file was deleted right after."""

    def read(path: Path) -> Any:
        image = read_samples(path)
        path.unlink()
        return image

    save(folder / "part.png", 1)
    assert values(iter(watch(read=read)), 1) == [1]


def test_never_readable_becomes_an_error(folder: Path, watch) -> None:
    """A file that stays broken comes as an error after the timeout; mended, it is a part."""
    data = encoded(1)
    (folder / "cut.png").write_bytes(data[:40])
    source = watch(timeout=0.3)
    frames = iter(source)
    frame = next(frames)
    assert isinstance(frame.error, ImageTruncatedError)
    assert (frame.image, frame.name) == (None, str(folder / "cut.png"))
    assert str(folder / "cut.png") in str(frame.error)
    (folder / "cut.png").write_bytes(data)
    assert values(frames, 1) == [1]


def test_broken_file_holds_nothing_up(folder: Path, watch) -> None:
    """While one file is waited for, those after it are taken."""
    (folder / "cut.png").write_bytes(encoded(1)[:40])
    save(folder / "sound.png", 2)
    source = watch()
    assert values(iter(source), 1) == [2]
    assert source.health.counts["waiting"] == 1


def test_names_that_are_not_parts(folder: Path, watch) -> None:
    """Hidden and temporary names, other endings and folders are left alone."""
    for name in (".hidden.png", "~lock.png", "notes.txt", "part.png.part", "part.tmp"):
        (folder / name).write_bytes(encoded(9))
    (folder / "folder.png").mkdir()
    save(folder / "z.png", 1)
    source = watch()
    assert values(iter(source), 1) == [1]
    eventually(lambda: source.health.counts["waiting"] == 0)


def test_link_that_leads_nowhere(folder: Path, watch) -> None:
    """A link to itself is an error in one sentence, not the end of the stream."""
    (folder / "loop.png").symlink_to(folder / "loop.png")
    frame = next(iter(watch(timeout=0.1)))
    assert isinstance(frame.error, ImageError)
    assert "loop.png" in str(frame.error)


def test_subfolders_on_request(folder: Path, watch) -> None:
    """With `recursive` parts below count too, also in a subfolder made later; links do not."""
    (folder / "monday").mkdir()
    save(folder / "monday" / "1.png", 1)
    (folder / "monday" / "again").symlink_to(folder)
    frames = iter(watch(recursive=True))
    assert next(frames).name == str(folder / "monday" / "1.png")
    (folder / "tuesday").mkdir()
    save(folder / "tuesday" / "2.png", 2)
    assert next(frames).name == str(folder / "tuesday" / "2.png")
    flat = iter(watch())
    save(folder / "3.png", 3)
    assert values(flat, 1) == [3]


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    """A missing folder, or a file in its place, is one clear sentence, at once."""
    (tmp_path / "file").touch()
    for name, said in (("none", "does not exist"), ("file", "this is a file")):
        source = WatchedFolder(tmp_path / name)
        with pytest.raises(SourceError, match=said):
            source.check()
        with pytest.raises(SourceError, match=said):
            next(iter(source))
        assert source.health.state == "failed"
        assert said in str(source.health.last_error)


def test_folder_goes_and_comes_back(folder: Path, watch, caplog: pytest.LogCaptureFixture) -> None:
    """While the folder is out of reach the source tries again and says so; nothing comes twice."""
    source = watch()
    found = collected(source)
    save(folder / "a.png", 1)
    eventually(lambda: len(found) == 1, "the first file")
    away = folder.rename(folder.with_name("away"))
    eventually(lambda: source.health.state == "retrying", "the loss")
    assert str(folder) in str(source.health.last_error)
    save(away / "b.png", 2)
    away.rename(folder)
    eventually(lambda: len(found) == 2, "the second file")
    assert source.health.state == "running"
    assert [value_of(frame.image) for frame in found] == [1, 2]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_folder_gone_for_too_long(folder: Path, watch) -> None:
    """With `patience` a folder that stays away ends the stream with one sentence."""
    source = watch(patience=0.1)
    frames = iter(source)
    save(folder / "a.png", 1)
    assert values(frames, 1) == [1]
    folder.rename(folder.with_name("away"))
    with pytest.raises(SourceError, match="cannot be read"):
        next(frames)
    assert source.health.state == "failed"


def test_close_from_another_thread(folder: Path, watch) -> None:
    """Closing ends a wait for files, and the source is then `closed`; a second pass is refused."""
    source = watch(poll=DEADLINE)
    frames = iter(source)
    threading.Timer(0.05, source.close).start()
    assert next(frames, None) is None
    assert source.health.state == "closed"
    with pytest.raises(ParameterError, match="iterated once"):
        iter(source)


@pytest.mark.parametrize("options", [{"settle": -1}, {"poll": 0}, {"timeout": float("nan")}])
def test_options_that_cannot_work(folder: Path, options: dict[str, float]) -> None:
    """Times that cannot be are refused by name."""
    with pytest.raises(ParameterError, match=next(iter(options))):
        WatchedFolder(folder, **options)
