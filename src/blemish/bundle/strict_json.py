"""JSON as manifests hold it: bounded, every key once, every number finite.

What Python's reader lets pass (NaN, a key that is there twice, any depth) other readers refuse or
read in another way, so it has no place in a file that several of them must agree on.
"""

from __future__ import annotations

import json
import math
from typing import Any

LARGEST = 16 << 20  # bytes; read, they take up to twenty times as much memory
DEEPEST = 32  # lists and objects inside one another


def read_json(data: bytes) -> Any:
    """The value that UTF-8 `data` holds; raises ValueError, whose text says what is wrong."""
    if len(data) > LARGEST:
        raise ValueError(f"it has {len(data)} bytes; no manifest has more than {LARGEST}")
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_object,
            parse_float=_float,
            parse_int=_int,
            parse_constant=_float,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError("it is not readable JSON") from error
    if _is_deep(value):
        raise ValueError("it is nested too deeply")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:40]!r} is there twice")
        found[key] = value
    return found


def _int(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"it holds a whole number of more than 64 bits ({text[:20]}...)")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it holds a number that is not finite ({text[:20]})")
    return value


def _is_deep(value: Any) -> bool:
    """Whether lists and objects lie more than DEEPEST inside one another."""
    level: list[dict[str, Any] | list[Any]] = [[value]]
    for _ in range(DEEPEST + 1):  # the first step finds the value itself
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True
