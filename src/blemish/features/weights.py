"""The local weight store: ImageNet weights by name, checked by sha256, used without a network.

A store is a folder with `NAME.safetensors` and `NAME.json` (its sha256 and where it came from).
Only `fetch` ever uses the network; nothing else here, and no constructor anywhere, does.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from torch import Tensor

from blemish.errors import WeightsError, WeightsMissingError
from blemish.imaging import atomic_write

NETWORK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")


@dataclass(frozen=True)
class WeightsRecord:
    """One entry of the store: its name, sha256, size in bytes, origin and date."""

    name: str
    sha256: str
    bytes: int
    source: str
    added: str


def default_root() -> Path:
    """The store's folder: `BLEMISH_WEIGHTS`, or a folder under the user's data folder."""
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
    """The sha256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class WeightStore:
    """Weights kept in one folder. Reading is offline; only `fetch` asks the hub."""

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.root = Path(root) if root is not None else default_root()

    def path(self, name: str) -> Path:
        """Where the weights called `name` are, or would be."""
        if not NETWORK_NAME.fullmatch(name):
            raise WeightsError(
                f"'{name}' cannot name weights: use letters, digits, dots, dashes and underscores"
            )
        return self.root / f"{name}.safetensors"

    def records(self) -> Iterator[WeightsRecord]:
        """Every entry of the store, by name."""
        for file in sorted(self.root.glob("*.json")):
            yield self._record(file)

    def find(self, name: str) -> Path:
        """The file of the weights called `name`; missing ones raise with the ways to get them."""
        path = self.path(name)
        if not path.is_file():
            raise WeightsMissingError(
                f"The weights '{name}' are not in the local store ({self.root}); get them once "
                f"with 'blemish weights fetch {name}' (needs a network) or bring a file with "
                f"'blemish weights import FILE --as {name}'"
            )
        return path

    def load(self, name: str) -> tuple[dict[str, Tensor], str]:
        """The tensors called `name` and their sha256, checked against the record."""
        path = self.find(name)
        record = self._record(self.root / f"{name}.json")
        digest = file_sha256(path)
        if digest != record.sha256:
            raise WeightsError(
                f"{path} has changed since it was imported (sha256 {digest[:12]}…, recorded "
                f"{record.sha256[:12]}…); import or fetch '{name}' again"
            )
        return read_tensors(path), digest

    def add_file(self, file: str | os.PathLike[str], name: str) -> WeightsRecord:
        """Copy a safetensors file into the store; it must fit the network called `name`."""
        from blemish.features.registry import check_weights

        source = Path(file)
        target = self.path(name)
        if not source.is_file():
            raise WeightsError(f"{source} is not a file; give the path of a .safetensors file")
        if source.suffix in {".pt", ".pth", ".bin", ".pkl", ".ckpt"}:
            raise WeightsError(
                f"{source} looks like a pickle, which Blemish never loads because it can run code; "
                "convert it to .safetensors where you trust it, then import that"
            )
        check_weights(name, read_tensors(source), str(source))
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.root, prefix=".import-") as folder:
            copy = Path(folder) / "weights"
            shutil.copyfile(source, copy)
            record = self._write_record(target, copy, source.name)
            copy.replace(target)
        return record

    def fetch(self, name: str) -> WeightsRecord:
        """Download the weights timm calls `name`. The one call that uses a network."""
        import timm
        from safetensors.torch import save_file

        target = self.path(name)  # which checks the name
        try:
            model = timm.create_model(name, pretrained=True)
        except (
            Exception
        ) as error:  # timm and the hub raise many kinds; one sentence serves the user
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise WeightsError(
                f"Could not fetch '{name}' from the hub ({reason[:200]}); without a network, bring "
                f"the file and use 'blemish weights import FILE --as {name}'"
            ) from error
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.root, prefix=".fetch-") as folder:
            copy = Path(folder) / "weights"
            save_file({k: v.contiguous() for k, v in model.state_dict().items()}, copy)
            record = self._write_record(target, copy, "timm")
            copy.replace(target)
        return record

    def verify(self) -> list[tuple[WeightsRecord, str | None]]:
        """Every entry with None, or with a sentence that says what is wrong with it."""
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
                f"{path} does not describe weights; import or fetch '{path.stem}' again"
            ) from error

    def _write_record(self, target: Path, file: Path, source: str) -> WeightsRecord:
        record = WeightsRecord(
            name=target.name.removesuffix(".safetensors"),
            sha256=file_sha256(file),
            bytes=file.stat().st_size,
            source=source,
            added=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        # The record goes first: weights without a record would look like a stranger's file,
        # a record whose file is still the old one is caught by its sha256.
        atomic_write(
            self.root / f"{record.name}.json",
            json.dumps(asdict(record), indent=2).encode(),
        )
        return record


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, floating ones as float32."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path} is not a readable safetensors file; it may be cut off or of another format"
        ) from error
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
