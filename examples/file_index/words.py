"""The words of a text: what a file is found by, and what a searcher types, in one form.

`words_of` is all there is to it, and sharers and searchers of one network have to agree on it: it
is part of what `TOPIC` numbers.
"""

from __future__ import annotations

import unicodedata
from typing import Final

TOPIC: Final = "file-index 1 "  # and a word: the topic under which files are announced
WORD_CHARS_MAX: Final = 40  # what is longer is cut, on both sides


def words_of(text: str) -> list[str]:
    """The distinct words of a text, in order.

    Case and accents do not count; anything but letters and digits separates words, and so does the
    start of a new one in camel case: readMe, HTMLParser.
    """
    plain = _plain(_split_camel_case(_plain(text)).casefold())
    separated = "".join(c if c.isalnum() else " " for c in plain)
    return list(dict.fromkeys(word[:WORD_CHARS_MAX] for word in separated.split()))


def topic_of(word: str) -> str:
    """Where files that have this word are announced."""
    return TOPIC + word


def _plain(text: str) -> str:
    """Compatibility forms taken apart, then without marks."""
    apart = unicodedata.normalize("NFKD", text)
    return "".join(c for c in apart if not unicodedata.combining(c))


def _split_camel_case(text: str) -> str:
    """A space where a capital follows a small letter, or begins a word behind other capitals."""
    parts: list[str] = []
    for before, here, after in zip(f" {text}", text, f"{text[1:]} ", strict=False):
        starts = _is_capital(here) and (before.islower() or _ends_capitals(before, after))
        parts.append(f" {here}" if starts else here)
    return "".join(parts)


def _ends_capitals(before: str, after: str) -> bool:
    return _is_capital(before) and after.islower()


def _is_capital(char: str) -> bool:
    return char.isupper() and char.casefold() != char  # some capitals are their own folded form
