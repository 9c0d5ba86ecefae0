"""Who gets in: INIT, RETRY and RESP between an honest pair, and against everybody else."""

from __future__ import annotations

from itertools import count
from random import Random

import pytest

from kademlia_node.core import codec, noise, packet
from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.curve import P
from kademlia_node.core.handshake import Admitted, CookieJar, Doorkeeper, Drop, Opened, Opening
from kademlia_node.core.identity import Capabilities, Identity
from kademlia_node.core.ids import solves_puzzle
from kademlia_node.core.message import FindNode, Nodes, Ping, Pong
from kademlia_node.core.network import Network
from kademlia_node.core.suite import STANDARD, AgreementKey, Suite
from kademlia_node.errors import ForgedPacket, MalformedMessage
from kademlia_node.settings import PROTOCOL_VERSION, Settings
from kademlia_node.sim import NullSuite
from tests.core.parties import (
    ALICE_AT,
    BOB_AT,
    CLIENT,
    NETWORK,
    RID,
    SERVER,
    admitted,
    call,
    door,
    identity,
    parsed_data,
    parsed_init,
    parsed_resp,
    retried,
)

SECRET = b"thirty-two bytes known to a few."
ALICE, BOB = identity(1), identity(2)
NEIGHBOUR, STRANGER = Address("192.0.2.200", 9), Address("203.0.113.3", 9)
OTHER_VERSION = Capabilities(False, PROTOCOL_VERSION + 1, PROTOCOL_VERSION + 9)
OPEN_GATE = Settings(handshakes_per_s=1e6, handshakes_per_prefix_per_s=1e6)
CLOSED_GATE = Settings(handshakes_per_s=0.0)
COVERED_BYTES = 400 - 32


@pytest.fixture(params=[STANDARD, NullSuite()], ids=["standard", "null"])
def suite(request: pytest.FixtureRequest) -> Suite:
    chosen: Suite = request.param
    return chosen


def judged(keeper: Doorkeeper, datagram: bytes, *, source: Address = ALICE_AT) -> object:
    return keeper.consider(parsed_init(datagram), source, now=0.0)


def answered(keeper: Doorkeeper, opening: Opening, *, caps: Capabilities = CLIENT) -> packet.Resp:
    """The RESP to an INIT that is let in."""
    resp, _ = keeper.answer(admitted(keeper, opening.packet), Pong(), capabilities=caps, now=0.0)
    return parsed_resp(resp)


def altered(datagram: bytes, place: int) -> bytes:
    return datagram[:place] + bytes([datagram[place] ^ 0x80]) + datagram[place + 1 :]


def with_cookie(opening: Opening, cookie: bytes) -> bytes:
    opening.take_cookie(cookie)
    return opening.packet


# --- A full round ---------------------------------------------------------------------------------


def test_one_round_trip_makes_a_session_and_answers_the_first_request(suite: Suite) -> None:
    alice, bob = identity(1, suite), identity(2, suite)
    request = FindNode(b"t" * 32)
    opening = call(alice, bob, capabilities=CLIENT, request=request)
    assert len(opening.packet) == 400
    keeper = door(bob)
    caller = admitted(keeper, opening.packet)
    assert caller.contact == Contact(alice.public_key, ALICE_AT)
    assert (caller.capabilities, caller.rid, caller.request) == (CLIENT, RID, request)
    response = Nodes((Contact(b"k" * 32, NEIGHBOUR),))
    resp, there = keeper.answer(caller, response, capabilities=SERVER, now=2.0)
    opened = opening.read(parsed_resp(resp), now=3.0)
    here = opened.session
    assert opened == Opened(here, ALICE_AT, RID, response)
    assert (here.peer, there.peer) == (Contact(bob.public_key, BOB_AT), caller.contact)
    assert (here.capabilities, there.capabilities) == (SERVER, CLIENT)
    assert (here.local_sid, here.remote_sid) == (there.remote_sid, there.local_sid)
    assert (here.confirmed, there.confirmed) == (True, False), "a RESP proves an address"
    assert (here.born, there.born) == (3.0, 2.0)
    for sender, receiver in ((here, there), (there, here)):
        _, sealed = sender.seal(b"payload")
        assert parsed_data(sealed).sid == receiver.local_sid
        assert receiver.open(parsed_data(sealed), now=4.0) == b"payload"


def test_members_of_a_private_network_meet() -> None:
    network = Network.private(SECRET)
    opening = call(ALICE, BOB, network=network)
    opened = opening.read(answered(door(BOB, network=network), opening), now=0.0)
    assert opened.response == Pong()


