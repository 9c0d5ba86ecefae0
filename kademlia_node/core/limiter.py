"""Rate limits: one token bucket, and a bounded table of them by peer, address or subnet.

Knows nothing of what it limits. The caller asks `take` before the work and drops the request when
the answer is False; nothing queues here.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable


class TokenBucket:
    """At most `burst` at once and `rate_per_s` in the long run; begins full.

    `filled_at` is when somebody last asked.
    """

    __slots__ = ("_burst", "_rate_per_s", "_tokens", "filled_at")

    def __init__(self, rate_per_s: float, burst: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = burst
        self.filled_at = 0.0

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Take `amount` tokens if there are so many, else none. More than `burst` never pass."""
        grown = self._tokens + (now - self.filled_at) * self._rate_per_s
        self._tokens = min(self._burst, grown)
        self.filled_at = now
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True


class KeyedLimiter:
    """A token bucket for each of the `keys_max` keys seen last.

    A bucket that nobody asked while it filled, `burst / rate_per_s` seconds, is as good as none and
    goes when room is made. Beyond `keys_max`, the key unseen for longest is forgotten, and begins
    full when it returns. That gives nothing away while fewer keys come within that time. A sender
    with more of them escapes this limiter: where keys are cheap, the caller sets one TokenBucket
    for the total beside it.
    """

    __slots__ = ("_buckets", "_burst", "_fills_in_s", "_keys_max", "_rate_per_s")

    def __init__(self, rate_per_s: float, burst: float, *, keys_max: int) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._fills_in_s = burst / rate_per_s if rate_per_s else math.inf
        self._keys_max = keys_max
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, now: float, *, amount: float = 1.0) -> bool:
        """Take `amount` tokens of this key's bucket if there are so many, else none."""
        bucket = self._buckets.get(key)
        if bucket is None:
            self._forget_full(now)
            bucket = self._buckets[key] = TokenBucket(self._rate_per_s, self._burst)
            if len(self._buckets) > self._keys_max:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(now, amount)

    def _forget_full(self, now: float) -> None:
        full_since = now - self._fills_in_s
        while self._buckets and next(iter(self._buckets.values())).filled_at <= full_since:
            self._buckets.popitem(last=False)
