"""Too much: how often a sender may ask, how often an address may be wrong, how many requests of one run at a time.

Arithmetic on a few numbers in memory, with a clock that is handed in: nothing waits, and no lock is needed, as of two
requests that are counted in the same moment at most one too many gets through.
"""

import ipaddress
import math
from collections.abc import Callable
from functools import lru_cache

LEAST_BURST = 10
MOST_KNOWN = 10_000  # addresses remembered: who comes from ever new ones must not take our memory


@lru_cache(1024)  # as many as there are rates
def policy_of(rate: int) -> "Policy":
    """Of a sender that may send so many reports a second: those of a quarter of it may come at once.

    More would be a moment in which all others wait behind this one.
    """
    return Policy(rate, max(rate // 4, LEAST_BURST))


class Policy:
    """How many tokens come a second, and how many fit: so many may be taken at once."""

    __slots__ = ("burst", "rate", "told")

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self.told = f'"reports";q={burst};w={math.ceil(burst / rate)}'
        """`RateLimit-Policy`, as draft-ietf-httpapi-ratelimit-headers has it: q in w seconds."""

    def left(self, missing: float) -> str:
        """`RateLimit` for who is full again in `missing` seconds: r may be taken now, and all in t seconds."""
        return f'"reports";r={max(0, int(self.burst - missing * self.rate + 1e-6))};t={math.ceil(missing)}'


class Buckets:
    """A token bucket for each name, kept as the one instant at which it would be full again (GCRA)."""

    def __init__(self, clock: Callable[[], float], *, most: int = 0) -> None:
        """`clock` gives monotonic seconds; `most` names are remembered, 0: all of them."""
        self._clock, self._most = clock, most
        self._full_at: dict[str, float] = {}

    def take(self, name: str, policy: Policy) -> tuple[float, float]:
        """One token, if there is one: in how many seconds the bucket is full again, and in how many there is one.

        The latter is 0 when this one was taken.
        """
        now = self._clock()
        missing = max(self._full_at.get(name, 0.0) - now, 0.0)
        wait = missing + (1 - policy.burst) / policy.rate
        if wait > 1e-9:  # seconds; what is less is left of rounding
            return missing, wait
        missing += 1 / policy.rate
        self._full_at[name] = now + missing
        if 0 < self._most < len(self._full_at):
            self._forget(now)
        return missing, 0.0

    def charge(self, name: str, policy: Policy, tokens: int) -> float:
        """Take more for what has come already, even if they are not there: the next has to wait for them."""
        now = self._clock()
        missing = max(self._full_at.get(name, 0.0) - now, 0.0) + tokens / policy.rate
        self._full_at[name] = now + missing
        return missing

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
        self._buckets, self._policy = Buckets(clock, most=MOST_KNOWN), Policy(per_minute / 60, per_minute)

    def count(self, address: str) -> float:
        """One more; 0, or the seconds until the next would be taken for an honest mistake."""
        return self._buckets.take(place(address), self._policy)[1]


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
    """How many requests of one sender may be under way at a time, and how large their bodies may be together.

    One may always be, whatever its size.
    """

    def __init__(self, requests: int, size: int) -> None:
        self._requests, self._size = requests, size
        self._taken: dict[str, tuple[int, int]] = {}

    def enter(self, name: str, size: int) -> bool:
        """Whether there is room for one more of `size` bytes; who is told so calls `leave` once."""
        requests, taken = self._taken.get(name, (0, 0))
        if requests and (requests >= self._requests or taken + size > self._size):
            return False
        self._taken[name] = requests + 1, taken + size
        return True

    def leave(self, name: str, size: int) -> None:
        """One has been answered."""
        requests, taken = self._taken[name]
        self._taken[name] = requests - 1, taken - size
