"""The local store of networks: graphs by name, checked by sha256, used without a network.

A store is a folder with `NAME.onnx` and `NAME.json` (its sha256, where it came from, and what must
be known to run it). PyTorch makes the graph once, from timm's weights or a file; from then on it is
not needed. Only `fetch` ever uses the network; nothing else here, and no constructor anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish.backbones.backbone import Backbone
from blemish.errors import WeightsError, WeightsMissingError
from blemish.extras import load_train
from blemish.imaging import atomic_write

if TYPE_CHECKING:
    from types import ModuleType

NETWORK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")


@dataclass(frozen=True)
class WeightsRecord:
    """One entry of the store.

    `sha256` and `bytes` are the graph's, `weights_sha256` that of the weights it was made from,
    `source` where these came from. `outputs` and `pre` name the graph's map of each level, after
    and before the last activation of its stage, `pooled` that after a max-pooling which follows;
    `mean` and `std` are what images are normalised by.
    """

    name: str
    sha256: str
    bytes: int
    source: str
    added: str
    weights_sha256: str
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    pre: dict[str, str] = field(default_factory=dict)
    pooled: dict[str, str] = field(default_factory=dict)


def default_root() -> Path:
    """Find the store's folder: `BLEMISH_WEIGHTS`, or a folder under the user's data folder."""
    if folder := os.environ.get("BLEMISH_WEIGHTS"):
        return Path(folder)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share"))
    return base / "blemish" / "weights"


def file_sha256(path: Path) -> str:
    """Compute the sha256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class WeightStore:
    """Networks kept in one folder. Reading is offline; only `fetch` asks the hub."""

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.root = Path(root) if root is not None else default_root()

    def path(self, name: str) -> Path:
        """Say where the graph called `name` is, or would be."""
        if not NETWORK_NAME.fullmatch(name):
            raise WeightsError(
                f"'{name}' cannot name weights: use letters, digits, dots, dashes and underscores"
            )
        return self.root / f"{name}.onnx"

    def records(self) -> Iterator[WeightsRecord]:
        """Go through every entry of the store, by name."""
        for file in sorted(self.root.glob("*.json")):
            yield self._record(file)

    def find(self, name: str) -> Path:
        """Find the graph called `name`; a missing one raises with the ways to get it."""
        path = self.path(name)
        if not path.is_file():
            raise WeightsMissingError(
                f"The weights '{name}' are not in the local store ({self.root}); get them once "
                f"with 'blemish weights fetch {name}' (needs a network) or bring a file with "
                f"'blemish weights import FILE --as {name}'; both need blemish[train], once"
            )
        return path

    def load(self, name: str, taps: str = "pre") -> Backbone:
        """Load the network called `name`, checked against the record.

        With `taps="pre"` a level's map is the one before its stage's last activation, with
        `pooled` the one after a max-pooling that follows.
        """
        path = self.find(name)
        record = self._record(self.root / f"{name}.json")
        graph = path.read_bytes()
        digest = hashlib.sha256(graph).hexdigest()
        if digest != record.sha256:
            raise WeightsError(
                f"{path} has changed since it was imported (sha256 {digest[:12]}…, recorded "
                f"{record.sha256[:12]}…); import or fetch '{name}' again"
            )
        outputs = record.outputs | {"pre": record.pre, "pooled": record.pooled}.get(taps, {})
        return Backbone(
            name=name,
            graph=graph,
            outputs={int(level): output for level, output in outputs.items()},
            mean=tuple(record.mean),
            std=tuple(record.std),
            weights_sha256=record.weights_sha256,
        )

    def add_file(self, file: str | os.PathLike[str], name: str) -> WeightsRecord:
        """Make the graph of a network called `name` from a safetensors file, and keep it."""
        source = Path(file)
        self.path(name)  # which checks the name
        if not source.is_file():
            raise WeightsError(f"{source} is not a file; give the path of a .safetensors file")
        if source.suffix in {".pt", ".pth", ".bin", ".pkl", ".ckpt"}:
            raise WeightsError(
                f"{source} looks like a pickle, which Blemish never loads because it can run code; "
                "convert it to .safetensors where you trust it, then import that"
            )
        made = _networks().from_file(name, source)
        return self._keep(made, source.name)

    def fetch(self, name: str) -> WeightsRecord:
        """Download the weights timm calls `name`, and keep their graph: the one call online."""
        self.path(name)  # which checks the name
        return self._keep(_networks().from_hub(name), "timm")

    def verify(self) -> list[tuple[WeightsRecord, str | None]]:
        """Check every entry: with it None, or a sentence that says what is wrong."""
        results: list[tuple[WeightsRecord, str | None]] = []
        for record in self.records():
            path = self.path(record.name)
            if not path.is_file():
                problem: str | None = f"{path} is missing"
            elif file_sha256(path) != record.sha256:
                problem = f"{path} has changed since it was imported"
            else:
                problem = None
            results.append((record, problem))
        return results

    def _record(self, path: Path) -> WeightsRecord:
        try:
            return WeightsRecord(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise WeightsError(
                f"{path} does not describe weights of this Blemish; import or fetch '{path.stem}' "
                "again"
            ) from error

    def _keep(self, made: Any, source: str) -> WeightsRecord:
        """Write a network's graph and record; `made` is a `train.networks.NetworkGraph`."""
        record = WeightsRecord(
            name=made.name,
            sha256=hashlib.sha256(made.graph).hexdigest(),
            bytes=len(made.graph),
            source=source,
            added=datetime.now(UTC).isoformat(timespec="seconds"),
            weights_sha256=made.weights_sha256,
            mean=list(made.mean),
            std=list(made.std),
            outputs={str(level): output for level, output in made.outputs.items()},
            pre={str(level): output for level, output in made.pre.items()},
            pooled={str(level): output for level, output in made.pooled.items()},
        )
        self.root.mkdir(parents=True, exist_ok=True)
        target = self.path(made.name)
        with tempfile.TemporaryDirectory(dir=self.root, prefix=".import-") as folder:
            copy = Path(folder) / "graph"
            copy.write_bytes(made.graph)
            # The record goes first: a graph without one would look like a stranger's file, a
            # record whose file is still the old one is caught by its sha256.
            atomic_write(
                self.root / f"{record.name}.json", json.dumps(asdict(record), indent=2).encode()
            )
            copy.replace(target)
        return record


def _networks() -> ModuleType:
    """The module that makes graphs; raises MissingExtraError without PyTorch."""
    found: ModuleType = load_train("networks", "making a graph of a network, once,")
    return found
