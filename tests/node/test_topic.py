"""Topics that no answer holds: read whole from several holders, whatever one of them does."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import pytest

from kademlia_node.core.identity import Identity
from kademlia_node.core.key import Kind, topic_key
from kademlia_node.core.manifest import Manifest, Piece
from kademlia_node.core.message import (
    Chunk,
    Chunked,
    ErrorCode,
    FindValue,
    Item,
    Refused,
    Request,
    Response,
    Snapshot,
    Values,
)
from kademlia_node.core.record import Record, make_tombstone, make_topic_entry
from kademlia_node.core.snapshot import Paginator
from kademlia_node.node.node import Node
from kademlia_node.settings import (
    CHUNK_BYTES,
    INLINE_BYTES_MAX,
    PIECE_BYTES_MAX,
    VALUE_BYTES_MAX,
    Settings,
)
from tests.node.network import DAY, PRIVATE, SILENCE, Neighbourhood, collect

TOPIC = topic_key(b"cars")
LONG = INLINE_BYTES_MAX + 1


def entry(
    here: Neighbourhood, author: Identity, slot: int, value: bytes | None = None, *, seq: int = 1
) -> Record:
    slot_name = b"%04d" % slot
    return make_topic_entry(
        author.signing,
        TOPIC.digest,
        slot=slot_name,
        value=b"value of " + slot_name if value is None else value,
        seq=seq,
        expires=int(here.sim.wall() + DAY),
        network_tag=PRIVATE.tag,
    )


def entries(here: Neighbourhood, count: int, *, authors: int = 12) -> list[Record]:
    """So many entries, those of each author side by side."""
    identities = [here.new_identity() for _ in range(authors)]
    return [entry(here, identities[n % authors], n // authors) for n in range(count)]


async def fill(here: Neighbourhood, node: Node, records: Iterable[Record]) -> None:
    for record in records:
        await here.store_of(node).put(record, charged_to=b"", wall=here.sim.wall())


def pages_of(records: Iterable[Record]) -> list[bytes]:
    in_order = sorted(records, key=lambda r: (r.header.author, r.header.slot))
    paginator = Paginator()
    pages = [*map(paginator.add, in_order), paginator.finish()]
    return [page for page in pages if page is not None]


def pieces_of(pages: Iterable[bytes]) -> tuple[Piece, ...]:
    return tuple(Piece(sha256(page), len(page)) for page in pages)


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def values_of(records: Iterable[Record]) -> list[bytes]:
    return sorted(record.value for record in records)


async def read(node: Node) -> list[bytes]:
    """The values under the topic; each has to come within a minute, and once."""
    async with asyncio.timeout(60):
        return sorted([found.value async for found in node.find("cars")])


@dataclass
class Telling:
    """What a puppet shows under the topic, and which contents it gives."""

    item: Record
    snapshot: Snapshot | None
    contents: dict[bytes, bytes]
    count: int = 600
    value: bytes | None = b""

    def __call__(self, request: Request) -> Response | None:
        match request:
            case FindValue():
                value = self.item.value if self.value == b"" else self.value
                return Values((), self.count, self.snapshot, (Item(self.item.header, value),))
            case Chunk(content, index) if content in self.contents:
                chunk = self.contents[content][index * CHUNK_BYTES :][:CHUNK_BYTES]
                return Chunked(chunk or None)
        return None


def telling(item: Record, manifest: bytes, *contents: bytes) -> Telling:
    """A puppet's word: this manifest stands for all, and these are its pages."""
    snapshot = Snapshot(sha256(manifest), len(manifest))
    return Telling(item, snapshot, {sha256(c): c for c in (manifest, *contents)})


class Chunks(Counter[tuple[bytes, int]]):
    """Which chunks were asked of a puppet, and how often; the answer is the node's."""

    def __call__(self, request: Request) -> Response | None:
        if isinstance(request, Chunk):
            self[request.content, request.index] += 1
        return None

    @property
    def contents(self) -> set[bytes]:
        return {content for content, _ in self}


