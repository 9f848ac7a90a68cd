"""What an MQTT message says: an image, and what its sender knows of the part.

A message is the image's bytes, or JSON `{"image": BASE64, "part_id", "correlation_id",
"metadata"}`. Part id and correlation id may also come as properties of MQTT 5; JSON goes first.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from blemish.station.errors import StationError
from blemish.station.inspecting import LONGEST_NAME

_KEYS = {"image", "part_id", "correlation_id", "metadata"}
_DEEPEST = 32  # metadata in metadata


class MessageError(StationError):
    """A message does not say what a part's message must."""

    code = "message"


@dataclass(frozen=True)
class Message:
    """What was read of a message."""

    image: bytes
    part_id: str | None = None
    correlation_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def read_message(
    payload: bytes, *, part_id: str | None = None, correlation_id: str | None = None
) -> Message:
    """The message in a payload; the ids are those of its properties. Raises MessageError."""
    # No image begins with a brace.
    is_json = payload[:64].lstrip().startswith(b"{")
    told: dict[str, Any] = _parsed(payload) if is_json else {"image": payload}
    return Message(
        told["image"],
        _name("part_id", told.get("part_id"), part_id),
        _name("correlation_id", told.get("correlation_id"), correlation_id),
        told.get("metadata") or {},
    )


def _parsed(payload: bytes) -> dict[str, Any]:
    try:
        told = json.loads(payload, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"the message is not JSON ({error}); send JSON or an image") from error
    if unknown := sorted(set(told) - _KEYS):
        raise MessageError(
            f"the message has the key '{unknown[0][:80]}'; give image, part_id, correlation_id "
            "and metadata"
        )
    try:
        told["image"] = base64.b64decode(told["image"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise MessageError("the message has no 'image' in base64; give one") from error
    metadata = told.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise MessageError("the message's 'metadata' is not an object; give names and values")
    if not _is_storable(metadata, _DEEPEST):
        raise MessageError(
            "the message's 'metadata' holds what no database keeps: a null character, half a "
            f"character, a number beyond double precision, or more than {_DEEPEST} levels"
        )
    return dict(told)


def _name(which: str, in_json: object, in_properties: str | None) -> str | None:
    name = in_properties if in_json is None else in_json
    if name is None:
        return None
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise MessageError(
            f"the message's {which} is not a text of 1 to {LONGEST_NAME} printable characters"
        )
    return name


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _is_storable(value: object, levels: int) -> bool:
    """Whether both databases can keep a value that was read from JSON."""
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= one <= "\udfff" for one in value)
    if isinstance(value, float):
        return abs(value) != float("inf")
    if not isinstance(value, dict | list):
        return True
    if isinstance(value, list):
        return levels > 0 and all(_is_storable(one, levels - 1) for one in value)
    return levels > 0 and all(
        _is_storable(name, 0) and _is_storable(one, levels - 1) for name, one in value.items()
    )
