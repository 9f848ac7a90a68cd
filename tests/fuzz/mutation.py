"""Changes to bytes, JSON, safetensors and pictures: at random, and where formats have bones."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

EDGES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


# Bytes ----------------------------------------------------------------------------------


def damaged(rng: Random, data: bytes) -> bytes:
    """`data` with one to eight changes of the kinds that disks, networks and people make."""
    changed = bytearray(data)
    for _ in range(min(rng.randint(1, 8), rng.randint(1, 8))):
        if not changed:
            break
        rng.choice([_flip, _set, _edge, _cut, _insert, _remove, _copy, _zero])(rng, changed)
    return bytes(changed)


def _flip(rng: Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(rng: Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] = rng.randrange(256)


def _edge(rng: Random, data: bytearray) -> None:
    size = rng.choice([1, 2, 4])
    at = rng.randrange(len(data))
    value = rng.choice(EDGES) & (256**size - 1)
    data[at : at + size] = value.to_bytes(size, rng.choice(["big", "little"]))


def _cut(rng: Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def _insert(rng: Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.randint(1, 16))


def _remove(rng: Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.randint(1, 16)]


def _copy(rng: Random, data: bytearray) -> None:
    at, size = rng.randrange(len(data)), rng.randint(1, 64)
    to = rng.randrange(len(data) + 1)
    data[to : to + rng.choice([0, size])] = data[at : at + size]


def _zero(rng: Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    end = min(len(data), at + rng.randint(1, 512))
    data[at:end] = bytes(end - at)


# JSON -----------------------------------------------------------------------------------

NUMBERS: list[Any] = [
    0, 1, -1, 2, 3, 7, 8, 9, 16, 17, 63, 64, 65, 255, 256, 8192, 8193, 10**6, 10**9 + 1, 2**31,
    2**32, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63), 0.0, -0.0, 0.5, 1.5, 1e-300, 1e300, -1e300,
    1e-9, 0.999999, float("nan"), float("inf"), float("-inf"),
]  # fmt: skip
# None names a file that the machine needs: tests run as root, and what they test might follow it.
TEXTS = [
    "", " ", "a", "0", "none", "global", "auto", "../../outside", "/blemish-none/x", "..", "a/b",
    "a\\b", "manifest.json", "versions", "Manifest.JSON", "é\u4e2d", "\x00", "a\nb", "\ud800",
    "x" * 300, "hetmm", "tfanet", "filterbank", "random:vit_giant_patch14_clip_224",
    "resnet18.tv_in1k",
    "none.onnx", "float16", "bfloat16", "lanczos", "pictures", "templates", "backbone",
    "\x1b[31mred", "{}", "%s", "${HOME}",
]  # fmt: skip
Path = tuple[Any, ...]


def json_mutated(rng: Random, value: Any) -> tuple[Any, set[str]]:
    """A copy with one to three changes, and the keys at the top under which they were made."""
    value = deepcopy(value)
    touched = set()
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        path = _chosen(rng, value)
        if not path:
            continue
        touched.add(path[0])
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        _change(rng, value, parent, path[-1], touched)
    return value, touched


def _chosen(rng: Random, value: Any) -> Path:
    """Some place in a value: any, or any under a key at the top, where long lists count no more."""
    if isinstance(value, dict) and value and rng.random() < 0.7:
        key = rng.choice(list(value))
        return (key, *rng.choice(_paths(value[key])))
    return rng.choice(_paths(value))


def _paths(value: Any, path: Path = ()) -> list[Path]:
    """Every place in a value; in a long list of numbers only a few of them."""
    found = [path]
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))[:6]
    for key, inner in items:
        found += _paths(inner, (*path, key))
    return found


def _change(rng: Random, root: Any, parent: Any, key: Any, touched: set[str]) -> None:
    old = parent[key]
    way = rng.choice(["value", "value", "near", "delete", "kind", "graft", "list", "key"])
    if way == "near" and isinstance(old, int | float):
        parent[key] = rng.choice([old + 1, old - 1, -old, old * 2, old * 1000, float(old)])
    elif way == "near" and isinstance(old, str):
        parent[key] = rng.choice([old + "x", old[:-1], old.upper(), old[::-1], old * 3])
    elif way == "delete" and isinstance(parent, dict):
        del parent[key]
    elif way == "kind":
        parent[key] = rng.choice([None, True, False, [], {}, [[]], "1", 1, [old], {"a": old}])
    elif way == "graft":
        parent[key] = deepcopy(_at(root, rng.choice(_paths(root))))
    elif way == "list" and isinstance(old, list):
        _change_list(rng, old)
    elif way == "key" and isinstance(parent, dict):
        parent[rng.choice(TEXTS)] = parent.pop(key) if rng.random() < 0.5 else old
    else:
        same = TEXTS if isinstance(old, str) and rng.random() < 0.8 else NUMBERS
        parent[key] = rng.choice(same if rng.random() < 0.9 else [*TEXTS, *NUMBERS])


def _change_list(rng: Random, values: list[Any]) -> None:
    way = rng.choice(["shuffle", "drop", "repeat", "grow", "reverse", "empty"])
    if way == "shuffle":
        rng.shuffle(values)
    elif way == "reverse":
        values.reverse()
    elif way == "empty":
        values.clear()
    elif way == "grow":
        values += [rng.choice([*NUMBERS, *TEXTS]) for _ in range(rng.choice([1, 10, 2000]))]
    elif values and way == "drop":
        values.pop(rng.randrange(len(values)))
    elif values:
        values.append(deepcopy(rng.choice(values)))


def _at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def json_text(rng: Random, value: Any) -> bytes:
    """A value as JSON, now and then written in a way that readers disagree about."""
    text = json.dumps(value)
    way = rng.random()
    if way < 0.03:  # a key that is there twice
        text = '{"version": 7, ' + text[1:]
    elif way < 0.05:
        depth = rng.choice([30, 40, 900, 100_000])
        text = text[:-1] + ', "deep": ' + "[" * depth + "]" * depth + "}"
    elif way < 0.06:
        text = text[:-1] + ', "many": [' + "[]," * rng.choice([1000, 3_000_000]) + "0]}"
    elif way < 0.07:
        text = text[:-1] + ', "long": ' + "9" * rng.choice([25, 4000, 5000, 1_000_000]) + "}"
    elif way < 0.09:
        return text.encode(rng.choice(["utf-16", "utf-32", "utf-8-sig"]), "surrogatepass")
    return text.encode("utf-8", "surrogatepass")


# Safetensors ----------------------------------------------------------------------------

DTYPES = ["F32", "F16", "BF16", "F64", "I64", "I32", "I16", "I8", "U8", "BOOL", "F8_E4M3", "F4", ""]


def safetensors_mutated(rng: Random, data: bytes) -> bytes:
    """A safetensors file with its header changed and written again, or its numbers changed."""
    if rng.random() < 0.2:
        return damaged(rng, data)
    size = struct.unpack_from("<Q", data)[0]
    header, body = json.loads(data[8 : 8 + size]), bytearray(data[8 + size :])
    way = rng.choice(["header", "shape", "shape", "dtype", "numbers", "numbers", "names", "length"])
    if way == "header":
        header, _ = json_mutated(rng, header)
    elif way == "names" and len(header) > 1:
        one, other = rng.sample(sorted(header), 2)
        header[one], header[other] = header[other], header[one]
        if rng.random() < 0.3:
            header[rng.choice(TEXTS)] = header.pop(one)
    elif way == "numbers":
        _change_numbers(rng, body)
    else:
        tensors = [item for item in header.values() if isinstance(item, dict) and "shape" in item]
        if tensors and way in ("shape", "dtype"):
            _change_tensor(rng, rng.choice(tensors), way)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    size = len(text)
    if way == "length":
        size = rng.choice([0, 1, size - 1, size + 1, 2**31, 2**63, 2**64 - 1, 10**8 + 1])
    return struct.pack("<Q", size % 2**64) + text + bytes(body)


def _change_tensor(rng: Random, tensor: dict[str, Any], way: str) -> None:
    if way == "dtype":
        tensor["dtype"] = rng.choice(DTYPES)
        return
    shape = tensor["shape"]
    ways: list[Callable[[], Any]] = [
        lambda: rng.shuffle(shape),
        lambda: shape.append(1),
        lambda: shape.insert(0, rng.choice([0, 1, 2, 2**31, 2**63])),
        lambda: shape and shape.pop(),
        lambda: shape.reverse(),
    ]
    rng.choice(ways)()
    if shape and rng.random() < 0.5:
        shape[rng.randrange(len(shape))] = rng.choice([0, 1, 2, -1, 2**31, 2**40, 2**63, 10**30])
    if rng.random() < 0.3:  # as many values as the data hold, in another form
        start, end = tensor["data_offsets"]
        tensor["shape"] = [1, (end - start) // 4] if rng.random() < 0.5 else [(end - start) // 4]


def _change_numbers(rng: Random, body: bytearray) -> None:
    special = [float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 1e-40, 0.0, 65504.0, 1e20]
    if len(body) < 4:
        return
    for _ in range(rng.choice([1, 1, 10])):
        at = rng.randrange(len(body) // 4) * 4
        body[at : at + 4] = rng.choice(
            [struct.pack("<f", rng.choice(special)), rng.randbytes(4), struct.pack("<i", -1)]
        )
    if rng.random() < 0.1:
        body[:] = bytes(len(body))


# Pictures -------------------------------------------------------------------------------


def picture_mutated(rng: Random, data: bytes) -> bytes:
    """An image file changed where its format has lengths, sizes and checksums."""
    if data.startswith(b"\x89PNG"):
        return _png_mutated(rng, data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_mutated(rng, data)
    if data[:2] in (b"II", b"MM"):
        return _tiff_mutated(rng, data)
    return _head_mutated(rng, data)


def _png_mutated(rng: Random, data: bytes) -> bytes:
    """Chunks changed, dropped, repeated and moved, with checksums that are right again."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        chunks.append([data[at + 4 : at + 8], bytearray(data[at + 8 : at + 8 + length])])
        at += 12 + length
    for _ in range(rng.randint(1, 3)):
        index = rng.randrange(len(chunks))
        kind, body = chunks[index]
        way = rng.choice(["body", "body", "drop", "repeat", "move", "kind", "extra", "pixels"])
        if way == "body" and kind == b"IHDR":
            _edge(rng, body) if rng.random() < 0.5 else _set(rng, body)
        elif way == "body" and body:
            body[:] = damaged(rng, bytes(body))
        elif way == "drop" and len(chunks) > 1:
            chunks.pop(index)
        elif way == "repeat":
            chunks.insert(rng.randrange(len(chunks) + 1), [kind, bytearray(body)])
        elif way == "move":
            chunks.insert(rng.randrange(len(chunks)), chunks.pop(index))
        elif way == "kind":
            kinds = [
                b"PLTE",
                b"tRNS",
                b"eXIf",
                b"acTL",
                b"fdAT",
                b"gAMA",
                b"sBIT",
                b"CgBI",
                b"abcd",
            ]
            chunks[index][0] = rng.choice(kinds)
        elif way == "extra":
            kinds = [b"zTXt", b"iCCP", b"iTXt", b"tRNS", b"PLTE", b"eXIf", b"acTL", b"hIST"]
            size = rng.choice([0, 4, 100, 5_000_000])
            bomb = b"name\0\0" + zlib.compress(bytes(size), 1)
            chunks.insert(1, [rng.choice(kinds), bytearray(rng.choice([bomb, rng.randbytes(9)]))])
        elif way == "pixels":
            rows = zlib.compress(bytes(rng.choice([1, 1000, 20_000_000])), 1)
            chunks.insert(-1, [b"IDAT", bytearray(rows)])
            if rng.random() < 0.5:
                chunks = [chunk for chunk in chunks if chunk[0] != b"IDAT"]
                chunks.append([b"IDAT", bytearray(rows)])
    packed = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return data[:8] + b"".join(packed)


