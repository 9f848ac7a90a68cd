"""The containers of image files, walked before a decoder sees them: checksums, and what only costs.

PNG by its specification (third edition, section 5: chunks and their CRC), JPEG by ITU T.81 (B).
"""

from __future__ import annotations

import re
import struct
import zlib

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# A progressive JPEG has about ten scans; each costs a pass over all pixels and few bytes.
MOST_SCANS = 100
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")  # those of a segment, and the end (D9)
_END, _SCAN = 0xD9, 0xDA


def png_chunks(data: bytes) -> tuple[dict[bytes, bytes], bytes]:
    """Each chunk's data by type, except pixels; and the file without what its pixels do not need.

    Every CRC up to IEND is checked. Texts and profiles are left out: a decoder unpacks them, which
    for a few kilobytes takes a tenth of a second each. Raises ValueError that says what is wrong.
    """
    chunks: dict[bytes, bytes] = {}
    kept = [PNG_SIGNATURE]
    view, at = memoryview(data), len(PNG_SIGNATURE)
    while b"IEND" not in chunks:
        if at + 12 > len(data):
            raise ValueError("it ends before its IEND chunk")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            raise ValueError(f"it ends inside chunk {kind!r}")
        if zlib.crc32(view[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ValueError(f"chunk {kind!r} has a wrong checksum")
        is_ancillary = kind[0] & 0x20  # a small first letter
        if not is_ancillary or kind == b"tRNS":
            kept.append(data[at : end + 4])
        chunks.setdefault(kind, b"" if kind == b"IDAT" else data[at + 8 : end])
        at = end + 4
    return chunks, b"".join(kept)


def jpeg_scans(data: bytes) -> int:
    """How many scans a JPEG has, up to its end marker."""
    scans, at = 0, 2
    while (found := _MARKER.search(data, at)) is not None:
        marker, at = data[found.start(1)], found.end()
        if marker == _END:
            break
        scans += marker == _SCAN
        at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return scans
