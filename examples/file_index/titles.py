"""Titles of files, where a few kilobytes of them tell: HTML, mail, music, books and documents.

Files may be hostile. So a bounded stretch is read, nothing is parsed as XML (what stands between
two tags is cut out), of an archive only one small member is unpacked and only if its directory is
small; and whatever goes wrong, the file just has no title.
"""

from __future__ import annotations

import html
import mimetypes
import struct
import zipfile
from collections.abc import Callable
from email.header import decode_header, make_header
from typing import BinaryIO, Final

HEAD_BYTES: Final = 64 * 1024  # read of any file, or member of an archive
DIRECTORY_BYTES_MAX: Final = 256 * 1024  # of an archive that is looked into
END_OF_ZIP: Final = struct.Struct("<4s4H2IH")  # of the directory; APPNOTE.TXT, 4.3.16
ZIP64_LOCATOR_BYTES: Final = 20  # before that end, where there is one
TITLE_CHARS_MAX: Final = 120
DOCUMENTS: Final = frozenset({"pdf", "docx", "odt", "epub", "doc", "rtf", "ps", "djvu"})
ARCHIVES: Final = frozenset({"zip", "tar", "gz", "bz2", "xz", "7z", "rar", "zst"})
KINDS: Final = ("text", "image", "audio", "video", "document", "archive", "other")
ENCODINGS: Final = {0: "latin-1", 1: "utf-16", 2: "utf-16-be", 3: "utf-8"}  # of ID3v2 text


def kind_of(name: str) -> str:
    """One of KINDS, by the end of a name."""
    ending = _ending(name)
    if ending in DOCUMENTS:
        return "document"
    if ending in ARCHIVES:
        return "archive"
    main = (mimetypes.guess_type(f"x.{ending}")[0] or "other").partition("/")[0]
    return main if main in KINDS else "other"


def title_of(file: BinaryIO, name: str) -> str:
    """The title of an open file, with its author where that is told; or nothing."""
    read = READERS.get(_ending(name))
    if read is None:
        return ""
    try:
        title = read(file)
    except Exception:  # noqa: BLE001 - whatever a hostile file does, it has no title then
        return ""
    return " ".join(title.split())[:TITLE_CHARS_MAX]


def _ending(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[2].lower()


def _between(text: str, tag: str) -> str:
    """What stands between the first <tag ...> and the next <."""
    start = text.lower().find(f"<{tag}")
    start = text.find(">", start) if start >= 0 else -1
    end = text.find("<", start)
    return html.unescape(text[start + 1 : end]) if 0 <= start < end else ""


def _of_html(file: BinaryIO) -> str:
    return _between(file.read(HEAD_BYTES).decode("utf-8", "replace"), "title")


def _of_mail(file: BinaryIO) -> str:
    head = file.read(HEAD_BYTES).replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    unfolded = head.decode("utf-8", "replace").replace("\n ", " ").replace("\n\t", " ")
    for line in unfolded.split("\n"):
        name, _, value = line.partition(":")
        if name.lower() == "subject":
            return str(make_header(decode_header(value.strip()[:1000])))
    return ""


def _of_music(file: BinaryIO) -> str:
    head = file.read(HEAD_BYTES)
    if head[:3] == b"ID3" and len(head) > 10:
        return _id3v2(head)
    file.seek(-128, 2)
    tag = file.read(128)
    fields = (tag[3:33], tag[33:63]) if tag[:3] == b"TAG" else ()
    return " ".join(field.rstrip(b"\0 ").decode("latin-1") for field in fields)


def _id3v2(head: bytes) -> str:
    """Title and artist among the frames of ID3v2.3 and v2.4 (id3.org, section 3)."""
    found, at, is_v4 = {}, 10, head[3] >= 4
    while at + 10 < len(head) and head[at : at + 4].isalnum():
        size = head[at + 4 : at + 8]
        length = sum(b << 7 * (3 - i) for i, b in enumerate(size)) if is_v4 else 0
        length = length or int.from_bytes(size)
        body = head[at + 10 : at + 10 + length]
        if body and head[at : at + 4] in (b"TIT2", b"TPE1"):
            encoding = ENCODINGS.get(body[0], "latin-1")
            found[head[at : at + 4]] = body[1:].decode(encoding, "replace").strip("\0")
        at += 10 + length
    return " ".join(found[frame] for frame in sorted(found))


def _of_archive(choose: Callable[[str], bool]) -> Callable[[BinaryIO], str]:
    """What reads title and author from the first member that is chosen by name."""

    def read(file: BinaryIO) -> str:
        if _directory_bytes(file) > DIRECTORY_BYTES_MAX:
            return ""
        with zipfile.ZipFile(file) as archive:
            member = next(one for one in archive.infolist() if choose(one.filename))
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                return ""
            with archive.open(member) as opened:
                text = opened.read(HEAD_BYTES).decode("utf-8", "replace")
        return f"{_between(text, 'dc:title')} {_between(text, 'dc:creator')}"

    return read


def _directory_bytes(file: BinaryIO) -> int:
    """How long the archive says that its directory is; with a comment, or as zip64, too long."""
    file.seek(-END_OF_ZIP.size - ZIP64_LOCATOR_BYTES, 2)
    is_zip64 = file.read(ZIP64_LOCATOR_BYTES).startswith(b"PK\x06\x07")
    mark, *_, size, _, _ = END_OF_ZIP.unpack(file.read(END_OF_ZIP.size))
    file.seek(0)
    is_plain = mark == b"PK\x05\x06" and not is_zip64
    return int(size) if is_plain else DIRECTORY_BYTES_MAX + 1


READERS: Final[dict[str, Callable[[BinaryIO], str]]] = {
    "html": _of_html,
    "htm": _of_html,
    "eml": _of_mail,
    "mp3": _of_music,
    "docx": _of_archive("docProps/core.xml".__eq__),
    "odt": _of_archive("meta.xml".__eq__),
    "epub": _of_archive(lambda name: name.endswith(".opf")),
}
