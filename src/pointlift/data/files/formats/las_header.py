"""What a .las or .laz file announces, held against its size.

The readers of points trust these numbers: laspy would read records that are not there for minutes, and the
decompressor ends the whole process where it cannot get the memory that a damaged number asks for.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from pointlift.data.errors import DataError

__all__ = ["Compressed", "check_header", "check_layers"]

VARIABLE = 2**32 - 1  # size of chunks that differ in size
POINT14, RGB14, RGBNIR14, WAVEPACKET14, BYTE14 = 10, 11, 12, 13, 14
LAYERS = {POINT14: 9, RGB14: 1, RGBNIR14: 2, WAVEPACKET14: 1}


@dataclass(frozen=True)
class Compressed:
    """Where the compressed points of a .laz file are.

    Attributes:
        start: of the points, which begin with the place of the chunk table.
        end: of the points: the chunk table.
        record: bytes of a point as it would be uncompressed.
        items: (type, bytes) of the parts of a point.
        layered: whether every chunk has its parts one after the other.
        vlr: the record that describes the compression.
    """

    start: int
    end: int
    record: int
    items: list[tuple[int, int]]
    layered: bool
    vlr: bytes


def check_header(path: Path, data: bytes) -> Compressed | None:
    """Refuse announced sizes that the file cannot hold.

    Offsets are those of the ASPRS LAS 1.4 specification, table 3, and of the LASzip specification's record
    22204.

    Returns:
        What the compression is, None where there is none.

    Raises:
        DataError: truncated or damaged.
    """
    if len(data) < 227:
        raise DataError(
            f"{path}: truncated, a {path.suffix} header takes at least 227 bytes but the file has {len(data)}"
        )
    header, points, records = struct.unpack_from("<HII", data, 94)
    kind, size, count = struct.unpack_from("<BHI", data, 104)
    needed = max(header + 54 * records, points)
    major, minor = data[24:26]
    if major != 1 or minor > 4:
        raise DataError(f"{path}: is of version {major}.{minor}, or damaged; 1.0 to 1.4 are read")
    if minor == 4 and len(data) < 375:
        raise DataError(f"{path}: truncated, a header of version 1.4 takes 375 bytes, it has {len(data)}")
    if minor == 4:
        start, extended, many = struct.unpack_from("<QIQ", data, 235)
        needed, count = max(needed, start + 60 * extended), many or count
    if not kind & 0xC0:
        needed = max(needed, points + size * count)
    if header < 227 or header + 54 * records > points or needed > len(data) or (size < 20 and count):
        raise DataError(
            f"{path}: truncated or damaged, its header announces at least {needed} bytes but the file has "
            f"{len(data)}"
        )
    if not kind & 0xC0 or count == 0:
        return None
    found = _compression(data, header, points, records)
    if found is None or sum(size for _, size in found[2]) != size:
        raise DataError(f"{path}: damaged, its record about the compression is missing or fits no point")
    compressor, chunk, items, vlr = found
    if compressor not in (2, 3) or chunk == 0:
        raise DataError(
            f"{path}: is compressed in a way that is not read (compressor {compressor}, chunks of {chunk} "
            "points), or damaged; save it again with a current version of its program"
        )
    table = _chunk_table(data, points)
    if table is None:
        raise DataError(f"{path}: truncated or damaged, its table of chunks is not in the file")
    chunks = struct.unpack_from("<I", data, table + 4)[0]
    if chunks * size > table - points - 8 or (chunk != VARIABLE and not 0 <= chunks * chunk - count < chunk):
        raise DataError(
            f"{path}: truncated or damaged, it announces {chunks} chunks for {count} points in "
            f"{table - points - 8} bytes"
        )
    return Compressed(points, table, size, items, compressor == 3, vlr)


def _compression(
    data: bytes, at: int, end: int, records: int
) -> tuple[int, int, list[tuple[int, int]], bytes] | None:
    """Compressor, points of a chunk, parts of a point, and the whole record."""
    for _ in range(records):
        if at + 54 > end:
            return None
        number, length = struct.unpack_from("<HH", data, at + 18)
        if number == 22204 and data[at + 2 : at + 16] == b"laszip encoded":
            vlr = data[at + 54 : at + 54 + length]
            if len(vlr) < 34:
                return None
            compressor, chunk, parts = (
                struct.unpack_from(f, vlr, p)[0] for f, p in (("<H", 0), ("<I", 12), ("<H", 32))
            )
            if len(vlr) < 34 + 6 * parts:
                return None
            items = [struct.unpack_from("<HH", vlr, 34 + 6 * i) for i in range(parts)]
            return compressor, chunk, [(int(k), int(s)) for k, s in items], vlr
        at += 54 + length
    return None


def _chunk_table(data: bytes, points: int) -> int | None:
    """Where the chunk table is: told before the points, or by the last 8 bytes where that says -1."""
    if points + 16 > len(data):
        return None
    place = struct.unpack_from("<q", data, points)[0]
    if place == -1:
        place = struct.unpack_from("<q", data, len(data) - 8)[0]
    return int(place) if points + 8 <= place <= len(data) - 8 else None


def check_layers(path: Path, data: bytes, what: Compressed, chunks: list[tuple[int, int]]) -> None:
    """Refuse chunks (points, bytes) that announce more bytes than they have.

    Raises:
        DataError: truncated or damaged.
    """
    at = what.start + 8
    for number, (_, size) in enumerate(chunks):
        if at + size > what.end:
            raise DataError(
                f"{path}: truncated or damaged, chunk {number} ends behind the last of its points"
            )
        if what.layered and size:
            layers = sum(LAYERS.get(kind, n if kind == BYTE14 else 0) for kind, n in what.items)
            head = what.record + 4 + 4 * layers
            sizes = struct.unpack_from(f"<{layers}I", data, at + what.record + 4) if head <= size else ()
            if head + sum(sizes) > size or not sizes:
                raise DataError(
                    f"{path}: truncated or damaged, the parts of chunk {number} take more than its "
                    f"{size} bytes"
                )
        at += size
