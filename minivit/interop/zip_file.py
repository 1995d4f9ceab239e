"""What a zip archive of weights holds, checked before anything is read: where each entry lies, and how it is packed.

The layout is that of the APPNOTE of PKWARE: entries, each behind a header of its own, then a directory, then its end.
The standard library's reader would do, but it keeps what the directory claims, however much that is, and does not say
where an entry's bytes begin, so that part of one could not be read where it lies.
"""

import struct
import zlib
from dataclasses import dataclass

from minivit.engine.errors import CheckpointError
from minivit.interop.source import Source

MAX_ENTRIES, MAX_DIRECTORY, MAX_NAME = 65_535, 1 << 24, 1000  # a directory of 16 MiB
MAX_RATIO, SLACK = 100, 1 << 24  # unpacked, the entries may take this many times the file, and 16 MiB
CHUNK = 1 << 18  # bytes unpacked at a time
CRC_PREFIX = (
    1 << 16
)  # reading an entry from at most here to its end is worth reading the beginning too, for its checksum
STORED, DEFLATED, ENCRYPTED, UTF8 = 0, 8, 1, 1 << 11


@dataclass(frozen=True)
class Entry:
    """One file in the archive: `size` bytes of content, stored as `packed` bytes from the byte `begin` on."""

    name: str
    begin: int
    packed: int
    size: int
    deflated: bool
    crc: int


def entries(source: Source) -> dict[str, Entry]:
    """The archive's files by name. Raises `CheckpointError` unless each lies in the file, apart from all others."""
    where, size, count = _directory(source)
    if count > MAX_ENTRIES or size > MAX_DIRECTORY:
        raise CheckpointError(
            f"{source.path}: its directory names {count} entries in {size} bytes; no model has so many"
        )
    table, found, position = source.read(where, size), {}, 0
    spans = []
    for _ in range(count):
        entry, header, position = _entry(source, table, position)
        spans.append((header, entry.begin + entry.packed, entry.name))
        if entry.name in found:
            raise CheckpointError(f"{source.path}: two entries are called {entry.name!r}")
        found[entry.name] = entry
    spans.sort()
    for (_, end, name), (begin, _, other) in zip(spans, [*spans[1:], (where, 0, "its directory")], strict=True):
        if end > begin:
            raise CheckpointError(f"{source.path}: damaged zip file: entry {name!r} reaches into {other!r}")
    unpacked = sum(entry.size for entry in found.values())
    if unpacked > MAX_RATIO * source.size + SLACK:
        raise CheckpointError(
            f"{source.path}: {source.size} bytes would unpack to {unpacked}; numbers do not shrink so far, so this is "
            "refused: save the arrays without compression if they really are so empty"
        )
    return {name: entry for name, entry in found.items() if not name.endswith("/")}


def _directory(source: Source) -> tuple[int, int, int]:
    """Where the directory begins, its bytes, its entries: from the record at the file's end, 32 bit or 64."""
    tail = source.read(max(0, source.size - 65_557), min(source.size, 65_557))
    at = tail.rfind(b"PK\5\6")
    if not 0 <= at <= len(tail) - 22:
        raise CheckpointError(f"{source.path}: cut short: it begins as a zip file, and its directory is missing")
    disk, first, here, count, size, where, comment = struct.unpack_from("<4H2LH", tail, at + 4)
    if 0xFFFF in (here, count) or 0xFFFFFFFF in (size, where):
        if at < 20 or tail[at - 20 : at - 16] != b"PK\6\7":
            raise CheckpointError(f"{source.path}: damaged zip file: the end of its directory is not sound")
        end = source.read(int.from_bytes(tail[at - 12 : at - 4], "little"), 56)
        mark, disk, first, here, count, size, where = struct.unpack("<4s12x2L4Q", end)
        if mark != b"PK\6\6":
            raise CheckpointError(f"{source.path}: damaged zip file: the end of its directory is not sound")
    limit = source.size - len(tail) + at
    if disk or first or here != count or where + size > limit or at + 22 + comment != len(tail):
        raise CheckpointError(f"{source.path}: damaged zip file, or cut short: its directory is not where it should be")
    return where, size, count


