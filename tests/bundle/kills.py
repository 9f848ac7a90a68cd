"""Kills processes with SIGKILL at every step of what they do to a bundle; looks at what is left.

    python -m tests.bundle.kills FOLDER     (from the project's root; FOLDER is empty)

One line of JSON a kill. PyTorch is imported once: each victim is a fork. A new operation is one
line in OPERATIONS.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from blemish import HETMM, Inspector
from blemish.bundle import (
    Draft,
    Manifest,
    pack_bundle,
    read_history,
    read_manifest,
    read_versions,
    unpack_bundle,
    version_file,
    write_versions,
)
from blemish.demo.parts import render
from blemish.errors import BundleError
from blemish.export import exporting

from .steps import Steps

KILLS = 200  # at steps, shared out evenly; kills after a random time come on top
LAST = 14  # steps of every operation that are always tried
RANDOM = 3  # an operation
FOLLOWED = 5  # after every fifth kill the next change is made
SETTINGS: dict[str, Any] = {
    "levels": (2,), "forward": (5,), "backward": (3,), "alpha": (0.5,), "level_weights": (1.0,),
    "windows": "manual",
}  # fmt: skip
State = tuple[Any, ...] | None


def part(seed: int) -> np.ndarray:
    """One good made-up part [32, 32, 3], uint8."""
    return np.ascontiguousarray(render(seed, size=64).image[::2, ::2])


def made(first: int) -> Inspector:
    """An inspector of four made-up parts, calibrated."""
    inspector = Inspector(HETMM(sheets=None, **SETTINGS), size=32, device="cpu")
    return inspector.fit([part(first + n) for n in range(4)]).calibrate(false_alarm_rate=0.25)


@dataclass(frozen=True)
class Operation:
    """What is done to the bundle at a path, and what has to be there before.

    `before` makes it (None: nothing is there), `change` is what the victim does.
    """

    before: Callable[[Path], Any] | None
    change: Callable[[Path], Any]


def update(path: Path) -> None:
    """Add one template and remove another."""
    with Inspector.changing(path, device="cpu") as inspector:
        inspector.update(add=[part(50)], remove=[inspector.templates[0].id])


def calibrate(path: Path) -> None:
    """Set another threshold."""
    with Inspector.changing(path, device="cpu") as inspector:
        inspector.calibrate(false_alarm_rate=0.5)


def rollback(path: Path) -> None:
    """Go back to the first version."""
    with Inspector.changing(path, device="cpu") as inspector:
        inspector.rollback(1)


def changed(path: Path) -> None:
    """A bundle of two versions."""
    OTHER.save(path)
    update(path)


def export(path: Path) -> None:
    """Write what an export writes; all that comes before it touches no bundle."""
    write_versions(path, exported())


@cache
def exported() -> list[Draft]:
    """The version that an export is about to write."""
    found: list[Draft] = []

    def caught(_: object, drafts: list[Draft]) -> list[Manifest]:
        found.extend(drafts)
        return [draft.manifest for draft in drafts]

    write, exporting.write_versions = exporting.write_versions, caught
    ONE.export("work.blemish", images=[part(70)])
    exporting.write_versions = write
    return found


cv2.setNumThreads(1)  # a pool of threads, or what it had locked, would not survive the forks
ONE, OTHER = made(0), made(10)
OPERATIONS = {
    "save": Operation(None, lambda path: ONE.save(path)),
    "replace": Operation(changed, lambda path: ONE.save(path)),
    "update": Operation(OTHER.save, update),
    "calibrate": Operation(OTHER.save, calibrate),
    "rollback": Operation(changed, rollback),
    "export": Operation(None, export),
    "unpack": Operation(
        lambda path: unpack_bundle(path.parent / "first.zip", path),
        lambda path: unpack_bundle(path.parent / "packed.zip", path),
    ),
}


def main(place: Path) -> None:
    """Kill, look, tell."""
    os.environ["BLEMISH_THREADS"] = "1"  # a pool of threads would not survive the forks
    exported()  # here, so that no victim has to
    _alone(lambda: OTHER.save(place / "packed.blemish"))
    pack_bundle(place / "packed.blemish", place / "first.zip")
    update(place / "packed.blemish")
    pack_bundle(place / "packed.blemish", place / "packed.zip")
    bases = {name: place / f"{name}-base" for name in OPERATIONS}
    counts = {name: _steps_of(name, place, bases[name]) for name in OPERATIONS}
    for name, operation in OPERATIONS.items():
        steps, seconds = counts[name]
        trial = Trial(name, operation, place, bases[name])
        for number, step in enumerate(_chosen(len(steps))):
            told = {"step": step, "of": len(steps), "at": steps[step - 1]}
            print(json.dumps(told | trial.kill(step, 0, number)), flush=True)
        for number in range(RANDOM):
            delay = random.Random(number).uniform(0, seconds)
            told = {"step": 0, "of": len(steps), "at": f"{delay:.3f} s"}
            print(json.dumps(told | trial.kill(0, delay, number)), flush=True)


def _chosen(count: int) -> list[int]:
    """The last steps of `count`, which put the new version in place, and others spread evenly.

    Files are written one like the other, so not every step of each has to be tried.
    """
    share = -(-KILLS // len(OPERATIONS))
    last = range(max(1, count - LAST + 1), count + 1)
    spread = np.linspace(1, last[0], share - len(last) + 1).astype(int)
    return sorted({*spread.tolist(), *last})


class Trial:
    """One operation, done again and again to copies of one bundle."""

    def __init__(self, name: str, operation: Operation, place: Path, base: Path) -> None:
        self.name, self.operation, self.base = name, operation, base
        self.work = place / "here" / "work.blemish"
        shutil.copy(place / "packed.zip", _emptied(self.work.parent))
        self._lay_out()
        self.old = state(self.work)
        _alone(lambda: operation.change(self.work))
        self.new = state(self.work)

    def kill(self, step: int, delay: float, number: int) -> dict[str, Any]:
        """Kill at a step or after a time; what was left, and whether the next change works."""
        self._lay_out()
        killed = _victim(self.operation, self.work, step, delay)
        found = {"operation": self.name, "killed": killed}
        left = state(self.work)
        found["left"] = {self.old: "old", self.new: "new"}.get(left, f"neither: {left}")
        if number % FOLLOWED == 0:
            found["next"] = self._next(left)
        return found

    def _next(self, left: State) -> str:
        """Make the next change; it has to work, and nothing of the kill may remain."""
        if left is None:
            _alone(lambda: self.operation.change(self.work))
        else:
            with Inspector.changing(self.work, device="cpu") as inspector:
                inspector.calibrate(false_alarm_rate=0.4)
        strays = {path.name for path in self.work.parent.iterdir()} - {"work.blemish", "packed.zip"}
        strays |= {str(path.relative_to(self.work)) for path in _strays(self.work)}
        return f"strays: {sorted(strays)}" if strays else "clean"

    def _lay_out(self) -> None:
        for path in self.work.parent.iterdir():  # the last victim's hidden folder too
            if path.is_dir():
                shutil.rmtree(path)
        if self.base.exists():
            shutil.copytree(self.base, self.work)


def state(folder: Path) -> State:
    """What a bundle is and says, to the last bit; None where there is none."""
    if not folder.exists():
        return None
    try:
        inspector = Inspector.load(folder, device="cpu")
    except BundleError as error:
        return ("refused", str(error))
    result = inspector.inspect(part(99))
    shown = [inspector.picture(template.id).tobytes() for template in inspector.templates]
    return (
        inspector.version,
        tuple((entry.version, entry.kind, entry.threshold) for entry in read_history(folder)),
        tuple(template.id for template in inspector.templates),
        hashlib.sha256(b"".join(shown)).hexdigest()[:16],
        hashlib.sha256(result.anomaly_map.tobytes()).hexdigest()[:16],
        (result.score, result.threshold, result.p_value, result.verdict),
    )


def _strays(folder: Path) -> list[Path]:
    """Files in a bundle that no version of it names."""
    manifest = read_manifest(folder)
    versions = [manifest, *read_versions(folder, manifest)]
    known = {folder / "manifest.json", folder / ".lock"}
    known |= {folder / "versions" / version_file(version) for version in versions}
    known |= {folder / record.file for version in versions for record in version.files.values()}
    return [path for path in folder.rglob("*") if path.is_file() and path not in known]


def _steps_of(name: str, place: Path, base: Path) -> tuple[list[str], float]:
    """The steps that an operation takes, and its seconds; makes the bundle that it begins with."""
    operation = OPERATIONS[name]
    if (before := operation.before) is not None:
        _alone(lambda: before(base))
    work = _emptied(place / "here") / "work.blemish"
    shutil.copy(place / "packed.zip", work.parent)
    if base.exists():
        shutil.copytree(base, work)
    reader, writer = os.pipe()
    started = time.perf_counter()
    steps = Steps()

    def count() -> None:
        steps.install()
        operation.change(work)
        os.write(writer, json.dumps(steps.done).encode())

    child = _forked(count)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        done = json.loads(stream.read())
    os.waitpid(child, 0)
    return done, time.perf_counter() - started


def _victim(operation: Operation, work: Path, step: int, delay: float) -> bool:
    """Do the operation in a process that is killed; whether it was before it had done."""

    def change() -> None:
        if step:
            Steps(step, lambda: os.kill(os.getpid(), signal.SIGKILL)).install()
        operation.change(work)

    child = _forked(change)
    if not step:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("the operation failed by itself")
    return os.WIFSIGNALED(status)


def _alone(call: Callable[[], Any]) -> None:
    """Make a call in a process of its own, so that the inspectors here stay as they are."""
    _, status = os.waitpid(_forked(call), 0)
    if status:
        raise RuntimeError(f"the operation failed by itself (status {status})")


def _forked(call: Callable[[], Any]) -> int:
    """A copy of this process that makes the call and ends."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        call()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main(Path(sys.argv[1]))
