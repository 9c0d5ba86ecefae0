"""Requests that one node answers over loopback, beside the floor: echoes that only send back.

Whoever answers has a process of its own (`answering`): a bare DatagramProtocol, an aioudp server,
and a whole node, all on uvloop where it is installed. The node's table is filled by nodes in one
more process, which have nothing to do, and by the asker, which is a server, too. This process asks,
keeps `at_once` requests under way, and has one session with the node, by a real exchange.

CPU is that of the answering process alone: it tells its own, and how many requests it has served,
before the first request and after the last answer. `busy` and `asker_busy` are the shares of that
time in which the one and the other computed. Where the asker is the busier one, `per_s` is what it
can ask, and `cpu_us` what there is to go by; `lean` spares it what an answer does not need.

A node grants one peer `requests_per_peer_per_s`; here one peer asks for all, so the answering node
is set up with a limit that nobody reaches.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Final

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.ids import ID_BYTES
from kademlia_node.core.invite import parse_invite
from kademlia_node.net import loop
from kademlia_node.settings import CONTACTS_PER_ANSWER_MAX
from scripts.benchmarks.answering import HOST, NETWORK, Answering, answering
from scripts.benchmarks.asking import Asking, AskOne, NodeAsker, echo_asker, find_node, ping
from scripts.benchmarks.timing import Figures, spread

ECHO_BYTES: Final = 100
WARM_SHARE: Final = 0.1  # of the time of one measurement, before it
KNOWN_MAX_S: Final = 60.0
FLOOR: Final = "aioudp_echo"  # what the ratios are about

Subject = tuple[Answering, AskOne]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is done; `contacts` are those in the table of the answering node."""

    rounds: int = 3
    seconds: float = 2.0
    at_once: int = 64
    contacts: int = 31
    lean: bool = False


def measure_served(plan: Plan) -> Figures:
    """All of it, the rounds in turn: medians, and ratios within a round with their range."""
    with answering("bare") as bare, answering("aioudp") as aioudp, answering("node") as node:
        invite = node.line()["invite"]
        with answering("crowd", invite, plan.contacts - 1) as crowd:
            crowd.line()
            echoes = {"bare_echo": bare, FLOOR: aioudp}
            rounds = loop.run(_measure(plan, echoes, node, _contact(invite)))
    return {**asdict(plan), "echo_bytes": ECHO_BYTES, **_medians(rounds), **_ratios(rounds)}


def _contact(invite: str) -> Contact:
    parsed = parse_invite(invite)
    assert parsed.public_key is not None
    return Contact(parsed.public_key, Address(parsed.host, parsed.port))


def _medians(rounds: list[dict[str, Figures]]) -> Figures:
    return {
        name: {figure: median(told[name][figure] for told in rounds) for figure in rounds[0][name]}
        for name in rounds[0]
    }


def _ratios(rounds: list[dict[str, Figures]]) -> Figures:
    """Of a node's requests to the echo that runs on what a node opens its socket with."""
    return {
        f"{name}_to_{FLOOR}_{figure}": spread(
            [told[name][figure] / told[FLOOR][figure] for told in rounds]
        )
        for name in ("ping", "find_node")
        for figure in ("per_s", "cpu_us")
    }


async def _measure(
    plan: Plan, echoes: dict[str, Answering], node: Answering, contact: Contact
) -> list[dict[str, Figures]]:
    asker = NodeAsker(contact, network=NETWORK, rng=random.Random(1))
    await asker.open(HOST)
    await _know(node, plan.contacts)
    subjects = dict[str, Subject]()
    for name, echo in echoes.items():
        here = Address(HOST, echo.line()["port"])
        subjects[name] = echo, await echo_asker(here, size=ECHO_BYTES)
    send = asker.send_leanly if plan.lean else asker.send
    targets = partial(random.Random(2).randbytes, ID_BYTES)
    named = min(plan.contacts, CONTACTS_PER_ANSWER_MAX)
    subjects["ping"] = node, partial(ping, send)
    subjects["find_node"] = node, partial(find_node, send, targets, named)
    rounds = [
        {name: await _measured(plan, *subject) for name, subject in subjects.items()}
        for _ in range(plan.rounds)
    ]
    await asker.close()
    return rounds


async def _know(node: Answering, contacts: int) -> None:
    """Until its table is full."""
    try:
        async with asyncio.timeout(KNOWN_MAX_S):
            while node.tell()["contacts"] != contacts:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise SystemExit(f"the node does not know {contacts} others: {node.tell()}") from None


async def _measured(plan: Plan, subject: Answering, ask_one: AskOne) -> Figures:
    """One measurement, after a short one that does not count."""
    await Asking(ask_one).run(plan.seconds * WARM_SHARE, at_once=plan.at_once)
    asking, before = Asking(ask_one), subject.tell()
    began, asker_cpu_s = time.perf_counter(), time.process_time()
    await asking.run(plan.seconds, at_once=plan.at_once)
    took_s, asker_cpu_s = time.perf_counter() - began, time.process_time() - asker_cpu_s
    after = subject.tell()
    served, cpu_s = after["served"] - before["served"], after["cpu_s"] - before["cpu_s"]
    return {
        "per_s": asking.answered / took_s,
        "cpu_us": 1e6 * cpu_s / served,
        "busy": cpu_s / took_s,
        "asker_busy": asker_cpu_s / took_s,
        "served": served,
        "answered": asking.answered,
        "unanswered": asking.unanswered,
    }
