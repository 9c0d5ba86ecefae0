"""Tiny limits by chance: settings under which some twenty nodes meet rare paths in minutes.

A table that never fills and a session that never grows old hide what the code does then. So each
run of a campaign draws which limits are tiny in it: small enough to be met by twenty nodes with a
few records each, large enough that all must be well again soon after the last fault.

It refuses to know what a run does, and leaves alone what its promises rest on: how many copies
there are, how many must agree, how long records live, that stores are large enough and that topics
are read whole.

    settings = shrunk(random.Random(seed))
    async with Swarm(nodes=20, seed=seed, settings=settings) as swarm: ...
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from kademlia_node.settings import Settings

SHARE: Final = 0.5  # of the limits are tiny in a run: each is met both alone and with others

TINY: Final[Mapping[str, tuple[Any, ...]]] = {
    # Routing: k above the five copies of a network, or walks would not find all the holders.
    # strikes_displaced stays: lower, every dead contact is displaced before it is dropped.
    "k": (8, 12),
    "far_buckets": ((4, 4, 4), (8, 8, 8)),  # some in each half know all of theirs
    "near_bucket": (8, 12),  # so many neighbours of ours are more than `copies`
    "replacements": (1, 2),
    "strikes_max": (2, 3),  # one lost request drops nobody
    "strike_backoff_s": (1.0, 4.0),
    "uplink_silent": (2, 4),  # one may be dead while our line is sound
    # Lookup: every path has to hold more than its share of twenty nodes
    "paths": (1, 2),
    "parallel": (1,),
    "vouchers_for_retry": (1,),
    "candidates_max": (40, 64),
    "walk_max_s": (5.0, 10.0),  # a few timeouts one after the other
    # Exchange: above any round trip of the latency models, or some would be silent for ever
    "timeout_s": (2.0,),
    "sends_max": (2,),  # with one, each loss would be a strike
    "rtt_samples": (8, 16),
    "rtt_samples_min": (2,),
    "dead_contact_s": (5.0, 15.0),
    "dead_contacts_max": (1, 4),
    "waiting_max": (1, 2),  # those turned away are asked again by the next operation
    # Contents: 64 chunks still come within pull_block_max_s, at the rate and window given here
    "pull_window": (2, 4),
    "pieces_per_holder": (1,),
    "pulls_max": (1, 4),  # whoever hears BUSY offers the value to another one
    "pulls_per_peer_max": (1, 2),
    "pull_block_max_s": (3.0, 10.0),
    "busy_pause_s": (0.1,),
    "chunks_per_request": (1, 2),
    "offer_silence_s": (0.5, 1.0),
    "chunk_misses_per_s": (8.0, 20.0),  # a value of 16 KiB in two seconds
    "contents_cache_bytes": (8192,),  # what does not fit is given all the same
    "contents_age_s": (0.2, 5.0),
    "snapshot_max_age_s": (1.0, 5.0),
    "topic_idle_s": (5.0,),
    "neighbourhoods_max": (1, 4),
    "neighbourhood_s": (5.0, 30.0),
    # Sessions: two for each of twenty peers, since two who call each other at once make two
    "sessions_max": (40, 48),
    "half_open_max": (2, 4),  # those pushed out learn it by a RESET and call again
    "session_idle_s": (20.0, 60.0),
    "session_keep_s": (20.0, 60.0),
    "session_rekey_s": (10.0, 60.0),
    "session_rekey_packets": (0, 4),
    "session_age_max_s": (60.0,),
    "init_timestamps_max": (2, 8),
    "cookie_epoch_s": (2.0, 10.0),  # two epochs: a cookie outlives the round trip it is made for
    "handshakes_per_s": (4.0, 8.0),  # of eight who join at once, each gets in by a second knock
    "handshakes_per_prefix_per_s": (1.0, 2.0),
    "requests_per_peer_per_s": (20.0, 40.0),  # a walk asks a peer once; chunks may wait
    "peer_limits_max": (4, 8),
    "verified_signatures_max": (2, 8),
    "serving_max": (1, 4),  # a store in memory answers before the next datagram
    "serving_per_peer_max": (1, 2),
    # Chores: so often that each has its turn, so seldom that there is time for anything else
    "look_again_s": (5.0,),
    "refresh_s": (120.0, 300.0),
    "refresh_every_s": (5.0,),
    "liveness_s": (30.0, 90.0),
    "check_every_s": (2.0, 5.0),
    "checks_per_run": (1, 2),
    "sweep_s": (5.0,),
    "join_retry_s": (0.5,),
    "join_retry_max_s": (4.0,),
    "leave_s": (0.5, 5.0),  # it may come back with what it did not hand over
    "repair_max_s": (1.0, 5.0),  # the next round goes on
    "renew_after_s": (60.0, 90.0),
    "renew_every_s": (5.0,),
    "renewals_at_once": (1, 2),
    "renew_pause_s": (0.2,),
    "renew_retry_s": (5.0, 20.0),
    "many_at_once": (1, 4),
    # Watching: watch_entries_max stays, or some entries would not be told of
    "watch_lease_s": (15.0, 30.0),
    "watch_renew_s": (5.0, 10.0),
    "watch_look_s": (20.0,),
    "watch_retry_s": (2.0,),
    "watch_bytes_max": (4096,),  # one longer value comes all the same
    "watch_pulls_max": (1,),
    "watchers_max": (1,),  # whoever finds no room asks now and then
    "watchers_per_key_max": (1,),
    "notifies_per_watcher_max": (1,),
}
"""What each limit may shrink to; what stands beside it tells why to no less."""


def shrunk(rng: random.Random, settings: Settings | None = None) -> Settings:
    """The settings with a random half of the limits of `TINY` shrunk.

    Args:
        rng: The same generator draws the same settings.
        settings: Where the limits that stay come from; the defaults if None.
    """
    tiny = {name: rng.choice(choices) for name, choices in TINY.items() if rng.random() < SHARE}
    return replace(settings or Settings(), **tiny)
