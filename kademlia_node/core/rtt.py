"""How long an answer takes, and how many are lost: what is known of each peer, and of all of them.

Knows neither clocks nor requests. The caller measures, and doubles the timeout after each repeat
(RFC 6298, 5.5). That the next request starts with the doubled one is our part, or a peer that has
moved away would never be measured.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque

from kademlia_node.settings import Settings

BACKOFF_MAX = 64  # from 10 ms to more than half a second


class RttHistory:
    """The latest `size` round trips over all peers: what an unknown peer is likely to be like.

    And which of the latest answers came only to a request that had been sent again.
    """

    __slots__ = ("_by_age", "_by_length", "_repeats", "_were_repeated")

    def __init__(self, size: int) -> None:
        self._by_age: deque[float] = deque(maxlen=size)
        self._by_length: list[float] = []
        self._were_repeated: deque[bool] = deque(maxlen=size)
        self._repeats = 0

    def __len__(self) -> int:
        return len(self._by_age)

    def on_sample(self, rtt_s: float) -> None:
        """Note one round trip; the oldest gives way."""
        if len(self._by_age) == self._by_age.maxlen:
            del self._by_length[bisect_left(self._by_length, self._by_age[0])]
        self._by_age.append(rtt_s)
        insort(self._by_length, rtt_s)

    def on_answer(self, *, was_repeated: bool) -> None:
        """Note whether an answer took more than one sending; the oldest gives way."""
        if len(self._were_repeated) == self._were_repeated.maxlen:
            self._repeats -= self._were_repeated[0]
        self._were_repeated.append(was_repeated)
        self._repeats += was_repeated

    def is_lossy(self, settings: Settings) -> bool:
        """Whether so many answers took more than one sending that losses are to be made up for.

        Also as long as too little is known.
        """
        count = len(self._were_repeated)
        return count < settings.rtt_samples_min or self._repeats >= settings.lossy_share * count

    def quantile(self, q: float) -> float:
        """The smallest round trip that at least a share `q` (above 0, to 1) does not exceed."""
        assert self._by_length
        assert 0 < q <= 1
        return self._by_length[math.ceil(q * len(self._by_length)) - 1]


def soft_timeout(history: RttHistory, settings: Settings) -> float:
    """Seconds after which a lookup starts another candidate without giving up on this one.

    Nine of ten recent answers came sooner; `rto_initial_s` while too little is known.
    """
    if len(history) < settings.rtt_samples_min:
        return settings.rto_initial_s
    return min(max(history.quantile(0.9), settings.rto_min_s), settings.timeout_s)


def initial_rto(history: RttHistory, settings: Settings) -> float:
    """Seconds after which a first request to an unknown peer is repeated.

    Twice what nine of ten recent answers took; `rto_initial_s` at most, and while too little is
    known.
    """
    if len(history) < settings.rtt_samples_min:
        return settings.rto_initial_s
    return min(max(2 * history.quantile(0.9), settings.rto_min_s), settings.rto_initial_s)


def usual_sends(history: RttHistory, settings: Settings) -> int:
    """How often a request to a peer that has answered before is sent at most.

    Who does not answer is dead more often than unheard. Where hardly anything is lost a third
    sending finds nobody, and costs as long as the first two.
    """
    return settings.sends_max if history.is_lossy(settings) else settings.sends_few


class RttEstimator:
    """Smoothed round trip and variation of one peer (RFC 6298, section 2).

    `srtt_s` is None before the first sample.
    """

    __slots__ = ("_backoff", "_rttvar_s", "srtt_s")

    srtt_s: float | None

    def __init__(self) -> None:
        self.srtt_s = None
        self._rttvar_s = 0.0
        self._backoff = 1

    def on_repeated(self) -> None:
        """An answer came to a request that was sent more than once: wait longer the next time."""
        self._backoff = min(2 * self._backoff, BACKOFF_MAX)

    def on_sample(self, rtt_s: float) -> None:
        """Learn from one round trip of a request that was sent once."""
        self._backoff = 1
        if self.srtt_s is None:
            self.srtt_s = rtt_s
            self._rttvar_s = rtt_s / 2
        else:
            self._rttvar_s += (abs(self.srtt_s - rtt_s) - self._rttvar_s) / 4
            self.srtt_s += (rtt_s - self.srtt_s) / 8

    def rto(self, history: RttHistory, settings: Settings) -> float:
        """Seconds after which a request is repeated; at most `timeout_s`.

        The smoothed round trip plus four variations, or plus `rto_min_s` for a peer that hardly
        varies. Before the first sample the peer is taken to be like the others. Twice as long for
        each request since the last sample that had to be repeated (RFC 6298, 5.7).
        """
        if self.srtt_s is None:
            rto_s = initial_rto(history, settings)
        else:
            rto_s = self.srtt_s + max(4 * self._rttvar_s, settings.rto_min_s)
        return min(self._backoff * rto_s, settings.timeout_s)


def learn(peer: RttEstimator, history: RttHistory, took_s: float, *, sendings: int) -> None:
    """Note how long an answer took to a request that was sent so many times."""
    history.on_answer(was_repeated=sendings > 1)
    if sendings > 1:  # nobody knows which one was answered (Karn)
        peer.on_repeated()
        return
    peer.on_sample(took_s)
    history.on_sample(took_s)
