"""What Prometheus reads: a status, written in its text format when it asks.

Nothing is counted here and no registry lives longer than one scrape: the node counts for itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from kademlia_node.node.status import Status

PREFIX: Final = "kademlia_node"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

GAUGES: Final = {
    "joined": "Whether anybody is in the routing table (0 or 1).",
    "uplink_down": "Whether nobody at all answers (0 or 1).",
    "peers": "Contacts in the routing table.",
    "sessions": "Encrypted sessions that are open.",
    "records": "Records stored here.",
    "stored_bytes": "Bytes of these records, as the quotas count them.",
    "publications": "Records this node renews.",
    "watches": "Names and topics that are watched from here.",
    "watchers": "Leases of those who are told of changes by this node.",
}
OPERATIONS: Final = {  # field of an OperationCost, and its meaning
    "operations": ("count", "Operations since the start, by verb."),
    "operation_requests": ("requests", "What they asked of other nodes."),
    "operation_round_trips": ("round_trips", "How often they had to wait for an answer to go on."),
}


def exposition(status: Status) -> bytes:
    """The status in the text format of Prometheus, version 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_StatusCollector(status))
    return generate_latest(registry)


class _StatusCollector(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status
        yield InfoMetricFamily(
            PREFIX,
            "Which node of which network this is.",
            {"id": status.id, "network": status.network, "role": status.role},
        )
        for name, meaning in GAUGES.items():
            yield GaugeMetricFamily(f"{PREFIX}_{name}", meaning, float(getattr(status, name)))
        if status.network_size is not None:
            yield GaugeMetricFamily(
                f"{PREFIX}_network_size", "Estimated nodes of the network.", status.network_size
            )
        yield self._events()
        yield from self._operations()
        yield from self._chores()

    def _events(self) -> Metric:
        events = CounterMetricFamily(
            f"{PREFIX}_events", "What happened since the start, by kind.", labels=["event"]
        )
        for event, count in self._status.counters.items():
            events.add_metric([event], count)
        return events

    def _operations(self) -> Iterator[Metric]:
        for name, (field, meaning) in OPERATIONS.items():
            totals = CounterMetricFamily(f"{PREFIX}_{name}", meaning, labels=["verb"])
            for verb, cost in self._status.operations.items():
                totals.add_metric([verb], getattr(cost, field))
            yield totals

    def _chores(self) -> Iterator[Metric]:
        runs = CounterMetricFamily(
            f"{PREFIX}_chore_runs", "Runs of each chore since the start.", labels=["chore"]
        )
        ages = GaugeMetricFamily(
            f"{PREFIX}_chore_age_seconds", "Since the last run of each chore.", labels=["chore"]
        )
        did = GaugeMetricFamily(
            f"{PREFIX}_chore_did", "What the last run of each chore did.", labels=["chore"]
        )
        for chore, (count, age_s) in self._status.chores.items():
            runs.add_metric([chore], count)
            if age_s is not None:
                ages.add_metric([chore], age_s)
        for chore, count in self._status.did.items():
            did.add_metric([chore], count)
        yield from (runs, ages, did)
