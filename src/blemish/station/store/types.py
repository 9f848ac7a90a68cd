"""Column types that mean the same in SQLite and PostgreSQL, and ids that sort by time."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, DateTime, Dialect
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator

# Structured values: binary where the database can look into it.
Structured = JSON().with_variant(JSONB(), "postgresql")


class UtcTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite, which knows no time zones, is handed UTC without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """What the database is handed."""
        if value is None:
            return None
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """What a program gets back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def storable(value: Any) -> bool:
    """Whether both databases keep a value as it is: text without NUL or half characters.

    Structured values may have no NaN and nothing infinite either, which JSON does not know.
    """
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, Mapping):
        return all(storable(key) and storable(one) for key, one in value.items())
    if isinstance(value, list | tuple):
        return all(map(storable, value))
    return not isinstance(value, float) or math.isfinite(value)


_last = 0
_lock = threading.Lock()


def new_id() -> str:
    """A UUID of version 7 (RFC 9562): in the order of time, also within this process."""
    global _last
    with _lock:
        # 48 bits of milliseconds and 12 of their fraction; two in the same instant are moved apart.
        _last = max(time.time_ns() * 4096 // 1_000_000, _last + 1)
        moment = _last
    return _uuid7(moment, int.from_bytes(os.urandom(8), "big"))


def least_id(moment: datetime) -> str:
    """The least id of a row written at or after `moment`, which is in UTC if it does not say."""
    told = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return _uuid7(max(int(told.timestamp() * 1e6), 0) * 4096 // 1000, 0)


def moment_of(key: str) -> datetime:
    """When an id was made, to the millisecond."""
    return datetime.fromtimestamp((UUID(key).int >> 80) / 1000, UTC)


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def _uuid7(moment: int, noise: int) -> str:
    """`moment` is in 1/4096 ms since 1970; of `noise` 62 bits are used."""
    high = (moment >> 12) << 16 | 7 << 12 | (moment & 0xFFF)
    low = 0b10 << 62 | (noise & (2**62 - 1))
    return str(UUID(int=high << 64 | low))
