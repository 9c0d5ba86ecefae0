from __future__ import annotations

import asyncio
import hashlib
import math
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from ipaddress import ip_address
from random import Random

import pytest

from kademlia_node.core.contact import Address, prefix
from kademlia_node.errors import SetupError
from kademlia_node.net.transport import Transport
from kademlia_node.sim import FixedLatency, LogNormalLatency, SimNetwork, run
from kademlia_node.sim.nat import Nat, NatKind
from kademlia_node.sim.network import CLOG_DATAGRAMS_MAX

NOBODY = Address("9.9.9.9", 9)


class Inbox:
    """A `Receive` that remembers moment, datagram and source."""

    def __init__(self) -> None:
        self.got: list[tuple[float, bytes, Address]] = []

    def __call__(self, datagram: bytes, source: Address) -> None:
        self.got.append((asyncio.get_running_loop().time(), datagram, source))

    @property
    def datagrams(self) -> list[bytes]:
        return [datagram for _, datagram, _ in self.got]


def exact_network(*, seed: int = 1, seconds: float = 0.1) -> SimNetwork:
    return SimNetwork(rng=Random(seed), latency=FixedLatency(seconds), jitter_s=0.0)


async def join(sim: SimNetwork, host: str = "", port: int = 0) -> tuple[Transport, Inbox]:
    inbox = Inbox()
    return await sim.listen(host, port, inbox), inbox


async def test_datagram_arrives_after_its_delay_with_its_source() -> None:
    sim = exact_network()
    (a, _), (b, inbox) = await join(sim), await join(sim)
    a.send(b"hello", b.address)
    await asyncio.sleep(1.0)
    assert inbox.got == [(0.1, b"hello", a.address)]


async def test_fresh_hosts_are_public_and_each_in_a_prefix_of_its_own() -> None:
    sim = exact_network()
    addresses = [(await join(sim))[0].address for _ in range(1000)]
    assert addresses[:2] == [Address("1.0.0.1", 4000), Address("1.0.1.1", 4000)]
    assert len({prefix(address.host) for address in addresses}) == 1000
    assert all(ip_address(address.host).is_global for address in addresses)


async def test_fresh_host_is_never_one_that_was_named_before() -> None:
    sim = exact_network()
    await join(sim, "1.0.0.1", 9000)
    fresh, _ = await join(sim, "0.0.0.0", 9000)
    assert fresh.address == Address("1.0.1.1", 9000)


async def test_port_zero_is_the_next_free_port_of_a_named_host() -> None:
    sim = exact_network()
    ports = [(await join(sim, "127.0.0.1"))[0].address.port for _ in range(3)]
    assert ports == [4000, 4001, 4002]


async def test_ipv6_hosts_are_canonical() -> None:
    transport, _ = await join(exact_network(), "2001:DB8:0::1", 5)
    assert transport.address == Address("2001:db8::1", 5)


async def test_taken_address_and_unknown_host_are_setup_errors() -> None:
    sim = exact_network()
    await join(sim, "1.2.3.4", 5)
    with pytest.raises(SetupError, match=r"1\.2\.3\.4:5 is in use"):
        await join(sim, "1.2.3.4", 5)
    with pytest.raises(SetupError, match="not a numeric host"):
        await join(sim, "localhost", 5)


async def test_closed_socket_neither_sends_nor_receives() -> None:
    sim = exact_network()
    (a, inbox_a), (b, inbox_b) = await join(sim), await join(sim)
    b.send(b"under way", a.address)
    await a.close()
    await a.close()
    a.send(b"too late", b.address)
    await asyncio.sleep(1.0)
    assert inbox_a.got == inbox_b.got == []
    assert (sim.sent.datagrams, sim.lost.datagrams) == (1, 1)


async def test_address_of_a_closed_socket_can_be_bound_again() -> None:
    sim = exact_network()
    old, _ = await join(sim, "1.2.3.4", 5)
    await old.close()
    new, inbox = await join(sim, "1.2.3.4", 5)
    await old.close()  # no business of the new one
    new.send(b"to myself", new.address)
    await asyncio.sleep(1.0)
    assert inbox.datagrams == [b"to myself"]


