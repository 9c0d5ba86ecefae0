"""What a program may pass to a node, and with which words the rest is refused."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from kademlia_node.core.invite import Invite, key_text
from kademlia_node.core.network import Network
from kademlia_node.errors import ValueTooLarge
from kademlia_node.node.node import Node
from kademlia_node.settings import INLINE_BYTES_MAX, VALUE_BYTES_MAX
from tests.node.network import Neighbourhood, contact_of


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x" * INLINE_BYTES_MAX,
        b"x" * (INLINE_BYTES_MAX + 1),
        b"x" * VALUE_BYTES_MAX,
        bytearray(b"y"),
        memoryview(b"z"),
    ],
    ids=["none", "inline", "just too long for that", "the longest", "bytearray", "memoryview"],
)
async def test_values_are_bytes_up_to_64_kib(value: bytes) -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        receipt = await node.put(value)
        assert await node.get(receipt.key) == bytes(value)
        assert isinstance(await node.get(receipt.key), bytes)


@pytest.mark.parametrize("slot", ["", "x" * 64, "ü" * 32, "a/b?\n"])
async def test_names_are_text_up_to_64_bytes(slot: str) -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        await node.set(slot, b"blue")
        assert await node.get(slot) == b"blue"


BAD_CALLS: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "a text as value": (
        lambda node: node.put("text"),
        TypeError,
        r"bytes, not str: .*value\.encode\(\)",
    ),
    "one value for many": (lambda node: node.put_many(b"abc"), TypeError, "list of them, not one"),
    "one name for many": (
        lambda node: node.get_many("abc"),
        TypeError,
        "list of them, not one str",
    ),
    "a number as value": (lambda node: node.set("n", 7), TypeError, "bytes, not int$"),
    "a long value": (
        lambda node: node.put(bytes(65537)),
        ValueTooLarge,
        "65537 bytes; at most 65536",
    ),
    "a long announcement": (
        lambda node: node.announce("t", bytes(65537)),
        ValueTooLarge,
        "65537 bytes",
    ),
    "bytes as name": (lambda node: node.get(b"name"), TypeError, "a name is text, not bytes"),
    "a long name": (lambda node: node.set("ü" * 33, b""), ValueError, "66 bytes; at most 64"),
    "a long slot": (lambda node: node.announce("t", b"", slot="x" * 65), ValueError, "65 bytes"),
    "bytes as topic": (lambda node: node.announce(b"t", b""), TypeError, "a topic is text"),
    "a short author": (lambda node: node.get("n", author=b"x"), ValueError, "32 bytes, not 1"),
    "no key as author": (lambda node: node.get("n", author="x"), ValueError, "no public key"),
    "a number as author": (lambda node: node.get("n", author=7), TypeError, "an invite, not int"),
    "an author without a key": (
        lambda node: node.get("n", author=Invite(None, "h", 1)),
        ValueError,
        "h:1 does not say whose key",
    ),
    "two authors": (
        lambda node: node.get("n", author=bytes(32), own=True),
        ValueError,
        "either an author or own",
    ),
    "a negative seq": (
        lambda node: node.set("n", b"", expect_seq=-1),
        ValueError,
        "fits in 64 bits, not -1",
    ),
    "a seq too large": (
        lambda node: node.set("n", b"", expect_seq=1 << 64),
        ValueError,
        "fits in 64 bits",
    ),
    "a text as seq": (lambda node: node.set("n", b"", expect_seq="1"), TypeError, "not str"),
    "no acks": (lambda node: node.put(b"", acks=0), ValueError, "acks is between 1 and 60, not 0"),
    "too many acks": (lambda node: node.set("n", b"", acks=61), ValueError, "acks .*, not 61"),
    "a text as acks": (
        lambda node: node.announce("t", b"", acks="2"),
        TypeError,
        "acks is a whole number, not str",
    ),
    "no reads": (lambda node: node.get("n", reads=0), ValueError, "reads is between 1 and 60"),
    "a text as reads": (lambda node: node.get("n", reads="2"), TypeError, "reads is .* not str"),
    "a name to forget": (
        lambda node: node.forget(node.key_of("n")),
        ValueError,
        "only a blob is forgotten; what has an author is withdrawn",
    ),
    "a short target": (lambda node: node.lookup(b"x"), ValueError, "a key or 32 bytes, not 1"),
    "a text as target": (lambda node: node.lookup("x" * 32), TypeError, "a key or bytes, not str"),
    "a slot to a name": (
        lambda node: node.withdraw("n", slot="s"),
        ValueError,
        "a slot goes with a topic",
    ),
    "an own topic": (
        lambda node: node.withdraw(topic="t", own=True),
        ValueError,
        "own goes with a name",
    ),
    "our own contact": (
        lambda node: node.ping(contact_of(node)),
        ValueError,
        "that is this node",
    ),
    "our own invite": (lambda node: node.ping(node.invite), ValueError, "that is this node"),
    "our own address": (lambda node: node.ping(str(node.address)), ValueError, "this node"),
    "nothing to withdraw": (lambda node: node.withdraw(), ValueError, "either a name or a topic"),
    "too much to withdraw": (
        lambda node: node.withdraw("n", topic="t"),
        ValueError,
        "either a name or a topic",
    ),
}


@pytest.mark.parametrize("call", BAD_CALLS)
async def test_a_bad_argument_is_refused_with_a_word_on_what_to_do(call: str) -> None:
    verb, error, message = BAD_CALLS[call]
    async with Neighbourhood() as here:
        node = await here.start()
        with pytest.raises(error, match=message):
            await verb(node)


def test_a_bad_invite_is_refused_before_anything_starts() -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        Node(bootstrap=["nowhere"], rng=Random(1))


@pytest.mark.parametrize("hint", ["10.0.0.7:4000", Invite(None, "10.0.0.7", 4000)])
def test_a_single_bootstrap_address_is_to_be_a_list(hint: Any) -> None:
    with pytest.raises(TypeError, match=r"give a list .* as in \['10\.0\.0\.7:4000'\]"):
        Node(bootstrap=hint)


def test_a_network_secret_is_bytes() -> None:
    secret: Any = "x" * 32
    with pytest.raises(TypeError, match="secret is bytes, not str"):
        Network.private(secret)


async def test_a_text_is_a_name_even_if_it_spells_a_key() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        key = (await node.put(b"blob")).key
        assert await node.get(str(key), default=None) is None
        await node.set(str(key), b"name")
        assert (await node.get(key), await node.get(str(key))) == (b"blob", b"name")


async def test_an_author_may_be_a_key_its_text_or_an_invite() -> None:
    async with Neighbourhood() as here:
        alice, bob = await here.grow(2)
        await alice.set("colour", b"blue", own=True)
        text, invite = key_text(alice.public_key), alice.invite
        for author in (alice.public_key, text, invite, str(invite)):
            assert await bob.get("colour", author=author) == b"blue"
        assert await alice.get("colour", own=True) == b"blue"
        assert await bob.get("colour", own=True, default=None) is None
        assert alice.key_of("colour", own=True) == bob.key_of("colour", author=text)


async def test_the_topic_to_find_is_text() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        topic: Any = b"cars"
        with pytest.raises(TypeError, match="a topic is text"):
            node.find(topic)
