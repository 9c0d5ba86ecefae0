"""What holders show: believed when it verifies, and enough when so many agree."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kademlia_node.core.key import Key
from kademlia_node.core.message import FindValue, Item, Request, Response, Values
from kademlia_node.core.record import Record, make_topic_entry
from kademlia_node.errors import NotAgreed
from kademlia_node.node.receipt import StepOutcome
from kademlia_node.settings import Settings
from tests.node.network import (
    DAY,
    PRIVATE,
    Neighbourhood,
    Puppet,
    commons_entry,
    nearest,
)


def showing(*records: Record, count: int | None = None) -> Callable[[Request], Response | None]:
    items = tuple(Item(record.header, record.value) for record in records)
    answer = Values((), len(items) if count is None else count, None, items)

    def say(request: Request) -> Response | None:
        return answer if isinstance(request, FindValue) else None

    return say


async def grown(here: Neighbourhood) -> tuple[list[Puppet], Key]:
    """Nine puppets, the nearest to a name first, and the name's key."""
    puppets = await here.grow_puppets(9)
    key = puppets[0].key_of("colour")
    return nearest(key, puppets), key


def version(here: Neighbourhood, value: bytes, *, seq: int) -> Record:
    return commons_entry("colour", value, seq=seq, expires=here.sim.wall() + DAY)


async def test_the_highest_version_that_anybody_shows_is_taken() -> None:
    async with Neighbourhood() as here:
        puppets, _ = await grown(here)
        for puppet, seq in zip(puppets, [3, 1, 2, 7, 5, 4, 6, 2, 1], strict=True):
            puppet.answer = showing(version(here, b"%d" % seq, seq=seq))
        reader = await here.start(server=False)
        assert await reader.get("colour") == b"7"


async def test_of_one_version_the_longer_lived_is_taken() -> None:
    async with Neighbourhood() as here:
        puppets, _ = await grown(here)
        first = version(here, b"blue", seq=1)
        renewed = commons_entry("colour", b"blue", seq=1, expires=here.sim.wall() + 2 * DAY)
        for number, puppet in enumerate(puppets):
            puppet.answer = showing(renewed if number == 1 else first)
        reader = await here.start(server=False, settings=Settings(paths=1, parallel=1))
        record, trace = await reader.get_record("colour")
        assert record == renewed
        assert trace.count(StepOutcome.VALUE) == 3  # they agree on the version


async def test_one_false_record_makes_the_whole_answer_a_bad_one() -> None:
    async with Neighbourhood() as here:
        puppets, key = await grown(here)
        true = version(here, b"blue", seq=1)
        forged = commons_entry("other", b"red", seq=9, expires=here.sim.wall() + DAY)
        puppets[0].answer = showing(true, forged)
        for puppet in puppets[1:4]:
            puppet.answer = showing(true)
        reader = await here.start(server=False)
        with pytest.raises(NotAgreed) as raised:
            await reader.get_record("colour", reads=5)
        record, trace = raised.value.record, raised.value.trace
        assert record == true
        outcomes = {step.contact.id: step.outcome for step in trace.steps}
        assert outcomes[puppets[0].id] is StepOutcome.BAD
        assert (await reader.status()).counters["bad_record_reader_wrong_key"] == 1
        assert record.key == key.digest


async def test_what_has_expired_is_no_lie() -> None:
    async with Neighbourhood() as here:
        puppets, _ = await grown(here)
        old = commons_entry("colour", b"blue", seq=1, expires=here.sim.wall() - 1)
        puppets[0].answer = showing(old)
        reader = await here.start(server=False)
        record, trace = await reader.get_record("colour")
        assert record is None
        assert trace.count(StepOutcome.BAD) == 0
        assert (await reader.status()).counters["bad_record_reader_expired"] == 1


async def test_records_of_another_kind_under_the_key_are_passed_over() -> None:
    async with Neighbourhood() as here:
        puppets, key = await grown(here)
        squatter = make_topic_entry(
            here.new_identity().signing,
            key.digest,
            slot=b"",
            value=b"red",
            seq=9,
            expires=int(here.sim.wall() + DAY),
            network_tag=PRIVATE.tag,
        )
        true = version(here, b"blue", seq=1)
        for puppet in puppets:
            puppet.answer = showing(squatter, true)
        reader = await here.start(server=False)
        record, trace = await reader.get_record("colour")
        assert record == true
        assert trace.count(StepOutcome.BAD) == 0
        for puppet in puppets:
            puppet.answer = showing(squatter)
        other = await here.start(server=False)
        record, trace = await other.get_record("colour")
        assert record is None
        assert trace.count(StepOutcome.CLOSER) == len(puppets)


async def test_an_answer_that_is_not_complete_agrees_with_nobody() -> None:
    async with Neighbourhood(settings=Settings(paths=1, parallel=1)) as here:
        puppets, _ = await grown(here)
        true = version(here, b"blue", seq=1)
        for puppet in puppets:
            puppet.answer = showing(true, count=2)
        reader = await here.start(server=False)
        record, trace = await reader.get_record("colour")
        assert record == true
        assert len(trace.steps) == len(puppets)


async def test_what_a_reader_holds_itself_counts_as_one_of_those_that_agree() -> None:
    async with Neighbourhood(settings=Settings(paths=1, parallel=1)) as here:
        await here.grow(9)
        key = (await here.nodes[0].set("colour", b"blue")).key
        holder = nearest(key, here.nodes)[0]
        record, trace = await holder.get_record("colour", reads=1)
        assert record is not None
        assert trace.requests == 0
        _, trace = await holder.get_record("colour", reads=2)
        assert trace.count(StepOutcome.VALUE) == 1