async def test_datagrams_to_nobody_vanish() -> None:
    sim = exact_network()
    a, _ = await join(sim)
    a.send(b"anyone?", NOBODY)
    await asyncio.sleep(1.0)
    assert (sim.sent.datagrams, sim.delivered.datagrams, sim.lost.datagrams) == (1, 0, 1)


async def test_datagram_that_would_be_fragmented_is_our_own_mistake() -> None:
    sim = exact_network()
    a, _ = await join(sim)
    a.send(bytes(1200), NOBODY)
    with pytest.raises(AssertionError, match="1201 bytes"):
        a.send(bytes(1201), NOBODY)


async def test_counters_count_datagrams_and_bytes() -> None:
    sim = exact_network()
    (a, _), (b, _) = await join(sim), await join(sim)
    a.send(b"four", b.address)
    a.send(b"fifth", b.address)
    a.send(b"nobody", NOBODY)
    await asyncio.sleep(1.0)
    assert (sim.sent.datagrams, sim.sent.size_bytes) == (3, 15)
    assert (sim.delivered.datagrams, sim.delivered.size_bytes) == (2, 9)
    assert (sim.lost.datagrams, sim.lost.size_bytes) == (1, 6)


async def test_taps_see_what_is_sent_even_if_it_is_lost() -> None:
    sim = exact_network()
    seen: list[tuple[Address, Address, bytes]] = []
    sim.taps.append(lambda *sent: seen.append(sent))
    sim.loss = 1.0
    a, _ = await join(sim)
    a.send(b"x", NOBODY)
    assert seen == [(a.address, NOBODY, b"x")]


async def test_loss_rate_is_as_set_and_can_be_changed() -> None:
    sim = exact_network()
    (a, _), (b, inbox) = await join(sim), await join(sim)
    sim.loss = 0.3
    for _ in range(4000):
        a.send(b"x", b.address)
    await asyncio.sleep(1.0)
    deviation = math.sqrt(4000 * 0.3 * 0.7)
    assert abs(sim.lost.datagrams - 4000 * 0.3) < 4 * deviation
    assert len(inbox.got) + sim.lost.datagrams == 4000
    sim.loss = 0.0
    inbox.got.clear()
    for _ in range(100):
        a.send(b"x", b.address)
    await asyncio.sleep(1.0)
    assert len(inbox.got) == 100


async def test_duplicates_come_at_the_rate_that_was_set() -> None:
    sim = exact_network()
    sim.duplicate = 0.2
    (a, _), (b, inbox) = await join(sim), await join(sim)
    for number in range(2000):
        a.send(number.to_bytes(2, "big"), b.address)
    await asyncio.sleep(1.0)
    copies = Counter(inbox.datagrams)
    assert set(copies.values()) == {1, 2}
    assert abs(len(inbox.got) - 2400) < 4 * math.sqrt(2000 * 0.2 * 0.8)
    assert sim.sent.datagrams == 2000


async def test_reordered_datagrams_are_overtaken() -> None:
    sim = exact_network()
    (a, _), (b, inbox) = await join(sim), await join(sim)

    async def send_a_hundred() -> list[int]:
        inbox.got.clear()
        for number in range(100):
            a.send(bytes([number]), b.address)
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.0)
        return [datagram[0] for datagram in inbox.datagrams]

    assert await send_a_hundred() == list(range(100))
    sim.reorder = 0.5
    arrived = await send_a_hundred()
    assert arrived != sorted(arrived) == list(range(100))


async def test_jitter_adds_up_to_its_bound() -> None:
    sim = exact_network(seconds=0.1)
    sim.jitter_s = 0.01
    (a, _), (b, inbox) = await join(sim), await join(sim)
    for _ in range(500):
        a.send(b"x", b.address)
    await asyncio.sleep(1.0)
    moments = [moment for moment, _, _ in inbox.got]
    assert 0.1 <= min(moments) < 0.1005
    assert 0.1095 < max(moments) < 0.11