# --- Whole ----------------------------------------------------------------------------------------


async def test_a_topic_that_no_answer_holds_is_read_whole() -> None:
    async with Neighbourhood() as here:
        holders = await here.grow(3)
        records = entries(here, 600)
        for holder in holders:
            await fill(here, holder, records)
        reader = await here.start(server=False)
        found = await collect(reader.find("cars"))
        assert len(found) == 600
        assert len({one.author for one in found}) == 12
        assert sorted(one.value for one in found) == values_of(records)
        assert {(one.author, one.slot) for one in found} == {
            (record.header.author, record.header.slot) for record in records
        }
        cost = (await reader.status()).operations["find"]
        assert cost.count == 1
        assert cost.requests >= 3 + sum(map(len, pages_of(records))) // CHUNK_BYTES


async def test_lost_packets_lose_no_entry() -> None:
    async with Neighbourhood() as here:
        holders = await here.grow(3)
        records = entries(here, 300)
        for holder in holders:
            await fill(here, holder, records)
        reader = await here.start(server=False)
        here.sim.loss = 0.1
        assert await read(reader) == values_of(records)


async def test_holders_that_differ_give_the_union_and_what_they_share_travels_once() -> None:
    async with Neighbourhood() as here:
        first, second = await here.grow_puppets(2)
        records = entries(here, 600)
        author = here.new_identity()
        one, other = entry(here, author, 1, b"only here"), entry(here, author, 2, b"only there")
        await fill(here, first, [*records, one])
        await fill(here, second, [*records, other])
        first.answer, second.answer = Chunks(), Chunks()
        reader = await here.start(server=False)
        assert await read(reader) == values_of([*records, one, other])
        shared = {sha256(page) for page in pages_of([*records, one])} & {
            sha256(page) for page in pages_of([*records, other])
        }
        assert len(shared) >= 8
        twice = shared & first.answer.contents & second.answer.contents
        assert len(twice) <= 2  # the last ones in flight, when one of the holders had nothing to do
        assert first.answer.contents & shared
        assert second.answer.contents & shared
        assert max((first.answer + second.answer).values()) <= 2


async def test_what_was_withdrawn_stays_away_though_a_holder_missed_it() -> None:
    async with Neighbourhood() as here:
        first, second = await here.grow(2)
        author = here.new_identity()
        records = [entry(here, author, slot) for slot in range(100)]
        gone = make_tombstone(
            author.signing,
            TOPIC.digest,
            kind=Kind.TOPIC,
            slot=b"0007",
            seq=2,
            expires=int(here.sim.wall() + DAY),
            network_tag=PRIVATE.tag,
        )
        await fill(here, first, [*records, gone])
        await fill(here, second, [*records, gone])
        reader = await here.start(server=False)
        assert await read(reader) == values_of(records[:7] + records[8:])
        await fill(here, first, [entry(here, author, 101)])
        late = {found.slot async for found in reader.find("cars")}
        assert b"0007" not in late


async def test_entries_come_before_the_walk_has_ended() -> None:
    async with Neighbourhood(settings=Settings(reads=2)) as here:
        first, second, silent = await here.grow_puppets(3)
        records = entries(here, 200)
        await fill(here, first, records)
        await fill(here, second, records)
        reader = await here.start(server=False)
        silent.answer = lambda request: SILENCE if isinstance(request, FindValue) else None
        clock = asyncio.get_running_loop().time
        started = clock()
        came = [clock() - started async for _ in reader.find("cars")]
        assert len(came) == 200
        assert came[-1] < 0.5
        assert clock() - started > came[-1] + 0.5  # only then the silent one was given up


