"""Too much: how often a sender may ask, how often an address may be wrong, how many requests of one run at a time.

Arithmetic on a few numbers in memory, with a clock that is handed in: nothing waits, and no lock is needed, as of two
requests that are counted in the same moment at most one too many gets through.
"""

import ipaddress
import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

BURST_SECONDS = 2  # of a sender's rate may come at once; never less than one batch, else none could ever be sent
LEAST_BURST = 1000
MOST_KNOWN = 10_000  # addresses remembered: who comes from ever new ones must not take our memory


class Quota(NamedTuple):
    """Where a sender stands after a request: worked out only when it is told."""

    rate: float  # reports a second
    burst: int  # reports that may come at once
    missing: float  # seconds until all of that may come again
    wait: float  # seconds until the next may; 0: this one may

    def headers(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """`RateLimit` and its policy, as draft-ietf-httpapi-ratelimit-headers has them: q in w seconds, r left."""
        left = max(0, int(self.burst - self.missing * self.rate + 1e-6))
        return (
            ("RateLimit", f'"reports";r={left};t={math.ceil(self.missing)}'),
            ("RateLimit-Policy", f'"reports";q={self.burst};w={math.ceil(self.burst / self.rate)}'),
        )


class Buckets:
    """A token bucket for each name, kept as the one instant at which it would be full again (GCRA)."""

    def __init__(self, clock: Callable[[], float], *, most: int = 0) -> None:
        """`clock` gives monotonic seconds; `most` names are remembered, 0: all of them."""
        self._clock, self._most = clock, most
        self._full_at: dict[str, float] = {}

    def take(self, name: str, rate: float, burst: int) -> Quota:
        """One of the tokens, of which `rate` come a second and `burst` fit; `wait` tells whether it was there."""
        now = self._clock()
        missing = max(self._full_at.get(name, 0.0) - now, 0.0)
        wait = missing + (1 - burst) / rate
        if wait > 1e-9:  # seconds; what is less is left of rounding
            return Quota(rate, burst, missing, wait)
        self._full_at[name] = now + missing + 1 / rate
        if 0 < self._most < len(self._full_at):
            self._forget(now)
        return Quota(rate, burst, missing + 1 / rate, 0.0)

    def charge(self, name: str, rate: float, burst: int, tokens: int) -> Quota:
        """Take more for what has come already, even if they are not there: the next has to wait for them."""
        now = self._clock()
        missing = max(self._full_at.get(name, 0.0) - now, 0.0) + tokens / rate
        self._full_at[name] = now + missing
        return Quota(rate, burst, missing, 0.0)

    def _forget(self, now: float) -> None:
        """Those that are full again, else the half that came first."""
        known = self._full_at
        kept = {name: at for name, at in known.items() if at > now}
        if len(kept) > self._most // 2:
            kept = dict(list(kept.items())[len(kept) - self._most // 2 :])
        self._full_at = kept


class Failures:
    """How often an address may show what is no key. Whoever shows a good one is let in all the same.

    A secret of 256 bits is not guessed; what is to be limited is the noise, and nobody must be able to lock out
    those who share an address with him.
    """

    def __init__(self, clock: Callable[[], float], *, per_minute: int) -> None:
        self._buckets, self._per_minute = Buckets(clock, most=MOST_KNOWN), per_minute

    def count(self, address: str) -> float:
        """One more; 0, or the seconds until the next would be taken for an honest mistake."""
        return self._buckets.take(place(address), self._per_minute / 60, self._per_minute).wait


def place(address: str) -> str:
    """Whom an address stands for: with IPv6 a network, of which one machine has all the addresses."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if known.version == 4 or known.ipv4_mapped:
        return str(known)
    return str(ipaddress.ip_network((known.packed[:8] + bytes(8), 64)))


class Shares:
    """How many requests of one sender may be under way at a time."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._taken: Counter[str] = Counter()

    def enter(self, name: str) -> bool:
        """Whether there is room for one more; who is told so calls `leave` once."""
        if self._taken[name] >= self._each:
            return False
        self._taken[name] += 1
        return True

    def leave(self, name: str) -> None:
        """One has been answered."""
        self._taken[name] -= 1