async def test_partition_cuts_both_ways_until_healed() -> None:
    sim = exact_network()
    ends = [await join(sim) for _ in range(4)]
    addresses = [transport.address for transport, _ in ends]

    async def who_hears_whom() -> set[tuple[int, int]]:
        for sender, (transport, _) in enumerate(ends):
            for address in addresses:
                transport.send(bytes([sender]), address)
        await asyncio.sleep(1.0)
        heard = {(m[0], n) for n, (_, inbox) in enumerate(ends) for m in inbox.datagrams}
        for _, inbox in ends:
            inbox.got.clear()
        return heard

    everyone = {(sender, hearer) for sender in range(4) for hearer in range(4)}
    across = {(s, h) for s, h in everyone if (s < 2) != (h < 2)}
    partition = sim.partition(addresses[:2], addresses[2:])
    assert await who_hears_whom() == everyone - across
    partition.heal()
    partition.heal()
    assert await who_hears_whom() == everyone

    one_way = sim.partition(addresses[:2], addresses[2:], both_ways=False)
    assert await who_hears_whom() == everyone - {(s, h) for s, h in across if s < 2}
    sim.partition(addresses[:1], addresses[1:2])
    neighbours = {(0, 1), (1, 0)}
    assert await who_hears_whom() == everyone - {(s, h) for s, h in across if s < 2} - neighbours
    one_way.heal()
    assert await who_hears_whom() == everyone - neighbours


async def test_partition_also_stops_what_is_under_way() -> None:
    sim = exact_network()
    (a, _), (b, inbox) = await join(sim), await join(sim)
    a.send(b"before", b.address)
    await asyncio.sleep(0.05)
    partition = sim.partition([a.address], [b.address])
    a.send(b"meanwhile", b.address)
    await asyncio.sleep(0.06)
    partition.heal()
    a.send(b"after", b.address)
    await asyncio.sleep(1.0)
    assert inbox.datagrams == [b"after"]


async def test_unplugged_node_is_alone_until_plugged_in() -> None:
    sim = exact_network()
    (a, inbox_a), (b, inbox_b) = await join(sim), await join(sim)
    sim.unplug(b.address)
    a.send(b"there", b.address)
    b.send(b"here", a.address)
    await asyncio.sleep(1.0)
    assert inbox_a.got == inbox_b.got == []
    sim.plug(b.address)
    a.send(b"there", b.address)
    b.send(b"here", a.address)
    await asyncio.sleep(1.0)
    assert inbox_a.datagrams == [b"here"]
    assert inbox_b.datagrams == [b"there"]


async def test_wall_clock_runs_with_virtual_time() -> None:
    sim = exact_network()
    started = sim.wall()
    await asyncio.sleep(86400.0)
    assert started == 1_700_000_000.0
    assert sim.wall() == started + 86400.0


@dataclass
class Link:
    """Two ends over which `cross` sends a hundred numbered datagrams each way."""

    sim: SimNetwork
    a: Transport
    inbox_a: Inbox
    b: Transport
    inbox_b: Inbox

    @classmethod
    async def on(cls, sim: SimNetwork) -> Link:
        return cls(sim, *await join(sim), *await join(sim))

    def send(self) -> None:
        for number in range(100):
            self.a.send(bytes([number]), self.b.address)
            self.b.send(bytes([number]), self.a.address)

    async def cross(self) -> tuple[int, int]:
        """How many arrive at `b`, and how many at `a`."""
        self.inbox_a.got.clear()
        self.inbox_b.got.clear()
        self.send()
        await asyncio.sleep(10.0)
        return len(self.inbox_b.got), len(self.inbox_a.got)