async def test_a_reader_that_leaves_early_leaves_nothing_running() -> None:
    async with Neighbourhood() as here:
        holders = await here.grow_puppets(3)
        records = entries(here, 600)
        asked = Chunks()
        for holder in holders:
            await fill(here, holder, records)
            holder.answer = asked
        reader = await here.start(server=False)
        found = reader.find("cars")
        await anext(found)
        tasks = len(asyncio.all_tasks())
        await found.aclose()
        await asyncio.sleep(1)  # what was on its way
        before = asked.total()
        await asyncio.sleep(60)
        assert asked.total() == before
        assert before < sum(map(len, pages_of(records))) // CHUNK_BYTES
        assert len(asyncio.all_tasks()) <= tasks
        assert (await reader.status()).operations["find"].count == 1


# --- Long values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 40])
async def test_long_values_come_whether_or_not_the_topic_has_pages(count: int) -> None:
    async with Neighbourhood() as here:
        holders = await here.grow(3)
        author = here.new_identity()
        records = [entry(here, author, n, bytes([n]) * (LONG + 1000 * n)) for n in range(count)]
        for holder in holders:
            await fill(here, holder, records)
        assert await read(await here.start(server=False)) == values_of(records)


async def test_one_long_value_of_two_entries_travels_once() -> None:
    async with Neighbourhood() as here:
        (holder,) = await here.grow_puppets(1)
        first, second = here.new_identity(), here.new_identity()
        value = b"v" * 20_000
        records = [entry(here, first, 1, value), entry(here, second, 2, value)]
        records += entries(here, 200)
        await fill(here, holder, records)
        holder.answer = Chunks()
        assert await read(await here.start(server=False)) == values_of(records)
        asked = {index: times for (c, index), times in holder.answer.items() if c == sha256(value)}
        assert asked == dict.fromkeys(range(20), 1)


async def test_a_value_that_came_before_another_entry_names_it_is_not_fetched_again() -> None:
    async with Neighbourhood() as here:
        first, second = await here.grow_puppets(2)
        value = b"v" * 20_000
        records = [entry(here, here.new_identity(), n, value) for n in range(2)]
        await fill(here, first, records[:1])
        await fill(here, second, records[1:])
        asked = Chunks()
        first.answer = second.answer = asked
        reader = await here.start(server=False)
        slow = second.address
        here.sim.latency = lambda source, target: 0.4 if slow in {source, target} else 0.02
        assert await read(reader) == values_of(records)
        assert max(asked.values()) == 1


async def test_a_long_value_that_we_hold_ourselves_is_not_fetched() -> None:
    async with Neighbourhood() as here:
        puppet, us = await here.grow_puppets(2)
        records = [entry(here, here.new_identity(), 1, b"v" * 20_000)]
        await fill(here, puppet, records)
        await fill(here, us, records)
        puppet.answer = Chunks()
        assert await read(us) == values_of(records)
        assert not puppet.answer


@pytest.mark.parametrize("delay_s", [0.02, 0.4])
async def test_a_long_value_comes_from_the_other_who_has_its_page_when_one_falls_silent(
    delay_s: float,
) -> None:
    """Whether the other one names the page before we have read it or after."""
    async with Neighbourhood() as here:
        first, second = await here.grow_puppets(2)
        value = b"v" * 60_000
        records = [*entries(here, 300), entry(here, here.new_identity(), 1, value)]
        for puppet in (first, second):
            await fill(here, puppet, records)

        def withhold(request: Request) -> Response | None:
            return SILENCE if isinstance(request, Chunk) and request.content == hidden else None

        hidden = sha256(value)
        first.answer = withhold
        reader, slow = await here.start(server=False), second.address
        here.sim.latency = lambda source, target: delay_s if slow in {source, target} else 0.02
        assert await read(reader) == values_of(records)


# --- Liars ----------------------------------------------------------------------------------------


async def read_beside(
    here: Neighbourhood, answer: Callable[[Request], Response | None]
) -> tuple[list[bytes], list[Record], Counter[str]]:
    """What is found, and what should be, when one of three holders answers as it likes."""
    *honest, liar = await here.grow_puppets(3)
    records = entries(here, 300)
    for puppet in honest:
        await fill(here, puppet, records)
    liar.answer = answer
    reader = await here.start(server=False)
    found = await read(reader)
    return found, records, Counter((await reader.status()).counters)


