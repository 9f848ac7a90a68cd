"""`blemish inspect --watch`, `--video` and `--camera`: a verdict a part, as the parts come."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, NoReturn, Self

import typer

from blemish.cli._output import say
from blemish.cli._resuming import Judged
from blemish.cli.inspect import STYLES, overlay_name, show, write_overlay
from blemish.errors import BlemishError, ParameterError

if TYPE_CHECKING:
    from blemish.inspector import Inspector
    from blemish.streams import BaseSource, Stream, StreamResult


class Wanted(NamedTuple):
    """What the command line names as the images' source."""

    sources: list[Path]
    watch: Path | None
    settle: float | None
    new_only: bool
    resume: bool
    video: Path | None
    every: int | None
    camera: str | None
    reconnect: bool


def source_of(
    wanted: Wanted, out: Path | None, json_file: Path | None, *, quiet: bool
) -> BaseSource | None:
    """The source of a stream, checked as far as is cheap; None for images and folders."""
    _check(wanted)
    if wanted.sources:
        return None
    from blemish.streams import Camera, VideoFile, WatchedFolder

    source: BaseSource
    if wanted.watch is not None:
        if out is not None and out.resolve().is_relative_to(wanted.watch.resolve()):
            raise ParameterError(f"--out {out}: it lies in the watched folder; give another one")
        judged = _judged(json_file, quiet=quiet) if wanted.resume else None
        source = WatchedFolder(
            wanted.watch,
            settle=0.5 if wanted.settle is None else wanted.settle,
            existing=not wanted.new_only,
            recursive=True,
            judged=None if judged is None else judged.has,
        )
    elif wanted.video is not None:
        _hush()
        source = VideoFile(wanted.video, every=1 if wanted.every is None else wanted.every)
    else:
        assert wanted.camera is not None
        _hush()
        source = Camera(wanted.camera, reconnect=wanted.reconnect)
    source.check()
    return source


def _judged(json_file: Path | None, *, quiet: bool) -> Judged:
    """The parts in the file of results, which another run of the same command has left."""
    if json_file is None or str(json_file) == "-":
        raise ParameterError("--resume goes on where --json FILE ends; name that file")
    judged = Judged(json_file)
    say(f"{len(judged)} parts are in {json_file} already", quiet=quiet)
    return judged


def _hush() -> None:
    """Keep OpenCV and FFmpeg from adding lines to our one sentence, unless they were asked to."""
    import cv2

    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when the first video is opened
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _check(wanted: Wanted) -> None:
    named = [bool(wanted.sources)]
    named += [value is not None for value in (wanted.watch, wanted.video, wanted.camera)]
    if sum(named) != 1:
        raise ParameterError("give images or folders, or one of --watch, --video and --camera")
    for option, given, owner, there in (
        ("--settle", wanted.settle is not None, "--watch", wanted.watch is not None),
        ("--new-only", wanted.new_only, "--watch", wanted.watch is not None),
        ("--resume", wanted.resume, "--watch", wanted.watch is not None),
        ("--every", wanted.every is not None, "--video", wanted.video is not None),
        ("--reconnect", wanted.reconnect, "--camera", wanted.camera is not None),
    ):
        if given and not there:
            raise ParameterError(f"{option} goes with {owner}; leave it out")
    if wanted.resume and wanted.new_only:
        raise ParameterError("--resume judges what came meanwhile, --new-only does not; give one")