async def test_partition_from_all_others_includes_those_that_come_later() -> None:
    link = await Link.on(exact_network())
    island = link.sim.partition([link.a.address])
    late, inbox = await join(link.sim)
    link.a.send(b"anyone?", late.address)
    assert await link.cross() == (0, 0)
    island.heal()
    link.sim.partition([link.a.address], both_ways=False)
    link.a.send(b"anyone?", late.address)
    link.a.send(b"myself", link.a.address)
    assert await link.cross() == (0, 101)
    assert inbox.got == []


async def test_corruption_flips_one_bit_of_the_share_that_was_set() -> None:
    sim = exact_network()
    sim.corrupt = 0.2
    (a, _), (b, inbox) = await join(sim), await join(sim)
    sent = bytes(range(100))
    for _ in range(2000):
        a.send(sent, b.address)
    a.send(b"", b.address)
    await asyncio.sleep(1.0)
    assert inbox.datagrams.count(b"") == 1
    flips = [
        int.from_bytes(got, "big") ^ int.from_bytes(sent, "big")
        for got in inbox.datagrams
        if got not in {sent, b""}
    ]
    assert {flip.bit_count() for flip in flips} == {1}
    assert abs(len(flips) - 400) < 4 * math.sqrt(2000 * 0.2 * 0.8)
    assert len(set(flips)) > 200  # of 800: all over the datagram
    assert {len(got) for got in inbox.datagrams} == {0, 100}


async def test_clog_holds_back_and_releases_in_random_order() -> None:
    link = await Link.on(exact_network())
    clog = link.sim.clog([link.a.address], [link.b.address])
    for number in range(100):
        link.a.send(bytes([number]), link.b.address)
        await asyncio.sleep(0.01)
    await asyncio.sleep(9.0)
    assert link.inbox_b.got == []
    assert link.sim.lost.datagrams == 0
    clog.heal()
    clog.heal()
    await asyncio.sleep(0)
    arrived = [datagram[0] for datagram in link.inbox_b.datagrams]
    assert arrived != sorted(arrived) == list(range(100))
    assert max(moment for moment, _, _ in link.inbox_b.got) == pytest.approx(10.0)  # at once
    assert await link.cross() == (100, 100)


async def test_clog_may_hold_one_direction_and_what_is_under_way() -> None:
    link = await Link.on(exact_network())
    link.a.send(b"under way", link.b.address)
    clog = link.sim.clog([link.a.address], both_ways=False)
    assert await link.cross() == (0, 100)
    clog.heal()
    await asyncio.sleep(0)
    assert len(link.inbox_b.got) == 101


async def test_clog_over_another_keeps_holding_and_a_cut_end_gets_nothing() -> None:
    link = await Link.on(exact_network())
    first, second = link.sim.clog([link.a.address]), link.sim.clog([link.b.address])
    await link.cross()
    first.heal()
    await asyncio.sleep(0)
    assert link.inbox_a.got == link.inbox_b.got == []
    link.sim.unplug(link.b.address)
    second.heal()
    await asyncio.sleep(0)
    assert link.inbox_a.got == link.inbox_b.got == []
    assert link.sim.lost.datagrams == 200


async def test_full_clog_loses_what_it_cannot_hold() -> None:
    link = await Link.on(exact_network())
    clog = link.sim.clog([link.a.address])
    for _ in range(21):
        await link.cross()
    assert link.sim.lost.datagrams == 4200 - CLOG_DATAGRAMS_MAX
    clog.heal()
    await asyncio.sleep(0)
    assert link.sim.delivered.datagrams == CLOG_DATAGRAMS_MAX


async def test_slow_address_is_late_with_what_it_sends() -> None:
    link = await Link.on(exact_network(seconds=0.1))
    link.sim.slow[link.a.address] = 1.5
    await link.cross()
    assert {moment for moment, _, _ in link.inbox_b.got} == {1.6}
    assert {moment for moment, _, _ in link.inbox_a.got} == {0.1}


