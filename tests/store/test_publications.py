"""What every store promises of the records that this node keeps alive."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kademlia_node.store.base import FIRST, Published, Usage, place_of
from tests.store.conftest import Open
from tests.store.records import (
    BOB,
    ROOMY,
    WALL,
    blob,
    entry,
    room_for,
    topic_entry,
)

pytestmark = pytest.mark.net  # see conftest


async def test_publications_are_kept_by_place_and_in_order(open_store: Open) -> None:
    publications = (await open_store(ROOMY)).publications
    assert await publications.page(limit=99) == []
    published = [
        Published(record, WALL + 0.5) for record in (blob(b"v"), entry(), topic_entry(BOB, b"s"))
    ]
    published[1] = replace(published[1], ttl_s=600)
    for one in published:
        await publications.keep(one)
    assert await publications.page(limit=99) == sorted(published, key=lambda one: one.place)
    assert await publications.count() == 3
    for one in published:
        assert await publications.get(one.place) == one
    assert await publications.get(place_of(entry(slot=b"other"))) is None


async def test_pages_tell_each_publication_once_in_order(open_store: Open) -> None:
    publications = (await open_store(ROOMY)).publications
    published = [Published(blob(bytes([number])), WALL) for number in range(5)]
    published += [Published(topic_entry(BOB, bytes([number])), WALL) for number in range(5)]
    for one in published:
        await publications.keep(one)
    told: list[Published] = []
    after = FIRST
    while page := await publications.page(after, limit=4):
        assert len(page) <= 4
        assert len(told) < len(published)
        told += page
        after = page[-1].place
    assert told == sorted(published, key=lambda one: one.place)


async def test_the_soonest_to_renew_are_due_first(open_store: Open) -> None:
    publications = (await open_store(ROOMY)).publications
    assert await publications.due(wall=WALL, limit=9) == []
    late, soon, later = (
        Published(entry(slot=slot), WALL + seconds)
        for slot, seconds in ((b"a", 0.5), (b"b", -7), (b"c", 0.75))
    )
    for one in (late, soon, later):
        await publications.keep(one)
    assert await publications.due(wall=WALL + 0.25, limit=9) == [soon]
    assert await publications.due(wall=WALL + 0.5, limit=9) == [soon, late]
    assert await publications.due(wall=WALL + 9, limit=2) == [soon, late]
    assert await publications.due(wall=WALL - 3 * 86400, limit=9) == [soon, late, later]
    await publications.keep(replace(soon, renew_at=WALL + 9))  # it was renewed
    assert await publications.due(wall=WALL + 8, limit=9) == [late, later]


async def test_the_shortest_lived_of_those_that_are_due_come_first(open_store: Open) -> None:
    publications = (await open_store(ROOMY)).publications
    usual, longer, brief, later = (
        Published(entry(slot=slot), WALL + seconds, ttl_s)
        for slot, seconds, ttl_s in (
            (b"a", -9, None), (b"b", -8, 14_400), (b"c", -1, 240), (b"d", 1, 240)
        )
    )  # fmt: skip
    for one in (usual, longer, brief, later):
        await publications.keep(one)
    assert await publications.due(wall=WALL, limit=9) == [brief, longer, usual]
    assert await publications.due(wall=WALL, limit=1) == [brief]
    assert await publications.due(wall=WALL + 1, limit=9) == [brief, later, longer, usual]
    assert await publications.lifetimes() == {240: 2, 14_400: 1, 172_800: 1}


async def test_a_publication_replaces_the_one_at_its_place_whatever_its_version(
    open_store: Open,
) -> None:
    publications = (await open_store(ROOMY)).publications
    await publications.keep(Published(entry(b"red", seq=2), WALL))
    earlier = Published(entry(b"blue", seq=1), WALL + 1)
    await publications.keep(earlier)
    assert await publications.page(limit=99) == [earlier]


async def test_a_dropped_publication_is_gone_and_dropping_it_again_is_harmless(
    open_store: Open,
) -> None:
    publications = (await open_store(ROOMY)).publications
    stays, goes = Published(entry(slot=b"a"), WALL), Published(entry(slot=b"b"), WALL)
    await publications.keep(stays)
    await publications.keep(goes)
    for _ in range(2):
        await publications.drop(goes.place)
        assert await publications.page(limit=99) == [stays]


async def test_publications_are_no_records_of_the_store(open_store: Open) -> None:
    store = await open_store(room_for(1))
    for number in range(3):
        published = Published(blob(bytes([number]) * 100, ttl=10), WALL)
        await store.publications.keep(published)
    assert await store.usage() == Usage(0, 0)
    assert await store.page(limit=9, wall=WALL) == []
    await store.sweep(wall=WALL + 10)
    assert len(await store.publications.page(limit=99)) == 3
