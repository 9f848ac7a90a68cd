"""From an image's bytes to an inspection in the store: admitted, inspected, kept, acknowledged."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from blemish.errors import BlemishError
from blemish.station.errors import BusyError, StationError
from blemish.station.settings import Limits
from blemish.station.shelf import Held, Shelf
from blemish.station.store import Database, Draft, Judged, PictureStore
from blemish.station.store.inspections import of_request, record
from blemish.station.store.pictures import sha256
from blemish.station.store.types import new_id, storable
from blemish.verdict import Inspection

log = logging.getLogger("blemish.station")

LONGEST_NAME = 255


@dataclass(frozen=True)
class Part:
    """A part to be inspected: its image as it came, and what its sender says of it.

    With a `request_key` the same request is recorded once, however often it comes. `arrived` is
    when it came, by `time.monotonic`: what must be answered in time counts from then.
    """

    inspector: str
    data: bytes
    source: str = "http"
    image: str | None = None
    part_id: str | None = None
    correlation_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    request_key: str | None = None
    arrived: float = field(default_factory=time.monotonic, compare=False)

    def __post_init__(self) -> None:
        for name in ("part_id", "correlation_id"):
            value = getattr(self, name)
            if value is not None and not (0 < len(value) <= LONGEST_NAME and value.isprintable()):
                raise StationError(
                    f"the {name} has {len(value)} characters or unprintable ones; give 1 to "
                    f"{LONGEST_NAME} printable characters"
                )

        if not storable(self.image) or not storable(dict(self.metadata)):
            raise StationError(
                "the image's name or the metadata hold what no database keeps (NUL, half a "
                "character, a number that is none); leave that out"
            )

    @property
    def digest(self) -> str:
        """What makes this request another than that one."""
        told = [self.inspector, self.part_id, self.correlation_id, self.image, dict(self.metadata)]
        text = json.dumps(told, sort_keys=True, default=str)
        return hashlib.sha256(text.encode() + sha256(self.data).encode()).hexdigest()


class Listener(Protocol):
    """Who wants to know of parts as they come and of results as they are recorded."""

    def arrived(self, part: Part, key: str) -> None:
        """A part came, admitted or not; its inspection would have the id `key`."""

    def recorded(self, judged: Judged) -> None:
        """A part's result is in the store."""

    def lost(self, part: Part, key: str, error: Exception) -> None:
        """A part was refused or could not be recorded, and whoever sent it was told so."""


