"""One voice for the processes of a training: every one runs the command, the first one tells."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from blemish.errors import BlemishError, ProcessLostError

_GRACE = 20.0  # seconds in which the first process meets what is wrong for all


def tells() -> bool:
    """Whether this process is the one that tells of what several do on this machine."""
    return int(os.environ.get("WORLD_SIZE", "1")) <= 1 or os.environ.get("LOCAL_RANK", "0") == "0"


@contextmanager
def one_voice() -> Iterator[None]:
    """Of several processes on a machine, only the first says what went wrong and that it stops.

    The first on every machine, for each has a terminal of its own. Another one speaks where it
    fails alone: where who started it is still there after a while, and has not ended it.
    """
    try:
        yield
    except (BlemishError, KeyboardInterrupt) as error:
        if tells():
            raise
        if isinstance(error, KeyboardInterrupt):
            raise SystemExit(130) from error
        if not isinstance(error, ProcessLostError) and _alone():
            local = os.environ.get("LOCAL_RANK", "0")
            typer.echo(f"blemish: process {local} beside the first: {error}", err=True)
        raise SystemExit(2) from error


def _alone() -> bool:
    """Whether the process that started this one goes on."""
    parent, until = os.getppid(), time.monotonic() + _GRACE
    while os.getppid() == parent:
        if time.monotonic() >= until:
            return True
        time.sleep(0.1)
    return False
