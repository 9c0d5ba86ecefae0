"""Titles: read where they are, and never at a price."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.file_index.titles import READERS, TITLE_CHARS_MAX, kind_of, title_of


def frame(name: bytes, text: bytes) -> bytes:
    return name + len(text).to_bytes(4) + b"\0\0" + text


def zipped(**members: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


DUBLIN = b"<x><dc:title id='t'>Of Mice &amp; Men</dc:title><dc:creator>Ann</dc:creator></x>"
ID3 = b"ID3\x03\0\0\0\0\x10\0" + frame(b"TIT2", b"\0Song") + frame(b"TPE1", b"\1\xff\xfeB\0o\0b\0")
BOMB = zipped(**{"meta.xml": b"<dc:title>" + b"x" * 50_000_000 + b"</dc:title>"})


@pytest.mark.parametrize(
    ("name", "content", "title"),
    [
        ("a.html", b"<html><TITLE lang=en>One\n two &lt;3</title>", "One two <3"),
        ("a.htm", b"no title", ""),
        (
            "a.eml",
            b"From: x\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n aus\r\n\r\nbody",
            "Grüße aus",
        ),
        ("a.eml", b"From: x\n\nSubject: in the body", ""),
        ("a.mp3", ID3 + b"\0" * 200, "Song Bob"),
        ("a.mp3", b"x" * 500 + b"TAG" + b"Old".ljust(30, b"\0") + b"Cat".ljust(95), "Old Cat"),
        ("a.docx", zipped(**{"docProps/core.xml": DUBLIN}), "Of Mice & Men Ann"),
        ("a.odt", zipped(**{"meta.xml": DUBLIN}), "Of Mice & Men Ann"),
        ("a.epub", zipped(**{"OEBPS/content.opf": DUBLIN}), "Of Mice & Men Ann"),
        ("a.txt", b"<title>not looked at</title>", ""),
        ("a.odt", b"PK no archive", ""),
        ("a.odt", BOMB, ""),
        ("a.html", b"<title>" + b"x" * 999 + b"</title>", "x" * TITLE_CHARS_MAX),
    ],
)
def test_the_title_of_a_file(name: str, content: bytes, title: str) -> None:
    assert title_of(io.BytesIO(content), name) == title


class Counting(io.BytesIO):
    """Counts what is read of it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.count += len(found)
        return found


@pytest.mark.parametrize("ending", READERS)
def test_of_a_large_file_little_is_read(ending: str) -> None:
    many = zipped(**{f"{number:0200d}": b"" for number in range(3000)})
    *_, length, start, _ = struct.unpack("<4s4H2IH", many[-22:])
    directory = (3000, 3000, length, start)
    zip64 = (  # the end says that the directory is short; what stands before it counts
        many[:-22]
        + struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, *directory)
        + struct.pack("<4sIQI", b"PK\x06\x07", 0, len(many) - 22, 1)
        + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 3000, 3000, 100, start, 0)
    )
    for content in (bytes(5_000_000), b"<title" * 800_000, many, zip64):
        file = Counting(content)
        assert title_of(file, f"x.{ending}") == ""
        assert file.count <= 2 * 64 * 1024


@given(st.sampled_from(sorted(READERS)), st.binary(max_size=400))
def test_whatever_a_file_holds_it_does_no_harm(ending: str, content: bytes) -> None:
    for prefix in (b"", b"ID3\x04", b"Subject: =?", b"<title>"):
        assert len(title_of(io.BytesIO(prefix + content), f"x.{ending}")) <= TITLE_CHARS_MAX


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a/b.TXT", "text"),
        ("b.pdf", "document"),
        ("b.tar.gz", "archive"),
        ("b.mp3", "audio"),
        ("b.png", "image"),
        ("b.mp4", "video"),
        ("README", "other"),
        ("x.\udcff", "other"),
    ],
)
def test_the_kind_of_a_file(name: str, kind: str) -> None:
    assert kind_of(name) == kind
