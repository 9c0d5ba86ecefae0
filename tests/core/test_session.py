"""Sessions that refuse what was altered or seen, and the bounded table that holds them."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core import packet
from kademlia_node.core.contact import Address, Contact, prefix
from kademlia_node.core.identity import Capabilities, Identity
from kademlia_node.core.ids import node_id
from kademlia_node.core.noise import TransportKeys
from kademlia_node.core.session import REPLAY_WINDOW, Session, SessionTable
from kademlia_node.core.suite import STANDARD, Suite
from kademlia_node.errors import ForgedPacket
from kademlia_node.settings import Settings
from kademlia_node.sim import NullSuite
from tests.core.parties import parsed_data

NULL = NullSuite()
KEYS = TransportKeys(b"s" * 32, b"r" * 32, b"h" * 32)
MIRRORED = TransportKeys(KEYS.receive, KEYS.send, KEYS.handshake_hash)
OWN_ID = bytes(32)
LAST_COUNTER = 2**64 - 1


def contact(number: int, host: str = "192.0.2.1") -> Contact:
    return Contact(number.to_bytes(32, "little"), Address(host, 4000))


def session(
    number: int = 1,
    *,
    host: str = "192.0.2.1",
    initiated: bool = True,
    server: bool = False,
    now: float = 0.0,
    peer: Contact | None = None,
    suite: Suite = NULL,
    keys: TransportKeys = KEYS,
) -> Session:
    """Session `number`, with a peer of its own unless one is given."""
    return Session(
        peer or contact(number, host),
        local_sid=number.to_bytes(8, "big"),
        remote_sid=number.to_bytes(8, "little"),
        keys=keys,
        suite=suite,
        initiated=initiated,
        capabilities=Capabilities(server),
        now=now,
    )


def datagram(counter: int, payload: bytes = b"payload") -> packet.Data:
    """What a peer of `session()` would send as its DATA number `counter`."""
    header = packet.data_header((1).to_bytes(8, "big"), counter)
    return parsed_data(header + NULL.cipher(KEYS.receive).seal(counter, payload, header))


def accepts(receiver: Session, counter: int) -> bool:
    try:
        receiver.open(datagram(counter), now=0.0)
    except ForgedPacket:
        return False
    return True


# --- Sealing and opening --------------------------------------------------------------------------


@pytest.mark.parametrize("suite", [STANDARD, NULL], ids=["standard", "null"])
def test_each_side_opens_what_the_other_sealed(suite: Suite) -> None:
    here, there = session(suite=suite), session(suite=suite, keys=MIRRORED)
    for number in range(3):
        counter, sealed = here.seal(b"question")
        assert counter == number
        assert len(sealed) == packet.DATA_BYTES_MIN + len(b"question")
        assert there.open(parsed_data(sealed), now=0.0) == b"question"
        _, sealed = there.seal(b"")
        assert here.open(parsed_data(sealed), now=0.0) == b""


def test_a_packet_names_the_session_as_its_receiver_does() -> None:
    ours = session(3)
    assert parsed_data(ours.seal(b"")[1]).sid == ours.remote_sid != ours.local_sid


def test_no_byte_of_a_packet_can_be_changed() -> None:
    here, there = session(suite=STANDARD), session(suite=STANDARD, keys=MIRRORED)
    _, sealed = here.seal(b"payload")
    for place in range(1, len(sealed)):
        for bit in (0x01, 0x80):
            altered = sealed[:place] + bytes([sealed[place] ^ bit]) + sealed[place + 1 :]
            with pytest.raises(ForgedPacket):
                there.open(parsed_data(altered), now=0.0)
    assert there.open(parsed_data(sealed), now=0.0) == b"payload", "a forgery spoils nothing"


def test_a_packet_is_not_taken_for_one_of_the_other_direction() -> None:
    here = session()
    with pytest.raises(ForgedPacket):
        here.open(parsed_data(here.seal(b"payload")[1]), now=0.0)


def test_only_what_is_authentic_counts_as_heard() -> None:
    receiver = session(now=5.0)
    with pytest.raises(ForgedPacket):
        receiver.open(packet.Data(bytes(8), 0, bytes(16), bytes(17)), now=7.0)
    assert receiver.heard == 5.0
    receiver.open(datagram(0), now=9.0)
    assert (receiver.born, receiver.heard) == (5.0, 9.0)


# --- The replay window ----------------------------------------------------------------------------


def test_a_duplicate_is_refused() -> None:
    receiver = session()
    assert [accepts(receiver, counter) for counter in (0, 0, 1, 0, 1)] == [
        True,
        False,
        True,
        False,
        False,
    ]


def test_the_window_is_256_wide() -> None:
    receiver = session()
    highest = 1000
    assert accepts(receiver, highest)
    assert not accepts(receiver, highest - REPLAY_WINDOW)
    assert accepts(receiver, highest - REPLAY_WINDOW + 1)
    assert REPLAY_WINDOW == 256


def test_any_order_inside_the_window_is_fine() -> None:
    receiver = session()
    assert all(accepts(receiver, counter) for counter in reversed(range(REPLAY_WINDOW)))
    assert not any(accepts(receiver, counter) for counter in range(REPLAY_WINDOW))


def test_a_jump_to_the_last_counter_is_survived() -> None:
    receiver = session()
    assert accepts(receiver, LAST_COUNTER)
    assert not accepts(receiver, 0)
    assert not accepts(receiver, LAST_COUNTER)
    assert accepts(receiver, LAST_COUNTER - 1)


def test_a_forged_counter_does_not_move_the_window() -> None:
    receiver = session()
    header = packet.data_header(bytes(8), LAST_COUNTER)
    with pytest.raises(ForgedPacket):
        receiver.open(parsed_data(header + bytes(16)), now=0.0)
    assert accepts(receiver, 0)


near_the_edge = st.sampled_from([0, 1, 254, 255, 256, 257, 511, 512])


@given(st.lists(st.one_of(st.integers(0, 700), near_the_edge), max_size=60))
def test_the_window_is_what_a_set_of_all_counters_would_say(counters: list[int]) -> None:
    receiver, seen = session(), set[int]()
    for counter in counters:
        new = counter not in seen and counter > max(seen, default=0) - REPLAY_WINDOW
        assert accepts(receiver, counter) == new
        if new:
            seen.add(counter)


# --- The table ------------------------------------------------------------------------------------


def table(*, pinned: frozenset[bytes] = frozenset(), **limits: int) -> SessionTable:
    settings = Settings(**limits)  # type: ignore[arg-type]  # all of them are whole numbers
    return SessionTable(own_id=OWN_ID, settings=settings, is_pinned=pinned.__contains__)


def held(sessions: SessionTable, candidates: list[Session]) -> list[int]:
    """Which of the candidates the table still has, by their place in the list."""
    return [place for place, one in enumerate(candidates) if one.local_sid in sessions]


def test_a_session_begun_here_serves_both_ways_at_once() -> None:
    sessions, begun = table(), session()
    sessions.add(begun)
    assert begun.confirmed
    assert sessions.receiving(begun.local_sid) is begun
    assert sessions.sending(begun.peer) is begun
    assert begun.local_sid in sessions
    assert (len(sessions), sessions.half_open) == (1, 0)


def test_a_half_open_session_only_receives_until_its_first_data() -> None:
    sessions, answered = table(), session(initiated=False)
    sessions.add(answered)
    assert sessions.receiving(answered.local_sid) is answered
    assert sessions.sending(answered.peer) is None
    assert (len(sessions), sessions.half_open) == (1, 1)
    confirmed = [answered.confirmed, sessions.touch(answered), answered.confirmed]
    assert confirmed == [False, True, True]
    assert not sessions.touch(answered), "it was confirmed before"
    assert sessions.sending(answered.peer) is answered
    assert (len(sessions), sessions.half_open) == (1, 0)


def test_a_session_is_bound_to_key_and_address() -> None:
    sessions, begun = table(), session()
    sessions.add(begun)
    elsewhere = Contact(begun.peer.public_key, Address("192.0.2.1", 4001))
    assert sessions.sending(elsewhere) is None
    assert sessions.sending(contact(2)) is None


def test_unknown_sids_name_nothing() -> None:
    sessions = table()
    assert sessions.receiving(bytes(8)) is None
    assert bytes(8) not in sessions


def test_the_oldest_half_open_session_makes_room() -> None:
    sessions = table(half_open_max=3)
    answered = [session(number, initiated=False) for number in range(5)]
    for one in answered:
        sessions.add(one)
    assert held(sessions, answered) == [2, 3, 4]
    assert sessions.half_open == 3


def test_half_open_sessions_never_push_out_established_ones() -> None:
    sessions, begun = table(sessions_max=1, half_open_max=2), session(100)
    sessions.add(begun)
    for number in range(10):
        sessions.add(session(number, initiated=False))
    assert sessions.sending(begun.peer) is begun


def spread(count: int) -> list[Session]:
    """Sessions with peers of different prefixes."""
    return [session(number, host=f"198.51.{number}.1") for number in range(count)]


def test_the_session_longest_unheard_is_evicted() -> None:
    sessions, peers = table(sessions_max=3), spread(4)
    for one in peers[:3]:
        sessions.add(one)
    sessions.touch(peers[0])
    sessions.add(peers[3])
    assert held(sessions, peers) == [0, 2, 3]
    assert sessions.sending(peers[1].peer) is None


def test_pinned_peers_stay() -> None:
    peers = spread(5)
    pinned = frozenset({peers[0].peer.id, peers[1].peer.id})
    sessions = table(sessions_max=3, pinned=pinned)
    for one in peers:
        sessions.add(one)
    assert held(sessions, peers) == [0, 1, 4]


def test_a_newcomer_gives_way_where_all_are_pinned() -> None:
    peers = spread(3)
    sessions = table(sessions_max=2, pinned=frozenset(one.peer.id for one in peers))
    for one in peers:
        sessions.add(one)
    assert held(sessions, peers) == [0, 1]


def test_one_prefix_cannot_push_the_others_out() -> None:
    sessions = table(sessions_per_prefix_max=2)
    other = session(100, host="203.0.113.1")
    sessions.add(other)
    crowd = [session(number, host=f"198.51.100.{number}") for number in range(1, 5)]
    for one in crowd[:2]:
        sessions.add(one)
    sessions.touch(crowd[0])
    for one in crowd[2:]:
        sessions.add(one)
    assert held(sessions, [other, *crowd]) == [0, 3, 4]


def test_within_a_prefix_the_longest_unheard_goes_first() -> None:
    sessions = table(sessions_per_prefix_max=2)
    crowd = [session(number, host=f"198.51.100.{number}") for number in range(1, 4)]
    for one in crowd[:2]:
        sessions.add(one)
    crowd[0].heard = 1.0
    sessions.add(crowd[2])
    assert held(sessions, crowd) == [0, 2]


@pytest.mark.parametrize("host", ["127.0.0.1", "192.168.1.7", "fd00::1"])
def test_local_prefixes_are_not_limited(host: str) -> None:
    sessions = table(sessions_per_prefix_max=2)
    crowd = [session(number, host=host) for number in range(5)]
    for one in crowd:
        sessions.add(one)
    assert held(sessions, crowd) == [0, 1, 2, 3, 4]


def test_dropping_forgets_all_of_a_session_and_twice_is_no_mistake() -> None:
    sessions = table(sessions_per_prefix_max=1)
    for begun in (session(1), session(2, initiated=False)):
        sessions.add(begun)
        for _ in range(2):
            sessions.drop(begun)
        assert (len(sessions), sessions.half_open) == (0, 0)
        assert sessions.receiving(begun.local_sid) is None
        assert sessions.sending(begun.peer) is None
    newcomer = session(3)
    sessions.add(newcomer)
    assert held(sessions, [newcomer]) == [0], "nobody of its prefix is left"


def test_dropping_a_spare_session_leaves_the_one_in_use() -> None:
    sessions, peer = table(), contact(1)
    old, new = session(1, peer=peer), session(2, peer=peer, now=3600.0)
    sessions.add(old)
    sessions.add(new)
    sessions.drop(old)
    assert sessions.sending(peer) is new


def test_clearing_forgets_everyone() -> None:
    sessions = table()
    for number in range(6):
        sessions.add(session(number, initiated=number % 2 == 0))
    sessions.clear()
    assert len(sessions) == 0


def test_servers_are_the_reachable_ones_that_serve() -> None:
    sessions = table()
    server, client = session(1, server=True), session(2)
    half_open = session(3, server=True, initiated=False)
    for one in (server, client, half_open):
        sessions.add(one)
    assert sessions.servers(since=0.0) == [server.peer]
    assert sessions.servers(since=0.1) == []


def test_the_idle_and_the_never_confirmed_are_swept() -> None:
    settings = Settings()
    idle_s, unconfirmed_s = settings.session_idle_s, 2 * settings.timeout_s
    sessions = table()
    silent, heard = session(1), session(2)
    half_open = session(3, initiated=False)
    for one in (silent, heard, half_open):
        sessions.add(one)
    assert sessions.sweep(now=unconfirmed_s, keep_servers=True) == []
    assert sessions.sweep(now=unconfirmed_s + 0.1, keep_servers=True) == [half_open]
    heard.open(datagram(0), now=100.0)
    assert sessions.sweep(now=idle_s, keep_servers=True) == []
    assert sessions.sweep(now=idle_s + 0.1, keep_servers=True) == [silent]
    assert held(sessions, [silent, heard, half_open]) == [1]


def test_servers_are_kept_longer_than_clients() -> None:
    settings = Settings()
    sessions = table()
    server, client = session(1, server=True), session(2)
    for one in (server, client):
        sessions.add(one)
    assert sessions.sweep(now=settings.session_idle_s + 0.1, keep_servers=True) == [client]
    assert sessions.sweep(now=settings.session_keep_s, keep_servers=True) == []
    assert sessions.sweep(now=settings.session_keep_s + 0.1, keep_servers=True) == [server]


def test_a_client_keeps_servers_no_longer_than_they_keep_it() -> None:
    sessions = table()
    server = session(1, server=True)
    sessions.add(server)
    idle_s = Settings().session_idle_s
    assert sessions.sweep(now=idle_s + 0.1, keep_servers=False) == [server]


def test_a_session_is_worn_after_an_hour_of_use_or_a_day() -> None:
    settings = Settings(session_rekey_s=100.0, session_rekey_packets=3, session_age_max_s=900.0)
    seldom, often = session(1), session(2)
    for _ in range(4):
        often.seal(b"")
    for _ in range(3):
        seldom.seal(b"")
    worn = [
        (now, one.is_worn(now=now, settings=settings))
        for one in (often, seldom)
        for now in (100.0, 100.1, 900.0, 900.1)
    ]
    assert [is_worn for _, is_worn in worn] == [False, True, True, True, False, False, False, True]


@given(st.lists(st.tuples(st.integers(0, 11), st.sampled_from(["add", "touch", "drop"]))))
def test_the_table_stays_within_its_limits_and_true_to_itself(
    steps: list[tuple[int, str]],
) -> None:
    sessions = table(
        sessions_max=4,
        sessions_per_prefix_max=2,
        half_open_max=2,
        pinned=frozenset({node_id(contact(0).public_key)}),
    )
    ever: list[Session] = []
    for number, verb in steps:
        if verb == "add":
            host = f"198.51.{number % 3}.1"
            ever.append(
                session(len(ever) + 1, peer=contact(number, host), initiated=number % 2 == 0)
            )
            sessions.add(ever[-1])
        elif ever and (known := ever[number % len(ever)]).local_sid in sessions:
            sessions.touch(known) if verb == "touch" else sessions.drop(known)
        live = [one for one in ever if one.local_sid in sessions]
        confirmed = [one for one in live if one.confirmed]
        assert len(sessions) == len(live)
        assert sessions.half_open == len(live) - len(confirmed) <= 2
        assert len(confirmed) <= 4
        prefixes = [prefix(one.peer.address.host) for one in confirmed]
        assert all(prefixes.count(one) <= 2 for one in prefixes)
        for one in ever:
            used = sessions.sending(one.peer)
            assert used is None or used in confirmed


# --- Two sessions with one peer -------------------------------------------------------------------


ORDERS = [
    ("begun", "answered", "confirmed"),
    ("answered", "begun", "confirmed"),
    ("answered", "confirmed", "begun"),
]


@pytest.mark.parametrize("ours", ORDERS)
@pytest.mark.parametrize("theirs", ORDERS)
def test_of_two_begun_at_once_both_sides_send_with_the_one_of_the_smaller_id(
    ours: tuple[str, ...], theirs: tuple[str, ...]
) -> None:
    smaller, larger = sorted((contact(1), contact(2)), key=lambda one: one.id)
    assert sends_with_its_own(smaller, larger, events=ours)
    assert not sends_with_its_own(larger, smaller, events=theirs)


def sends_with_its_own(own: Contact, peer: Contact, *, events: tuple[str, ...]) -> bool:
    """Whether `own` sends with the session that it began, once both are established."""
    sessions = SessionTable(own_id=own.id, settings=Settings(), is_pinned=lambda _: False)
    answered = session(2, peer=peer, initiated=False, now=events.index("answered"))
    for now, event in enumerate(events):
        match event:
            case "begun":
                sessions.add(session(1, peer=peer, now=now))
            case "answered":
                sessions.add(answered)
            case "confirmed":
                sessions.touch(answered)
    used = sessions.sending(peer)
    assert used is not None
    return used.initiated


@pytest.mark.parametrize("initiated", [True, False])
@pytest.mark.parametrize("own_id", [bytes(32), b"\xff" * 32])
def test_a_later_session_replaces_the_one_in_use(own_id: bytes, initiated: bool) -> None:
    sessions = SessionTable(own_id=own_id, settings=Settings(), is_pinned=lambda _: False)
    peer = contact(1)
    sessions.add(session(1, peer=peer, initiated=True))
    rekeyed = session(2, peer=peer, initiated=initiated, now=3600.0)
    sessions.add(rekeyed)
    if not initiated:
        sessions.touch(rekeyed)
    assert sessions.sending(peer) is rekeyed


def test_what_has_a_successor_goes_first_and_soon_of_itself() -> None:
    """Found by simulation: old sessions of busy peers pushed out those in use of quiet ones."""
    table = SessionTable(
        own_id=OWN_ID, settings=Settings(sessions_max=3), is_pinned=lambda _: False
    )
    quiet, busy = session(1), session(2, now=10.0)
    table.add(quiet)
    table.add(busy)
    table.add(session(3, peer=busy.peer, now=20.0))
    table.touch(busy)
    table.add(session(4, now=30.0))
    assert busy.local_sid not in table
    assert table.sending(quiet.peer) is quiet
    successor = session(5, peer=quiet.peer, now=40.0)
    table.add(successor)
    assert table.sending(quiet.peer) is successor
    assert quiet.local_sid not in table
    rekeyed = session(6, peer=quiet.peer, now=50.0)
    table.drop(table.sending(session(4).peer) or quiet)
    table.add(rekeyed)
    assert table.sweep(now=44.0, keep_servers=True) == []
    assert table.sweep(now=46.0, keep_servers=True) == [successor]
    assert table.sending(quiet.peer) is rekeyed


def test_a_pinned_peer_holds_one_session_however_many_it_begins() -> None:
    """Else a few peers of the table could hold all places with keepalives."""
    rng = Random(3)
    few = [Identity.generate(rng, suite=NullSuite()) for _ in range(4)]
    pinned = {one.id for one in few}
    settings = Settings(sessions_max=64)
    table = SessionTable(own_id=bytes(32), settings=settings, is_pinned=pinned.__contains__)

    def begin(public_key: bytes, host: str) -> Session:
        return Session(
            Contact(public_key, Address(host, 5)),
            local_sid=rng.randbytes(8),
            remote_sid=bytes(8),
            keys=TransportKeys(bytes(32), bytes(32), b""),
            suite=NullSuite(),
            initiated=True,
            capabilities=Capabilities(server=True),
            now=0.0,
        )

    for number, one in enumerate(few):
        for _ in range(32):
            table.add(begin(one.public_key, f"66.{number}.1.1"))
    newcomer = begin(Identity.generate(rng, suite=NullSuite()).public_key, "77.1.1.1")
    table.add(newcomer)
    assert table.sending(newcomer.peer) is newcomer
    assert len(table) <= settings.sessions_max
