"""How large the demonstration is, and the figures that come out of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.index_demo.trees import Pair

FIRST_HIT_MAX_MS: Final = 1000.0
WATCHED_MAX_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Size:
    """How large it all is.

    `film_bytes` is the length of the file that is fetched, `lease_s` that of sharers, `renewals_s`
    for how long renewals are watched. What is brief does not wait for leases, nor for renewals.
    """

    nodes: int
    files: int | None
    queries: int
    film_bytes: int
    lease_s: int
    renewals_s: int
    is_brief: bool


@dataclass(slots=True)
class Result:
    """What came of it. Times of searches are until the first hit, in milliseconds."""

    nodes: int
    sharers: int
    files: int = 0
    files_of_the_largest: int = 0
    shared_in_all: int = 0
    entries: int = 0
    announced_s: float = 0.0
    queries: int = 0
    queries_with_hits: int = 0
    first_hit_ms: dict[str, float] | None = None
    whole_search_ms: dict[str, float] | None = None
    command_ms: dict[str, float] | None = None
    precision: float = 0.0
    recall: float = 0.0
    hostile_files_shared: int = 0
    film_mib: float = 0.0
    film_s: float = 0.0
    film_hash_equal: bool = False
    film_pieces_false: int = 0
    film_pieces_stalled: int = 0
    removed_file_vanished_s: float = 0.0
    lease_s: int = 0
    silent_vanished_s: list[float] | None = None
    precision_after: float = 0.0
    recall_after: float = 0.0
    publications_due: int = 0
    renewed: int = 0
    renewed_within_s: float = 0.0
    renewed_per_s: float = 0.0
    renewals_needed_per_s: float = 0.0
    requests_per_renewal: float = 0.0
    datagrams_per_renewal: float = 0.0
    seconds: float = 0.0

    def broken(self) -> list[str]:
        """Which promises were not kept."""
        first_ms = (self.first_hit_ms or {}).get("max", 0.0)
        kept = {
            "precision and recall are 1": self.precision == self.recall == 1.0,
            "and so they are in the end": self.precision_after == self.recall_after == 1.0,
            "the first hit comes within a second": first_ms < FIRST_HIT_MAX_MS,
            "the film is whole": self.film_hash_equal,
            "renewals keep up": self.renewed_per_s >= self.renewals_needed_per_s,
            "a removed file is gone in a minute": self.removed_file_vanished_s < WATCHED_MAX_S,
            "who is silent is gone within the lease": all(
                took_s <= self.lease_s for took_s in self.silent_vanished_s or ()
            ),
        }
        return [f"not so: {promise}" for promise, is_kept in kept.items() if not is_kept]


class Judged:
    """What was found, beside what there is."""

    def __init__(self) -> None:
        self._found = self._true = self._right = 0
        self.wrong: list[str] = []

    def add(self, found: set[Pair], true: set[Pair], words: Sequence[str]) -> None:
        """One search."""
        self._found += len(found)
        self._true += len(true)
        self._right += len(found & true)
        if found != true:
            text = f"{words}: {len(true - found)} missing, {len(found - true)} too many"
            self.wrong.append(text)

    @property
    def precision(self) -> float:
        """Which share of what was found is right."""
        return self._right / self._found if self._found else 1.0

    @property
    def recall(self) -> float:
        """Which share of what there is was found."""
        return self._right / self._true if self._true else 1.0


def spread(times_ms: list[float]) -> dict[str, float]:
    """Some of them, in order."""
    times_ms.sort()
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(times_ms[int(s * (len(times_ms) - 1))], 1) for name, s in shares.items()}


def hash_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
