"""The benchmarks of single parts run, in small, and measure what they say they do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.test_scripts import figures

pytestmark = pytest.mark.net  # starts processes, which virtual time cannot wait for

QUICK = ("--repeats=3", "--seconds=0.001")


def timed(told: dict[str, Any]) -> set[str]:
    """The operations that were timed, each in three repeats that took some time."""
    operations = {name for name, figure in told.items() if isinstance(figure, dict)}
    for name in operations:
        assert 0 < told[name]["best_us"] <= told[name]["median_us"], name
    return operations


def test_the_codec_bench_encodes_and_decodes_each_message() -> None:
    told = figures("benchmarks", "codec", *QUICK)
    messages = {"ping", "pong", "find_node", "nodes", "store", "stored", "find_value", "values"}
    both = {f"{message}_{way}" for message in messages for way in ("encode", "decode")}
    assert timed(told) == both | {"nodes_decode_unseen"}
    assert told["nodes_bytes"] > 20 * 38
    assert told["values_bytes"] > told["nodes_bytes"] + 100
    assert 100 + 46 < told["store_bytes"] < 300


def test_the_session_bench_seals_opens_shakes_hands_and_signs() -> None:
    told = figures("benchmarks", "session", *QUICK)
    sealing = {f"{way}_{size}" for way in ("seal", "open", "seal_open") for size in (64, 400, 1000)}
    assert timed(told) == sealing | {"handshake", "sign", "verify"}


def test_the_routing_bench_measures_a_table_that_has_heard_of_many() -> None:
    told = figures("benchmarks", "routing", "--contacts=500", *QUICK)
    operations = {"closest", "add_known", "add_newcomer", "due_checks", "due_checks_all_due"}
    assert timed(told) == operations
    assert told["contacts"] == 500
    assert 128 + 64 + 32 < told["held"] < 500
    assert (told["due_checks"]["due"], told["due_checks_all_due"]["due"]) == (0, 8)


def test_the_lookup_bench_finds_the_nearest_there_are() -> None:
    told = figures("benchmarks", "lookup", "--nodes=100", *QUICK)
    assert timed(told) == {"answer", "lookup"}
    assert told["exact"] == 1.0
    assert 20 <= told["answers_mean"] < 99
    in_all = told["answer"]["best_us"] * told["answers_mean"]
    assert in_all == pytest.approx(told["lookup"]["best_us"])


@pytest.mark.parametrize("lean", [(), ("--lean",)])
def test_the_served_bench_counts_what_a_node_and_the_echoes_have_answered(
    lean: tuple[str, ...],
) -> None:
    sizes = ("--rounds=2", "--seconds=0.2", "--at-once=8", "--contacts=4")
    told = figures("benchmarks", "served", *sizes, *lean)
    assert (told["contacts"], told["lean"]) == (4, bool(lean))
    for name in ("bare_echo", "aioudp_echo", "ping", "find_node"):
        subject = told[name]
        assert subject["served"] >= subject["answered"] >= 8, name
        assert subject["unanswered"] == 0, name
        assert subject["per_s"] > 0, name
        assert subject["cpu_us"] > 0, name
        assert subject["busy"] > 0, name
        assert subject["asker_busy"] > 0, name
    for name in ("ping", "find_node"):
        for figure in ("per_s", "cpu_us"):
            ratio = told[f"{name}_to_aioudp_echo_{figure}"]
            assert 0 < ratio["from"] <= ratio["median"] <= ratio["to"], (name, figure)


def test_the_start_bench_asks_each_daemon_that_it_starts() -> None:
    told = figures("benchmarks", "start", "--rounds=2")
    assert (told["rounds"], told["answers"]) == (2, 2)
    for name in ("daemon_ms", "bare_interpreter_ms"):
        assert 0 < told[name]["from"] <= told[name]["median"] <= told[name]["to"], name
    assert told["import_ms"]["to"] > 0
