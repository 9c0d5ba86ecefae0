"""What walks have taught: whole subtrees, holders of keys, and for how long both are believed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.ids import point
from kademlia_node.core.neighbourhood import Found, Neighbourhoods, on_two_paths

K = 4
KEY = bytes(32)
EVERYBODY = [Contact(bytes([number]) * 32, Address("10.0.0.1", number)) for number in range(1, 65)]


def nearest(target: bytes, count: int = len(EVERYBODY)) -> list[Contact]:
    return sorted(EVERYBODY, key=lambda contact: contact.point ^ point(target))[:count]


def key_at(contact: Contact) -> bytes:
    """The key that a contact is right at."""
    return contact.point.to_bytes(32, "big")


def new_memory(*, memories_max: int = 8, lifetime_s: float = 600) -> Neighbourhoods:
    return Neighbourhoods(memories_max=memories_max, lifetime_s=lifetime_s)


def walk(memory: Neighbourhoods, target: bytes, *, count: int = K, now: float = 0) -> None:
    memory.on_walk(
        target, nearest(target, count), k=K, path_of=lambda contact: contact.address.port, now=now
    )


def near(
    memory: Neighbourhoods, key: bytes, *, count_min: int = 1, reach: int = 0, now: float = 0
) -> list[Contact]:
    found = memory.near(key, count_min=count_min, reach=reach, now=now)
    return [one.contact for one in found]


# --- Subtrees ---------------------------------------------------------------------------------


@given(target=st.binary(min_size=32, max_size=32), key=st.binary(min_size=32, max_size=32))
def test_what_is_near_after_a_walk_is_truly_nearest(target: bytes, key: bytes) -> None:
    memory = new_memory()
    walk(memory, target)
    found = near(memory, key)
    assert found == nearest(key, len(found))


@given(target=st.binary(min_size=32, max_size=32))
def test_a_walk_teaches_its_own_target_all_but_the_farthest_at_most(target: bytes) -> None:
    memory = new_memory()
    walk(memory, target)
    assert near(memory, target) in [nearest(target, count) for count in range(K)]


def test_who_was_found_comes_with_its_path() -> None:
    memory = new_memory()
    walk(memory, KEY, count=2)
    found = memory.near(KEY, count_min=1, reach=0, now=0)
    assert found == [Found(contact, contact.address.port) for contact in nearest(KEY, 2)]


def test_the_farthest_of_a_walk_is_left_out_since_its_neighbours_are_unknown() -> None:
    memory = new_memory()
    walk(memory, KEY)
    assert nearest(KEY, K)[-1] not in near(memory, KEY)


def test_fewer_than_k_are_the_whole_network_for_any_key() -> None:
    memory = new_memory()
    walk(memory, KEY, count=K - 1)
    far = bytes([255]) * 32
    assert set(near(memory, far, count_min=K)) == set(nearest(KEY, K - 1))
    whole = near(memory, far)
    assert whole == sorted(whole, key=lambda contact: contact.point ^ point(far))


def test_a_whole_network_of_nobody_is_nobody() -> None:
    memory = new_memory()
    walk(memory, KEY, count=0)
    assert near(memory, KEY) == []


def test_who_is_asked_for_more_than_a_subtree_holds_is_told_nothing() -> None:
    memory = new_memory()
    walk(memory, KEY)
    held = len(near(memory, KEY))
    assert held > 0
    assert len(near(memory, KEY, count_min=held)) == held
    assert near(memory, KEY, count_min=held + 1) == []


def test_a_subtree_says_nothing_beyond_its_width() -> None:
    memory = new_memory()
    walk(memory, KEY)
    height = (nearest(KEY, K)[-1].point ^ point(KEY)).bit_length() - 1
    assert near(memory, KEY, reach=(1 << height) - 1)
    assert near(memory, KEY, reach=1 << height) == []


def test_a_key_outside_of_every_subtree_has_nobody_near() -> None:
    memory = new_memory()
    walk(memory, KEY)
    opposite = (point(KEY) ^ (1 << 255)).to_bytes(32, "big")
    assert near(memory, opposite) == []


def test_the_smallest_subtree_that_suffices_is_taken() -> None:
    memory = new_memory()
    target = key_at(nearest(KEY)[0])
    walk(memory, target, count=K)
    small = near(memory, target)
    walk(memory, target, count=2)  # the whole network, it seems
    assert near(memory, target, count_min=len(small)) == small
    assert near(memory, target, count_min=len(small) + 1) == nearest(target, 2)


def test_k_nodes_at_one_point_make_no_subtree() -> None:
    memory = new_memory()
    contact = EVERYBODY[0]
    memory.on_walk(key_at(contact), [contact] * K, k=K, path_of=lambda _: 0, now=0)
    assert near(memory, key_at(contact)) == [contact] * K
    assert near(memory, KEY) == []


# --- Holders ----------------------------------------------------------------------------------


def test_holders_are_told_in_the_order_in_which_they_were_seen() -> None:
    memory = new_memory()
    seen = [Found(EVERYBODY[2], 1), Found(EVERYBODY[0], 0)]
    memory.on_holders(KEY, seen, now=0)
    assert memory.holders(KEY, now=0) == seen
    assert memory.holders(bytes([1]) * 32, now=0) == []
    assert near(memory, KEY) == []  # they do not tell who else should hold it


def test_the_holders_seen_last_count() -> None:
    memory = new_memory()
    memory.on_holders(KEY, [Found(EVERYBODY[0], 0)], now=0)
    memory.on_holders(KEY, [Found(EVERYBODY[1], 0)], now=1)
    assert memory.holders(KEY, now=1) == [Found(EVERYBODY[1], 0)]


# --- Forgetting -------------------------------------------------------------------------------


def test_nothing_is_believed_for_longer_than_its_lifetime() -> None:
    memory = new_memory(lifetime_s=600)
    walk(memory, KEY, now=100)
    memory.on_holders(KEY, [Found(EVERYBODY[0], 0)], now=100)
    assert near(memory, KEY, now=699)
    assert memory.holders(KEY, now=699)
    assert near(memory, KEY, now=700) == []
    assert memory.holders(KEY, now=700) == []


def test_the_oldest_is_forgotten_when_there_are_too_many() -> None:
    memory = new_memory(memories_max=2)
    keys = [bytes([number]) * 32 for number in (0, 100, 200)]
    for key in keys[:2]:
        memory.on_holders(key, [Found(EVERYBODY[0], 0)], now=0)
    memory.on_holders(keys[0], [Found(EVERYBODY[1], 0)], now=1)  # seen again: no longer the oldest
    memory.on_holders(keys[2], [Found(EVERYBODY[0], 0)], now=2)
    assert [bool(memory.holders(key, now=2)) for key in keys] == [True, False, True]


def test_subtrees_are_few_too() -> None:
    memory = new_memory(memories_max=1)
    walk(memory, KEY)
    other = (point(KEY) ^ (1 << 255)).to_bytes(32, "big")
    walk(memory, other)
    assert near(memory, KEY) == []
    assert near(memory, other)


def test_what_proved_wrong_is_forgotten_and_nothing_else() -> None:
    memory = new_memory()
    other = (point(KEY) ^ (1 << 255)).to_bytes(32, "big")
    for key in (KEY, other):
        walk(memory, key)
        memory.on_holders(key, [Found(EVERYBODY[0], 0)], now=0)
    memory.forget(KEY)
    assert near(memory, KEY) == []
    assert memory.holders(KEY, now=0) == []
    assert near(memory, other)
    assert memory.holders(other, now=0)
    memory.forget(KEY)  # twice does no harm


# --- Two paths --------------------------------------------------------------------------------


def on_paths(*paths: int) -> list[Found]:
    return [Found(contact, path) for contact, path in zip(EVERYBODY, paths, strict=False)]


def test_the_first_to_be_asked_are_on_two_paths() -> None:
    one, two, three, four = found = on_paths(0, 0, 0, 1)
    assert on_two_paths(found, 2) == [one, four, two, three]
    assert on_two_paths(found, 3) == [one, two, four, three]


def test_an_order_that_is_on_two_paths_stays() -> None:
    found = on_paths(0, 1, 0)
    assert on_two_paths(found, 2) == found


def test_where_there_is_one_path_or_one_to_ask_the_order_stays() -> None:
    for found, count in [(on_paths(0, 0, 0), 2), (on_paths(0, 1), 1), ([], 3)]:
        assert on_two_paths(found, count) == found