def test_each_handshake_has_names_and_keys_of_its_own() -> None:
    keeper = door(BOB)
    openings = [call(ALICE, BOB, ts_us=ts_us) for ts_us in (1, 2)]
    sessions = [one.read(answered(keeper, one), now=0.0).session for one in openings]
    assert len({sid for one in sessions for sid in (one.local_sid, one.remote_sid)}) == 4
    assert sessions[0].seal(b"payload")[1][17:] != sessions[1].seal(b"payload")[1][17:]


def test_a_contact_with_a_refused_key_is_never_called(suite: Suite) -> None:
    contact = Contact(b"\xff" * 32, BOB_AT)
    with pytest.raises(ForgedPacket):
        Opening(
            contact,
            identity=identity(1, suite),
            network=NETWORK,
            capabilities=CLIENT,
            ts_us=1,
            rid=RID,
            request=Ping(),
            rng=Random(1),
        )


# --- Silence --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "theirs",
    [
        Network.private(SECRET, name="away"),
        Network.private(SECRET[::-1], name="home"),
        Network.open("home"),
    ],
    ids=["name", "secret", "no secret"],
)
def test_strangers_to_the_network_meet_silence(theirs: Network) -> None:
    keeper = door(BOB, network=Network.private(SECRET, name="home"))
    assert judged(keeper, call(ALICE, BOB, network=theirs).packet) is Drop.STRANGER


def test_a_call_for_somebody_else_meets_silence() -> None:
    assert judged(door(identity(3)), call(ALICE, BOB).packet) is Drop.STRANGER


def test_a_flood_of_strangers_does_not_close_the_gate() -> None:
    keeper = door(BOB, settings=Settings(handshakes_per_s=1.0, handshakes_per_prefix_per_s=1.0))
    for _ in range(10):
        assert judged(keeper, call(ALICE, identity(3)).packet) is Drop.STRANGER
    admitted(keeper, call(ALICE, BOB).packet)


def test_our_own_key_meets_silence(suite: Suite) -> None:
    bob = identity(2, suite)
    assert judged(door(bob), call(bob, bob).packet) is Drop.OURSELF


def test_another_version_meets_silence() -> None:
    assert judged(door(BOB), call(ALICE, BOB, capabilities=OTHER_VERSION).packet) is Drop.VERSION


def by_puzzle(*, bits: int, solved: bool) -> Identity:
    return next(
        one for one in map(identity, count(10)) if solves_puzzle(one.id, bits=bits) == solved
    )


def test_a_server_must_have_solved_the_puzzle_and_a_client_need_not() -> None:
    network = Network.open(puzzle_bits=2)
    idle, diligent = by_puzzle(bits=2, solved=False), by_puzzle(bits=2, solved=True)
    keeper = door(BOB, network=network)

    def verdict(caller: Identity, capabilities: Capabilities) -> object:
        return judged(keeper, call(caller, BOB, network=network, capabilities=capabilities).packet)

    assert verdict(idle, SERVER) is Drop.PUZZLE
    assert isinstance(verdict(idle, CLIENT), Admitted)
    assert isinstance(verdict(diligent, SERVER), Admitted)


def test_an_answering_server_must_have_solved_the_puzzle_and_a_client_need_not() -> None:
    network = Network.open(puzzle_bits=2)
    idle = by_puzzle(bits=2, solved=False)
    opening = call(ALICE, idle, network=network)
    keeper = door(idle, network=network)
    caller = admitted(keeper, opening.packet)
    resp, _ = keeper.answer(caller, Pong(), capabilities=SERVER, now=0.0)
    with pytest.raises(ForgedPacket, match="puzzle"):
        opening.read(parsed_resp(resp), now=0.0)
    opening = call(ALICE, idle, network=network, ts_us=2)
    assert opening.read(answered(keeper, opening, caps=CLIENT), now=0.0).response == Pong()


def test_an_answer_in_another_version_makes_no_session() -> None:
    opening = call(ALICE, BOB)
    with pytest.raises(MalformedMessage, match="version"):
        opening.read(answered(door(BOB), opening, caps=OTHER_VERSION), now=0.0)


# --- Hand-made INITs and RESPs --------------------------------------------------------------------


class Lying:
    """An agreement key that states another public half than it agrees with."""

    def __init__(self, real: AgreementKey, *, public: bytes, shared: bytes | None = None) -> None:
        self._real = real
        self._shared = shared
        self.public = public

    def agree(self, public: bytes) -> bytes:
        return self._real.agree(public) if self._shared is None else self._shared


PING = codec.encode_opening(1, CLIENT, rid=RID, request=Ping())


