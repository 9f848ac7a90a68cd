"""What a SOURCE names: a folder, an image, a list, or Parquet of paths or of bytes.

Listed once; the frozen list is what every worker and every restart goes by (`work`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from blemish.errors import NoImagesError, ParameterError
from blemish.imaging import IMAGE_SUFFIXES, list_images
from blemish.scale.packages import needed
from blemish.scale.storage import Place

PARQUET = frozenset({".parquet", ".pq"})
PATH_COLUMNS = ("path", "image")
BYTES_COLUMN = "bytes"
ID_COLUMN = "id"

Kind = Literal["images", "bytes"]


@dataclass
class WorkList:
    """The images in order: what each is called, where it lies, and for Parquet in which row.

    `files` are the fingerprints of the list or tables it came from, which must not change.
    """

    kind: Kind = "images"
    ids: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    rows: list[int | None] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, place: str, row: int | None = None) -> None:
        """One more image."""
        self.ids.append(name)
        self.places.append(place)
        self.rows.append(row)


def listed(source: Place) -> WorkList:
    """The images of a source; raises NoImagesError and ParameterError in one sentence."""
    if source.is_folder():
        found = _folder(source)
    elif not source.exists():
        raise NoImagesError(f"{source.address} does not exist; check the path.")
    elif _suffix(source.name) in PARQUET:
        found = _tables([(source, source.name)])
    elif _suffix(source.name) in IMAGE_SUFFIXES:
        found = WorkList()
        found.add(source.name, source.address)
    else:
        found = _list(source)
    if not found.ids:
        raise NoImagesError(f"{source.address} names no image; give at least one.")
    return found


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _folder(source: Place) -> WorkList:
    visible = [(p, name) for p, name in source.files() if not _hidden(name, ".")]
    tables = [(p, n) for p, n in visible if _suffix(n) in PARQUET and not _hidden(n, "_")]
    images = [(p, n) for p, n in visible if _suffix(n) in IMAGE_SUFFIXES]
    if tables and images:
        raise ParameterError(
            f"{source.address} holds both images and Parquet files; give the folder of one of them"
        )
    if tables:
        return _tables(tables)
    if source.local is not None:  # in natural order, as `inspect` lists them, or its errors
        root = source.local
        images = [
            (Place(str(path)), path.relative_to(root).as_posix())
            for path in list_images(root, recursive=True)
        ]
    found = WorkList()
    for place, name in images:
        found.add(name, place.address)
    return found


def _hidden(name: str, mark: str) -> bool:
    """Whether a file or a folder above it begins with `mark`; for Arrow and Spark `_` hides too."""
    return any(part.startswith(mark) for part in PurePosixPath(name).parts)


def _list(source: Place) -> WorkList:
    try:
        text = source.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ParameterError(
            f"{source.address} is neither an image, nor Parquet, nor a list in UTF-8; give one of "
            f"these ({', '.join(sorted(IMAGE_SUFFIXES | PARQUET))}, or a text file)"
        ) from error
    found, folder = WorkList(files={source.address: source.fingerprint()}), source.folder
    for line in text.split("\n"):  # splitlines would also split at characters that names may hold
        name = line.removesuffix("\r")
        if name.strip():
            found.add(name, Place.of(name, folder).address)
    return found


# Parquet --------------------------------------------------------------------------------


def _tables(files: list[tuple[Place, str]]) -> WorkList:
    """The rows of Parquet files, all of which have the same kind of column."""
    found: WorkList | None = None
    for place, name in files:
        with place.opened() as file:
            table = _opened(file, place)
            kind, column = _column(table.schema_arrow, place)
            if found is None:
                found = WorkList(kind)
            elif kind != found.kind:
                raise ParameterError(
                    f"{place.address} has the column '{column}', the files before it do not; "
                    "score the two kinds apart"
                )
            found.files[place.address] = place.fingerprint()
            if kind == "bytes":
                for row, identity in enumerate(_identities(table, name)):
                    found.add(identity, place.address, row)
            else:
                folder = place.folder
                for identity, path in _paths(table, column):
                    found.add(identity, Place.of(path, folder).address)
    return found or WorkList()


def _opened(file: Any, place: Place) -> Any:
    try:
        return needed("pyarrow.parquet").ParquetFile(file)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise ParameterError(
            f"{place.address} is not a readable Parquet file; write it again"
        ) from error


def _column(schema: Any, place: Place) -> tuple[Kind, str]:
    if BYTES_COLUMN in schema.names:
        kind = str(schema.field(BYTES_COLUMN).type)
        if kind not in ("binary", "large_binary"):
            raise ParameterError(
                f"{place.address} has {kind} in its column '{BYTES_COLUMN}'; encoded images are "
                "binary"
            )
        return "bytes", BYTES_COLUMN
    for name in PATH_COLUMNS:
        if name in schema.names:
            return "images", name
    raise ParameterError(
        f"{place.address} has none of the columns 'path', 'image' (paths or URLs) and 'bytes' "
        f"(encoded images); it has {', '.join(sorted(schema.names)) or 'none'}"
    )


def _identities(table: Any, name: str) -> Iterator[str]:
    """A name a row: the column `id`, or the file's name and the row's number."""
    if ID_COLUMN in table.schema_arrow.names:
        yield from (str(found) for found in _values(table, ID_COLUMN))
    else:
        yield from (f"{name}#{row}" for row in range(table.metadata.num_rows))


def _paths(table: Any, column: str) -> Iterator[tuple[str, str]]:
    paths = ["" if path is None else str(path) for path in _values(table, column)]
    has_id = ID_COLUMN in table.schema_arrow.names
    ids = [str(found) for found in _values(table, ID_COLUMN)] if has_id else paths
    return zip(ids, paths, strict=True)


def _values(table: Any, column: str) -> Iterator[Any]:
    for batch in table.iter_batches(columns=[column]):
        yield from batch.column(0).to_pylist()
