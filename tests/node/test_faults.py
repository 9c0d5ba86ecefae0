"""Each way in which a record can be false is refused by storers and readers, by its own name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kademlia_node.core.key import Key, Kind
from kademlia_node.core.message import FindValue, Item, Request, Store, Stored, StoreStatus, Values
from kademlia_node.core.record import Reason, Record
from kademlia_node.node.node import Node
from kademlia_node.settings import VALUE_BYTES_MAX
from tests.node.network import DAY, HOUR, Neighbourhood, commons_entry

Fault = Callable[[Record, float], Record]


def header_changed(record: Record, **fields: Any) -> Record:
    return replace(record, header=replace(record.header, **fields))


def forged(record: Record, _: float) -> Record:
    return header_changed(record, seq=record.header.seq + 1)


def re_dated(record: Record, _: float) -> Record:
    return header_changed(record, expires=record.header.expires + 60)


def re_dated_for_ever(record: Record, wall: float) -> Record:
    return header_changed(record, expires=int(wall + 15 * DAY))


def truncated(record: Record, _: float) -> Record:
    return replace(record, value=record.value[:-1])


def another_value(record: Record, _: float) -> Record:
    return replace(record, value=b"x" * len(record.value))


def oversized(record: Record, _: float) -> Record:
    return header_changed(record, length=VALUE_BYTES_MAX + 1)


def moved(record: Record, _: float) -> Record:
    return header_changed(record, slot=b"another name")


def expired(record: Record, wall: float) -> Record:
    return header_changed(record, expires=int(wall - 1))


FAULTS: list[tuple[Fault, Reason]] = [
    (forged, Reason.BAD_SIGNATURE),
    (re_dated, Reason.BAD_SIGNATURE),
    (re_dated_for_ever, Reason.TOO_LONG_LIVED),
    (truncated, Reason.WRONG_LENGTH),
    (another_value, Reason.WRONG_VALUE),
    (oversized, Reason.TOO_LARGE),
    (moved, Reason.WRONG_KEY),
    (expired, Reason.EXPIRED),
]


async def count(node: Node, event: str) -> int:
    return (await node.status()).counters.get(event, 0)


def true_record(here: Neighbourhood, *, seq: int = 7) -> Record:
    expires = here.sim.wall() + 2 * DAY - HOUR + seq  # a later version lives longer
    return commons_entry("colour", b"blue", seq=seq, expires=expires)


@pytest.mark.parametrize(("fault", "reason"), FAULTS)
async def test_a_storer_refuses_it(fault: Fault, reason: Reason) -> None:
    async with Neighbourhood() as here:
        node, stranger = await here.start(), await here.stranger()
        false = fault(true_record(here), here.sim.wall())
        stored = await stranger.ask(node, Store(false.key, false.header, false.value))
        assert stored == Stored(StoreStatus.BAD, None, (), reason)
        assert await count(node, f"bad_record_storer_{reason.name.lower()}") == 1
        assert await here.held(node, Key(Kind.ENTRY, false.key)) == []


@pytest.mark.parametrize(("fault", "reason"), FAULTS)
async def test_a_reader_refuses_it(fault: Fault, reason: Reason) -> None:
    async with Neighbourhood() as here:
        (liar,) = await here.grow_puppets(1)
        reader = await here.start(server=False)
        false = fault(true_record(here), here.sim.wall())
        shown = Values((), 1, None, (Item(false.header, false.value),))

        def lie(request: Request) -> Values | None:
            return shown if isinstance(request, FindValue) else None

        liar.answer = lie
        assert await reader.get("colour", default=None) is None
        assert await count(reader, f"bad_record_reader_{reason.name.lower()}") >= 1


async def test_a_storer_refuses_an_old_version_that_is_played_again() -> None:
    async with Neighbourhood() as here:
        node, stranger = await here.start(), await here.stranger()
        old, new = true_record(here, seq=7), true_record(here, seq=8)
        answers = [
            await stranger.ask(node, Store(record.key, record.header, record.value))
            for record in (old, new, old)
        ]
        assert answers == [
            Stored(StoreStatus.OK),
            Stored(StoreStatus.OK),
            Stored(StoreStatus.OLD, new.header),
        ]
        assert await here.held(node, Key(Kind.ENTRY, new.key)) == [new]
        assert await count(node, "store_old") == 1
        assert await count(node, "store_ok") == 2
