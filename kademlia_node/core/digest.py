"""Repair by difference: finding what a neighbour holds otherwise than we do, by few questions.

Nobody has to agree on who is responsible for what. A node asks a neighbour what it holds under a
prefix of the key space. A few keys are listed, each with a hash of its versions; for more there
come sixteen digests, one for each next digit. The asker compares them with what it holds itself
and asks on where they differ. What differs and was dealt with (pulled, or left as not ours) is
remembered as a pair of digests, ours and theirs: where the same two meet again, nothing is asked.
So two nodes in a steady state exchange one question, however much they hold, and after a change
those along its path.

The digest of a prefix is SHA-256 over the answer about it, cut to 8 bytes: a Merkle tree. Its shape
follows from the keys alone, so equal contents have equal digests, whatever their history. A sum
over the keys would be simpler to keep up to date, but it can be steered: whoever finds records of
its own that sum up to one of somebody else's (the generalised birthday problem) makes the lack of
that one invisible. Here it takes a collision of 64 bits, some 2^32 hashes, and that hides one
difference below one prefix between the two nodes for which it was made, until something else
changes there. Nothing is forged by it: what is pulled is judged like any other record.

This module refuses to know stores, records beyond their headers, who is responsible, and time.
`Trie` is told what is held. `Reconciliation` is driven: send what `next_requests` hands out, tell
it what came by `on_answer` and `on_failure` until `is_over`, deal with the keys in `differing`, and
`settle`.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from kademlia_node.core.ids import ID_BYTES
from kademlia_node.core.message import DIGEST_BYTES, DIGEST_KEYS_MAX, Digest, Digests, Held
from kademlia_node.core.record import Header

DIGITS = "0123456789abcdef"
NOTHING = bytes(DIGEST_BYTES)
"""The digest of what is empty."""


def versions_digest(headers: Iterable[Header]) -> bytes:
    """8 bytes that stand for all records of one key; a renewal or another signature keeps them.

    Args:
        headers: of the records under the key, tombstones included, sorted by (author, slot).
    """
    versions = Versions()
    for header in headers:
        versions.add(header)
    return versions.digest()


class Versions:
    """The same for whoever does not have all headers of a key at once."""

    __slots__ = ("_hashed",)

    def __init__(self) -> None:
        self._hashed = hashlib.sha256()

    def add(self, header: Header) -> None:
        """The next one, in order of (author, slot)."""
        packed = header.pack()
        self._hashed.update(bytes([len(packed)]))
        self._hashed.update(packed[:2] + packed[10:86] + packed[150:])  # no expires, no signature

    def digest(self) -> bytes:
        """Of those added so far: 8 bytes."""
        return self._hashed.digest()[:DIGEST_BYTES]


def digest_of(summary: Digests) -> bytes:
    """The digest of a prefix from the answer about it: 8 bytes."""
    return _hash(summary.pack())


def _hash(packed: bytes) -> bytes:
    return hashlib.sha256(packed).digest()[:DIGEST_BYTES] if packed else NOTHING


# --- What we hold ---------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Node:
    """All keys below one prefix: in a leaf as sorted rows of key and hash, else in 16 parts."""

    rows: list[bytes]
    parts: list[_Node] | None = None
    count: int = 0
    known_digest: bytes | None = None  # made when asked for, dropped by any change below

    def rows_below(self) -> Iterator[bytes]:
        if self.parts is None:
            yield from self.rows
        else:
            for part in self.parts:
                yield from part.rows_below()

    def digest(self) -> bytes:
        if self.known_digest is None:
            parts = self.rows if self.parts is None else [part.digest() for part in self.parts]
            self.known_digest = _hash(b"".join(parts))
        return self.known_digest

    def split(self, depth: int) -> None:
        """Make a leaf that holds too much, `depth` digits from the root, a branch."""
        parts: list[list[bytes]] = [[] for _ in DIGITS]
        for row in self.rows:
            parts[int(row.hex()[depth], 16)].append(row)
        self.parts = [_Node(rows, count=len(rows)) for rows in parts]
        self.rows = []
        for part in self.parts:
            if part.count > DIGEST_KEYS_MAX:
                part.split(depth + 1)


class Trie:
    """The keys a node holds with the digests of their versions, in a tree of hexadecimal digits.

    A key costs some 150 bytes, a change some microseconds: the digests above it are made anew when
    next asked for.
    """

    def __init__(self) -> None:
        self._root = _Node([])

    def __len__(self) -> int:
        return self._root.count

    def __iter__(self) -> Iterator[bytes]:
        """The keys, sorted."""
        return (row[:ID_BYTES] for row in self._root.rows_below())

    def get(self, key: bytes) -> bytes | None:
        """The digest of the versions held under a key; None if nothing is."""
        *_, leaf = self._path(key.hex())
        at = bisect_left(leaf.rows, key)
        if at < len(leaf.rows) and leaf.rows[at].startswith(key):
            return leaf.rows[at][ID_BYTES:]
        return None

    def set(self, key: bytes, versions: bytes) -> None:
        """Under this key (32 bytes) is held what `versions` (8 bytes) stands for."""
        assert len(key) == ID_BYTES
        assert len(versions) == DIGEST_BYTES
        known = self.get(key)
        if known == versions:
            return
        path = list(self._path(key.hex()))
        for node in path:
            node.known_digest = None
            node.count += known is None
        leaf = path[-1]
        at = bisect_left(leaf.rows, key)
        leaf.rows[at : at + (known is not None)] = [key + versions]
        if leaf.count > DIGEST_KEYS_MAX:
            leaf.split(len(path) - 1)

    def remove(self, key: bytes) -> None:
        """Nothing is held under this key any longer; nothing may have been."""
        if self.get(key) is None:
            return
        path = list(self._path(key.hex()))
        del path[-1].rows[bisect_left(path[-1].rows, key)]
        for node in path:
            node.known_digest = None
            node.count -= 1
            if node.count <= DIGEST_KEYS_MAX:  # then no node below it is of use
                node.rows = list(node.rows_below())
                node.parts = None

    def digest(self, prefix: str) -> bytes:
        """8 bytes that stand for all that is held under a prefix (hexadecimal digits)."""
        return self._below(prefix).digest()

    def summary(self, prefix: str) -> Digests:
        """What is held under a prefix (hexadecimal digits), as it is told to others."""
        node = self._below(prefix)
        if node.parts is not None:
            return Digests(node.count, children=tuple(part.digest() for part in node.parts))
        held = tuple(Held(row[:ID_BYTES], row[ID_BYTES:]) for row in node.rows)
        return Digests(node.count, held=held)

    def _path(self, digits: str) -> Iterator[_Node]:
        """From the root along the digits, to their end or to a leaf."""
        node = self._root
        yield node
        for digit in digits:
            if node.parts is None:
                return
            node = node.parts[int(digit, 16)]
            yield node

    def _below(self, prefix: str) -> _Node:
        """The node of a prefix, made for the occasion where a leaf begins above it."""
        path = list(self._path(prefix))
        if len(path) > len(prefix):
            return path[-1]
        rows = [row for row in path[-1].rows if row.hex().startswith(prefix)]
        return _Node(rows, count=len(rows))


# --- What was dealt with --------------------------------------------------------------------------


class Reconciled:
    """Pairs of digests, ours and a peer's, that differ for reasons which were looked into.

    `len` counts the prefixes remembered, of all peers; beyond `prefixes_max` (some 300 bytes each)
    the one that was of no use for longest is forgotten, which costs a few questions.
    """

    def __init__(self, prefixes_max: int) -> None:
        self._prefixes_max = prefixes_max
        self._pairs: OrderedDict[tuple[bytes, str], tuple[bytes, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, peer_id: bytes, prefix: str, *, ours: bytes, theirs: bytes) -> None:
        """With these digests of ours and theirs, there is nothing to do under the prefix."""
        self._pairs[peer_id, prefix] = ours, theirs
        self._pairs.move_to_end((peer_id, prefix))
        if len(self._pairs) > self._prefixes_max:
            self._pairs.popitem(last=False)

    def has(self, peer_id: bytes, prefix: str, *, ours: bytes, theirs: bytes) -> bool:
        """Whether just this pair was the last one added for this peer and prefix."""
        if self._pairs.get((peer_id, prefix)) != (ours, theirs):
            return False
        self._pairs.move_to_end((peer_id, prefix))
        return True

    def clear(self) -> None:
        """Forget all: we may have become responsible for what was not ours."""
        self._pairs.clear()


class Reconciliation:
    """One comparison of what we hold under a prefix with what one peer holds there.

    It learns what to pull, and not what the peer lacks: that is for the peer to ask. `differing` is
    the keys that the peer holds otherwise than we, or that we do not hold at all. A peer that lies
    can make it ask `requests_max` times and name as many times DIGEST_KEYS_MAX keys; answers that
    do not fit the question end it, and `lied` is set.
    """

    def __init__(
        self,
        trie: Trie,
        reconciled: Reconciled,
        *,
        peer_id: bytes,
        prefix: str,
        requests_max: int,
        at_once: int,
        concerns_us: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """Begin to compare; nothing is asked of deeper prefixes that do not concern us."""
        self._trie = trie
        self._concerns_us = concerns_us
        self._reconciled = reconciled
        self._peer_id = peer_id
        self._requests_left = requests_max
        self._at_once = at_once
        self._to_ask = [prefix]  # the last one next: what was begun is finished first
        self._asked: set[str] = set()
        self._answered: dict[str, bytes] = {}  # prefix, and the peer's digest of it
        self._silent = False
        self.lied = False
        self.differing: list[bytes] = []

    @property
    def is_over(self) -> bool:
        """No answer is awaited, and nothing more will be asked."""
        return not (self._asked or self._may_ask)

    @property
    def ran_out(self) -> bool:
        """More should have been asked of a peer that answers: the next comparison goes on."""
        return self.is_over and bool(self._to_ask) and not (self.lied or self._silent)

    @property
    def _may_ask(self) -> bool:
        ended = self.lied or self._silent
        return not ended and bool(self._to_ask) and self._requests_left > 0

    def next_requests(self) -> list[Digest]:
        """What to ask the peer now, so that at most `at_once` questions are under way."""
        requests: list[Digest] = []
        while self._may_ask and len(self._asked) < self._at_once:
            prefix = self._to_ask.pop()
            self._asked.add(prefix)
            self._requests_left -= 1
            requests.append(Digest(prefix))
        return requests

    def on_answer(self, request: Digest, answer: Digests) -> None:
        """The peer has answered one of the requests that were handed out."""
        prefix = request.prefix
        if not _fits(prefix, answer):
            self.lied = True
        self._asked.remove(prefix)
        if self.lied:
            return
        theirs = self._answered[prefix] = digest_of(answer)
        if self._is_settled(prefix, theirs):
            return
        for held in answer.held:
            if self._trie.get(held.key) != held.versions:
                self.differing.append(held.key)
        for digit, child in zip(DIGITS, answer.children, strict=False):
            below = prefix + digit
            if child == NOTHING or not self._concerns_us(below):
                continue
            if not self._is_settled(below, child):
                self._to_ask.append(below)

    def on_failure(self, request: Digest) -> None:
        """The peer did not answer, or refused: it is asked no more."""
        self._asked.remove(request.prefix)
        self._to_ask.append(request.prefix)
        self._silent = True

    def settle(self, *, undone: Collection[bytes] = ()) -> None:
        """The differing keys were dealt with, but for those in `undone`: not to ask again.

        What was not asked or not answered stays open, and so does all of a peer that lied. Our
        digests are those of now, after what was pulled is in the trie.
        """
        if self.lied:
            return
        still_open = [*self._to_ask, *self._asked, *(key.hex() for key in undone)]
        above = {prefix[:size] for prefix in still_open for size in range(len(prefix) + 1)}
        for prefix, theirs in self._answered.items():
            if prefix not in above:
                ours = self._trie.digest(prefix)
                self._reconciled.add(self._peer_id, prefix, ours=ours, theirs=theirs)

    def _is_settled(self, prefix: str, theirs: bytes) -> bool:
        ours = self._trie.digest(prefix)
        if ours == theirs:
            return True
        return self._reconciled.has(self._peer_id, prefix, ours=ours, theirs=theirs)


def _fits(prefix: str, answer: Digests) -> bool:
    """Whether this can be what somebody holds under the prefix; its form was checked before."""
    if answer.count > len(DIGITS) ** (2 * ID_BYTES - len(prefix)):
        return False
    keys = [held.key for held in answer.held]
    in_order = all(before < after for before, after in pairwise(keys))
    return in_order and all(key.hex().startswith(prefix) for key in keys)
