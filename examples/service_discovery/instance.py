"""What is announced of an instance: where it is, and until when that was said.

The record that carries it lives for four minutes, the least that a node renews: too long for a
service that has died. So the lease is written into the value, is as short as you like, and is
extended by announcing the instance anew.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

VALUE_BYTES_MAX: Final = 512  # what is longer is no instance, whoever announced it


def topic_of(name: str) -> str:
    """Where the instances of a service are announced."""
    return f"service-discovery 1 {name}"


@dataclass(frozen=True, slots=True)
class Instance:
    """One place where a service is to be had.

    Attributes:
        url: Of HTTP, such as `http://10.0.0.7:8000`.
        until: When the lease ends, in seconds since 1970.
    """

    url: str
    until: float

    def pack(self) -> bytes:
        """As it is announced; raises ValueError for what `unpack` would refuse."""
        packed = json.dumps({"url": self.url, "until": self.until}).encode()
        Instance.unpack(packed)
        return packed

    @classmethod
    def unpack(cls, value: bytes) -> Instance:
        """What somebody has announced; raises ValueError if it is no instance."""
        if len(value) > VALUE_BYTES_MAX:
            raise ValueError(f"an instance is at most {VALUE_BYTES_MAX} bytes")
        try:
            fields = json.loads(value)
            url, until = str(fields["url"]), float(fields["until"])
            parts = urlsplit(url)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise ValueError("an instance is JSON, with a url and an until") from error
        if parts.scheme not in {"http", "https"} or not parts.hostname or not url.isprintable():
            raise ValueError(f"{url!r} is no URL of HTTP")
        if not math.isfinite(until):
            raise ValueError("a lease ends")
        return cls(url.rstrip("/"), until)
