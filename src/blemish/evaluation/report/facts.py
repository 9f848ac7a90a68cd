"""Where the figures come from: the machine and the versions, as far as they can be found out."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from blemish.evaluation import machine as environment
from blemish.graphs.sessions import threads

Lines = list[tuple[str, str]]


def configuration(config: Mapping[str, Any]) -> Lines:
    """The settings as text; lists and nested values as JSON."""
    return [(name.replace("_", " "), _text(value)) for name, value in config.items()]


def machine() -> Lines:
    """Processor, cores, threads, memory, GPU and system; what cannot be told is left out."""
    found = [
        ("Processor", environment.processor()),
        ("Cores", str(os.cpu_count() or "")),
        ("Threads", str(threads())),
        ("Memory", _memory()),
        ("GPU", environment.gpu() or "none used"),
        ("System", f"{platform.system()} {platform.release()}".strip()),
        ("Report written", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
    ]
    return [(name, value) for name, value in found if value]


def versions() -> Lines:
    """Blemish, Python and the libraries that the figures depend on."""
    known = [(name, found) for name, found in environment.versions().items() if found]
    return [*known, ("Python", platform.python_version())]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _memory() -> str:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return ""
    return f"{total / 2**30:.0f} GiB"
