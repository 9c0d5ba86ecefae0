"""Patterns of files that are not to be shared: a small subset of those of gitignore.

One pattern per line; blank lines and lines that begin with # say nothing.

    *.bak       a file or folder of this name, in this folder or below
    build/      folders only
    /notes      in this folder only; so is any pattern with a slash in it: drafts/*.txt
    a/**/b      any number of folders between
    !keep.bak   shared nevertheless; the last line that matches counts

* stands for any characters but a slash, ? for one. Matching takes time in proportion to the lengths
of pattern and path, whoever wrote the pattern.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

FILE: Final = ".indexignore"
RULES_MAX: Final = 1000  # of one file
ANY_FOLDERS: Final = "**"


@dataclass(frozen=True, slots=True)
class Rule:
    """One line: the parts between its slashes, and what it says."""

    parts: tuple[str, ...]
    folders_only: bool
    ignores: bool


def parse(text: str) -> tuple[Rule, ...]:
    """The rules of a file, in order; those beyond RULES_MAX are left out."""
    rules: list[Rule] = []
    for line in text.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        ignores = not pattern.startswith("!")
        pattern = pattern.removeprefix("!")
        folders_only = pattern.endswith("/")
        pattern = pattern.rstrip("/")
        parts = [part for part in pattern.split("/") if part]
        if parts and "/" not in pattern:
            parts.insert(0, ANY_FOLDERS)
        if parts:
            rules.append(Rule(tuple(parts), folders_only, ignores))
    return tuple(rules[:RULES_MAX])


def verdict(rules: Sequence[Rule], path: Sequence[str], *, is_folder: bool) -> bool | None:
    """Whether these rules ignore a path, given from their own folder; None: they do not say."""
    for rule in reversed(rules):
        if (is_folder or not rule.folders_only) and _matches(rule.parts, path):
            return rule.ignores
    return None


def _matches(parts: Sequence[str], path: Sequence[str]) -> bool:
    """All ways at once: the numbers of names that the parts so far can have taken."""
    taken = {0}
    for part in parts:
        if part == ANY_FOLDERS:
            taken = set(range(min(taken), len(path) + 1))
        else:
            taken = {n + 1 for n in taken if n < len(path) and _is_like(part, path[n])}
        if not taken:
            return False
    return len(path) in taken


def _is_like(pattern: str, name: str) -> bool:
    """Whether one name matches; a star that took too little takes one more, the last one only."""
    p = n = 0
    star, resume = -1, 0
    while n < len(name):
        if p < len(pattern) and pattern[p] == "*":
            star, resume = p, n
            p += 1
        elif p < len(pattern) and pattern[p] in ("?", name[n]):
            p, n = p + 1, n + 1
        elif star >= 0:
            resume += 1
            p, n = star + 1, resume
        else:
            return False
    return not pattern[p:].strip("*")
