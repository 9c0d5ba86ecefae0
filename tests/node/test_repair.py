"""Repair by difference: copies come back from neighbours, at a cost that follows what changed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.ids import distance, shared_bits
from kademlia_node.core.key import Key, Kind
from kademlia_node.core.message import (
    Chunk,
    Chunked,
    Digest,
    Digests,
    FindValue,
    Held,
    Item,
    Leaving,
    Left,
    Refused,
    Request,
    Response,
    Values,
)
from kademlia_node.core.record import Record, make_blob, make_topic_entry
from kademlia_node.core.replica import accepts
from kademlia_node.node.node import Node
from kademlia_node.node.repair import Region, region_of
from kademlia_node.settings import EXPIRY_DEFAULT_S, Settings
from kademlia_node.sim import Swarm
from kademlia_node.store.memory import MemoryStore
from tests.node.network import (
    HOUR,
    PRIVATE,
    SUITE,
    Neighbourhood,
    Puppet,
    commons_entry,
    nearest,
)

COPIES = PRIVATE.copies
TOPIC = Key(Kind.TOPIC, b"t" * 32)
LONG = bytes(range(256)) * 20
CALM = Settings(refresh_s=10 * HOUR, renew_after_s=40 * HOUR)


async def file_at(here: Neighbourhood, node: Node, *records: Record) -> None:
    """Have a node hold records as if they had just been stored there."""
    for record in records:
        await here.store_of(node).put(record, charged_to=b"", wall=here.sim.wall())
        node.on_filed(record.key)


async def total(nodes: Sequence[Node], counter: str) -> int:
    return sum([(await node.status()).counters.get(counter, 0) for node in nodes])


def blobs(count: int, here: Neighbourhood) -> list[Record]:
    expires = int(here.sim.wall() + EXPIRY_DEFAULT_S)
    return [make_blob(b"%d" % number, expires=expires) for number in range(count)]


def key_of(record: Record) -> Key:
    return Key(record.header.kind, record.key)


def announced(here: Neighbourhood, slot: int, value: bytes, *, seq: int = 1) -> Record:
    return make_topic_entry(
        Identity.generate(Random(slot % 50), suite=SUITE).signing,
        TOPIC.digest,
        slot=b"%d" % slot,
        value=value,
        seq=seq,
        expires=int(here.sim.wall() + HOUR),
        network_tag=PRIVATE.tag,
    )


async def grow_with(here: Neighbourhood, count: int, records: int) -> list[Record]:
    """So many nodes, and records on those nearest to each."""
    nodes = await here.grow(count, settings=CALM)
    filed = blobs(records, here)
    for record in filed:
        for node in nearest(key_of(record), nodes)[:COPIES]:
            await file_at(here, node, record)
    return filed


# --- What comes back ------------------------------------------------------------------------------


async def test_a_newcomer_soon_holds_what_it_is_responsible_for_and_little_else() -> None:
    async with Swarm(nodes=30, seed=5, network=PRIVATE) as swarm:
        names = [f"name {number}" for number in range(40)]
        for number, name in enumerate(names):
            await swarm.nodes[number % 30].set(name, b"value")
        keys = [swarm.nodes[0].key_of(name) for name in names]
        (newcomer,) = await swarm.grow(1)
        await asyncio.sleep(60)

        def is_among(key: Key, count: int) -> bool:
            return newcomer.id in {one.id for one in swarm.true_closest(key.digest, count)}

        held = {key for key in keys if newcomer in await swarm.holders(key)}
        ours = {key for key in keys if is_among(key, COPIES)}
        assert ours
        assert ours <= held
        assert all(is_among(key, 3 * COPIES) for key in held)


@pytest.mark.parametrize("value", [b"blue", LONG], ids=["short", "long"])
async def test_when_all_but_one_holder_are_lost_the_copies_come_back(value: bytes) -> None:
    async with Swarm(nodes=16, seed=2, network=PRIVATE) as swarm:
        author = swarm.nodes[0]
        receipt = await author.set("colour", value)
        await asyncio.sleep(60)
        holders = await swarm.holders(receipt.key)
        for node in {*holders[1:], author} - {holders[0]}:
            await swarm.crash(node, keep_store=False)
        assert len(await swarm.holders(receipt.key)) == 1
        await asyncio.sleep(300)
        closest = swarm.true_closest(receipt.key.digest, COPIES)
        again = {node.id for node in await swarm.holders(receipt.key)}
        assert {contact.id for contact in closest} <= again


async def test_who_was_away_learns_what_was_written_and_withdrawn_meanwhile() -> None:
    async with Swarm(nodes=8, seed=3, network=PRIVATE) as swarm:
        for name in ("changed", "deleted"):
            await swarm.nodes[0].set(name, b"old")
        keys = {name: swarm.nodes[0].key_of(name) for name in ("changed", "deleted")}
        await asyncio.sleep(60)
        away = {(await swarm.holders(key))[0] for key in keys.values()}
        for node in away:
            await swarm.stop(node)
        await swarm.alive[0].set("changed", b"new")
        await swarm.alive[0].withdraw("deleted")
        back = [await swarm.restart(node) for node in away]
        await asyncio.sleep(120)
        for name, value in (("changed", b"new"), ("deleted", b"")):
            held = await swarm.held(keys[name])
            assert {record.value for records in held.values() for record in records} == {value}
        assert set(back) & {*await swarm.held(keys["changed"]), *await swarm.held(keys["deleted"])}


async def test_a_copy_expires_when_its_author_said_and_does_not_come_back() -> None:
    async with Neighbourhood() as here:
        nodes = await here.grow(4)
        entry = commons_entry("colour", b"blue", seq=1, expires=here.sim.wall() + 600)
        await file_at(here, nodes[0], entry)
        await asyncio.sleep(300)
        held = [await here.held(node, key_of(entry)) for node in nodes]
        assert sum(records == [entry] for records in held) >= COPIES
        asked = await total(nodes, "repair_requests")
        await asyncio.sleep(HOUR)
        assert await here.holders(key_of(entry)) == set()
        assert await total(nodes, "served_FindValue") < 50
        assert await total(nodes, "repair_requests") > asked


async def test_a_blob_that_was_repaired_lives_no_longer_than_its_source() -> None:
    async with Neighbourhood() as here:
        nodes = await here.grow(3)
        blob = make_blob(b"short-lived", expires=int(here.sim.wall() + 600))
        await file_at(here, nodes[0], blob)
        await asyncio.sleep(120)
        assert [await here.held(node, key_of(blob)) for node in nodes] == [[blob]] * 3


async def test_a_topic_of_many_entries_is_repaired_page_by_page() -> None:
    async with Neighbourhood() as here:
        nodes = await here.grow(3, settings=CALM)
        entries = [announced(here, slot, b"x" * 100) for slot in range(600)]
        await file_at(here, nodes[0], *entries)
        await asyncio.sleep(120)
        for node in nodes:
            assert len(await here.held(node, TOPIC)) == 600
        chunks = await total(nodes, "served_Chunk")
        changed = announced(here, 300, b"y" * 100, seq=2)
        await file_at(here, nodes[1], changed)
        await asyncio.sleep(300)
        for node in nodes:
            assert changed in await here.held(node, TOPIC)
        # Two of the three fetch one page, of up to 32 KiB, and the manifest.
        assert (await total(nodes, "served_Chunk")) - chunks < chunks / 3


async def test_signed_records_are_charged_to_their_authors_and_blobs_to_whoever_helps() -> None:
    """On two machines whose stores take next to nothing from one subnet."""
    strict = Settings(store_share_per_prefix=1e-9)
    async with Neighbourhood() as here:
        helper = await here.start()
        await here.start(settings=strict)
        blob = make_blob(b"nobody's", expires=int(here.sim.wall() + HOUR))
        entry = commons_entry("colour", b"blue", seq=1, expires=here.sim.wall() + HOUR)
        await file_at(here, helper, blob, entry)
        await asyncio.sleep(300)
        assert len(await here.holders(key_of(entry))) == 2
        assert await here.holders(key_of(blob)) == {helper.id}


# --- What it costs --------------------------------------------------------------------------------


@pytest.mark.parametrize("records", [10, 1000])
async def test_an_idle_round_is_one_request_however_much_is_held(records: int) -> None:
    async with Neighbourhood() as here:
        await grow_with(here, 8, records)
        await asyncio.sleep(900)  # by then what each lacks by its own view has come
        rounds = await total(here.nodes, "repairs_asked")
        requests = await total(here.nodes, "repair_requests")
        values = await total(here.nodes, "served_FindValue")
        await asyncio.sleep(HOUR / 2)
        rounds = await total(here.nodes, "repairs_asked") - rounds
        assert 25 * 8 <= rounds <= 35 * 8
        assert await total(here.nodes, "repair_requests") - requests == rounds
        assert await total(here.nodes, "served_FindValue") == values


async def test_one_change_costs_a_few_requests_more_and_no_longer_than_it_takes() -> None:
    async with Neighbourhood() as here:
        await grow_with(here, 8, 1000)
        await asyncio.sleep(900)
        rounds = await total(here.nodes, "repairs_asked")
        requests = await total(here.nodes, "repair_requests")
        await here.nodes[0].put(b"one more")
        await asyncio.sleep(HOUR / 2)
        extra = await total(here.nodes, "repair_requests") - requests
        extra -= await total(here.nodes, "repairs_asked") - rounds
        assert 0 < extra <= 8 * 6 * 4  # each of eight asks six, some three levels deeper


async def test_a_node_asks_everybody_near_when_it_starts_and_when_one_of_them_has_gone() -> None:
    async with Neighbourhood() as here:
        *others, node = await here.grow(2 * COPIES + 1)
        await asyncio.sleep(60)
        assert await total([node], "repairs_asked") >= 2 * COPIES
        await asyncio.sleep(600)
        before = await total([node], "repairs_asked")
        here.sim.unplug(others[0].address)
        await asyncio.sleep(400)  # until it was missed, and a little longer
        in_turn = 400 / 60
        assert await total([node], "repairs_asked") - before >= 2 * COPIES - 1 + in_turn - 2


async def test_a_newcomer_is_asked_soon_for_it_may_have_been_away_only() -> None:
    async with Neighbourhood() as here:
        nodes = await here.grow(3)
        await asyncio.sleep(300)
        identity = here.new_identity()
        store = MemoryStore(identity.id, settings=Settings())
        (blob,) = blobs(1, here)
        await store.put(blob, charged_to=b"", wall=here.sim.wall())
        await here.start(identity=identity, store=store)
        await asyncio.sleep(120)
        assert len(await here.holders(key_of(blob))) == len(nodes) + 1


@pytest.mark.parametrize("options", [{"server": False}, {"settings": Settings(republish="never")}])
async def test_clients_and_those_who_want_none_repair_nothing(options: dict[str, object]) -> None:
    async with Neighbourhood() as here:
        (holder,) = await here.grow(1)
        idle = await here.start(**options)
        await file_at(here, holder, *blobs(3, here))
        await asyncio.sleep(600)
        assert await total([idle], "repairs_asked") == 0
        assert (await idle.status()).records == 0


async def test_nothing_can_republish_in_another_way() -> None:
    with pytest.raises(ValueError, match="difference, hourly, never"):
        Settings(republish="daily")  # type: ignore[arg-type]


# --- Liars ----------------------------------------------------------------------------------------


async def with_liar(
    here: Neighbourhood, answer: object, *, seconds: float = 300
) -> tuple[Node, Puppet]:
    """A node, an honest neighbour with three records, and one that answers as told."""
    (liar,) = await here.grow_puppets(1)
    liar.answer = answer  # type: ignore[assignment]
    node, honest = await here.grow(2)
    await file_at(here, honest, *blobs(3, here))
    await asyncio.sleep(seconds)
    for record in blobs(3, here):
        assert node.id in await here.holders(key_of(record))
    return node, liar


def lists(*keys: bytes) -> Digests:
    return Digests(len(keys), held=tuple(Held(key, b"whatever") for key in sorted(keys)))


async def test_who_answers_about_other_keys_is_not_asked_again_for_a_while() -> None:
    asked = 0

    def answer(request: Request) -> Response | None:
        nonlocal asked
        if not isinstance(request, Digest):
            return None
        asked += 1
        return Digests(2, held=(Held(b"b" * 32, bytes(8)), Held(b"a" * 32, bytes(8))))

    async with Neighbourhood() as here:
        node, _ = await with_liar(here, answer, seconds=0.8 * HOUR)
        assert asked == 2
        assert await total([node], "repair_lied") == 1
        await asyncio.sleep(HOUR)
        assert asked == 4


def forged(request: Request, here: Neighbourhood) -> Response | None:
    """It names a key, and shows under it what its author has not signed."""
    true = commons_entry("colour", b"blue", seq=1, expires=here.sim.wall() + HOUR)
    if isinstance(request, Digest):
        return lists(true.key)
    if isinstance(request, FindValue) and request.key == true.key:
        return Values((), 1, None, (Item(replace(true.header, seq=2), true.value),))
    return None


async def test_a_forged_record_is_not_taken_and_costs_its_bearer_our_trust() -> None:
    async with Neighbourhood() as here:
        node, _ = await with_liar(here, lambda request: forged(request, here))
        assert (await node.status()).records == 3
        counters = (await node.status()).counters
        assert counters["repair_lied"] == 1
        assert counters["bad_record_repairer_bad_signature"] == 1


async def test_a_long_value_that_is_not_what_was_signed_is_not_taken() -> None:
    async with Neighbourhood() as here:
        true = commons_entry("colour", LONG, seq=1, expires=here.sim.wall() + HOUR)

        def answer(request: Request) -> Response | None:
            match request:
                case Digest():
                    return lists(true.key)
                case FindValue(key) if key == true.key:
                    return Values((), 1, None, (Item(true.header, None),))
                case Chunk():
                    return Chunked(bytes(1024))
            return None

        node, _ = await with_liar(here, answer)
        assert (await node.status()).records == 3
        assert await total([node], "repair_lied") == 1


async def test_who_names_much_and_shows_nothing_is_found_out() -> None:
    """A tree without end, each time another one, and keys under which there is nothing."""
    rng = Random(1)

    def answer(request: Request) -> Response | None:
        match request:
            case Digest(prefix) if len(prefix) < 4:
                return Digests(10_000, children=tuple(rng.randbytes(8) for _ in range(16)))
            case Digest(prefix):
                tail = [rng.randbytes(32).hex()[len(prefix) :] for _ in range(20)]
                return lists(*(bytes.fromhex(prefix + one) for one in tail))
            case FindValue():
                return Values((), 0, None, ())
        return None

    async with Neighbourhood() as here:
        node, _ = await with_liar(here, answer)
        assert (await node.status()).records == 3
        counters = (await node.status()).counters
        assert counters["repair_lied"] == 1
        assert counters["repair_requests"] < 100


async def test_who_refuses_or_is_silent_is_no_liar() -> None:
    def refuse(request: Request) -> Response | None:
        return Refused(1, "what is a digest?") if isinstance(request, Digest) else None

    async with Neighbourhood() as here:
        node, _ = await with_liar(here, refuse)
        assert await total([node], "repair_lied") == 0


# --- Leaving --------------------------------------------------------------------------------------


async def test_who_says_that_it_leaves_is_forgotten_until_it_is_heard_again() -> None:
    async with Neighbourhood() as here:
        (node,) = await here.grow(1)
        server = await here.stranger(server=True)
        await server.ask(node, Digest(""))
        assert server.contact in node.contacts()
        assert await server.ask(node, Leaving()) == Left()
        assert server.contact not in node.contacts()


# --- Regions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [1, 8, 60, 500])
def test_every_key_that_is_ours_lies_in_our_region(seed: int, size: int) -> None:
    rng = Random(seed * 1000 + size)
    own_id = rng.randbytes(32)
    known = [Contact(rng.randbytes(31) + b"\0", Address("10.0.0.1", 1)) for _ in range(size)]
    estimate = rng.choice([None, size * 1.0, size * 0.3])
    counts = Counter(shared_bits(own_id, contact.id) for contact in known)
    live_counts = [counts[bits] for bits in range(max(counts) + 1)]
    region = region_of(own_id, live_counts, copies=5, network_size=estimate)
    ours = 0
    for _ in range(300):
        key = (distance(own_id, bytes(32)) ^ rng.getrandbits(256 - rng.randrange(12))).to_bytes(32)
        by_distance = sorted(known, key=lambda contact: distance(contact.id, key))
        if accepts(key, own_id, known=by_distance, copies=5, network_size=estimate, factor=1):
            ours += 1
            assert key.hex().startswith(region.prefix)
            assert all(region.meets(key.hex()[:digits]) for digits in (1, 2, 3, 64))
    assert ours


def test_a_region_meets_the_prefixes_that_it_shares_keys_with() -> None:
    region = Region(bytes.fromhex("a7" + "00" * 31), bits=6)  # 1010 01..
    assert region.prefix == "a"
    assert [digit for digit in "0123456789abcdef" if region.meets(digit)] == ["a"]
    assert [digit for digit in "0123456789abcdef" if region.meets("a" + digit)] == list("4567")
    assert region.meets("a5f")
    assert not region.meets("a8f")
    assert all(Region(bytes(32), bits=0).meets(digit) for digit in "0123456789abcdef")


def test_alone_everything_may_be_ours() -> None:
    assert region_of(bytes(32), [], copies=5, network_size=None) == Region(bytes(32), 0)


# --- Those who are near a key, but not near each other --------------------------------------------


@pytest.mark.parametrize(("many", "seed"), [(4 * COPIES, 1), (COPIES + 2, 1), (COPIES + 2, 2)])
async def test_who_becomes_responsible_for_keys_of_a_thin_subtree_gets_them_from_there(
    many: int, seed: int
) -> None:
    """Its nearest may all be on its own side, and hold nothing of it; or those who die are not."""
    async with Neighbourhood(settings=CALM, seed=seed) as here:
        few = [await here.start(identity=here.identity_with("1")) for _ in range(COPIES)]
        others = [await here.start(identity=here.identity_with("0")) for _ in range(many)]
        await asyncio.sleep(HOUR)
        receipts = [await few[0].put(b"%d" % number) for number in range(100)]
        thin = [receipt.key for receipt in receipts if receipt.key.digest[0] >= 0x80]
        await asyncio.sleep(HOUR)
        here.sim.unplug(few[-1].address)
        await asyncio.sleep(2 * HOUR)
        for key in thin:
            fifth = nearest(key, others)[0]
            assert await here.store_of(fifth).get(key.digest, wall=here.sim.wall(), limit=1)


async def test_a_crowd_in_a_subtree_does_not_keep_us_from_asking_who_was_there_before() -> None:
    """Its keys are ours too, by the size of the network, and the crowd shows none of them."""

    def hide(request: Request) -> Response | None:
        return Digests(0) if isinstance(request, Digest) else None

    async with Neighbourhood(settings=CALM) as here:
        for first_bits in ["1"] * 20 + ["01"] * 3 + ["001"] * 3 + ["0000"] * (2 * COPIES):
            await here.start(identity=here.identity_with(first_bits))
        holder = await here.start(identity=here.identity_with("0001"))
        node = await here.start(identity=here.identity_with("0000"))
        await asyncio.sleep(HOUR)
        for _ in range(COPIES):
            sybil = await here.start_as(Puppet, identity=here.identity_with("0001"))
            sybil.answer = hide
        await asyncio.sleep(HOUR)
        near = 1 << 252  # a sixteenth of all keys; three nodes of 34 are expected in a twelfth
        blob = next(
            blob
            for blob in blobs(1000, here)
            if blob.key[0] >> 4 == 1 and distance(blob.key, node.id) < 1.2 * near
        )
        await file_at(here, holder, blob)
        await asyncio.sleep(HOUR)
        assert node.id in await here.holders(key_of(blob))