def run(
    inspector: Inspector,
    source: BaseSource,
    json_file: Path | None,
    out: Path | None,
    *,
    quiet: bool,
) -> NoReturn:
    """Inspect until the source ends or a signal comes, and exit by the results so far."""
    from blemish.streams import inspect_stream

    as_json = str(json_file) == "-" or (json_file is None and not sys.stdout.isatty())
    quiet = quiet or as_json
    verdicts: Counter[str] = Counter()
    stream = inspect_stream(inspector.inspect, source)
    try:
        with JsonLines(None if as_json else json_file) as lines, stream, stopped_by(stream.stop):
            say(f"inspecting {source.name}; stop with Ctrl-C", quiet=quiet)
            for part in stream:
                result = part.to_dict()
                verdicts[result["verdict"]] += 1
                if as_json or json_file is not None:
                    lines.write(result)
                else:
                    show(result)
                if out is not None and part.result is not None:
                    write_overlay(inspector, part.image, _target(out, source, part), part.result)
    finally:
        _summarise(stream, verdicts, quiet=quiet)
    raise typer.Exit(2 if verdicts["error"] else 1 if verdicts["review"] + verdicts["fail"] else 0)


def _summarise(stream: Stream[Any], verdicts: Counter[str], *, quiet: bool) -> None:
    counts = ", ".join(f"{verdicts[name]} {name}" for name in STYLES if verdicts[name])
    say(f"{verdicts.total()} images: {counts or 'none came'}", quiet=quiet)
    for stage, times in stream.timings.summary().items():
        say(
            f"{stage:<18} p50 {times.p50:8.1f}   p95 {times.p95:8.1f}   max {times.max:8.1f} ms",
            quiet=quiet,
        )


def _target(out: Path, source: BaseSource, part: StreamResult[Any]) -> Path:
    """Where a part's overlay goes: as the file lies in its folder, or by the frame's name."""
    from blemish.streams import WatchedFolder

    if isinstance(source, WatchedFolder):
        return out / overlay_name(Path(part.frame.name), source.folder)
    # The name of a frame: no path, and nothing that some file system refuses.
    return out / (re.sub(r"[^\w.#-]+", "_", Path(part.frame.name).name) + ".png")


class JsonLines:
    """One JSON object a line, in the file (added to its end) or on stdout before the next part."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.last: str | None = None
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        if self.path is not None:
            try:
                self._file = self.path.open("ab", buffering=0)
                self._end_broken_line()
            except OSError as error:
                raise self._failed(error) from error
        return self

    def __exit__(self, *details: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, result: dict[str, Any]) -> None:
        """Write one line out whole; raises BlemishError, which says what was written last."""
        data = (json.dumps(result) + "\n").encode()
        try:
            if self._file is not None:
                self._append(self._file, data)
            else:
                sys.stdout.write(data.decode())
                sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            if self._file is None:
                sys.stdout = None  # which Python would try to flush once more at its end
            raise self._failed(error) from error
        self.last = result["image"]

    def _append(self, file: BinaryIO, data: bytes) -> None:
        """All of `data`, or nothing where the file can be cut back."""
        start = file.tell() if file.seekable() else None
        left = memoryview(data)
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            if start is not None:
                with suppress(OSError):
                    file.truncate(start)
            raise

    def _end_broken_line(self) -> None:
        """Start a new line where a killed process left one without its end."""
        assert self.path is not None
        assert self._file is not None
        if self.path.is_file() and self.path.stat().st_size:
            with self.path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    self._file.write(b"\n")

    def _failed(self, error: OSError) -> BlemishError:
        last = "no part is in it" if self.last is None else f"the last part in it is {self.last}"
        name = "the standard output" if self.path is None else self.path
        return BlemishError(f"{name} could not be written ({error.strerror or error}); {last}")


@contextmanager
def stopped_by(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at the first Ctrl-C or SIGTERM; the second one acts as it always does."""
    # The handler may run in the middle of anything, so it takes no lock: `put` is reentrant.
    asked: SimpleQueue[bool] = SimpleQueue()

    def handle(number: int, _: FrameType | None) -> None:
        signal.signal(number, before[number])
        asked.put(True)

    def wait() -> None:
        if asked.get():
            stop()

    # What a shell's background or nohup has set to be ignored stays ignored.
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    before: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}
    waiting = threading.Thread(target=wait, name="blemish-stop", daemon=True)
    waiting.start()
    try:
        for number in numbers:
            signal.signal(number, handle)
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])
        asked.put(False)
        waiting.join()
