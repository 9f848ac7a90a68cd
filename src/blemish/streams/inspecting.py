"""A stream of frames becomes a stream of results: read ahead, inspected by threads, none lost."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

from blemish.errors import ImageError, ParameterError
from blemish.imaging import read_samples
from blemish.streams.folder import WatchedFolder
from blemish.streams.source import Frame, Health, Images, Picture, Source, moment
from blemish.streams.timings import Timings
from blemish.verdict import error_to_dict

T = TypeVar("T")
Read = Callable[[Any], Any]

_LOOK = 0.2  # s: how often a wait looks at the clock, and on Windows for Ctrl-C
_GRACE = 2.0  # s that a stopped source has to give its last frame


@dataclass(frozen=True, eq=False)
class StreamResult(Generic[T]):
    """What became of one frame: `result` of the inspector, or the `error` of an unreadable image.

    `image` is what was inspected, a raster or samples (None with an error). `timings` are
    milliseconds: `wait` for the source, `read` and decode, `queue` until a thread was free,
    `inspect`, and `inspect.STAGE` for each stage that the result itself has timings of.
    """

    frame: Frame
    result: T | None
    error: ImageError | None
    image: Any
    timings: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `blemish inspect`, with the frame's name, and its `time` in UTC."""
        if self.error is not None:
            line = error_to_dict(self.frame.name, self.error)
        else:
            line = {**self.result.to_dict(), "image": self.frame.name}  # type: ignore[union-attr]
            # The inspector was handed pixels: from file to verdict includes their reading.
            line["latency_ms"] = round(self.timings["read"] + self.timings["inspect"], 3)
        return {**line, "time": moment(self.frame.time)}


def inspect_stream(
    inspect: Callable[[Any], T],
    source: Source | Iterable[Picture | Frame],
    *,
    workers: int = 1,
    queue: int = 8,
    ordered: bool = True,
    memory: int = 256,
    read: Read | None = None,
) -> Stream[T]:
    """The results of a source's frames, in their order (or, not `ordered`, as they come).

    `inspect` is called by `workers` threads with what `read` makes of each frame's image. Left out,
    that is what the `raster` of its own object reads, as `Inspector.inspect` has one, or else
    `read_samples`. The source is asked for a frame only while less than
    `queue + workers` frames, and less than `memory` MiB of samples, wait for the caller: a slow
    inspection slows the source down, and nothing is dropped.

    An ImageError becomes an error in its frame's place, and the others go on. Any other exception
    is raised in its frame's place (a source's after the last result), and the stream stops.
    """
    for name, value in (("workers", workers), ("queue", queue), ("memory", memory)):
        if value < 1:
            raise ParameterError(f"{name} is {value}; give a whole number of at least 1")
    whole = source if isinstance(source, Source) else Images(source)
    # An inspector reads as it did when it learned, and no larger than it looks at.
    owner = getattr(inspect, "__self__", None)
    own: Read = getattr(owner, "raster", read_samples)
    if read is None and isinstance(whole, WatchedFolder) and whole.read is None:
        whole.read = own  # finds a file whole by reading it, and need not read it twice
    return Stream(_Line(inspect, whole, workers, queue, ordered, memory, read or own))


class Stream(Iterator[StreamResult[T]]):
    """The iterator over results. Close it, or use it in a `with` block, to join its threads."""

    def __init__(self, line: _Line[T]) -> None:
        self._line = line
        # Who breaks out of the loop and forgets the stream leaves no threads behind either.
        weakref.finalize(self, line.close)

    def __next__(self) -> StreamResult[T]:
        return self._line.next()

    def stop(self) -> None:
        """Read no more; the frames read so far are inspected, given, and then the stream ends."""
        self._line.stop()

    def close(self) -> None:
        """Stop at once: inspections in progress end, threads are joined.

        What is finished can still be iterated; frames that no thread had begun are left.
        """
        self._line.close()

    @property
    def health(self) -> Health:
        """How the source is doing."""
        return self._line.source.health

    @property
    def timings(self) -> Timings:
        """How long each stage takes."""
        return self._line.timings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


@dataclass(eq=False)
class _Job:
    """A frame on its way: read, and not inspected yet."""

    index: int
    frame: Frame
    image: Any
    error: ImageError | None
    timings: dict[str, float]
    since: float = field(default_factory=time.perf_counter)

    @property
    def size(self) -> int:
        return getattr(self.image, "nbytes", 0)


