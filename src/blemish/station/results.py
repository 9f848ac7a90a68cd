"""A recorded inspection as JSON: what `blemish inspect` prints, and where and how it is on record.

The API answers with it and every sink sends it; `schema` names its version, which the file
result.schema.json describes.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from blemish.station.store import Judged

SCHEMA = "blemish.result/1"
RESULT_SCHEMA = Path(__file__).with_name("result.schema.json")  # JSON Schema 2020-12
API = "/api/v1"


def result_to_dict(judged: Judged) -> dict[str, Any]:
    """The JSON object of an inspection."""
    row = judged.row
    found = {
        "schema": SCHEMA,
        "id": row.id,
        "recorded_at": moment(row.recorded_at),
        "station": row.station,
        "source": row.source,
        "part_id": row.part_id,
        "correlation_id": row.correlation_id,
        "image": row.image,
        "image_sha256": row.image_sha256,
        "image_size": None if row.width is None else [row.width, row.height],
        "score": row.score,
        "p_value": row.p_value,
        "threshold": row.threshold,
        "review_threshold": row.review_threshold,
        "threshold_id": row.threshold_id,
        "verdict": row.verdict,
        "reason": row.reason,
        "regions": row.regions,
        "inspector": row.inspector,
        "version": row.version,
        "bundle_sha256": judged.bundle_sha256,
        "latency_ms": round(row.latency_ms, 3),
        "timings": row.timings,
        "metadata": row.extra,
        "overlay_url": f"{API}/inspections/{row.id}/overlay.png",
        "map_url": None if row.map_sha256 is None else f"{API}/inspections/{row.id}/map.npy",
        "decision": decision_to_dict(judged),
    }
    if row.error_code is not None:
        found["error"] = {"code": row.error_code, "message": row.error_message}
    return found


def decision_to_dict(judged: Judged) -> dict[str, Any] | None:
    """What a person has said of the part, if anyone has."""
    decision = judged.decision
    if decision is None:
        return None
    return {
        "decision": decision.decision,
        "by": decision.by,
        "note": decision.note,
        "decided_at": moment(decision.decided_at),
    }


def moment(time: datetime) -> str:
    """A time as ISO 8601, to the millisecond."""
    return time.isoformat(timespec="milliseconds")
