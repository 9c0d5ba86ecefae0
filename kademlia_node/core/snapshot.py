"""A snapshot: all records of one key, as pages that two holders can compare and pull.

The records of a topic are laid out in order of (author, slot) and cut into pages; the manifest of
the pages is the snapshot. Where a page ends is decided by the record that ends it, not by counting
from the front: a new record changes the page it falls into and leaves the others as they were. So
holders that differ in one entry share nearly all pages, and a reader pulls what differs.

An item of a page is a header length (1 byte), the packed header, a value length (2 bytes,
big-endian) and the value. A value too long for INLINE_BYTES_MAX is left out, marked by a value
length of 0xFFFF; it is pulled by its own hash.

Not known here: whether a record is true (`record` judges each), where pages are kept. `Paginator`
is driven by a holder, record by record, so that a topic never has to be in memory as a whole;
`read_page` by a reader.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from kademlia_node.core.message import Item
from kademlia_node.core.record import Header, Record, unpack_header
from kademlia_node.errors import MalformedMessage
from kademlia_node.settings import INLINE_BYTES_MAX, PAGE_BYTES_MIN, VALUE_BYTES_MAX

_VALUE_LENGTH = struct.Struct(">H")
_LEFT_OUT: Final = 0xFFFF
_ENDS_BELOW: Final = 8  # of 256: beyond PAGE_BYTES_MIN, one record in 32 ends its page


class Paginator:
    """Cuts records, added in order of (author, slot), into pages of at most VALUE_BYTES_MAX."""

    __slots__ = ("_last", "_page")

    def __init__(self) -> None:
        self._page = bytearray()
        self._last: tuple[bytes, bytes] | None = None

    def add(self, record: Record) -> bytes | None:
        """Take the next record; a page, if one is finished by it or just before it."""
        place = record.header.author, record.header.slot
        assert self._last is None or self._last < place, "records come in order"
        self._last = place
        item = _pack_item(record)
        if len(self._page) + len(item) > VALUE_BYTES_MAX:
            page = self.finish()
            self._page += item
            return page
        self._page += item
        if len(self._page) >= PAGE_BYTES_MIN and _ends_page(record.header):
            return self.finish()
        return None

    def finish(self) -> bytes | None:
        """What is left: the last page, or None if there was no record since the one before."""
        page = bytes(self._page)
        self._page.clear()
        return page or None


def read_page(page: bytes) -> list[Item]:
    """The records of a page, values not longer than INLINE_BYTES_MAX included.

    Raises:
        MalformedMessage: cut short, longer than VALUE_BYTES_MAX, or an item that is malformed.
    """
    if len(page) > VALUE_BYTES_MAX:
        raise MalformedMessage("a page is too long")
    items = []
    offset = 0
    while offset < len(page):
        item, offset = _read_item(page, offset)
        items.append(item)
    return items


def first_header(page: bytes) -> Header:
    """The header of the first record of a page that a `Paginator` made."""
    return _read_item(page, 0)[0].header


def _ends_page(header: Header) -> bool:
    """Not by the version: a page must not end elsewhere because a record was renewed."""
    return hashlib.sha256(header.author + header.slot).digest()[-1] < _ENDS_BELOW


def _pack_item(record: Record) -> bytes:
    header, value = record.header.pack(), record.value
    length = len(value)
    if length > INLINE_BYTES_MAX:
        length, value = _LEFT_OUT, b""
    return bytes([len(header)]) + header + _VALUE_LENGTH.pack(length) + value


def _read_item(page: bytes, offset: int) -> tuple[Item, int]:
    """The item at `offset`, and where the next one begins."""
    packed_header, offset = _read(page, offset + 1, page[offset])
    packed_length, offset = _read(page, offset, _VALUE_LENGTH.size)
    header = unpack_header(packed_header)
    length = int.from_bytes(packed_length, "big")
    if length == _LEFT_OUT:
        return Item(header, None), offset
    if length > INLINE_BYTES_MAX:
        raise MalformedMessage("a page holds a value that is too long for it")
    value, offset = _read(page, offset, length)
    return Item(header, value), offset


def _read(page: bytes, offset: int, length: int) -> tuple[bytes, int]:
    end = offset + length
    if end > len(page):
        raise MalformedMessage("a page is cut short")
    return page[offset:end], end