class _Line(Generic[T]):
    """The threads and what lies between them; all state is changed under one lock."""

    def __init__(
        self,
        inspect: Callable[[Any], T],
        source: Source,
        workers: int,
        queue: int,
        ordered: bool,
        memory: int,
        read: Read,
    ) -> None:
        self.inspect = inspect
        self.source = source
        self.read = read
        self.ordered = ordered
        self.timings = Timings()
        self.places = queue + workers
        self.bytes = memory * 2**20
        self.workers = workers
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._jobs: deque[_Job] = deque()
        self._done: dict[int, StreamResult[T] | BaseException] = {}
        self._sizes: dict[int, int] = {}  # bytes of each frame that was read and not given on
        self._busy = 0  # threads that are inspecting
        self._next = 0
        self._reading = True
        self._failure: BaseException | None = None
        self._stopped_at: float | None = None
        self._closed = False

    # The caller's side ----------------------------------------------------------------------

    def next(self) -> StreamResult[T]:
        """The next result; waits for it."""
        with self._changed:
            self._start()
            while (outcome := self._take()) is None:
                if self._is_over():
                    failure, self._failure = self._failure, None
                    raise StopIteration if failure is None else failure
                self._changed.wait(_LOOK)
        if isinstance(outcome, StreamResult):
            return outcome
        self.stop()
        if isinstance(outcome, StopIteration):  # raised as it is, it would end the loop in silence
            raise RuntimeError("inspect raised StopIteration") from outcome
        raise outcome

    def stop(self) -> None:
        """Read no more."""
        with self._changed:
            if self._stopped_at is None:
                self._stopped_at = time.monotonic()
            if not self._threads:
                self._reading = False
            self._changed.notify_all()
        self.source.close()

    def close(self) -> None:
        """Stop, leave what no thread has begun, and join the threads."""
        self.stop()
        with self._changed:
            self._closed = True
            for job in self._jobs:
                del self._sizes[job.index]
            self._jobs.clear()
            self._changed.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                # Only a foreign source can hold the reading thread up for longer.
                thread.join(_GRACE if thread is self._threads[0] else None)
        self._read_no_more()

    def _start(self) -> None:
        if self._threads or self._stopped_at is not None:
            return
        jobs = [self._read_all, *[self._work] * self.workers]
        names = ["read", *[f"inspect-{number}" for number in range(self.workers)]]
        self._threads = [
            threading.Thread(target=job, name=f"blemish-{name}", daemon=True)
            for job, name in zip(jobs, names, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def _take(self) -> StreamResult[T] | BaseException | None:
        """What is to be given now, if it is there."""
        # After `close` some frames were left out, so that the order has gaps.
        gaps = self._closed and not self._busy
        if self._next in self._done:
            index = self._next
        elif self._done and (gaps or not self.ordered):
            index = min(self._done) if self.ordered else next(iter(self._done))
        else:
            return None
        self._next = index + 1
        del self._sizes[index]
        self._changed.notify_all()
        return self._done.pop(index)

    def _is_over(self) -> bool:
        if self._sizes:
            return False
        if self._stopped_at is not None and time.monotonic() > self._stopped_at + _GRACE:
            self._read_no_more()
        return not self._reading

    def _read_no_more(self, failure: BaseException | None = None) -> None:
        with self._changed:
            self._reading = False
            self._failure = failure or self._failure
            self._changed.notify_all()

    # The reading thread ---------------------------------------------------------------------

    def _read_all(self) -> None:
        failure: BaseException | None = None
        frames: Iterator[Frame] | None = None
        try:
            frames = iter(self.source)
            index = 0
            while self._has_place():
                started = time.perf_counter()
                frame = next(frames, None)
                if frame is None:
                    break
                waited = (time.perf_counter() - started) * 1e3 - frame.read_ms
                self._put(self._read(index, frame, max(waited, 0.0)))
                index += 1
        except BaseException as error:
            failure = error
        finally:
            if isinstance(frames, Generator):
                frames.close()
            self._read_no_more(failure)

    def _has_place(self) -> bool:
        """Wait until one more frame may be read; False when no more are wanted."""
        with self._changed:
            while self._stopped_at is None:
                waiting = len(self._sizes)
                room = waiting < self.places and sum(self._sizes.values()) < self.bytes
                if room or not waiting:
                    return True
                self._changed.wait()
        return False

    def _read(self, index: int, frame: Frame, waited: float) -> _Job:
        started = time.perf_counter()
        image, error = None, frame.error
        if error is None:
            try:
                image = self.read(frame.image)
            except ImageError as caught:
                error = _named(caught, frame.name)
        spent = frame.read_ms + (time.perf_counter() - started) * 1e3
        return _Job(index, frame, image, error, {"wait": waited, "read": spent})

    def _put(self, job: _Job) -> None:
        with self._changed:
            if self._reading and not self._closed:
                self._sizes[job.index] = job.size
                self._jobs.append(job)
                self._changed.notify_all()

    # The inspecting threads -----------------------------------------------------------------

    def _work(self) -> None:
        while (job := self._next_job()) is not None:
            outcome = self._outcome(job)
            with self._changed:
                self._busy -= 1
                self._done[job.index] = outcome
                self._changed.notify_all()

    def _next_job(self) -> _Job | None:
        with self._changed:
            while not self._jobs:
                if self._closed or not self._reading:
                    return None
                self._changed.wait()
            self._busy += 1
            return self._jobs.popleft()

    def _outcome(self, job: _Job) -> StreamResult[T] | BaseException:
        started = time.perf_counter()
        timings = {**job.timings, "queue": (started - job.since) * 1e3}
        result, error = None, job.error
        if error is None:
            try:
                result = self.inspect(job.image)
            except ImageError as caught:
                error = _named(caught, job.frame.name)
            except BaseException as caught:  # surfaces where the caller takes this frame's result
                return caught
            timings["inspect"] = (time.perf_counter() - started) * 1e3
            for stage, spent in (getattr(result, "timings", None) or {}).items():
                timings[f"inspect.{stage}"] = spent
        self.timings.add(timings)
        return StreamResult(job.frame, result, error, job.image, timings)


def _named(error: ImageError, name: str) -> ImageError:
    """The error of pixels or bytes, which have no name of their own, with their frame's."""
    head, colon, rest = str(error).partition(":")
    return type(error)(name + colon + rest) if head in {"array", "image bytes"} else error
