"""Every number of the protocol: its name, its unit, and why it is what it is.

The constants are part of the wire: change one and you speak another protocol. `Settings` holds what
a node may choose for itself, frozen, with defaults that suit the internet. What all members of one
network must agree on (its name, secret, copies and puzzle) is `core.network.Network`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

Republish = Literal["difference", "hourly", "never"]
"""How holders keep up the copies of what they hold: as `node.repair` does, or `node.republish`."""

# --- The wire -------------------------------------------------------------------------------------

PROTOCOL_VERSION: Final = 1  # what proto_min..proto_max of the capabilities is about
ID_BITS: Final = 256  # SHA-256 of a public key
PACKET_BYTES_MAX: Final = 1200  # fits any path with IPv6's 1280-byte minimum MTU: no fragments
AMPLIFICATION_MAX: Final = 3  # bytes to an unvalidated source per byte of it (RFC 9000, 8.1)
INIT_BYTES_MIN: Final = PACKET_BYTES_MAX // AMPLIFICATION_MAX  # its answer may fill a packet
WHO_BYTES: Final = 200  # far above a third of the 57 bytes of its answer
CONTACTS_PER_ANSWER_MAX: Final = 20  # k of the paper, section 2.2
CONTACTS_WITH_VALUE_MIN: Final = 4  # a reader learns closer holders even from an answer
SLOT_BYTES_MAX: Final = 64  # one author's name for one of its entries
INLINE_BYTES_MAX: Final = 640  # value + header + 4 IPv6 contacts still fit PACKET_BYTES_MAX
VALUE_BYTES_MAX: Final = 64 * 1024  # of a record: 64 chunks; what is larger is announced instead
CHUNK_BYTES: Final = 1024  # of a longer value, or of any content: fits a DATA with room to spare
PIECE_BYTES_MIN: Final = 64 * 1024  # of a file's pieces: no hash for less than a longest value
PIECE_BYTES_MAX: Final = 4 * 2**20  # what a reader keeps in memory, unproved, of one holder's word
MANIFEST_PIECES_MAX: Final = (VALUE_BYTES_MAX - 1) // 36  # 1820: a manifest is a value like others
PAGE_BYTES_MIN: Final = 8 * 1024  # of a topic's snapshot: a change costs about one such page
VALUES_BYTES_MAX: Final = 1083  # of contacts and items: what a RESP leaves of 1200 B
PROBE_PADDING_BYTES: Final = 230  # two INITs to a stranger are at most 3x the PROBE they follow
CARD_ADDRESSES_MAX: Final = 4  # an IPv4, an IPv6, and one spare of each

# --- Records --------------------------------------------------------------------------------------

EXPIRY_DEFAULT_S: Final = 48 * 3600  # a record nobody renews is gone in two days
EXPIRY_MAX_S: Final = 14 * 86400  # no signature binds storers for longer than this
TOMBSTONE_S: Final = 13 * 86400  # a day less: storers' clocks may be behind
FORGOTTEN_AFTER_S: Final = 12 * 86400  # a publication not renewed so long may be withdrawn by now


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a node decides for itself. Times in seconds, sizes in bytes or entries."""

    # Routing (Kademlia, sections 2.2 and 2.4; wide far buckets as in libtorrent and OpenDHT)
    k: int = 20  # contacts a bucket keeps and a lookup ends with
    far_buckets: tuple[int, ...] = (128, 64, 32)  # capacity of the buckets 0, 1, 2 from the far end
    near_bucket: int = 64  # capacity inside the smallest subtree around us that holds k
    replacements: int = 8  # waiting contacts per full bucket
    strikes_max: int = 5  # unanswered requests in a row before a contact is dropped
    strike_backoff_s: float = 15.0  # after the first strike; doubles with each further one
    strikes_displaced: int = 2  # a contact with so many gives way to a newcomer; one is bad luck
    uplink_silent: int = 8  # different contacts silent in a row: our own uplink is in doubt
    contacts_per_prefix_bucket: int = 2  # per /24 or /56, open networks only
    contacts_per_prefix_table: int = 10  # per /24 or /56, open networks only
    contacts_per_subnet_v6: int = 1  # per /64 and bucket, open networks only

    # Lookup
    paths: int = 4  # disjoint shortlists (S/Kademlia, section 4.2)
    parallel: int = 2  # requests in flight per path; paths x parallel is the paper's alpha
    unproved_per_prefix: int = 2  # per lookup and /24 or /56: false contacts must not aim us
    vouchers_for_retry: int = 2  # named by so many, one never heard from is tried again if lossy
    candidates_max: int = 1024  # of one lookup; each path may fill its share of it
    seed_from_sessions: bool = True  # servers heard within session_idle_s may start it
    ask_known_first: bool = True  # where those we know are dense; False walks, for comparison
    reads: int = 3  # holders that must agree on the latest version of an entry
    walk_max_s: float = 20.0  # liars can make a walk longer, but not longer than this

    # Exchange
    timeout_s: float = 2.5  # after this long at most a request has failed
    timeout_min_s: float = 0.5  # a busy machine is given this long, however near it is
    sends_max: int = 3  # of one request where answers are lost
    sends_few: int = 2  # where they are not; and of an INIT to a contact we never heard from
    lossy_share: float = 0.02  # of recent answers that took a second sending: answers are lost
    rto_initial_s: float = 0.5  # repeat a first request after this long, before any RTT is known
    rto_min_s: float = 0.010  # below this, a busy event loop looks like a lost packet
    rtt_samples: int = 128  # recent round trips, of all peers, that stand in for an unknown peer
    rtt_samples_min: int = 8  # fewer say nothing about their 90th percentile
    dead_contact_s: float = 45.0  # the unproved that stayed silent are let be; halves reunite in 60
    dead_contacts_max: int = 4096  # remembered at once, 100 bytes each
    keys_per_address: int = 3  # unproved keys tried at one public address within dead_contact_s
    waiting_max: int = 64  # requests that wait for one handshake
    written_hosts_max: int = 8192  # hosts we wrote to: an INIT from another one proves us reachable

    # Contents fetched chunk by chunk
    pull_window: int = 8  # chunks in flight of one content from one holder
    pieces_per_holder: int = 4  # pieces of a large content in flight from one holder
    pulls_max: int = 128  # offered values that are being fetched at once: 8 MB; beyond, BUSY
    pulls_per_peer_max: int = 16  # of those, offered by one peer
    pulls_per_prefix_max: int = 32  # of those, from one /24 or /56: clients cost nothing
    pull_block_max_s: float = 20.0  # for 64 chunks, or all that is left: 3 KB/s, or it has stalled
    busy_pause_s: float = 0.25  # before a holder that is BUSY is asked for the chunk again
    chunks_per_request: int = 10  # so many count as one request in requests_per_peer_per_s
    offer_silence_s: float = 3.0  # without a chunk being fetched, we ask what became of an offer
    chunk_misses_per_s: float = 100.0  # of one peer: looks into the store for values; then BUSY
    contents_cache_bytes: int = 16 * 2**20  # values and topic pages at hand for CHUNK
    contents_age_s: float = 60.0  # at hand, then looked for again: it may be withdrawn by now
    snapshot_max_age_s: float = 60.0  # then a topic is paged anew, for what has expired of it
    topic_bytes_max: int = 32 * 2**20  # from one holder in one reading: anybody may fill a topic
    topic_idle_s: float = 30.0  # without a page from anyone, after the walk, a reading ends
    topic_max_s: float = 300.0  # after the walk; what still comes by then comes by drips
    snapshot_entries_per_s: float = 5000.0  # paged, of all topics: a tenth of a core
    snapshot_entries_burst: float = 50_000.0  # at once, for a topic that is large

    # What walks have taught
    neighbourhoods_max: int = 1024  # remembered, some 2 KB each
    neighbourhood_s: float = 600.0  # then a walk looks again: nodes come and go in hours

    # Watching a key
    watch_lease_s: float = 300.0  # that a holder tells of changes, unless it is asked again
    watch_renew_s: float = 60.0  # it is asked again; what it holds is compared, for some are missed
    watch_look_s: float = 300.0  # and looked for again: others may be responsible by now
    watch_retry_s: float = 10.0  # the same, when a holder has become silent
    watch_settle_s: float = 0.2  # a change is held back, for earlier ones of its author may come
    watch_entries_max: int = 131_072  # remembered of one watched topic, some 500 bytes each
    watch_crowded_s: float = 3600.0  # between two readings of a topic that has more of them
    watch_bytes_max: int = 32 * 2**20  # of values that whoever watches has not taken yet
    watch_pulls_max: int = 16  # long values fetched at once for one who watches
    watchers_max: int = 16_384  # that we tell of changes, some 500 bytes each
    watchers_per_key_max: int = 256  # a change is told so often: 300 KB at most
    watchers_per_prefix_max: int = 1024  # watching costs clients nothing
    notifies_per_watcher_max: int = 32  # under way; beyond, it has to find out itself

    # Sessions
    sessions_max: int = 4096  # about 8 KB each
    sessions_per_prefix_max: int = 64  # one subnet cannot push the others out
    half_open_max: int = 1024  # answered INITs whose sender has not yet shown its address
    session_idle_s: float = 15 * 60.0  # a client's: no longer than most firewalls remember a flow
    session_keep_s: float = 75 * 60.0  # a server's: until its next ping, for handshakes are dear
    session_rekey_s: float = 3600.0  # a busy one is renewed: a stolen key shall not open everything
    session_rekey_packets: int = 64  # more than so many sent on it make it busy
    session_age_max_s: float = 86_400.0  # older than this, any session is renewed
    init_timestamps_max: int = 65536  # last INIT time of each key, against replays
    cookie_epoch_s: float = 60.0  # two epochs are valid
    handshakes_per_s: float = 500.0  # INITs from unvalidated sources that get a Diffie-Hellman
    handshakes_per_prefix_per_s: float = 20.0  # the same, of one /24 or /56
    requests_per_peer_per_s: float = 500.0  # a tenth of what one core serves
    peer_limits_max: int = 8192  # peers whose rate is remembered: twice the sessions
    verified_signatures_max: int = 16384  # 100 bytes each, against 0.1 ms for verifying again
    serving_max: int = 256  # requests waiting for the store at once; beyond, BUSY
    serving_per_peer_max: int = 64  # of those, by one peer: nobody holds all places
    receive_buffer_bytes: int = 4 * 2**20  # in the kernel, as far as it allows; bursts survive
    send_buffer_bytes_max: int = 256 * 2**10  # waiting for the kernel; beyond, dropped

    # Storage
    store_bytes_max: int = 256 * 2**20
    store_share_per_author: float = 0.25  # of store_bytes_max, so that one author cannot fill us
    store_share_per_prefix: float = 0.25  # the same, for the subnet of the peer that sent it
    record_overhead_bytes: int = 256  # counted for each record beside its value
    store_group_max: int = 256  # reads and writes of a disk store that share one commit
    store_sweep_max: int = 1000  # expired records forgotten in one go; all others wait meanwhile
    expired_grace_s: float = 3600.0  # a clock that is wrong for a while deletes nothing
    store_cache_bytes: int = 16 * 2**20  # of a disk store, in memory, beside the kernel's own
    too_far_factor: int = 3  # accept records up to this many times the radius of responsibility
    region_copies_factor: int = 3  # a put reaches at most this many times `copies` nodes

    # Chores
    look_again_s: float = 30.0  # after the start we look around again, and are probed first
    refresh_s: float = 3600.0  # Kademlia, section 2.3
    refresh_every_s: float = 60.0  # one stale bucket at a time: waking up makes no burst
    probe_calls_per_s: float = 1.0  # INITs that we send to strangers for others, in all
    probe_calls_burst: float = 8.0  # at once
    probe_host_s: float = 60.0  # between two such calls to one host, whoever asks
    probe_helps_per_s: float = 0.1  # strangers that we ask to call one prefix
    probe_helps_burst: float = 2.0  # at once
    probe_keys_max: int = 1024  # prefixes and hosts that those limits remember
    address_votes: int = 15  # prefixes whose word on where we are is counted
    probe_s: float = 600.0  # a client asks again whether strangers can reach it
    liveness_s: float = 300.0  # a contact near us, or a new one, is pinged when silent this long
    liveness_share: float = 1.0  # of the time it was up, if that is longer; see `core.routing`
    liveness_max_s: float = 3600.0  # but no longer: meanwhile we name it to others
    check_every_s: float = 15.0  # so that 8 pings at a time go round 160 contacts in 5 minutes
    checks_per_run: int = 8  # contacts pinged at once
    recall_max_s: float = 3600.0  # a peer heard no longer ago, before a restart, counts as live
    recall_near_s: float = 120.0  # then the nearest of them are pinged, one after another
    recall_far_s: float = 1800.0  # and the others: all nodes may have lost power at once
    recall_look_s: float = 600.0  # and we look around; within this time, for the same reason
    sweep_s: float = 60.0  # expired records and idle sessions
    join_retry_s: float = 2.0  # first pause while no bootstrap answers; doubles up to a minute
    join_retry_max_s: float = 60.0  # a network that comes up finds us within this time
    rejoin_look_s: float = 20.0  # whether our uplink is back, we have slept, or a lost peer called
    slept_s: float = 120.0  # on the wall clock, when less was to pass: look around again
    lost_max: int = 128  # contacts that fell silent and are tried again, some 200 bytes each
    lost_every_s: float = 120.0  # longest pause until one is tried; less if we know fewer than k
    lost_at_once: int = 8  # are tried at once when one turned out to be in another network
    lan_links_max: int = 8  # addresses of this machine on whose links we look for peers
    lan_look_s: float = 10.0  # whether such an address has come or gone
    lan_peers_max: int = 64  # members' beacons that are remembered, 300 bytes each
    lan_knocks_at_once: int = 8  # members on our link; what is true of beacons is not known
    lan_retry_s: float = 5.0  # whom the table lacks is knocked at again; doubles each time
    lan_retry_max_s: float = 600.0  # up to this pause
    leave_s: float = 60.0  # for handing over what we hold when we leave for good
    farewell_s: float = 0.5  # for telling the nearest that we stop; who leaves waits `timeout_s`
    farewells_at_once: int = 32  # told at a time: 40 KB of handshakes at most
    renew_after_s: float = 22 * 3600.0  # of EXPIRY_DEFAULT_S; jittered by a tenth
    renew_every_s: float = 60.0  # what has become due meanwhile is renewed
    renewals_at_once: int = 8  # the next ones follow after renew_pause_s: no storm after a pause
    renew_all_s: float = 1800.0  # for all there are: of more than 14,000, more are renewed at once
    renew_pause_s: float = 1.0  # and other chores have their turn
    renew_retry_s: float = 300.0  # a renewal that nobody took is tried again
    republish: Republish = "difference"  # how holders keep copies up
    repair_every_s: float = 60.0  # one neighbour is asked what it holds; they take turns
    repair_brisk_s: float = 5.0  # the same, while the neighbourhood has news
    repair_requests_max: int = 64  # DIGESTs in one round; the next ones go on from there
    repair_pulls_max: int = 256  # keys pulled in one round, some 300 KB unless values are long
    repair_bytes_max: int = 8 * 2**20  # pulled in one round beside what comes inline
    repair_at_once: int = 8  # requests to the neighbour under way
    repair_max_s: float = 60.0  # then a round ends; what is undone comes in the next ones
    repair_reconciled_max: int = 16384  # prefixes looked into, of all neighbours; 300 bytes each
    repair_shun_s: float = 3600.0  # a neighbour that lied is not asked again for so long
    republish_s: float = 3600.0  # "hourly": Kademlia, sections 2.3 and 2.5
    republish_every_s: float = 60.0  # "hourly": what has become due meanwhile is handed out
    many_at_once: int = 16  # records that put_many and get_many have under way
    save_peers_s: float = 300.0  # a killed daemon loses at most the peers of so long

    def __post_init__(self) -> None:
        if not 0 < self.renew_after_s * 1.1 < EXPIRY_DEFAULT_S:
            raise ValueError("renew_after_s leaves no time to renew before EXPIRY_DEFAULT_S")
        if min(self.k, self.paths, self.parallel, self.reads, self.sends_few) < 1:
            raise ValueError("k, paths, parallel, reads and sends_few are at least 1")
        if self.sends_max < self.sends_few:
            raise ValueError("sends_max is at least sends_few")
        if self.republish not in get_args(Republish):
            raise ValueError(f"republish is one of {', '.join(get_args(Republish))}")
