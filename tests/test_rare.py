"""Marks of rare paths: each stands somewhere, and is counted only while somebody counts."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from kademlia_node.rare import Rare, counted, sometimes

PACKAGE = Path(__file__).parent.parent / "kademlia_node"


def marks(source: str) -> Iterator[str]:
    """The names of the members with which `sometimes` is called."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(
                func=ast.Name(id="sometimes"),
                args=[ast.Attribute(value=ast.Name(id="Rare"), attr=name)],
            ):
                yield name


def test_every_rare_path_is_marked_in_one_place() -> None:
    """And only those: a mark of anything else would be no member."""
    found = [
        name for path in PACKAGE.rglob("*.py") for name in marks(path.read_text(encoding="utf-8"))
    ]
    assert sorted(found) == sorted(path.name for path in Rare)


def test_every_rare_path_is_told_in_a_sentence_of_its_own() -> None:
    """Two equal sentences would make one member of two."""
    assert len(Rare) == len(Rare.__members__)
    assert all(path.value.count(" ") >= 3 for path in Rare)


def test_a_mark_is_found_wherever_it_stands() -> None:
    source = "def f():\n    if x:\n        sometimes(Rare.NOT_AGREED)\n    sometimes(other)\n"
    assert list(marks(source)) == ["NOT_AGREED"]


def test_paths_are_counted_while_somebody_counts() -> None:
    sometimes(Rare.NOT_AGREED)
    with counted() as counts:
        sometimes(Rare.NOT_AGREED)
        sometimes(Rare.NOT_AGREED)
        sometimes(Rare.JOIN_FAILED)
    sometimes(Rare.NOT_AGREED)
    assert counts == {Rare.NOT_AGREED: 2, Rare.JOIN_FAILED: 1}


def test_a_count_ends_also_when_what_is_counted_fails() -> None:
    seen: list[Counter[Rare]] = []

    def fail() -> None:
        with counted() as counts:
            seen.append(counts)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    sometimes(Rare.JOIN_FAILED)
    assert seen == [Counter()]