def raw_init(
    payload: bytes,
    *,
    static: AgreementKey = ALICE.agreement,
    ephemeral: AgreementKey | None = None,
    pad: bytes = b"\0",
) -> bytes:
    """An INIT to Bob that is sealed as it should be, whatever it says."""
    sid = b"raw init"
    handshake = noise.Initiation(
        STANDARD,
        static=static,
        ephemeral=ephemeral or STANDARD.agreement_key(b"e" * 32),
        remote_static=BOB.agreement.public,
        prologue=NETWORK.prologue + sid,
    )
    message = handshake.write(payload.ljust(packet.OPENING_BYTES_MIN, pad))
    return packet.pack_init(sid, message, mac1_key=NETWORK.mac1_key(BOB.public_key))


def test_a_hand_made_init_is_as_good_as_any() -> None:
    assert admitted(door(BOB), raw_init(PING)).request == Ping()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        PING[:2],
        PING + b"\0\0\1",
        codec.encode_reply(ALICE_AT, CLIENT, rid=RID, response=Pong()),
        codec.encode_request(RID, Ping()),
    ],
    ids=["zeros", "no msgpack", "cut short", "padding", "an answer", "bare"],
)
def test_an_opening_that_makes_no_sense_meets_silence(payload: bytes) -> None:
    assert judged(door(BOB), raw_init(payload)) is Drop.MALFORMED


def test_padding_is_zeros() -> None:
    assert judged(door(BOB), raw_init(PING, pad=b"\xc0")) is Drop.MALFORMED


def test_an_init_may_be_longer_than_it_must() -> None:
    admitted(door(BOB), raw_init(PING.ljust(900, b"\0")))


LOW_ORDER = [0, 1, P - 1, P, P + 1]


@pytest.mark.parametrize("u", LOW_ORDER)
def test_a_low_order_static_key_is_refused(u: int) -> None:
    static = Lying(ALICE.agreement, public=u.to_bytes(32, "little"), shared=bytes(32))
    assert judged(door(BOB), raw_init(PING, static=static)) is Drop.FORGED


@pytest.mark.parametrize("u", LOW_ORDER)
def test_a_low_order_ephemeral_key_is_refused(u: int) -> None:
    ephemeral = Lying(ALICE.agreement, public=u.to_bytes(32, "little"), shared=bytes(32))
    assert judged(door(BOB), raw_init(PING, ephemeral=ephemeral)) is Drop.FORGED


def test_a_static_key_with_its_top_bit_set_is_refused() -> None:
    """X25519 ignores the bit, so without this check one key would have two IDs."""
    public = altered(ALICE.agreement.public, 31)
    assert ALICE.agreement.agree(BOB.agreement.public) == BOB.agreement.agree(public)
    static = Lying(ALICE.agreement, public=public)
    assert judged(door(BOB), raw_init(PING, static=static)) is Drop.FORGED


def test_a_static_key_of_somebody_else_is_refused() -> None:
    static = Lying(identity(3).agreement, public=ALICE.agreement.public)
    assert judged(door(BOB), raw_init(PING, static=static)) is Drop.FORGED


@pytest.mark.parametrize("payload", [b"", b"sid_B!!", b"sid_B!!!", b"sid_B!!!" + PING])
def test_an_answer_that_makes_no_sense_makes_no_session(payload: bytes) -> None:
    opening = call(ALICE, BOB)
    caller = admitted(door(BOB), opening.packet)
    message, _ = caller.noise.write(payload, ephemeral=STANDARD.agreement_key(b"e" * 32))
    with pytest.raises(MalformedMessage):
        opening.read(packet.Resp(opening.sid, message), now=0.0)


# --- Every byte counts ----------------------------------------------------------------------------


def test_no_byte_of_an_init_but_its_cookie_can_be_changed(suite: Suite) -> None:
    bob = identity(2, suite)
    datagram = call(identity(1, suite), bob).packet
    keeper = door(bob, settings=OPEN_GATE)
    for place in range(1, COVERED_BYTES + 16):
        assert judged(keeper, altered(datagram, place)) is Drop.STRANGER
    admitted(keeper, datagram)


def test_a_changed_init_with_a_mac_made_anew_is_forged(suite: Suite) -> None:
    """On an open network anybody can compute mac1: Noise must cover the same bytes, sid_A too."""
    bob = identity(2, suite)
    keeper = door(bob, settings=OPEN_GATE)
    datagram = call(identity(1, suite), bob).packet
    mac1_key = NETWORK.mac1_key(bob.public_key)
    for place in range(1, COVERED_BYTES):
        covered = altered(datagram, place)[:COVERED_BYTES]
        forged = packet.pack_init(covered[1:9], covered[9:], mac1_key=mac1_key)
        assert judged(keeper, forged) is Drop.FORGED


