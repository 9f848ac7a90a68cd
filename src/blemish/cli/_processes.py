"""One voice for the processes of a training: every one runs the command, the first one tells."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from blemish.errors import BlemishError


def tells() -> bool:
    """Whether this process is the one that tells of what several do on this machine."""
    return int(os.environ.get("WORLD_SIZE", "1")) <= 1 or os.environ.get("LOCAL_RANK", "0") == "0"


@contextmanager
def one_voice() -> Iterator[None]:
    """Of several processes on a machine, only the first says what went wrong and that it stops.

    The first on every machine, for each has a terminal of its own.
    """
    try:
        yield
    except (BlemishError, KeyboardInterrupt) as error:
        if tells():
            raise
        raise SystemExit(2 if isinstance(error, BlemishError) else 130) from error
