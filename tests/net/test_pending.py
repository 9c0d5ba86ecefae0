from __future__ import annotations

from random import Random

import pytest

from kademlia_node.core.codec import RID_MAX
from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Capabilities
from kademlia_node.core.message import (
    ErrorCode,
    FindNode,
    FindValue,
    Identified,
    Identify,
    Nodes,
    Ping,
    Pong,
    Probe,
    Probed,
    Refused,
    Request,
    Response,
    Stored,
    StoreStatus,
    Values,
)
from kademlia_node.core.noise import TransportKeys
from kademlia_node.core.session import Session
from kademlia_node.net.attempts import Attempt
from kademlia_node.net.pending import Pending
from kademlia_node.sim import NullSuite
from tests.net.peers import Outcome
from tests.net.test_exchange import STORE

PEER = Contact(b"\x01" * 32, Address("9.9.9.9", 9))
PAIRS: list[tuple[Request, Response]] = [
    (Ping(), Pong()),
    (Identify(), Identified(b"")),
    (FindNode(bytes(32)), Nodes(())),
    (FindValue(bytes(32)), Values((), 0, None, ())),
    (STORE, Stored(StoreStatus.OK)),
    (Probe(), Probed(accepted=True)),
]


def pending(*, last_rid: int = 0) -> tuple[Pending, list[Attempt]]:
    stopped: list[Attempt] = []
    return Pending(last_rid=last_rid, stop=stopped.append), stopped


def session(seed: int) -> Session:
    rng = Random(seed)
    return Session(
        PEER,
        local_sid=rng.randbytes(8),
        remote_sid=rng.randbytes(8),
        keys=TransportKeys(bytes(32), bytes(32), bytes(32)),
        suite=NullSuite(),
        initiated=True,
        capabilities=Capabilities(server=True),
        now=0.0,
    )


def test_rids_count_up_from_one_and_begin_anew_after_the_last() -> None:
    asks, _ = pending(last_rid=RID_MAX - 1)
    rids = [asks.add(PEER, Ping(), on_done=lambda _: None).rid for _ in range(3)]
    assert rids == [RID_MAX, 1, 2]


def test_an_ask_is_found_by_rid_by_packet_and_by_session_until_it_is_finished() -> None:
    asks, stopped = pending()
    outcome, over = Outcome(is_sent=True), session(1)
    ask = asks.add(PEER, Ping(), on_done=outcome.on_done)
    ask.session = over
    attempt = ask.attempt = Attempt(
        transmit=lambda: None,
        give_up=lambda: None,
        on_slow=None,
        sends=1,
        rto_s=1.0,
        slow_s=1.0,
        timeout_s=1.0,
    )
    for counter in (3, 4):
        asks.on_sent(ask, counter)
    assert asks.by_rid(ask.rid) is ask
    assert [asks.in_flight(over.remote_sid, counter, PEER.address) for counter in (2, 3, 4)] == [
        None,
        ask,
        ask,
    ]
    elsewhere = PEER.address._replace(port=PEER.address.port + 1)
    assert asks.in_flight(over.remote_sid, 3, elsewhere) is None
    assert asks.over(over) == [ask]
    assert asks.over(session(2)) == []
    asks.finish(ask, Pong())
    asks.finish(ask, None)
    assert outcome.answers == [Pong()]
    assert stopped == [attempt]
    assert asks.by_rid(ask.rid) is None
    assert asks.in_flight(over.remote_sid, 3, PEER.address) is None
    assert asks.over(over) == []


def test_a_grounded_ask_still_waits_for_its_answer() -> None:
    asks, _ = pending()
    outcome, over = Outcome(is_sent=True), session(1)
    ask = asks.add(PEER, Ping(), on_done=outcome.on_done)
    ask.session = over
    asks.on_sent(ask, 0)
    asks.ground(ask)
    assert asks.over(over) == []
    assert asks.in_flight(over.remote_sid, 0, PEER.address) is None
    assert asks.by_rid(ask.rid) is ask
    asks.finish_all()
    assert outcome.answers == [None]


@pytest.mark.parametrize(("request_", "response"), PAIRS)
def test_only_its_own_kind_of_response_or_a_refusal_answers_a_request(
    request_: Request, response: Response
) -> None:
    asks, _ = pending()
    refusal = Refused(ErrorCode.BUSY, "later")
    for answer in [refusal, *(other for _, other in PAIRS)]:
        outcome = Outcome(is_sent=True)
        asks.finish(asks.add(PEER, request_, on_done=outcome.on_done), answer)
        assert outcome.answers == [answer if answer in {refusal, response} else None]
