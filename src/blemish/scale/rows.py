"""Results as rows of Parquet: one an image, in parts that are there whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from blemish.errors import BlemishError, ImageError
from blemish.scale.maps import packed_map
from blemish.scale.packages import needed
from blemish.scale.plan import Plan
from blemish.scale.storage import Place
from blemish.scale.work import Item, printable
from blemish.verdict import Inspection

VERDICTS = ("pass", "review", "fail", "error")
META = b"blemish"  # the key of a part's metadata, in JSON
_ROWS = 1024  # held before they are written, or so many bytes of maps
_MAP_BYTES = 32 * 2**20


def schema(maps: bool) -> Any:
    """The columns of the results; docs/scale.md describes them."""
    pa = needed("pyarrow")
    region = pa.struct(
        [
            ("box", pa.list_(pa.int32())),
            ("area", pa.int64()),
            ("peak", pa.float64()),
            ("template", pa.string()),
        ]
    )
    fields = [
        ("position", pa.int64()),
        ("id", pa.string()),
        ("image", pa.string()),
        ("sha256", pa.string()),
        ("verdict", pa.string()),
        ("score", pa.float64()),
        ("p_value", pa.float64()),
        ("threshold", pa.float64()),
        ("review_threshold", pa.float64()),
        ("reason", pa.string()),
        ("regions", pa.list_(region)),
        ("error_code", pa.string()),
        ("error_message", pa.string()),
        ("inspector", pa.string()),
        ("version", pa.int32()),
        ("bundle_sha256", pa.string()),
        ("latency_ms", pa.float64()),
    ]
    if maps:
        fields += [("map", pa.binary()), ("map_matrix", pa.list_(pa.float64()))]
    return pa.schema(fields)


def result_row(item: Item, data: bytes, result: Inspection, *, maps: bool) -> dict[str, Any]:
    """The row of an image that was inspected."""
    row = {**_head(item), **result.to_dict(), "image": printable(item.place.address)}
    row["sha256"] = hashlib.sha256(data).hexdigest()
    row["latency_ms"] = result.latency_ms
    if maps:
        row["map"] = packed_map(result.anomaly_map)
        row["map_matrix"] = None if result.matrix is None else result.matrix.ravel().tolist()
    return row


def error_row(item: Item, data: bytes | None, error: ImageError) -> dict[str, Any]:
    """The row of an image that could not be inspected."""
    return {
        **_head(item),
        "sha256": None if data is None else hashlib.sha256(data).hexdigest(),
        "verdict": "error",
        "error_code": error.code,
        "error_message": str(error),
    }


def _head(item: Item) -> dict[str, Any]:
    return {"position": item.position, "id": item.id, "image": printable(item.place.address)}


class PartWriter:
    """Writes one part's rows as they come, holding few of them."""

    def __init__(self, writer: Any, plan: Plan, number: int) -> None:
        self._writer, self._plan, self._number = writer, plan, number
        self._schema = schema(plan.maps)
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0
        self.verdicts: Counter[str] = Counter()

    def add(self, row: dict[str, Any]) -> None:
        """One more row, in the order of the list."""
        bundle = self._plan.bundle
        always = {
            "inspector": bundle.name,
            "version": bundle.version,
            "bundle_sha256": bundle.sha256,
        }
        self._rows.append({**row, **always})
        self.verdicts[row["verdict"]] += 1
        self._bytes += len(row.get("map") or b"")
        if len(self._rows) >= _ROWS or self._bytes >= _MAP_BYTES:
            self._flush()

    def finish(self) -> None:
        """Write what is left, and what the part says of itself."""
        self._flush()
        first, stop = self._plan.range(self._number)
        if (rows := self.verdicts.total()) != stop - first:
            raise BlemishError(f"part {self._number} has {rows} rows instead of {stop - first}")
        told = {"plan": self._plan.sha256, "first": first, "stop": stop}
        told["verdicts"] = dict(self.verdicts)
        self._writer.add_key_value_metadata({META: json.dumps(told).encode()})

    def _flush(self) -> None:
        if self._rows:
            table = needed("pyarrow").Table.from_pylist(self._rows, schema=self._schema)
            self._writer.write_table(table)
        self._rows, self._bytes = [], 0


@contextmanager
def writing_part(out: Place, plan: Plan, number: int) -> Iterator[PartWriter]:
    """Rows to add; the part is there when the block ends, and not after an error."""
    parquet = needed("pyarrow.parquet")
    with (
        out.child(plan.part_name(number)).writing() as file,
        parquet.ParquetWriter(file, schema(plan.maps), compression="zstd") as writer,
    ):
        part = PartWriter(writer, plan, number)
        yield part
        part.finish()


def finished_part(out: Place, plan: Plan, number: int) -> dict[str, int]:
    """The verdicts counted in a part that is there; raises BlemishError if it is not this run's."""
    place = out.child(plan.part_name(number))
    try:
        with place.opened() as file:
            metadata = needed("pyarrow.parquet").ParquetFile(file).metadata
        told = json.loads((metadata.metadata or {})[META])
        first, stop = plan.range(number)
        whole = (told["plan"], metadata.num_rows) == (plan.sha256, stop - first)
        counts: dict[str, int] = told["verdicts"]
    except (OSError, ValueError, KeyError) as error:
        raise _foreign(place) from error
    if not whole:
        raise _foreign(place)
    return counts


def _foreign(place: Place) -> BlemishError:
    return BlemishError(
        f"{place.address} is damaged or of another run; remove it, and run the same command again"
    )