def _jpeg_mutated(rng: Random, data: bytes) -> bytes:
    """Segments changed, dropped, repeated and moved; the compressed pixels follow the last."""
    segments, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        length = struct.unpack_from(">H", data, at + 2)[0]
        segments.append(bytearray(data[at : at + 2 + length]))
        at += 2 + length
    rest = bytearray(data[at:])
    for _ in range(rng.randint(1, 3)):
        if not segments:
            break
        index = rng.randrange(len(segments))
        way = rng.choice(["body", "body", "drop", "repeat", "move", "kind", "pixels", "scans"])
        if way == "body" and len(segments[index]) > 4:
            place = rng.randrange(4, len(segments[index]))
            segments[index][place] = rng.choice([rng.randrange(256), 0, 1, 255])
        elif way == "drop":
            segments.pop(index)
        elif way == "repeat":
            segments.insert(rng.randrange(len(segments) + 1), bytearray(segments[index]))
        elif way == "move":
            segments.insert(rng.randrange(len(segments)), segments.pop(index))
        elif way == "kind":
            segments[index][1] = rng.choice([0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xC4, 0xDD, 0xE1, 0xEE])
        elif way == "scans":
            rest[-2:-2] = rest[: rng.randint(4, 40)] * rng.choice([1, 20, 2000])
        else:
            rest[:] = damaged(rng, bytes(rest))
    return data[:2] + b"".join(segments) + bytes(rest)


