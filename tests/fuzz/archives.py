"""Packed bundles made to harm: other names, other kinds of members, other sizes."""

from __future__ import annotations

import io
import json
import stat
import warnings
from pathlib import Path
from random import Random
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from blemish.bundle.manifest import _digest

from .mutation import TEXTS, damaged, json_mutated

ABSOLUTE = "/outside"  # stands for a path that the caller names, to look for it there afterwards
NAMES = [
    "../outside", "../../outside", ABSOLUTE, "versions/../../outside", "C:\\outside",
    "..\\outside", "versions", "versions/", "a/", "manifest.json ", "./manifest.json", ".lock",
    "Manifest.json", "manifest.json\x00.txt", "x" * 5000, "versions/x.json", "extra.safetensors",
]  # fmt: skip
Member = tuple[str, bytes, dict[str, Any]]


def archive_mutated(rng: Random, data: bytes, outside: Path) -> bytes:
    """A packed bundle with members renamed, repeated, linked, packed tight or changed.

    `outside` is the absolute name that some members get.
    """
    with ZipFile(io.BytesIO(data)) as archive:
        members: list[Member] = [
            (info.filename, archive.read(info), {}) for info in archive.infolist()
        ]
    for _ in range(rng.choice([1, 1, 2])):
        index = rng.randrange(len(members))
        name, content, options = members[index]
        way = rng.choice(
            [
                "rename",
                "add",
                "twice",
                "drop",
                "link",
                "mode",
                "deflate",
                "bomb",
                "content",
                "order",
            ]
            + ["manifest"] * 4
        )
        if way == "rename":
            members[index] = (rng.choice([*NAMES, *TEXTS]), content, options)
        elif way == "add":
            members.insert(index, (rng.choice([*NAMES, *TEXTS]), rng.randbytes(9), {}))
        elif way == "twice":
            members.append((name, damaged(rng, content), {}))
        elif way == "drop":
            members.pop(index)
        elif way == "link":
            members[index] = (name, str(outside).encode(), {"mode": stat.S_IFLNK | 0o777})
        elif way == "mode":
            kinds = [stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR, stat.S_ISUID | stat.S_IFREG, 0]
            members[index] = (name, content, {"mode": rng.choice(kinds) | 0o777})
        elif way == "deflate":
            members[index] = (name, content, {"kind": ZIP_DEFLATED})
        elif way == "bomb":
            size = rng.choice([10**6, 50 * 10**6])
            members[index] = (name, bytes(size), {"kind": rng.choice([ZIP_DEFLATED, ZIP_STORED])})
        elif way == "content":
            members[index] = (name, damaged(rng, content), options)
        elif way == "order":
            rng.shuffle(members)
        elif way == "manifest":
            members = [_with_other_manifest(rng, member) for member in members]
        if not members:
            break
    made = _written(
        [(str(outside) if name == ABSOLUTE else name, *rest) for name, *rest in members]
    )
    return damaged(rng, made) if rng.random() < 0.05 else made


def _with_other_manifest(rng: Random, member: Member) -> Member:
    """Any manifest changed now and then, with a checksum that fits."""
    name, content, options = member
    if not name.endswith(".json") or rng.random() < 0.4:
        return member
    try:
        body, _ = json_mutated(rng, json.loads(content))
    except ValueError:
        return member
    if isinstance(body, dict):
        body.pop("sha256", None)
        body["sha256"] = _digest(body)
    return name, json.dumps(body, indent=2).encode(), options


def _written(members: list[Member]) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")  # zipfile warns of names that are there twice
        for name, content, options in members:
            info = ZipInfo(name.encode("utf-8", "replace").decode())
            info.create_system = 3
            info.external_attr = options.get("mode", stat.S_IFREG | 0o644) << 16
            info.compress_type = options.get("kind", ZIP_STORED)
            archive.writestr(info, content)
    return stream.getvalue()