def forged(here: Neighbourhood, value: bytes = b"forged") -> Record:
    """An entry that its author did not sign."""
    record = entry(here, here.new_identity(), 1, value)
    return replace(record, header=replace(record.header, author=here.new_identity().public_key))


async def test_a_manifest_that_is_none_costs_its_holder_its_credit() -> None:
    async with Neighbourhood() as here:
        mine = entry(here, here.new_identity(), 1, b"mine")
        found, records, counts = await read_beside(here, telling(mine, b"\x01no manifest"))
        assert found == values_of([*records, mine])
        assert counts["snapshots_false"] == 1
        assert counts["pieces_false"] == 1


async def test_a_manifest_of_other_bytes_than_its_hash_says_is_a_lie() -> None:
    async with Neighbourhood() as here:
        mine = entry(here, here.new_identity(), 1, b"mine")
        liar = telling(mine, Manifest(pieces_of(pages_of([mine]))).pack())
        liar.contents = {content: bytes(len(c)) for content, c in liar.contents.items()}
        found, records, counts = await read_beside(here, liar)
        assert found == values_of([*records, mine])
        assert counts["pieces_false"] == 1


@pytest.mark.parametrize("length", [VALUE_BYTES_MAX + 1, PIECE_BYTES_MAX])
async def test_a_page_of_impossible_length_is_not_even_asked_for(length: int) -> None:
    async with Neighbourhood() as here:
        mine = entry(here, here.new_identity(), 1, b"mine")
        liar = telling(mine, Manifest((Piece(b"\x05" * 32, length),)).pack())
        asked = Chunks()

        def answer(request: Request) -> Response | None:
            asked(request)
            return liar(request)

        found, records, counts = await read_beside(here, answer)
        assert found == values_of([*records, mine])
        assert counts["snapshots_false"] == 1
        assert b"\x05" * 32 not in asked.contents


async def test_a_manifest_of_impossible_length_is_not_even_asked_for() -> None:
    async with Neighbourhood() as here:
        mine = entry(here, here.new_identity(), 1, b"mine")
        asked = Chunks()
        liar = Telling(mine, Snapshot(b"\x05" * 32, VALUE_BYTES_MAX + 1), {})

        def answer(request: Request) -> Response | None:
            asked(request)
            return liar(request)

        found, records, _ = await read_beside(here, answer)
        assert found == values_of([*records, mine])
        assert not asked


async def test_a_page_with_a_forged_entry_is_worth_nothing() -> None:
    async with Neighbourhood() as here:
        mine = entry(here, here.new_identity(), 1, b"mine")
        pages = pages_of([forged(here), entry(here, here.new_identity(), 2, b"beside it")])
        found, records, counts = await read_beside(
            here, telling(mine, Manifest(pieces_of(pages)).pack(), *pages)
        )
        assert found == values_of([*records, mine])
        assert counts["snapshots_false"] == 1
        assert counts["bad_record_reader_bad_signature"] == 1


async def test_a_page_that_is_none_is_worth_nothing() -> None:
    async with Neighbourhood() as here:
        mine = entry(here, here.new_identity(), 1, b"mine")
        found, records, counts = await read_beside(
            here, telling(mine, Manifest(pieces_of([b"\xff"])).pack(), b"\xff")
        )
        assert found == values_of([*records, mine])
        assert counts["snapshots_false"] == 1


async def test_an_answer_with_a_forged_entry_is_not_followed_to_its_snapshot() -> None:
    async with Neighbourhood() as here:
        pages = pages_of([entry(here, here.new_identity(), 2, b"beside it")])
        found, records, _ = await read_beside(
            here, telling(forged(here), Manifest(pieces_of(pages)).pack(), *pages)
        )
        assert found == values_of(records)