class Inspecting:
    """Inspects parts with `limits.workers` threads; at most `limits.queue` more may wait.

    `submit` refuses what goes beyond with BusyError, `inspect` waits for its turn: a source is
    slowed down. Nothing is acknowledged before it is in the store.
    """

    def __init__(
        self,
        shelf: Shelf,
        database: Database,
        pictures: PictureStore,
        *,
        station: str,
        limits: Limits,
        sinks: Callable[[str], list[str]] = lambda inspector: [],
    ) -> None:
        self.shelf, self.database, self.pictures = shelf, database, pictures
        self.station, self.limits, self.sinks = station, limits, sinks
        self.listeners: list[Listener] = []
        self._places = threading.BoundedSemaphore(limits.workers + limits.queue)
        self._pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="blemish-inspect")
        self._lock = threading.Lock()
        self._waiting = 0
        self._mean_ms = 100.0

    @property
    def waiting(self) -> int:
        """How many parts are being inspected or wait for it."""
        return self._waiting

    def submit(self, part: Part) -> Future[tuple[Judged, bool]]:
        """Begin at once or raise BusyError; gives the inspection, and False if it was there.

        Raises UnknownError for an inspector that is not there.
        """
        key = self._arrive(part)
        if not self._places.acquire(blocking=False):
            wait = self._waiting * self._mean_ms / 1e3 / self.limits.workers
            busy = BusyError(
                f"{self._waiting} parts are waiting already; send this one again in a moment",
                retry_after=max(1.0, wait),
            )
            self._tell("lost", part, key, busy)
            raise busy
        return self._begin(part, key)

    def inspect(self, part: Part) -> tuple[Judged, bool]:
        """Wait for a place, then for the result."""
        key = self._arrive(part)
        self._places.acquire()
        return self._begin(part, key).result()

    def close(self) -> None:
        """Finish what was begun."""
        self._pool.shutdown(wait=True)

    def _arrive(self, part: Part) -> str:
        """Told before anything can refuse the part: an output must not show the last one's pass."""
        key = new_id()
        self._tell("arrived", part, key)
        try:
            self.shelf.get(part.inspector)
        except StationError as error:
            self._tell("lost", part, key, error)
            raise
        return key

    def _begin(self, part: Part, key: str) -> Future[tuple[Judged, bool]]:
        with self._lock:
            self._waiting += 1
        try:
            future = self._pool.submit(self._whole, part, key)
        except BaseException:
            self._leave()
            raise
        return future

    def _leave(self) -> None:
        with self._lock:
            self._waiting -= 1
        self._places.release()

    def _whole(self, part: Part, key: str) -> tuple[Judged, bool]:
        started = time.perf_counter()
        try:
            found = self._recorded(part, key)
        except Exception as error:
            self._tell("lost", part, key, error)
            raise
        finally:
            spent = (time.perf_counter() - started) * 1e3
            self._mean_ms += 0.1 * (spent - self._mean_ms)
            self._leave()
        if found[1]:
            self._tell("recorded", found[0])
        return found

    def _recorded(self, part: Part, key: str) -> tuple[Judged, bool]:
        digest = part.digest if part.request_key is not None else None
        if part.request_key is not None:
            known = of_request(self.database, part.request_key, digest)
            if known is not None:
                return known, False
        held = self.shelf.get(part.inspector)
        values = self._judged(part, held)
        draft = Draft(
            id=key,
            station=self.station,
            source=part.source,
            live=values.pop("live"),
            image_sha256=self.pictures.put_image(part.data),
            part_id=part.part_id,
            correlation_id=part.correlation_id or part.part_id,
            image=part.image,
            extra=dict(part.metadata),
            request_key=part.request_key,
            request_sha256=digest,
            sinks=self.sinks(part.inspector),
            **values,
        )
        return record(self.database, draft)

    def _judged(self, part: Part, held: Held) -> dict[str, Any]:
        """The columns that the inspector fills in, and `live`: which version it was."""
        started = time.perf_counter()
        try:
            result = held.inspector.inspect(part.data)
        except Exception as error:
            # A part without a verdict is on record too: the line must not take it for good, and
            # one that finds a fault of ours must not hold up those behind it.
            code, told = "internal", f"Blemish failed ({type(error).__name__}); see the log"
            if isinstance(error, BlemishError):
                code, told = error.code, str(error)
            else:
                log.exception("an inspection by '%s' failed", held.name)
            return {
                "live": held.live,
                "verdict": "error",
                "latency_ms": (time.perf_counter() - started) * 1e3,
                "error_code": code,
                "error_message": told,
            }
        calibration = held.inspector.calibration
        level = None if calibration is None else calibration.region_level(result.score)
        return {"live": held.live, "region_level": level, **self._columns(result)}

    def _columns(self, result: Inspection) -> dict[str, Any]:
        height, width = result.image_size or (None, None)
        return {
            "verdict": result.verdict,
            "latency_ms": result.latency_ms,
            "width": width,
            "height": height,
            "score": result.score,
            "p_value": result.p_value,
            "reason": result.reason,
            "regions": [region.to_dict() for region in result.regions],
            "map_sha256": self.pictures.put_map(result.anomaly_map),
            "matrix": None if result.matrix is None else result.matrix.tolist(),
            "brightness": result.measures.get("brightness"),
            "sharpness": result.measures.get("sharpness"),
            "residual": result.measures.get("residual"),
            "timings": {stage: round(spent, 3) for stage, spent in result.timings.items()},
        }

    def _tell(self, what: str, *told: Any) -> None:
        for listener in self.listeners:
            try:
                getattr(listener, what)(*told)
            except Exception:
                log.exception("a listener failed; the inspection goes on")
