"""A routing table that has heard of many: what it takes to hear of one, to name 20, to look round.

The table is that of an open network, with its limits per subnet. Nobody in it has a strike, so most
newcomers find their bucket full and wait as replacements. `due_checks` is measured when nobody is
due, and when everybody is.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from kademlia_node.core.contact import Contact
from kademlia_node.core.ids import ID_BYTES
from kademlia_node.core.routing import RoutingTable
from kademlia_node.settings import CONTACTS_PER_ANSWER_MAX, Settings
from scripts.benchmarks.strangers import strangers
from scripts.benchmarks.timing import Figures, Pace, microseconds, same


def filled_table(own_id: bytes, contacts: Sequence[Contact], *, settings: Settings) -> RoutingTable:
    """The table of a node that has heard these at the instant 0, in this order."""
    table = RoutingTable(own_id, settings=settings, prefix_limits=True)
    for contact in contacts:
        table.add(contact, now=0.0)
    return table


def measure_routing(pace: Pace, *, contacts: int) -> Figures:
    """Microseconds of each; `held` is how many of the contacts are in the table."""
    rng, settings = random.Random(1), Settings()
    own_id, heard = rng.randbytes(ID_BYTES), strangers(rng, contacts)
    table = filled_table(own_id, heard, settings=settings)
    assert len(_closest(table, own_id)) == min(CONTACTS_PER_ANSWER_MAX, len(table))

    def targets(count: int) -> Sequence[bytes]:
        return [rng.randbytes(ID_BYTES) for _ in range(count)]

    known = list(table)
    return {
        "contacts": contacts,
        "held": len(table),
        "closest": microseconds(lambda target: _closest(table, target), targets, pace=pace),
        "due_checks": _due_checks(table, settings, pace=pace),
        "add_known": microseconds(
            lambda contact: table.add(contact, now=1.0),
            lambda count: rng.choices(known, k=count),
            pace=pace,
        ),
        "add_newcomer": _add_newcomer(own_id, heard, rng, pace=pace),
        "due_checks_all_due": _due_checks(
            table, settings, pace=pace, now=settings.liveness_max_s + 2.0
        ),
    }


def _closest(table: RoutingTable, target: bytes) -> list[Contact]:
    return table.closest(target, CONTACTS_PER_ANSWER_MAX)


def _due_checks(
    table: RoutingTable, settings: Settings, *, pace: Pace, now: float = 1.0
) -> Figures:
    limit = settings.checks_per_run
    due = len(table.due_checks(now, limit))
    figures = microseconds(lambda at: table.due_checks(at, limit), same(now), pace=pace)
    return {"due": due, **figures}


def _add_newcomer(
    own_id: bytes, heard: Sequence[Contact], rng: random.Random, *, pace: Pace
) -> Figures:
    """Into a table that is filled anew for each repeat: some newcomers find room."""
    table = filled_table(own_id, heard, settings=Settings())

    def newcomers(count: int) -> Sequence[Contact]:
        nonlocal table
        table = filled_table(own_id, heard, settings=Settings())
        return strangers(rng, count)

    return microseconds(lambda contact: table.add(contact, now=1.0), newcomers, pace=pace)
