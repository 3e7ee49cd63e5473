"""OGG files that are the same each time: libsndfile draws a stream's serial number from the clock."""

from __future__ import annotations

import struct

HEADER = struct.Struct("<4sBBqIIIB")  # of a page (RFC 3533, section 6): magic, version, type, granule, serial, ...
SERIAL, CHECKSUM = slice(14, 18), slice(22, 26)
POLYNOMIAL = 0x04C11DB7


def without_serial(content: bytes) -> bytes:
    """The file of one stream with serial number 0, and its pages' checksums as they are then.

    Raises:
        ValueError: it is no OGG file.
    """
    pages, start = bytearray(content), 0
    while start < len(pages):
        magic, *_, segments = HEADER.unpack_from(pages, start)
        if magic != b"OggS":
            raise ValueError(f"no page of an OGG file begins at byte {start}")
        body = start + HEADER.size + segments
        end = body + sum(pages[start + HEADER.size : body])
        page = pages[start:end]
        page[SERIAL] = page[CHECKSUM] = bytes(4)
        page[CHECKSUM] = checksum(bytes(page)).to_bytes(4, "little")
        pages[start:end] = page
        start = end
    return bytes(pages)


def checksum(page: bytes) -> int:
    """CRC-32 as OGG has it: not reflected, from 0, nothing inverted."""
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ TABLE[value >> 24 ^ byte]
    return value


def _entry(byte: int) -> int:
    value = byte << 24
    for _ in range(8):
        value = (value << 1 ^ (POLYNOMIAL if value >> 31 else 0)) & 0xFFFFFFFF
    return value


TABLE = [_entry(byte) for byte in range(256)]
