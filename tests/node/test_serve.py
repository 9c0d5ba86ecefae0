"""What a node answers, whoever asks: a stranger that speaks the protocol says what it likes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.handshake import Opening
from kademlia_node.core.identity import Capabilities, Identity, verify_card
from kademlia_node.core.ids import distance
from kademlia_node.core.key import Key, Kind, entry_key, topic_key
from kademlia_node.core.memory import Memory
from kademlia_node.core.message import (
    Chunk,
    Chunked,
    ErrorCode,
    FindNode,
    FindValue,
    Identified,
    Identify,
    Item,
    Nodes,
    Ping,
    Pong,
    Refused,
    Response,
    Snapshot,
    Store,
    Stored,
    StoreStatus,
    Values,
)
from kademlia_node.core.network import Network
from kademlia_node.core.record import Reason, Record, make_blob, make_entry, make_topic_entry
from kademlia_node.errors import PeerRefused, SetupError
from kademlia_node.net.ask import Asker
from kademlia_node.node.assembly import assemble, make_state
from kademlia_node.node.node import Node
from kademlia_node.node.serve import Server, fit
from kademlia_node.node.state import NodeState
from kademlia_node.settings import (
    EXPIRY_DEFAULT_S,
    EXPIRY_MAX_S,
    INLINE_BYTES_MAX,
    VALUE_BYTES_MAX,
    Settings,
)
from kademlia_node.store.memory import MemoryStore
from tests.node.network import (
    DAY,
    OPEN,
    PRIVATE,
    SUITE,
    Neighbourhood,
    Stranger,
    contact_of,
    nearest,
)

AUTHOR = Identity.generate(Random(7), suite=SUITE)
TARGET = b"\x5a" * 32


def entry(
    here: Neighbourhood, value: bytes = b"value", *, seq: int = 1, lives_s: float = DAY
) -> Record:
    return make_entry(
        AUTHOR.signing,
        b"slot",
        value=value,
        seq=seq,
        expires=int(here.sim.wall() + lives_s),
        network_tag=here.network.tag,
    )


def store_of(record: Record, *, expect_seq: int | None = None) -> Store:
    return Store(record.key, record.header, record.value, expect_seq)


async def status_of(stranger: Stranger, node: Node, request: Store) -> StoreStatus:
    stored = await stranger.ask(node, request)
    assert isinstance(stored, Stored)
    return stored.status


# --- PING, FIND_NODE, IDENTIFY ----------------------------------------------------------------


async def test_ping_is_answered_by_pong() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        assert await (await here.stranger()).ask(node, Ping()) == Pong()
        assert (await node.status()).counters["served_Ping"] == 1


async def test_find_node_names_the_nearest_that_we_proved() -> None:
    async with Neighbourhood() as here:
        await here.grow(30)
        node = here.nodes[0]
        answer = await (await here.stranger()).ask(node, FindNode(TARGET))
        known = sorted(node.contacts(), key=lambda contact: distance(contact.id, TARGET))
        assert answer == Nodes(tuple(known[:20]))


async def test_public_askers_never_hear_of_local_contacts() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        inside = await here.start(host="192.168.1.7")
        outside = await here.start()
        public, local = await here.stranger(), await here.stranger(host="192.168.1.8")
        assert await public.ask(node, FindNode(TARGET)) == Nodes((contact_of(outside),))
        heard = await local.ask(node, FindNode(TARGET))
        assert isinstance(heard, Nodes)
        assert set(heard.contacts) == {contact_of(inside), contact_of(outside)}


async def test_identify_is_answered_by_a_signed_card() -> None:
    async with Neighbourhood() as here:
        first, node = await here.grow(2)
        answer = await (await here.stranger()).ask(node, Identify())
        assert isinstance(answer, Identified)
        card = verify_card(answer.card, wall=here.sim.wall(), network=PRIVATE, suite=SUITE)
        assert card.contacts == [contact_of(node)]
        assert card.capabilities.server
        assert first.public_key != card.public_key


# --- STORE ------------------------------------------------------------------------------------


async def test_a_record_is_stored_once_and_renewed_after_that() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        stranger = await here.stranger()
        record, longer = entry(here), entry(here, lives_s=2 * DAY)
        assert await status_of(stranger, node, store_of(record)) is StoreStatus.OK
        assert await status_of(stranger, node, store_of(record)) is StoreStatus.HAVE
        assert await status_of(stranger, node, store_of(longer)) is StoreStatus.HAVE
        assert await here.held(node, entry_key(AUTHOR.public_key, b"slot")) == [longer]


async def test_one_seq_for_two_contents_is_counted() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        stranger = await here.stranger()
        for value in (b"blue", b"red"):
            await stranger.ask(node, store_of(entry(here, value=value, seq=1)))
        assert (await node.status()).counters["equivocations"] == 1


async def test_an_older_version_is_refused_with_the_newer_header() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        stranger = await here.stranger()
        newer = entry(here, seq=2)
        await stranger.ask(node, store_of(newer))
        refused = await stranger.ask(node, store_of(entry(here, b"older")))
        assert refused == Stored(StoreStatus.OLD, newer.header)


async def test_a_successor_that_would_expire_first_is_bad() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        stranger = await here.stranger()
        longer = entry(here, lives_s=2 * DAY)
        await stranger.ask(node, store_of(longer))
        refused = await stranger.ask(node, store_of(entry(here, b"next", seq=2)))
        assert refused == Stored(StoreStatus.BAD, longer.header, reason=Reason.SHORTENED)


async def test_an_unexpected_seq_is_refused_with_the_current_header() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        stranger = await here.stranger()
        nothing = await stranger.ask(node, store_of(entry(here), expect_seq=7))
        assert nothing == Stored(StoreStatus.CAS)
        current = entry(here)
        await stranger.ask(node, store_of(current, expect_seq=0))
        mismatch = await stranger.ask(node, store_of(entry(here, b"next", seq=2), expect_seq=0))
        assert mismatch == Stored(StoreStatus.CAS, current.header)
        repeat = await stranger.ask(node, store_of(current, expect_seq=0))
        assert repeat == Stored(StoreStatus.HAVE)


async def test_nobody_extends_a_blob_beyond_48_hours_from_receipt() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        blob = make_blob(b"value", expires=int(here.sim.wall() + EXPIRY_MAX_S))
        assert await status_of(await here.stranger(), node, store_of(blob)) is StoreStatus.OK
        (held,) = await here.held(node, Key(Kind.BLOB, blob.key))
        assert held.header.expires <= here.sim.wall() + EXPIRY_DEFAULT_S


async def test_who_is_far_from_a_key_says_so_and_names_nearer_nodes() -> None:
    async with Neighbourhood(Network.private(bytes(32), copies=2)) as here:
        await here.grow(30)
        stranger = await here.stranger()
        record = make_blob(b"value", expires=int(here.sim.wall() + DAY))
        order = nearest(Key(Kind.BLOB, record.key), here.nodes)
        radius = distance(order[1].id, record.key)
        accepted = []
        for node in order:
            stored = await stranger.ask(node, store_of(record))
            assert isinstance(stored, Stored)
            assert len(stored.contacts) == 4
            accepted.append(stored.status is StoreStatus.OK)
            if stored.status is StoreStatus.TOO_FAR:
                assert distance(stored.contacts[0].id, record.key) < distance(node.id, record.key)
                assert distance(node.id, record.key) > 3 * radius
        assert accepted[:2] == [True, True]
        assert accepted.count(False) > 15


async def test_storers_together_name_all_who_should_hold_it() -> None:
    """A writer that lacks one of them, whichever, learns of it."""
    async with Neighbourhood(Network.private(bytes(32), copies=20)) as here:
        await here.grow(40)
        stranger = await here.stranger()
        record = make_blob(b"value", expires=int(here.sim.wall() + DAY))
        holders = nearest(Key(Kind.BLOB, record.key), here.nodes)[:20]
        named: set[bytes] = set()
        for node in holders:
            stored = await stranger.ask(node, store_of(record))
            assert isinstance(stored, Stored)
            assert len(stored.contacts) == 4
            named.update(contact.id for contact in stored.contacts)
        assert len(named & {node.id for node in holders}) >= 19  # of 20, by 80 random draws


async def test_a_client_stores_nothing() -> None:
    async with Neighbourhood() as here:
        node = await here.start(server=False)
        status = await status_of(await here.stranger(), node, store_of(entry(here)))
        assert status is StoreStatus.TOO_FAR
        assert (await node.status()).records == 0


def tampered(record: Record, **changes: object) -> Record:
    return replace(record, header=replace(record.header, **changes))  # type: ignore[arg-type]


BAD: dict[str, tuple[str, Callable[[Neighbourhood], Record]]] = {
    "forged": ("bad_signature", lambda here: tampered(entry(here), seq=9)),
    "for another network": (
        "bad_signature",
        lambda here: make_entry(
            AUTHOR.signing,
            b"slot",
            value=b"value",
            seq=1,
            expires=int(here.sim.wall() + DAY),
            network_tag=Network.open("other").tag,
        ),
    ),
    "expired": ("expired", lambda here: entry(here, lives_s=-1)),
    "immortal": ("too_long_lived", lambda here: entry(here, lives_s=EXPIRY_MAX_S + 60)),
    "oversized": ("too_large", lambda here: tampered(entry(here), length=VALUE_BYTES_MAX + 1)),
    "of the far future": ("future_seq", lambda here: entry(here, seq=2**63)),
    "under another key": ("wrong_key", lambda here: replace(entry(here), key=TARGET)),
    "with another value": ("wrong_value", lambda here: replace(entry(here), value=b"eulav")),
    "a contradiction": ("malformed", lambda here: tampered(entry(here), flags=1)),
}


@pytest.mark.parametrize("fault", BAD)
async def test_a_bad_record_is_refused_and_counted(fault: str) -> None:
    reason, make = BAD[fault]
    async with Neighbourhood() as here:
        node = await here.start()
        answer = await (await here.stranger()).ask(node, store_of(make(here)))
        assert answer == Stored(StoreStatus.BAD, reason=Reason[reason.upper()])
        status = await node.status()
        assert status.counters[f"bad_record_storer_{reason}"] == 1
        assert status.records == 0


async def test_a_value_longer_than_the_wire_allows_is_refused_unread() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        record = entry(here, bytes(INLINE_BYTES_MAX + 1))
        with pytest.raises(PeerRefused, match="640"):
            await (await here.stranger()).ask(node, store_of(record))


async def test_one_author_cannot_fill_a_store() -> None:
    settings = Settings(store_bytes_max=10_000)
    async with Neighbourhood(settings=settings) as here:
        node = await here.start()
        stranger = await here.stranger()
        statuses = [
            await status_of(
                stranger,
                node,
                store_of(
                    make_topic_entry(
                        AUTHOR.signing,
                        TARGET,
                        slot=b"%d" % number,
                        value=bytes(244),
                        seq=1,
                        expires=int(here.sim.wall() + DAY),
                        network_tag=here.network.tag,
                    )
                ),
            )
            for number in range(8)
        ]
        assert statuses == [StoreStatus.OK] * 5 + [StoreStatus.QUOTA] * 3


async def test_one_public_prefix_cannot_fill_a_store_but_neighbours_may() -> None:
    settings = Settings(store_bytes_max=10_000)

    async def filled_by(host: str) -> int:
        async with Neighbourhood(settings=settings) as here:
            node = await here.start()
            stranger = await here.stranger(host=host)
            expires = int(here.sim.wall() + DAY)
            for number in range(30):
                blob = make_blob(b"%3d" % number, expires=expires)
                await stranger.ask(node, store_of(blob))
            return (await node.status()).records

    assert await filled_by("8.8.8.8") == 9
    assert await filled_by("192.168.1.8") == 30


# --- FIND_VALUE -------------------------------------------------------------------------------


async def test_find_value_shows_records_and_nearer_contacts() -> None:
    async with Neighbourhood() as here:
        await here.grow(6)
        receipt = await here.nodes[0].set("colour", b"blue")
        holder = nearest(receipt.key, here.nodes)[0]
        answer = await (await here.stranger()).ask(holder, FindValue(receipt.key.digest))
        assert isinstance(answer, Values)
        (record,) = await here.held(holder, receipt.key)
        assert [(item.header, item.value) for item in answer.items] == [(record.header, b"blue")]
        assert len(answer.contacts) == 5
        assert answer.count == 1


async def test_find_value_of_nothing_names_contacts_only() -> None:
    async with Neighbourhood() as here:
        node, other = await here.grow(2)
        answer = await (await here.stranger()).ask(node, FindValue(TARGET))
        assert answer == Values((contact_of(other),), 0, None, ())


def contacts_v6(count: int) -> list[Contact]:
    rng = Random(4)
    return [
        Contact(Identity.generate(rng, suite=SUITE).public_key, Address(f"2001:db8::{n + 1:x}", 4))
        for n in range(count)
    ]


def records_of(sizes: list[int]) -> list[Record]:
    return [
        make_topic_entry(
            AUTHOR.signing,
            topic_key(b"cars").digest,
            slot=b"%d" % number,
            value=bytes(size),
            seq=1,
            expires=10,
            network_tag=PRIVATE.tag,
        )
        for number, size in enumerate(sizes)
    ]


SNAPSHOT = Snapshot(b"s" * 32, 100)


def test_an_answer_that_fits_shows_everything_and_needs_no_snapshot() -> None:
    records = records_of([10, 20])
    values = fit(contacts_v6(20), records, count=2)
    assert [item.header for item in values.items] == [record.header for record in records]
    assert values.snapshot is None
    assert 4 <= len(values.contacts) < 20


def test_an_answer_that_does_not_fit_tells_the_count_and_the_snapshot() -> None:
    records = records_of([640, 640, 1])
    values = fit(contacts_v6(20), records, count=30, snapshot=SNAPSHOT)
    assert [item.header for item in values.items] == [records[0].header]
    assert values.count == 30
    assert values.snapshot == SNAPSHOT
    assert len(values.contacts) == 4


def test_small_items_follow_a_large_one_that_does_not_fit() -> None:
    records = records_of([500, 640, 1])
    values = fit(contacts_v6(4), records, count=3, snapshot=SNAPSHOT)
    assert [item.header for item in values.items] == [records[0].header, records[2].header]


def test_a_long_value_is_left_out_of_its_item() -> None:
    records = records_of([INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1])
    (inline,) = fit([], records[:1], count=1).items
    (long,) = fit([], records[1:], count=1).items
    assert inline.value == records[0].value
    assert long == Item(records[1].header, None)


def test_a_record_of_full_size_fits_alone_and_is_pulled_where_there_are_more() -> None:
    record = make_topic_entry(
        AUTHOR.signing,
        TARGET,
        slot=bytes(64),
        value=bytes(INLINE_BYTES_MAX),
        seq=1,
        expires=10,
        network_tag=PRIVATE.tag,
    )
    alone = fit(contacts_v6(20), [record], count=1)
    assert (len(alone.items), len(alone.contacts)) == (1, 4)
    one_of_two = fit(contacts_v6(20), [record], count=2, snapshot=SNAPSHOT)
    assert one_of_two.items == ()
    assert len(one_of_two.contacts) > 4


def test_all_contacts_fit_where_there_are_no_items() -> None:
    assert len(fit(contacts_v6(20), [], count=0).contacts) == 20
    assert fit([], [], count=0) == Values((), 0, None, ())


# --- Limits -----------------------------------------------------------------------------------


class SlowStore(MemoryStore):
    """A disk that takes its time."""

    seek_s = 10.0

    async def get(self, key: bytes, **options: Any) -> list[Record]:
        await asyncio.sleep(self.seek_s)
        return await super().get(key, **options)


async def test_beyond_serving_max_requests_are_refused_and_room_comes_again() -> None:
    settings = Settings(serving_max=3)
    async with Neighbourhood() as here:
        identity = here.new_identity()
        store = SlowStore(identity.id, settings=settings)
        node = await here.start(identity=identity, store=store, settings=settings)
        stranger = await here.stranger()
        await stranger.ask(node, Ping())
        replies: list[Response | None] = []
        for _ in range(8):
            stranger.exchange.send(contact_of(node), FindValue(TARGET), on_done=replies.append)
        await asyncio.sleep(0.2)
        assert replies == [Refused(ErrorCode.BUSY, "too many requests at once")] * 5
        assert await stranger.ask(node, Ping()) == Pong()  # what needs no store is served
        store.seek_s = 0.0
        await asyncio.sleep(20)
        answers = await asyncio.gather(*(stranger.ask(node, FindValue(TARGET)) for _ in range(3)))
        assert answers == [Values((), 0, None, ())] * 3
        store.seek_s = 10.0
        replies.clear()
        for _ in range(8):
            stranger.exchange.send(contact_of(node), FindValue(TARGET), on_done=replies.append)
        await asyncio.sleep(0.12)
        assert len(replies) == 5


async def test_one_asker_cannot_hold_all_the_places() -> None:
    settings = Settings(serving_max=6, serving_per_peer_max=2)
    async with Neighbourhood() as here:
        identity = here.new_identity()
        store = SlowStore(identity.id, settings=settings)
        node = await here.start(identity=identity, store=store, settings=settings)
        greedy, other = await here.stranger(), await here.stranger()
        for stranger in (greedy, other):
            await stranger.ask(node, Ping())
        replies: list[Response | None] = []
        for _ in range(6):
            greedy.exchange.send(contact_of(node), FindValue(TARGET), on_done=replies.append)
        await asyncio.sleep(0.2)
        assert replies == [Refused(ErrorCode.BUSY, "too many requests at once")] * 4
        store.seek_s = 0.0
        assert await other.ask(node, FindValue(TARGET)) == Values((), 0, None, ())
        await asyncio.sleep(20)
        assert await greedy.ask(node, FindValue(TARGET)) == Values((), 0, None, ())


async def test_looking_for_contents_has_a_limit_of_its_own_for_each_asker() -> None:
    """A chunk costs a tenth of a request; a look into the store for nothing costs more."""
    settings = Settings(chunk_misses_per_s=5)
    async with Neighbourhood() as here:
        node = await here.start(settings=settings)
        greedy, other = await here.stranger(), await here.stranger()
        for stranger in (greedy, other):
            await stranger.ask(node, Ping())
        replies: list[Response | None] = []
        for number in range(20):
            request = Chunk(bytes([number]) * 32, 0)
            greedy.exchange.send(contact_of(node), request, on_done=replies.append)
        await asyncio.sleep(0.2)
        assert replies.count(Chunked(None)) == 5
        assert replies.count(Refused(ErrorCode.BUSY, "too many contents at once")) == 15
        assert await other.ask(node, Chunk(TARGET, 0)) == Chunked(None)
        await asyncio.sleep(1)
        assert await greedy.ask(node, Chunk(TARGET, 0)) == Chunked(None)


class SlowValuesStore(MemoryStore):
    """Takes a while to find a long value."""

    async def value(self, value_hash: bytes, *, wall: float) -> bytes | None:
        await asyncio.sleep(0.2)
        return await super().value(value_hash, wall=wall)


async def test_many_chunks_of_one_content_take_one_look_for_it() -> None:
    settings, value = Settings(chunk_misses_per_s=1), Random(3).randbytes(VALUE_BYTES_MAX)
    async with Neighbourhood() as here:
        store = SlowValuesStore(bytes(32), settings=settings)
        node = await here.start(settings=settings, store=store)
        record = make_blob(value, expires=int(here.sim.wall() + DAY))
        await store.put(record, charged_to=b"", wall=here.sim.wall())
        stranger = await here.stranger()
        await stranger.ask(node, Ping())
        asking = (stranger.ask(node, Chunk(record.header.value_hash, n)) for n in range(64))
        chunks = [
            reply.data for reply in await asyncio.gather(*asking) if isinstance(reply, Chunked)
        ]
        assert b"".join(chunk or b"" for chunk in chunks) == value


async def test_of_what_cannot_be_paged_now_the_first_few_are_shown_without_a_snapshot() -> None:
    settings = Settings(store_share_per_author=1.0, snapshot_entries_burst=1)
    async with Neighbourhood(settings=settings) as here:
        node, stranger = await here.start(), await here.stranger()
        for topic in (TARGET, bytes(32)):
            for number in range(100):
                record = make_topic_entry(
                    AUTHOR.signing,
                    topic,
                    slot=b"%03d" % number,
                    value=b"value",
                    seq=1,
                    expires=int(here.sim.wall() + DAY),
                    network_tag=PRIVATE.tag,
                )
                await here.store_of(node).put(record, charged_to=b"", wall=here.sim.wall())
        first = await stranger.ask(node, FindValue(TARGET))
        other = await stranger.ask(node, FindValue(bytes(32)))
        assert isinstance(first, Values)
        assert isinstance(other, Values)
        assert first.snapshot is not None
        assert other.snapshot is None
        assert 0 < len(other.items) < other.count < 100
        assert await stranger.ask(node, FindValue(bytes(32), first.snapshot.hash)) == other


async def test_ten_chunks_count_as_one_request() -> None:
    settings = Settings(requests_per_peer_per_s=2, chunks_per_request=10)
    async with Neighbourhood() as here:
        node = await here.start(settings=settings)
        stranger = await here.stranger()
        await stranger.ask(node, Ping())
        await asyncio.sleep(10)  # the limit has forgotten it
        replies: list[Response | None] = []
        for _ in range(30):
            stranger.exchange.send(contact_of(node), Chunk(TARGET, 0), on_done=replies.append)
        await asyncio.sleep(0.2)
        assert replies.count(Chunked(None)) == 20
        assert replies.count(Refused(ErrorCode.BUSY, "too many requests")) == 10


async def test_who_has_not_shown_its_address_gets_no_chunk() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        received: list[bytes] = []

        def receive(datagram: bytes, _source: Address) -> None:
            received.append(datagram)

        socket = await here.sim.listen("", 0, receive)
        init = Opening(
            contact_of(node),
            identity=here.new_identity(),
            network=PRIVATE,
            capabilities=Capabilities(server=False),
            ts_us=1,
            rid=1,
            request=Chunk(TARGET, 0),
            rng=Random(1),
        )
        socket.send(init.packet, node.address)
        await asyncio.sleep(1)
        (resp,) = received
        assert b"this needs a session" in resp  # the null suite hides nothing
        assert "served_Chunk" not in (await node.status()).counters


def idle(
    here: Neighbourhood, stranger: Stranger, *, store: MemoryStore | None = None
) -> tuple[NodeState, Server]:
    """The state and the server of a node which nobody has started."""
    state = make_state(
        here.new_identity(),
        network=OPEN,
        settings=Settings(),
        rng=Random(1),
        wall=here.sim.wall,
        store=store,
        content=None,
        listener=stranger,
    )
    parts = assemble(state, server=True, bootstrap=[], memory=Memory(), link=None)
    return state, parts.server


async def test_a_node_that_does_not_run_is_busy() -> None:
    async with Neighbourhood() as here:
        stranger = await here.stranger()
        _, server = idle(here, stranger)
        replies: list[Response] = []
        asker = Asker(stranger.contact, server=False, confirmed=True)

        async def ask() -> Response:
            server.serve(asker, FindValue(TARGET), replies.append)
            await asyncio.sleep(1)
            return replies.pop()

        busy = Refused(ErrorCode.BUSY, "too many requests at once")
        assert await ask() == busy
        running = asyncio.create_task(server.run())
        await asyncio.sleep(0)
        assert await ask() == Values((), 0, None, ())
        running.cancel()
        await asyncio.wait([running])
        assert await ask() == busy


async def test_what_a_node_had_no_time_to_go_on_with_before_it_stopped_is_dropped_in_silence() -> (
    None
):
    """Else Python warns of a coroutine that was never awaited."""
    async with Neighbourhood() as here:
        stranger = await here.stranger()
        state, server = idle(here, stranger, store=SlowStore(bytes(32), settings=Settings()))
        asker = Asker(stranger.contact, server=False, confirmed=True)
        begun: list[Response] = []

        async def work() -> None:
            begun.append(Pong())

        running = [asyncio.create_task(one.run()) for one in (server, state.background)]
        await asyncio.sleep(0)
        for task in running:
            task.cancel()
        server.serve(asker, FindValue(TARGET), begun.append)
        state.background.start(work())
        await asyncio.wait(running)
        gc.collect()
        assert begun == []


class BrokenStore(MemoryStore):
    """Fails at every read."""

    async def get(self, key: bytes, **options: Any) -> list[Record]:
        raise SetupError("the disk is gone")


async def test_a_store_that_fails_does_not_end_the_node(caplog: pytest.LogCaptureFixture) -> None:
    async with Neighbourhood() as here:
        node = await here.start(store=BrokenStore(bytes(32), settings=Settings()))
        stranger = await here.stranger()
        with pytest.raises(PeerRefused, match="something is wrong here"):
            await stranger.ask(node, FindValue(TARGET))
        assert await stranger.ask(node, Ping()) == Pong()
        assert (await node.status()).counters["serving_failed"] == 1
    assert "the disk is gone" in caplog.text
