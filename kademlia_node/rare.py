"""What seldom happens to a node, as one table, and the mark that tells when it did.

A path that no simulation has ever taken is a path that nobody has tested. So the code calls
`sometimes(Rare.X)` where it goes such a way, and a campaign of simulated runs counts these calls:

    with counted() as counts:
        ...  # many runs
    never = [path for path in Rare if not counts[path]]

While nobody counts, a mark costs one look at an empty list. It refuses to know what the marked code
does and changes nothing about it. Counts are those of the process: whoever counts does so for one
simulation at a time, in one thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final


class Rare(Enum):
    """The rare paths, each with what has happened when it is taken."""

    # The routing table
    CONTACT_DROPPED = "a contact stayed silent so often that it lost its place in the table"
    CONTACT_DISPLACED = "a newcomer took the place of a contact that was often silent"
    REPLACEMENT_PROMOTED = "a place became free in a bucket, and a contact that waited got it"
    UPLINK_IN_DOUBT = "so many contacts are silent that we doubt our own line and strike nobody"

    # Sessions and handshakes
    SESSIONS_CROSSED = "two nodes called each other at once, and both kept the same session"
    SESSION_EVICTED = "there were too many sessions, and one that was still good had to go"
    SESSION_UNKNOWN = "a packet came over a session that we do not have: its sender was told"
    SESSION_LOST = "a peer told us that our session with it is gone: requests began anew"
    PEER_GONE = "a host told that nobody listens there any more: no request waits for an answer"
    SESSION_REKEYED = "a session had become old and got a successor while it was in use"
    HALF_OPEN_EVICTED = "more callers than we remember had not yet shown that they receive"
    PACKET_REPLAYED = "a packet came twice, or too late to tell"
    INIT_REPEATED = "a caller repeated its INIT, and got the same answer again"
    INIT_STALE = "an INIT was not newer than the last one of its key: a replay, or a wrong clock"
    COOKIE_DEMANDED = "there were too many INITs: callers had to show where they receive"
    ANSWERED_LATE = "a handshake was answered when nobody waited any more: its session serves"
    DEAD_LEFT_ALONE = "hearsay that was silent a moment ago was not called again"
    DIAL_CROWDED = "too many requests waited for one handshake"
    PEER_OUTPACED = "a peer asked more in a second than it may, and was told that we are busy"

    # Walks
    WALK_CUT_SHORT = "a walk took too long and ended with whoever had answered by then"
    HEARSAY_ASKED_AGAIN = "a node that was silent got a second chance, since many know it"

    # Writing
    STORER_REPLACED = "a node that was to store something did not, and another one was asked"
    WRITTEN_AGAIN = "a later version was in the way, and a still later one was written"
    SEQ_CONFLICT = "a write expected another version than the one that is stored"
    REPLICAS_CHANGED = "those who took what was last written under a key no longer suffice"
    SHORT_OF_COPIES = "some who were to take a record were silent: it is handed out again soon"
    RENEWAL_CUT_OFF = "nobody could be heard when a record was to be renewed"
    OUTLIVED = "an earlier version expires later than what is renewed, which has to outlive it"
    PUBLICATION_OVERTAKEN = "another node has written what we were to renew: we leave it alone"

    # Storing
    STORE_TOO_FAR = "somebody wanted us to store what is not ours to store"
    STORE_FAILED = "our store failed, and whoever asked was told that we are busy"
    CLOCK_WENT_BACK = "by our clock it is earlier than it was"
    SERVING_FULL = "too many requests waited for our store: one was refused"
    OFFERS_FULL = "too many offered values were being fetched: one was refused"
    OFFER_NOT_FETCHED = "the value of a record that we were offered could not be had"
    OFFER_IGNORED = "a node said that it needs a value, and did not fetch it for a while"

    # Reading
    HOLDER_SLOW = "one who was thought to hold a key did not answer soon: another was asked"
    VALUE_NOT_GIVEN = "one who showed a long entry did not give its value: another was asked"
    READ_REPAIRED = "a node that should hold what was read did not, and was given it"
    NOT_AGREED = "fewer holders agreed on a version than the reader wanted"

    # Repair
    REPAIRED = "a neighbour held what was ours to hold as well, and we took it"
    REPAIR_CUT_SHORT = "a neighbour that we learnt from was so slow that we broke off"
    REPAIR_LIED = "a neighbour told something false of what it holds: we do not ask it for a while"

    # Contents
    CHUNK_ASKED_AGAIN = "a chunk did not come and was asked for once more"
    HOLDER_LACKS = "one who was to give a content does not have it"
    HOLDER_BUSY = "one who gives a content was busy: we came back later"
    PULL_STALLED = "one who gave a content gave too little of it for too long"
    ENDGAME = "the last pieces of a fetch were asked of two holders at once"
    CONTENTS_REFUSED = "a peer wanted too many different contents from our store at once"
    PAGE_MADE_AGAIN = "a page of a topic was no longer at hand and was made again"
    PAGE_GONE = "a topic changed while it was being read: a page of it is no more"

    # Watching
    WATCHERS_FULL = "somebody wanted to watch a key, and we had no room for one more"
    WATCHED_TOO_FAR = "somebody wanted to be told of a key that is not ours to keep"
    NEWS_LEFT_OUT = "too much was under way to one who watches: something new was left out"
    WATCHER_DROPPED = "one who watches was silent too often, and is told no more"
    NEWS_UNWANTED = "a peer told us of news for which we had not asked it, or no longer"
    TELLER_LOST = "one who was to tell us what becomes of a key was silent"
    TOLD_BY_READING = "somebody had what we watch and nobody had told us of: it was read again"
    LONG_NEWS_MISSED = (
        "a new value was too long to be told, and not fetched at once: it was read later"
    )
    NEWS_MISSED = "more was new than we keep for one who watches: it was read later"
    NEWS_SORTED = "a change was heard after a later one of its author, and told before it"

    # Life
    JOIN_FAILED = "nobody answered when we wanted to join: we knock again later"
    RECALLED = "we went on with the peers of an earlier run"
    RECALLED_IN_VAIN = "the peers of an earlier run were silent, and we joined as any other"
    LOOKED_AROUND_AGAIN = "our uplink was dead, or we have slept: we looked around once more"
    NETWORKS_REUNITED = "a peer that had been lost was in a network that we did not know"
    LEFT_BEHIND = "a node had to leave before all that it held was in other hands"


_counting: Final[list[Counter[Rare]]] = []


def sometimes(path: Rare) -> None:
    """This path is being taken."""
    for counts in _counting:
        counts[path] += 1


@contextmanager
def counted() -> Iterator[Counter[Rare]]:
    """Count how often each path is taken for the length of a `with` block."""
    counts: Counter[Rare] = Counter()
    _counting.append(counts)
    try:
        yield counts
    finally:
        _counting.pop()