def test_a_changed_cookie_proves_no_address() -> None:
    keeper = door(BOB, settings=Settings(handshakes_per_s=1.0))
    admitted(keeper, call(ALICE, BOB).packet)
    opening = call(ALICE, BOB, ts_us=2)
    good = with_cookie(opening, retried(keeper, opening.packet).cookie)
    for place in range(COVERED_BYTES + 16, 400):
        retried(keeper, altered(good, place))
    admitted(keeper, good)


def test_no_byte_of_a_resp_can_be_changed_and_a_forgery_spoils_nothing(suite: Suite) -> None:
    alice, bob = identity(1, suite), identity(2, suite)
    opening, keeper = call(alice, bob), door(bob)
    caller = admitted(keeper, opening.packet)
    resp, there = keeper.answer(caller, Pong(), capabilities=CLIENT, now=0.0)
    for place in range(1, len(resp)):
        forged = parsed_resp(altered(resp, place))
        if place < 9:
            assert forged.sid != opening.sid, "it answers nobody's INIT"
        else:
            with pytest.raises(ForgedPacket):
                opening.read(forged, now=0.0)
    for size in range(65, len(resp)):
        with pytest.raises(ForgedPacket):
            opening.read(parsed_resp(resp[:size]), now=0.0)
    here = opening.read(parsed_resp(resp), now=0.0).session
    assert here.remote_sid == there.local_sid


# --- Cookies --------------------------------------------------------------------------------------

EPOCH_S = 60.0


def jar() -> CookieJar:
    return CookieJar(Random(1), epoch_s=EPOCH_S)


@pytest.mark.parametrize("start", [0.0, 30.0, 1e6])
def test_a_cookie_is_valid_in_its_epoch_and_the_next(start: float) -> None:
    cookies = jar()
    cookie = cookies.mint(ALICE_AT, now=start)
    assert len(cookie) == 16
    assert cookies.accepts(cookie, ALICE_AT, now=start)
    assert cookies.accepts(cookie, ALICE_AT, now=start + EPOCH_S)
    assert not cookies.accepts(cookie, ALICE_AT, now=start + 2 * EPOCH_S)


def test_a_cookie_dies_over_a_silence_of_many_epochs() -> None:
    cookies = jar()
    cookie = cookies.mint(ALICE_AT, now=0.0)
    assert not cookies.accepts(cookie, ALICE_AT, now=10 * EPOCH_S)
    assert not cookies.accepts(cookie, ALICE_AT, now=11 * EPOCH_S)


def test_each_epoch_mints_another_cookie() -> None:
    cookies = jar()
    assert len({cookies.mint(ALICE_AT, now=n * EPOCH_S / 2) for n in range(20)}) == 10


def test_a_cookie_holds_for_one_address() -> None:
    cookies = jar()
    cookie = cookies.mint(ALICE_AT, now=0.0)
    for other in (NEIGHBOUR, STRANGER, Address(ALICE_AT.host, ALICE_AT.port + 1)):
        assert not cookies.accepts(cookie, other, now=0.0)


def test_no_cookie_is_no_cookie() -> None:
    assert not jar().accepts(packet.NO_COOKIE, ALICE_AT, now=0.0)


def test_nobody_else_can_mint() -> None:
    cookie = CookieJar(Random(2), epoch_s=EPOCH_S).mint(ALICE_AT, now=0.0)
    assert not jar().accepts(cookie, ALICE_AT, now=0.0)


# --- Gates ----------------------------------------------------------------------------------------


def test_beyond_the_gate_an_address_must_be_proved_first(suite: Suite) -> None:
    bob = identity(2, suite)
    keeper = door(bob, settings=Settings(handshakes_per_s=1.0))
    admitted(keeper, call(identity(1, suite), bob).packet)
    opening = call(identity(3, suite), bob)
    before = opening.packet
    retry = retried(keeper, before)
    assert retry.sid == opening.sid
    opening.take_cookie(retry.cookie)
    assert opening.packet == before[:-16] + retry.cookie, "nothing else has changed"
    caller = admitted(keeper, opening.packet)
    resp, _ = keeper.answer(caller, Pong(), capabilities=CLIENT, now=0.0)
    assert opening.read(parsed_resp(resp), now=0.0).response == Pong()


def test_a_cookie_from_elsewhere_does_not_help() -> None:
    keeper = door(BOB, settings=Settings(handshakes_per_s=1.0))
    admitted(keeper, call(ALICE, BOB).packet)
    opening = call(identity(3), BOB)
    stolen = with_cookie(opening, retried(keeper, opening.packet, source=STRANGER).cookie)
    retried(keeper, stolen, source=ALICE_AT)
    admitted(keeper, stolen, source=STRANGER)


