from __future__ import annotations

import statistics
from collections import Counter
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.contact import Address
from kademlia_node.sim.latency import (
    HOME_RTT_S,
    LATENCIES,
    REGION_RTT_S,
    AsymmetricLatency,
    FixedLatency,
    LogNormalLatency,
    Region,
    RegionLatency,
)

HOSTS = [f"2.{n // 250}.{n % 250}.1" for n in range(2000)]
A, B, C = Address("1.0.0.1", 1), Address("1.0.1.1", 2), Address("1.0.2.1", 3)


def test_fixed_latency_is_the_same_for_all() -> None:
    assert FixedLatency(0.1)(A, B) == FixedLatency(0.1)(B, C) == 0.1


def test_log_normal_latency_is_fixed_per_pair_in_both_directions() -> None:
    latency = LogNormalLatency(7)
    assert latency(A, B) == latency(B, A) == LogNormalLatency(7)(A, B)
    assert len({latency(A, B), latency(B, C), latency(C, A)}) == 3
    assert latency(A, B) != LogNormalLatency(8)(A, B)


def test_log_normal_latency_has_the_distribution_of_its_model() -> None:
    latency = LogNormalLatency(7)
    hub = Address("1.0.0.1", 4000)
    rtts = [2 * latency(hub, Address(host, 4000)) for host in HOSTS]
    assert statistics.median(rtts) == pytest.approx(0.156, rel=0.05)
    assert statistics.mean(rtts) == pytest.approx(0.178, rel=0.05)
    assert statistics.quantiles(rtts, n=10)[-1] == pytest.approx(0.301, rel=0.07)


def test_every_two_regions_have_a_round_trip_of_their_own() -> None:
    assert len(REGION_RTT_S) == len(Region) * (len(Region) - 1) / 2
    assert {len(pair) for pair in REGION_RTT_S} == {2}
    assert len(set(REGION_RTT_S.values())) == len(REGION_RTT_S)
    assert min(REGION_RTT_S.values()) > HOME_RTT_S


def test_regions_have_equal_shares_of_the_hosts() -> None:
    latency = RegionLatency(7)
    shares = Counter(map(latency.region, HOSTS))
    assert all(shares[region] == pytest.approx(400, rel=0.15) for region in Region)
    assert [RegionLatency(7).region(host) for host in HOSTS] == list(map(latency.region, HOSTS))
    assert [RegionLatency(8).region(host) for host in HOSTS] != list(map(latency.region, HOSTS))


def test_region_latency_is_half_of_what_the_matrix_says() -> None:
    latency = RegionLatency(7)
    stands = {latency.region(host): Address(host, 1) for host in HOSTS}
    for here, there in product(Region, Region):
        rtt_s = HOME_RTT_S if here is there else REGION_RTT_S[frozenset({here, there})]
        assert latency(stands[here], stands[there]) == rtt_s / 2


@given(
    skew=st.floats(0.0, 1.0),
    seed=st.integers(0, 1000),
    number=st.integers(0, len(HOSTS) - 2),
)
def test_asymmetric_latency_keeps_the_round_trip(skew: float, seed: int, number: int) -> None:
    model = LogNormalLatency(3)
    latency = AsymmetricLatency(model, seed, skew=skew)
    here, there = Address(HOSTS[number], 1), Address(HOSTS[number + 1], 1)
    one_way_s, back_s = latency(here, there), latency(there, here)
    rtt_s = 2 * model(here, there)
    assert one_way_s + back_s == pytest.approx(rtt_s)
    assert abs(one_way_s - back_s) <= skew * rtt_s + 1e-9
    assert min(one_way_s, back_s) >= 0.0


def test_asymmetry_differs_from_pair_to_pair_and_reaches_its_skew() -> None:
    latency = AsymmetricLatency(FixedLatency(0.1), 7, skew=0.5)
    delays = [latency(A, Address(host, 1)) for host in HOSTS]
    assert len(set(delays)) == len(HOSTS)
    assert min(delays) == pytest.approx(0.05, rel=0.05)
    assert max(delays) == pytest.approx(0.15, rel=0.05)
    assert latency(A, B) != AsymmetricLatency(FixedLatency(0.1), 8, skew=0.5)(A, B)


@pytest.mark.parametrize("name", LATENCIES)
def test_a_model_made_by_its_name_depends_on_the_seed_alone(name: str) -> None:
    def delays(seed: int) -> list[float]:
        model = LATENCIES[name](seed)
        return [model(A, Address(host, 1)) for host in HOSTS[:50]]

    assert delays(7) == delays(7)
    assert min(delays(7)) > 0.0
    is_drawn = name not in {"lan", "wan"}
    assert (delays(7) != delays(8)) == (len(set(delays(7))) > 1) == is_drawn


def test_the_names_say_what_the_models_are() -> None:
    models = {name: make(7) for name, make in LATENCIES.items()}
    assert models["k"] == LogNormalLatency(7)
    assert models["w"] == RegionLatency(7)
    assert models["skewed"] == AsymmetricLatency(LogNormalLatency(7), 7)
    assert 2 * models["lan"](A, B) <= 0.001
    assert 2 * models["wan"](A, B) == pytest.approx(0.156)  # the median of model K