async def test_a_long_value_that_is_another_one_is_taken_from_somebody_else() -> None:
    async with Neighbourhood() as here:
        honest, liar = await here.grow_puppets(2)
        long = entry(here, here.new_identity(), 1, b"v" * 5000)
        await fill(here, honest, [long])
        await fill(here, liar, [long])
        slow = honest.address
        reader = await here.start(server=False)
        here.sim.latency = lambda source, target: 0.2 if slow in {source, target} else 0.02
        liar.answer = lambda request: (
            Chunked(bytes(min(CHUNK_BYTES, 5000 - request.index * CHUNK_BYTES)))
            if isinstance(request, Chunk)
            else None
        )
        assert await read(reader) == [long.value]
        assert (await reader.status()).counters["pieces_false"] == 1


async def test_nobody_is_named_as_an_author_by_a_header_that_proves_nothing() -> None:
    """An item of another kind is passed over, its long value included."""
    async with Neighbourhood() as here:
        victim, value = here.new_identity(), b"v" * LONG
        true = entry(here, here.new_identity(), 1, value)
        false = replace(
            true, header=replace(true.header, kind=Kind.ENTRY, author=victim.public_key)
        )

        def answer(request: Request) -> Response | None:
            if isinstance(request, FindValue):
                items = (Item(true.header, None), Item(false.header, None))
                return Values((), 2, None, items)
            return Telling(true, None, {sha256(value): value})(request)

        (liar,) = await here.grow_puppets(1)
        liar.answer = answer
        reader = await here.start(server=False)
        found = await collect(reader.find("cars"))
        assert [one.author for one in found] == [true.header.author]


async def test_a_false_length_of_a_value_that_others_hold_does_not_discredit_them() -> None:
    async with Neighbourhood() as here:
        *honest, liar = await here.grow_puppets(3)
        long = entry(here, here.new_identity(), 1, b"v" * 5000)
        records = [*entries(here, 300), long]
        for puppet in honest:
            await fill(here, puppet, records)
        mallory = here.new_identity()
        unsigned = entry(here, mallory, 1, b"w" * 4000)
        lie = make_lie(mallory, unsigned, value_hash=long.header.value_hash)
        liar.answer = Telling(lie, None, {}, count=1, value=None)
        reader = await here.start(server=False)
        slow = {puppet.address for puppet in honest}
        here.sim.latency = lambda source, target: 0.2 if slow & {source, target} else 0.02
        assert await read(reader) == values_of(records)
        assert (await reader.status()).counters.get("pieces_false", 0) == 0


def make_lie(author: Identity, record: Record, *, value_hash: bytes) -> Record:
    """A signed header with the hash of a value that is not the author's, and another length."""
    signing = _Signing(author, value_hash)
    made = make_topic_entry(
        signing,
        TOPIC.digest,
        slot=record.header.slot,
        value=record.value,
        seq=1,
        expires=record.header.expires,
        network_tag=PRIVATE.tag,
    )
    return replace(made, header=replace(made.header, value_hash=value_hash))


class _Signing:
    """Signs for another value hash, which is the end of the signed string."""

    def __init__(self, author: Identity, value_hash: bytes) -> None:
        self.public_key = author.public_key
        self.agreement = author.signing.agreement
        self._author = author
        self._value_hash = value_hash

    def sign(self, message: bytes) -> bytes:
        return self._author.signing.sign(message[:-32] + self._value_hash)


@pytest.mark.parametrize("as_what", ["manifest", "page"])
async def test_what_one_names_falsely_is_not_held_against_those_who_hold_it(as_what: str) -> None:
    """A liar names the true long value of another entry as its manifest, or as a page of it."""
    async with Neighbourhood() as here:
        *honest, liar = await here.grow_puppets(3)
        long = entry(here, here.new_identity(), 1, b"v" * 5000)
        records = [*entries(here, 300), long]
        for puppet in honest:
            await fill(here, puppet, records)
        mine = entry(here, here.new_identity(), 2, b"mine")
        listed = Manifest(pieces_of([long.value])).pack()
        manifest = long.value if as_what == "manifest" else listed
        liar.answer = telling(mine, manifest, long.value)
        reader = await here.start(server=False)
        slow = {puppet.address for puppet in honest}
        here.sim.latency = lambda source, target: 0.2 if slow & {source, target} else 0.02
        assert await read(reader) == values_of([*records, mine])
        assert (await reader.status()).counters["pieces_false"] == 1