def test_a_closed_gate_lets_nobody_in() -> None:
    keeper = door(BOB, settings=CLOSED_GATE)
    opening = call(ALICE, BOB)
    datagram = with_cookie(opening, retried(keeper, opening.packet).cookie)
    retried(keeper, datagram)


def test_one_prefix_cannot_close_the_gate_for_others() -> None:
    keeper = door(BOB, settings=Settings(handshakes_per_prefix_per_s=2.0))
    for ts_us in (1, 2):
        admitted(keeper, call(ALICE, BOB, ts_us=ts_us).packet)
    retried(keeper, call(ALICE, BOB, ts_us=3).packet)
    retried(keeper, call(ALICE, BOB, ts_us=3).packet, source=NEIGHBOUR)
    admitted(keeper, call(ALICE, BOB, ts_us=3).packet, source=STRANGER)


def test_a_spoofed_prefix_does_not_lock_out_who_really_lives_there() -> None:
    settings = Settings(handshakes_per_s=3.0, handshakes_per_prefix_per_s=2.0)
    keeper = door(BOB, settings=settings)
    opening = call(identity(3), BOB)
    for _ in range(100):
        judged(keeper, call(ALICE, BOB).packet, source=NEIGHBOUR)
        judged(keeper, call(ALICE, BOB).packet, source=STRANGER)
    cookie = retried(keeper, opening.packet, source=ALICE_AT).cookie
    admitted(keeper, with_cookie(opening, cookie), source=ALICE_AT)


def test_local_addresses_share_no_prefix_limit() -> None:
    keeper = door(BOB, settings=Settings(handshakes_per_prefix_per_s=1.0))
    for ts_us in range(1, 10):
        admitted(keeper, call(ALICE, BOB, ts_us=ts_us).packet, source=Address("127.0.0.1", ts_us))


def test_the_gate_opens_again_with_time() -> None:
    keeper = door(BOB, settings=Settings(handshakes_per_s=1.0))
    admitted(keeper, call(ALICE, BOB).packet, now=100.0)
    retried(keeper, call(ALICE, BOB, ts_us=2).packet, now=100.5)
    admitted(keeper, call(ALICE, BOB, ts_us=2).packet, now=101.0)


# --- Replays --------------------------------------------------------------------------------------


def test_a_replayed_init_must_prove_its_address(suite: Suite) -> None:
    bob = identity(2, suite)
    keeper, opening = door(bob), call(identity(1, suite), bob)
    admitted(keeper, opening.packet)
    retried(keeper, opening.packet)
    retried(keeper, opening.packet, source=STRANGER)


def test_a_clock_that_went_back_locks_nobody_out() -> None:
    keeper = door(BOB)
    admitted(keeper, call(ALICE, BOB, ts_us=1000).packet)
    opening = call(ALICE, BOB, ts_us=5)
    retry = retried(keeper, opening.packet)
    admitted(keeper, with_cookie(opening, retry.cookie))


def test_a_replay_with_a_cookie_does_not_lower_what_is_remembered() -> None:
    keeper = door(BOB)
    admitted(keeper, call(ALICE, BOB, ts_us=1000).packet)
    opening = call(ALICE, BOB, ts_us=5)
    admitted(keeper, with_cookie(opening, retried(keeper, opening.packet).cookie))
    retried(keeper, call(ALICE, BOB, ts_us=6).packet)
    retried(keeper, call(ALICE, BOB, ts_us=1000).packet)
    admitted(keeper, call(ALICE, BOB, ts_us=1001).packet)


def test_a_time_of_zero_is_a_time() -> None:
    keeper = door(BOB)
    for ts_us in (0, 1):
        admitted(keeper, call(ALICE, BOB, ts_us=ts_us).packet)


def test_each_key_has_a_clock_of_its_own() -> None:
    keeper = door(BOB)
    admitted(keeper, call(ALICE, BOB, ts_us=1000).packet)
    admitted(keeper, call(identity(3), BOB, ts_us=1).packet)


def test_the_key_longest_unheard_is_forgotten() -> None:
    keeper = door(BOB, settings=Settings(init_timestamps_max=2))
    first, second, third = (call(identity(number), BOB) for number in (3, 4, 5))
    admitted(keeper, first.packet)
    admitted(keeper, second.packet)
    admitted(keeper, call(identity(3), BOB, ts_us=2).packet)
    admitted(keeper, third.packet)
    retried(keeper, first.packet)
    retried(keeper, third.packet)
    admitted(keeper, second.packet)