async def test_silent_address_hears_and_is_not_heard() -> None:
    link = await Link.on(exact_network())
    link.a.send(b"last words", link.b.address)
    link.sim.silent.add(link.a.address)
    assert await link.cross() == (1, 100)
    link.sim.silent.clear()
    assert await link.cross() == (100, 100)


@pytest.mark.parametrize(
    ("kind", "heard"),
    [
        (NatKind.FULL_CONE, {"friend", "neighbour", "stranger"}),
        (NatKind.ADDRESS_RESTRICTED, {"friend", "neighbour"}),
        (NatKind.PORT_RESTRICTED, {"friend"}),
    ],
)
async def test_nat_lets_in_whom_its_kind_allows_until_the_mapping_times_out(
    kind: NatKind, heard: set[str]
) -> None:
    sim = exact_network(seconds=0.1)
    inside, inbox = await join(sim)
    sim.nats[inside.address] = Nat(kind, mapping_s=20.0)
    friend, _ = await join(sim, "5.5.5.5", 1)
    others = {"friend": friend}
    others["neighbour"], _ = await join(sim, "5.5.5.5", 2)
    others["stranger"], _ = await join(sim, "6.6.6.6", 1)

    async def who_gets_in() -> set[str]:
        inbox.got.clear()
        for name, transport in others.items():
            transport.send(name.encode(), inside.address)
        await asyncio.sleep(0.2)
        return {datagram.decode() for datagram in inbox.datagrams}

    assert await who_gets_in() == set()
    inside.send(b"hello", friend.address)
    assert await who_gets_in() == heard
    await asyncio.sleep(15.0)
    inside.send(b"still here", friend.address)  # keeps the mapping, what comes in does not
    await asyncio.sleep(15.0)
    assert await who_gets_in() == heard
    await asyncio.sleep(5.0)
    assert await who_gets_in() == set()
    del sim.nats[inside.address]
    assert await who_gets_in() == set(others)


async def gossip(seed: int) -> str:
    """Six nodes that answer at random for three seconds, over a bad network with a clog."""
    rng = Random(seed)
    weather = {"loss": 0.1, "duplicate": 0.1, "reorder": 0.1, "corrupt": 0.1}
    sim = SimNetwork(rng=rng, latency=LogNormalLatency(seed), **weather)
    transports: list[Transport] = []

    def answer(datagram: bytes, source: Address) -> None:
        rng.choice(transports).send(hashlib.sha256(datagram).digest(), source)

    transports += [await sim.listen("", 0, answer) for _ in range(6)]
    clog = sim.clog([transports[0].address])
    for transport in transports * 5:
        transport.send(b"start", rng.choice(transports).address)
    await asyncio.sleep(1.5)
    clog.heal()
    await asyncio.sleep(1.5)
    assert sim.delivered.datagrams > 100
    return sim.trace_digest()


def test_same_seed_gives_the_same_trace_and_another_seed_another() -> None:
    assert run(gossip(1)) == run(gossip(1))
    assert run(gossip(1)) != run(gossip(2))


def test_trace_is_the_same_in_another_process_with_another_hash_seed() -> None:
    program = f"from {__name__} import gossip, run; print(run(gossip(1)))"
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.run(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, check=True
    )
    assert other.stdout.decode().strip() == run(gossip(1))


async def lone_datagram(
    datagram: bytes = b"x", *, seconds: float = 0.1, from_first: bool = True
) -> str:
    sim = exact_network(seconds=seconds)
    first, second = [(await join(sim))[0] for _ in range(2)]
    source, destination = (first, second) if from_first else (second, first)
    source.send(datagram, destination.address)
    await asyncio.sleep(1.0)
    return sim.trace_digest()


def test_trace_tells_moment_ends_and_content_apart() -> None:
    digests = {
        run(lone_datagram()),
        run(lone_datagram(b"y")),
        run(lone_datagram(seconds=0.2)),
        run(lone_datagram(from_first=False)),
        run(lone_datagram(seconds=2.0)),  # nothing delivered yet
    }
    assert len(digests) == 5