async def test_a_page_is_read_though_an_entry_has_the_very_same_bytes_as_its_value() -> None:
    async with Neighbourhood() as here:
        holders = await here.grow(3)
        author, mallory = here.new_identity(), here.new_identity()
        records = [entry(here, author, slot) for slot in range(300)]
        copies = [entry(here, mallory, n, page) for n, page in enumerate(pages_of(records))]
        for holder in holders:
            await fill(here, holder, [*records, *copies])
        assert await read(await here.start(server=False)) == values_of([*records, *copies])


# --- Holders that fail ----------------------------------------------------------------------------


async def test_who_falls_silent_half_way_loses_us_nothing() -> None:
    async with Neighbourhood() as here:
        *steady, failing = await here.grow_puppets(3)
        records = entries(here, 600)
        for puppet in (*steady, failing):
            await fill(here, puppet, records)
        served = Chunks()

        def fall_silent(request: Request) -> Response | None:
            served(request)
            return SILENCE if isinstance(request, Chunk) and served.total() > 20 else None

        failing.answer = fall_silent
        reader = await here.start(server=False)
        assert await read(reader) == values_of(records)
        assert served.total() > 20


async def test_when_the_only_holder_falls_silent_we_have_what_came_so_far() -> None:
    async with Neighbourhood() as here:
        (failing,) = await here.grow_puppets(1)
        await fill(here, failing, entries(here, 600))
        served = Chunks()

        def fall_silent(request: Request) -> Response | None:
            served(request)
            return SILENCE if isinstance(request, Chunk) and served.total() > 50 else None

        failing.answer = fall_silent
        reader = await here.start(server=False)
        assert 50 < len(await read(reader)) < 600
        assert (await reader.status()).counters["pieces_stalled"] >= 2


async def test_who_has_other_pages_by_now_lacks_those_it_named() -> None:
    async with Neighbourhood() as here:
        steady, changed = await here.grow_puppets(2)
        records = entries(here, 300)
        await fill(here, steady, records)
        await fill(here, changed, records)
        pages = {sha256(page) for page in pages_of(records)}
        changed.answer = lambda request: (
            Chunked(None) if isinstance(request, Chunk) and request.content in pages else None
        )
        reader = await here.start(server=False)
        assert await read(reader) == values_of(records)
        assert (await reader.status()).counters["pieces_lacking"] >= 1


async def test_a_topic_whose_only_holder_lacks_its_pages_gives_what_the_answer_held() -> None:
    async with Neighbourhood() as here:
        (holder,) = await here.grow_puppets(1)
        await fill(here, holder, entries(here, 300))
        holder.answer = lambda request: Chunked(None) if isinstance(request, Chunk) else None
        found = await read(await here.start(server=False))
        assert 0 < len(found) < 8


async def test_an_answer_that_shows_nothing_of_use_may_still_have_pages() -> None:
    """All that it shows may have expired by our clock, or be too long to be shown."""
    async with Neighbourhood() as here:
        (holder,) = await here.grow_puppets(1)
        records = entries(here, 100)
        await fill(here, holder, records)
        holder.answer = lambda request: (
            Values((), 100, Snapshot(sha256(manifest), len(manifest)), ())
            if isinstance(request, FindValue)
            else contents(request)
        )
        pages = pages_of(records)
        manifest = Manifest(pieces_of(pages)).pack()
        contents = telling(records[0], manifest, *pages)
        assert await read(await here.start(server=False)) == values_of(records)


