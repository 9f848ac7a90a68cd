"""One writer a bundle: a lock on a file in its folder, which the system opens when a process dies.

Readers never wait: what they read is named by its content and swapped in one step.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blemish.bundle.manifest import NAME as MANIFEST
from blemish.errors import BundleError

NAME = ".lock"
WAIT = 10.0  # seconds that a second writer waits for the first
_STEP = 0.05  # seconds between two tries

_held = threading.local()  # folders that this thread has locked, so that it may lock them again


@contextmanager
def locked(folder: str | os.PathLike[str], *, wait: float = WAIT) -> Iterator[None]:
    """Hold the bundle at `folder` for writing; raises BundleError when it stays taken.

    A thread may enter again; a folder that is no bundle yet needs no lock.
    """
    path = Path(folder).absolute()
    held: set[Path] = _held.__dict__.setdefault("folders", set())
    if path in held or not (path / MANIFEST).is_file():
        yield
        return
    try:
        handle = os.open(path / NAME, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise _refused(path, error) from error
    try:
        try:
            _wait_for(handle, path, wait)
        except OSError as error:  # some network drives have no locks
            raise _refused(path, error) from error
        held.add(path)
        try:
            yield
        finally:
            held.discard(path)
    finally:
        os.close(handle)  # which gives the lock back too


def try_lock(folder: Path) -> int | None:
    """A handle that holds a lock on the folder itself until it is closed; None: it cannot be had.

    Windows opens no folders, and there it never can.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        if _taken(handle):
            return handle
    except OSError:
        pass
    os.close(handle)
    return None


def try_lock_file(path: Path) -> int | None:
    """A handle that holds a lock on the file `path`, which is made, until it is closed.

    None: another process has it. Raises OSError where there can be no lock.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if _taken(handle):
            return handle
    except OSError:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _refused(path: Path, error: OSError) -> BundleError:
    return BundleError(f"{path} cannot be written ({error.strerror or error}); nothing was changed")


def _wait_for(handle: int, path: Path, wait: float) -> None:
    end = time.monotonic() + wait
    while not _taken(handle):
        if time.monotonic() >= end:
            raise BundleError(
                f"{path} is being changed by another process, still after {wait:g} s; "
                "try again when that is done"
            )
        time.sleep(_STEP)


if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _taken(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _taken(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
