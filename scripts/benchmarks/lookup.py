"""Whole lookups without a network: what the machine itself takes for each answer it hears.

Every node has a routing table of its own, filled from all the others, and answers at once with the
20 closest that this table knows. The answers are found out beforehand; timed is `core.lookup` as a
walk drives it, which asks after each answer whom to ask next and whether it is done.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kademlia_node.core.contact import Contact
from kademlia_node.core.ids import ID_BYTES, distance
from kademlia_node.core.lookup import Lookup
from kademlia_node.core.routing import RoutingTable
from kademlia_node.settings import CONTACTS_PER_ANSWER_MAX, Settings
from scripts.benchmarks.routing import filled_table
from scripts.benchmarks.strangers import strangers
from scripts.benchmarks.timing import Figures, Pace, microseconds, same

SETTINGS: Final = Settings()
GOALS: Final = 10  # lookups for different targets that are done in turn


class _Nodes:
    """All nodes of a network; the first one looks things up. Tables are made when asked for."""

    def __init__(self, count: int, rng: random.Random) -> None:
        self._rng = rng
        self.contacts = strangers(rng, count)
        self.own = self.contacts[0]
        self._tables: dict[Contact, RoutingTable] = {}

    def table_of(self, node: Contact) -> RoutingTable:
        """Filled from all others, who were heard in an order of its own."""
        if node not in self._tables:
            heard = self._rng.sample(self.contacts, len(self.contacts))
            self._tables[node] = filled_table(node.id, heard, settings=SETTINGS)
        return self._tables[node]

    def named_by(self, node: Contact, target: bytes) -> list[Contact]:
        """What it answers."""
        return self.table_of(node).closest(target, CONTACTS_PER_ANSWER_MAX)

    def nearest(self, target: bytes) -> list[Contact]:
        """The k nearest of all but our own, as nobody in the network knows them."""
        others = [contact for contact in self.contacts if contact != self.own]
        return sorted(others, key=lambda contact: distance(contact.id, target))[: SETTINGS.k]


@dataclass(frozen=True, slots=True)
class _Goal:
    """One lookup to be done, with the answer of everybody who is asked in it."""

    target: bytes
    seeds: Sequence[Contact]
    answers: Mapping[Contact, Sequence[Contact]]


def measure_lookup(pace: Pace, *, nodes: int) -> Figures:
    """Microseconds of a lookup and of an answer; `exact`: lookups that found the nearest there are.

    `answers_mean` is how many a lookup heard.
    """
    rng = random.Random(1)
    network = _Nodes(nodes, rng)
    own_table = network.table_of(network.own)
    goals, exact = list[_Goal](), 0
    for _ in range(GOALS):
        goal, found = _found_out(network, rng.randbytes(ID_BYTES))
        goals.append(goal)
        exact += found == network.nearest(goal.target)

    def look_up_all(_: None) -> None:
        for goal in goals:
            _look_up(goal.target, goal.seeds, network.own, own_table, goal.answers.__getitem__)

    all_goals = microseconds(look_up_all, same(None), pace=pace)
    answers = sum(len(goal.answers) for goal in goals)
    return {
        "nodes": nodes,
        "answers_mean": answers / GOALS,
        "exact": exact / GOALS,
        "answer": {name: figure / answers for name, figure in all_goals.items()},
        "lookup": {name: figure / GOALS for name, figure in all_goals.items()},
    }


def _found_out(network: _Nodes, target: bytes) -> tuple[_Goal, list[Contact]]:
    """A lookup, made once to see who is asked in it; and what it found."""
    answers: dict[Contact, list[Contact]] = {}

    def answer(contact: Contact) -> Sequence[Contact]:
        answers[contact] = network.named_by(contact, target)
        return answers[contact]

    own_table = network.table_of(network.own)
    seeds = own_table.closest(target, SETTINGS.k)
    lookup = _look_up(target, seeds, network.own, own_table, answer)
    assert lookup.done
    return _Goal(target, seeds, answers), lookup.closest(SETTINGS.k)


def _look_up(
    target: bytes,
    seeds: Sequence[Contact],
    own: Contact,
    own_table: RoutingTable,
    answer: Callable[[Contact], Sequence[Contact]],
) -> Lookup:
    lookup = Lookup(
        target,
        seeds,
        own_id=own.id,
        settings=SETTINGS,
        is_proved=lambda contact: own_table.get(contact.id) == contact,
        prefix_limits=True,
    )
    under_way = deque(lookup.next_queries())
    while under_way and not lookup.done:
        asked = under_way.popleft().contact
        lookup.on_reply(asked, answer(asked))
        under_way.extend(lookup.next_queries())
    return lookup
