from __future__ import annotations

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from kademlia_node.daemon.metrics import exposition
from kademlia_node.node.receipt import OperationCost
from kademlia_node.node.status import Status

STATUS = Status(
    id="ab" * 32,
    invite="kad://x@127.0.0.1:4000",
    network='a "quoted" name\n',
    copies=5,
    role="server",
    joined=True,
    uplink_down=False,
    peers=7,
    sessions=3,
    network_size=123.5,
    records=11,
    stored_bytes=2048,
    publications=2,
    watches=1,
    watchers=4,
    unreachable=(),
    counters={"served_Ping": 9},
    operations={"put": OperationCost(2, 15, 4), "get": OperationCost(1, 3, 1)},
    chores={"join": (4, 1.5), "renew": (0, None), "check": (9, 2.5)},
    did={"check": 8},
)


def samples(status: Status) -> dict[tuple[str, ...], float]:
    """Value by name and label values."""
    families = text_string_to_metric_families(exposition(status).decode())
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_status_is_told_in_numbers() -> None:
    told = samples(STATUS)
    assert told["kademlia_node_peers",] == 7
    assert told["kademlia_node_joined",] == 1
    assert told["kademlia_node_uplink_down",] == 0
    assert told["kademlia_node_sessions",] == 3
    assert told["kademlia_node_network_size",] == 123.5
    assert told["kademlia_node_records",] == 11
    assert told["kademlia_node_stored_bytes",] == 2048
    assert told["kademlia_node_publications",] == 2
    assert told["kademlia_node_events_total", "served_Ping"] == 9
    assert told["kademlia_node_info", STATUS.id, STATUS.network, "server"] == 1


def test_what_operations_cost_is_counted_by_verb() -> None:
    told = samples(STATUS)
    assert told["kademlia_node_operations_total", "put"] == 2
    assert told["kademlia_node_operation_requests_total", "put"] == 15
    assert told["kademlia_node_operation_round_trips_total", "put"] == 4
    assert told["kademlia_node_operations_total", "get"] == 1


def test_a_chore_that_never_ran_has_no_age() -> None:
    told = samples(STATUS)
    assert told["kademlia_node_chore_runs_total", "join"] == 4
    assert told["kademlia_node_chore_age_seconds", "join"] == 1.5
    assert told["kademlia_node_chore_runs_total", "renew"] == 0
    assert ("kademlia_node_chore_age_seconds", "renew") not in told


def test_what_the_last_run_did_is_told_where_it_is_counted() -> None:
    told = samples(STATUS)
    assert told["kademlia_node_chore_did", "check"] == 8
    assert ("kademlia_node_chore_did", "join") not in told


def test_a_size_that_is_not_known_is_not_told() -> None:
    unknown = replace(STATUS, network_size=None)
    assert ("kademlia_node_network_size",) not in samples(unknown)
