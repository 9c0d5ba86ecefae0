"""Words: one form on both sides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.file_index.words import WORD_CHARS_MAX, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("--- // ...", []),
        ("papers/kademlia.pdf", ["papers", "kademlia", "pdf"]),
        ("Große Übersicht", ["grosse", "ubersicht"]),
        ("CAFE\u0301 cafe", ["cafe"]),
        ("readMe.HTMLParser", ["read", "me", "html", "parser"]),
        ("README", ["readme"]),
        ("img2034_final-v2", ["img2034", "final", "v2"]),
        ("ﬁle ① ½", ["file", "1", "2"]),
        ("日本語 テスト", ["日本語", "テスト"]),
        ("a\nb\x00c\udcff", ["a", "b", "c"]),
        ("x" * 99, ["x" * WORD_CHARS_MAX]),
    ],
)
def test_the_words_of_a_text(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@given(st.text())
def test_a_word_is_its_own_only_word(text: str) -> None:
    """So a searcher may type what a sharer's file was found by."""
    for word in words_of(text):
        assert words_of(word) == [word]
        assert 0 < len(word) <= WORD_CHARS_MAX


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_case_and_composition_make_no_difference(text: str) -> None:
    import unicodedata  # noqa: PLC0415

    assert words_of(unicodedata.normalize("NFC", text)) == words_of(
        unicodedata.normalize("NFD", text)
    )


@given(st.from_regex(r"[a-z0-9 ./_-]*", fullmatch=True))
def test_capitals_throughout_make_no_difference(text: str) -> None:
    assert words_of(text.upper()) == words_of(text)