def _tiff_mutated(rng: Random, data: bytes) -> bytes:
    """Entries of the first directory: their tag, kind, count or value."""
    changed = bytearray(data)
    order = "<" if data[:2] == b"II" else ">"
    try:
        start = struct.unpack_from(order + "I", data, 4)[0]
        count = struct.unpack_from(order + "H", data, start)[0]
        for _ in range(rng.randint(1, 4)):
            entry = start + 2 + 12 * rng.randrange(count)
            offset, code = rng.choice([(0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "H")])
            old = struct.unpack_from(order + code, data, entry + offset)[0]
            tags = [256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 339]
            near = [old + 1, max(0, old - 1), old * 2, rng.choice(EDGES), rng.randrange(12)]
            value = rng.choice(tags if offset == 0 else near)
            limit = 0xFFFF if code == "H" else 0xFFFFFFFF
            struct.pack_into(order + code, changed, entry + offset, value & limit)
    except struct.error:
        return damaged(rng, data)
    if rng.random() < 0.1:  # a directory that leads on, perhaps to itself
        end = start + 2 + 12 * count
        changed[end : end + 4] = struct.pack(order + "I", rng.choice([start, 8, len(data) - 4]))
    return bytes(changed)


def _head_mutated(rng: Random, data: bytes) -> bytes:
    """The first sixty bytes, where BMP, GIF and WebP keep their sizes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(2, min(60, len(changed)))
        size = rng.choice([1, 2, 4])
        old = int.from_bytes(changed[at : at + size], "little")
        value = rng.choice([old + 1, old - 1, old * 2, rng.choice(EDGES), rng.randrange(256**size)])
        changed[at : at + size] = (value & (256**size - 1)).to_bytes(size, "little")
    return bytes(changed)