def _entry(source: Source, table: bytes, position: int) -> tuple[Entry, int, int]:
    """The entry described at a position of the directory, where its own header begins, and the next position."""
    damaged = f"{source.path}: damaged zip file: entry at byte {position} of its directory"
    if table[position : position + 4] != b"PK\1\2" or position + 46 > len(table):
        raise CheckpointError(f"{damaged}: not an entry")
    flags, method, crc, packed, size, *lengths, disk, header = struct.unpack_from("<8x2H4x3L3HH6xL", table, position)
    name_end = position + 46 + lengths[0]
    extra_end = name_end + lengths[1]
    following = extra_end + lengths[2]
    if following > len(table):
        raise CheckpointError(f"{damaged}: cut short")
    raw = table[position + 46 : name_end]
    if len(raw) > MAX_NAME:
        raise CheckpointError(f"{damaged}: its name has {len(raw)} bytes")
    try:
        name = raw.decode("utf-8" if flags & UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{damaged}: its name is not text") from error
    size, packed, header = _wide(table[name_end:extra_end], [size, packed, header])
    if flags & ENCRYPTED or method not in (STORED, DEFLATED) or disk:
        raise CheckpointError(
            f"{source.path}: entry {name!r} is encrypted or packed by method {method}; unpack it first"
        )
    local = source.read(header, 30 + len(raw)) if header + 30 + len(raw) <= source.size else b""
    if local[:4] != b"PK\3\4" or local[30:] != raw:
        raise CheckpointError(f"{source.path}: damaged zip file: entry {name!r} is not at byte {header}")
    begin = header + 30 + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
    if begin + packed > source.size or (method == STORED and packed != size):
        raise CheckpointError(f"{source.path}: damaged zip file: entry {name!r} is not {packed} bytes at {begin}")
    return Entry(name, begin, packed, size, method == DEFLATED, crc), header, following


def _wide(extra: bytes, values: list[int]) -> list[int]:
    """Sizes and offsets that need 64 bits stand in an extra field of kind 1, in this order, where 32 bits are all set."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == 1:
            for i, value in enumerate(values):
                if value == 0xFFFFFFFF and len(field) >= 8:
                    values[i], field = int.from_bytes(field[:8], "little"), field[8:]
    return values


def fill(source: Source, entry: Entry, skip: int, buffer: memoryview) -> None:
    """Read an entry's content from its byte `skip` on into `buffer`; the checksum is tested where the end is reached.

    Not where most of a stored entry is skipped, nor where the writer left the checksum out (torch can: it is then 0).
    """
    end = skip + len(buffer)
    if end > entry.size:
        raise CheckpointError(f"{source.path}: entry {entry.name!r} has {entry.size} bytes, {end} are needed")
    crc = 0
    if entry.deflated:
        crc = _unpack(source, entry, skip, buffer)
    else:
        source.fill(entry.begin + skip, buffer)
        if end == entry.size and skip <= CRC_PREFIX and entry.crc:
            crc = zlib.crc32(buffer, zlib.crc32(source.read(entry.begin, skip)))
        else:
            return
    if end == entry.size and entry.crc and crc != entry.crc:
        raise CheckpointError(f"{source.path}: entry {entry.name!r} is damaged: its checksum does not fit")


def _unpack(source: Source, entry: Entry, skip: int, buffer: memoryview) -> int:
    """Inflate into `buffer` what follows the first `skip` bytes, a piece at a time; the checksum of all that came by."""
    unpacker, position, crc, done = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0, 0
    packed, end = b"", skip + len(buffer)
    while done < end or (end == entry.size and not unpacker.eof):
        packed = unpacker.unconsumed_tail
        if not packed and position < entry.packed:
            packed = source.read(entry.begin + position, min(CHUNK, entry.packed - position))
            position += len(packed)
        try:
            piece = unpacker.decompress(packed, min(CHUNK, end - done) or 1)
        except zlib.error as error:
            raise CheckpointError(f"{source.path}: entry {entry.name!r} cannot be unpacked: {error}") from error
        if done + len(piece) > end or not (piece or packed):
            raise CheckpointError(f"{source.path}: entry {entry.name!r} does not unpack to {entry.size} bytes")
        crc = zlib.crc32(piece, crc)
        wanted = piece[max(0, skip - done) :]
        at = max(0, done - skip)
        buffer[at : at + len(wanted)] = wanted
        done += len(piece)
    return crc
