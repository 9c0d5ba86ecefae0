"""Round-trip estimates: RFC 6298 for one peer, quantiles of all peers as the prior."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.rtt import (
    RttEstimator,
    RttHistory,
    initial_rto,
    learn,
    soft_timeout,
    usual_sends,
)
from kademlia_node.settings import Settings

SETTINGS = Settings()
rtts = st.floats(0.0001, 2.5)


def history_of(*samples: float, size: int = 128) -> RttHistory:
    history = RttHistory(size)
    for rtt in samples:
        history.on_sample(rtt)
    return history


def test_the_first_sample_gives_three_times_itself() -> None:
    estimator = RttEstimator()
    estimator.on_sample(0.100)
    assert estimator.srtt_s == 0.100
    assert estimator.rto(RttHistory(8), SETTINGS) == pytest.approx(0.300)


def test_further_samples_are_smoothed_as_in_rfc_6298() -> None:
    estimator = RttEstimator()
    estimator.on_sample(0.100)
    estimator.on_sample(0.200)
    variation = 0.75 * 0.050 + 0.25 * 0.100
    assert estimator.srtt_s == pytest.approx(0.1125)
    assert estimator.rto(RttHistory(8), SETTINGS) == pytest.approx(0.1125 + 4 * variation)


def test_a_peer_that_never_varies_keeps_the_smallest_slack() -> None:
    estimator = RttEstimator()
    for _ in range(100):
        estimator.on_sample(0.050)
    assert estimator.rto(RttHistory(8), SETTINGS) == pytest.approx(0.050 + SETTINGS.rto_min_s)


def test_a_repeat_never_waits_longer_than_a_request_may_take() -> None:
    estimator = RttEstimator()
    estimator.on_sample(2.4)
    assert estimator.rto(RttHistory(8), SETTINGS) == SETTINGS.timeout_s


def test_after_a_repeat_the_next_request_waits_twice_as_long_until_one_is_sent_once() -> None:
    estimator, history = RttEstimator(), RttHistory(128)
    learn(estimator, history, 0.1, sendings=1)
    once = estimator.rto(history, SETTINGS)
    learn(estimator, history, 0.5, sendings=2)
    learn(estimator, history, 0.5, sendings=3)
    assert estimator.rto(history, SETTINGS) == 4 * once
    assert len(history) == 1
    learn(estimator, history, 0.1, sendings=1)
    assert estimator.rto(history, SETTINGS) <= once
    for _ in range(50):
        learn(estimator, history, 0.1, sendings=2)
    assert estimator.rto(history, SETTINGS) == SETTINGS.timeout_s


def test_answers_are_lost_as_long_as_too_little_is_known_and_where_many_take_repeats() -> None:
    history = RttHistory(100)
    for _ in range(SETTINGS.rtt_samples_min):
        assert history.is_lossy(SETTINGS)
        assert usual_sends(history, SETTINGS) == SETTINGS.sends_max
        learn(RttEstimator(), history, 0.1, sendings=1)
    assert not history.is_lossy(SETTINGS)
    assert usual_sends(history, SETTINGS) == SETTINGS.sends_few
    for sendings in [2, 3, *[1] * 98]:
        assert history.is_lossy(SETTINGS) or sendings > 1
        learn(RttEstimator(), history, 0.1, sendings=sendings)
    assert history.is_lossy(SETTINGS)  # two of a hundred
    learn(RttEstimator(), history, 0.1, sendings=1)
    assert not history.is_lossy(SETTINGS)  # the first of them is forgotten


def test_an_unknown_peer_is_taken_to_be_like_the_others() -> None:
    history = history_of(*[0.020] * 20)
    assert RttEstimator().rto(history, SETTINGS) == initial_rto(history, SETTINGS)
    assert initial_rto(history, SETTINGS) == pytest.approx(0.040)


@pytest.mark.parametrize("known", [0, SETTINGS.rtt_samples_min - 1])
def test_a_handful_of_samples_says_nothing_about_strangers(known: int) -> None:
    history = history_of(*[0.020] * known)
    assert initial_rto(history, SETTINGS) == SETTINGS.rto_initial_s
    assert soft_timeout(history, SETTINGS) == SETTINGS.rto_initial_s


def test_as_many_samples_as_needed_are_enough() -> None:
    history = history_of(*[0.020] * SETTINGS.rtt_samples_min)
    assert initial_rto(history, SETTINGS) == pytest.approx(0.040)
    assert soft_timeout(history, SETTINGS) == pytest.approx(0.020)


def test_the_prior_stays_between_its_bounds() -> None:
    fast, slow = history_of(*[0.0001] * 9), history_of(*[2.0] * 9)
    assert initial_rto(fast, SETTINGS) == SETTINGS.rto_min_s
    assert initial_rto(slow, SETTINGS) == SETTINGS.rto_initial_s
    assert soft_timeout(fast, SETTINGS) == SETTINGS.rto_min_s
    assert soft_timeout(slow, SETTINGS) == 2.0
    assert soft_timeout(history_of(*[9.0] * 9), SETTINGS) == SETTINGS.timeout_s


def test_the_soft_timeout_is_the_ninetieth_percentile() -> None:
    history = history_of(*[0.020] * 9, 1.0)
    assert soft_timeout(history, SETTINGS) == 0.020
    history.on_sample(1.0)
    assert soft_timeout(history, SETTINGS) == 1.0


@given(st.lists(rtts, min_size=1, max_size=50), st.floats(0.001, 1.0), st.integers(1, 20))
def test_quantiles_cover_the_newest_samples_only(samples: list[float], q: float, size: int) -> None:
    history = history_of(*samples, size=size)
    newest = sorted(samples[-size:])
    assert len(history) == len(newest)
    assert history.quantile(q) == newest[math.ceil(q * len(newest)) - 1]


@given(st.lists(rtts, min_size=1, max_size=50))
def test_the_estimate_stays_within_what_was_measured(samples: list[float]) -> None:
    estimator = RttEstimator()
    for rtt in samples:
        estimator.on_sample(rtt)
    assert estimator.srtt_s is not None
    assert min(samples) - 1e-9 <= estimator.srtt_s <= max(samples) + 1e-9
    assert estimator.rto(RttHistory(8), SETTINGS) > min(samples) - 1e-9
