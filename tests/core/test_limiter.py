"""Rate limits: what passes in a burst, in the long run, and once keys are forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.limiter import KeyedLimiter, TokenBucket


def test_a_new_bucket_lets_a_whole_burst_pass_and_no_more() -> None:
    bucket = TokenBucket(10.0, 3.0)
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_tokens_come_back_at_the_rate() -> None:
    bucket = TokenBucket(2.0, 1.0)
    assert bucket.take(0.0)
    assert not bucket.take(0.25)
    assert bucket.take(0.5)
    assert not bucket.take(0.75)


def test_rest_saves_up_no_more_than_a_burst() -> None:
    bucket = TokenBucket(10.0, 2.0)
    assert bucket.take(0.0, 2.0)
    assert bucket.take(1000.0, 2.0)
    assert not bucket.take(1000.0)


def test_a_refused_request_costs_nothing() -> None:
    bucket = TokenBucket(1.0, 5.0)
    assert not bucket.take(0.0, 5.5)
    assert bucket.take(0.0, 5.0)


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0.01, 4)), max_size=60))
def test_no_pattern_of_requests_gets_more_than_burst_and_rate(
    requests: list[tuple[float, float]],
) -> None:
    bucket, now, passed = TokenBucket(2.0, 5.0), 0.0, 0.0
    for pause, amount in requests:
        now += pause
        passed += amount * bucket.take(now, amount)
    assert passed <= 5.0 + 2.0 * now + 1e-6


def test_each_key_has_a_bucket_of_its_own() -> None:
    limiter = KeyedLimiter(1.0, 2.0, keys_max=10)
    assert limiter.take("a", 0.0, amount=2.0)
    assert not limiter.take("a", 0.0)
    assert limiter.take(b"b", 0.0)
    assert limiter.take("a", 1.0)


def test_the_key_unseen_for_longest_is_forgotten_and_begins_full() -> None:
    limiter = KeyedLimiter(1.0, 1.0, keys_max=2)
    for key in "ab":
        assert limiter.take(key, 0.0)
    assert not limiter.take("a", 0.1)  # seen again: b is the oldest now
    assert limiter.take("c", 0.1)
    assert len(limiter) == 2
    assert not limiter.take("a", 0.2)
    assert limiter.take("b", 0.2)


def test_buckets_that_are_full_again_make_room() -> None:
    limiter = KeyedLimiter(1.0, 2.0, keys_max=10)
    assert limiter.take("a", 0.0)
    assert limiter.take("b", 0.5, amount=2.0)
    assert limiter.take("c", 2.0)  # a is full by now; b will be in half a second
    assert len(limiter) == 2
    assert not limiter.take("b", 2.0, amount=2.0)
    assert limiter.take("d", 4.0)
    assert len(limiter) == 1


def test_a_rate_of_zero_lets_nobody_pass() -> None:
    limiter = KeyedLimiter(0.0, 0.0, keys_max=10)
    assert [limiter.take(key, now) for key, now in (("a", 0.0), ("b", 1.0), ("a", 99.0))] == [
        False,
        False,
        False,
    ]


def test_a_flood_of_keys_leaves_memory_bounded() -> None:
    limiter = KeyedLimiter(1.0, 1.0, keys_max=100)
    for key in range(10_000):
        limiter.take(key, 0.0)
    assert len(limiter) == 100
