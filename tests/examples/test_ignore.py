"""Patterns of what is not to be shared."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.file_index.ignore import RULES_MAX, parse, verdict


@pytest.mark.parametrize(
    ("rules", "path", "said"),
    [
        ("*.bak", "a.bak", True),
        ("*.bak", "deep/er/a.bak", True),
        ("*.bak", "a.bak.txt", None),
        ("/notes", "notes", True),
        ("/notes", "sub/notes", None),
        ("drafts/*.txt", "drafts/a.txt", True),
        ("drafts/*.txt", "drafts/b/a.txt", None),
        ("drafts/*.txt", "x/drafts/a.txt", None),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "x/a/b", None),
        ("**/b", "x/y/b", True),
        ("?.txt", "a.txt", True),
        ("?.txt", "ab.txt", None),
        ("*.bak\n!keep.bak", "keep.bak", False),
        ("!keep.bak\n*.bak", "keep.bak", True),
        ("# *.txt\n\n   \n/\n!\n", "a.txt", None),
        ("[a].txt", "a.txt", None),
    ],
)
def test_a_pattern_names_what_it_says(rules: str, path: str, said: bool | None) -> None:
    assert verdict(parse(rules), path.split("/"), is_folder=False) is said


def test_a_pattern_with_a_slash_at_its_end_is_for_folders() -> None:
    rules = parse("build/")
    assert verdict(rules, ["x", "build"], is_folder=True) is True
    assert verdict(rules, ["x", "build"], is_folder=False) is None


def test_there_is_a_limit_to_rules() -> None:
    assert len(parse("x\n" * (RULES_MAX + 1))) == RULES_MAX


names = st.text(alphabet="ab", max_size=8)


@given(st.text(alphabet="ab*?", min_size=1, max_size=8), names.filter(bool))
def test_stars_match_as_a_regular_expression_would(pattern: str, name: str) -> None:
    if pattern == "**":
        return
    expression = pattern.replace("*", ".*").replace("?", ".")
    matches = bool(re.fullmatch(expression, name))
    assert (verdict(parse(pattern), [name], is_folder=False) is True) == matches


def test_no_pattern_takes_long() -> None:
    """This one would keep a regular expression busy for longer than the test may take."""
    rules = parse("*a" * 2000 + "b\n" + "**/a/" * 500 + "b")
    assert verdict(rules, ["a" * 255] * 60, is_folder=False) is None


@given(st.text(), st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_whatever_is_written_there_it_can_be_read(text: str, path: list[str]) -> None:
    assert verdict(parse(text), path, is_folder=False) in (True, False, None)