async def test_a_flood_is_cut_short() -> None:
    async with Neighbourhood() as here:
        (holder,) = await here.grow_puppets(1)
        records = entries(here, 600)
        await fill(here, holder, records)
        reader = await here.start(server=False, settings=Settings(topic_bytes_max=50_000))
        found = await read(reader)
        assert 200 < len(found) < 500  # it ends with the page that went beyond
        assert (await reader.status()).counters["topics_cut_short"] == 1


async def test_a_reading_that_is_cut_short_after_its_walk_has_ended_ends_too() -> None:
    async with Neighbourhood() as here:
        (holder,) = await here.grow_puppets(1)
        await fill(here, holder, entries(here, 600))
        reader = await here.start(server=False, settings=Settings(topic_bytes_max=1))
        assert 0 < len(await read(reader)) < 8


async def test_the_junk_of_one_holder_does_not_cut_off_the_others() -> None:
    """A review had one holder use up what a whole reading may weigh."""
    async with Neighbourhood() as here:
        *honest, flooding = await here.grow_puppets(3)
        records, junk = entries(here, 300), entries(here, 2000)
        for puppet in honest:
            await fill(here, puppet, records)
        await fill(here, flooding, junk)
        reader = await here.start(server=False, settings=Settings(topic_bytes_max=100_000))
        slow = {puppet.address for puppet in honest}
        here.sim.latency = lambda source, target: 0.4 if slow & {source, target} else 0.02
        found = await read(reader)
        assert set(values_of(records)) <= set(found)
        assert len(found) < 300 + 1000
        assert (await reader.status()).counters["topics_cut_short"] == 1


def dripping(here: Neighbourhood, *, refusals: int) -> Callable[[Request], Response | None]:
    """A holder of 200 pages of one entry, each refused so often before it comes."""
    drips = [entry(here, here.new_identity(), 1, b"drip") for _ in range(200)]
    pages = [page for record in drips for page in pages_of([record])]
    told = telling(drips[0], Manifest(pieces_of(pages)).pack(), *pages)
    hashes, refused = set(map(sha256, pages)), Counter[bytes]()

    def drip(request: Request) -> Response | None:
        if isinstance(request, Chunk) and request.content in hashes:
            refused[request.content] += 1
            if refused[request.content] <= refusals:
                return Refused(ErrorCode.BUSY, "later")
        return told(request)

    return drip


@pytest.mark.parametrize(
    ("settings", "refusals", "lasts_s", "counted"),
    [
        (Settings(), 40, Settings().topic_max_s, "topics_cut_short"),
        (Settings(topic_idle_s=5.0), 60, 5.0, "topics_stalled"),
    ],
    ids=["in all", "without news"],
)
async def test_a_holder_that_drips_holds_up_a_reading_for_so_long_and_no_longer(
    settings: Settings, refusals: int, lasts_s: float, counted: str
) -> None:
    """A review had pages that were refused for 17 s each: half an hour and more."""
    async with Neighbourhood() as here:
        honest, slow = await here.grow_puppets(2)
        records = entries(here, 100)
        await fill(here, honest, records)
        slow.answer = dripping(here, refusals=refusals)
        reader = await here.start(server=False, settings=settings)
        clock = asyncio.get_running_loop().time
        started = clock()
        found = [one.value async for one in reader.find("cars")]
        assert set(values_of(records)) <= set(found)
        assert clock() - started == pytest.approx(lasts_s, abs=2)
        assert (await reader.status()).counters[counted] == 1


async def test_a_reader_that_takes_its_time_gets_what_came_meanwhile() -> None:
    async with Neighbourhood() as here:
        holders = await here.grow(3)
        records = entries(here, 300)
        for holder in holders:
            await fill(here, holder, records)
        reader = await here.start(server=False)
        found = []
        async for one in reader.find("cars"):
            found.append(one.value)
            await asyncio.sleep(1.5)  # longer, in all, than a reading may take
        assert sorted(found) == values_of(records)
        assert "topics_cut_short" not in (await reader.status()).counters
