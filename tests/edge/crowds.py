"""Rows about too much: slow clients before nginx, one sender's storm beside another's calm. Not for CI: it is timed."""

from __future__ import annotations

from functools import partial

from tests.bench import slow, storm
from tests.edge.rows import ROWS
from tests.faults.rows import Row, Seen, Setting

SECONDS = 25.0  # of slow clients
ROUNDS = 3  # of the storm
LIMITED = {name: rate for name, rate in storm.LIMITS.items() if not name.startswith("control")}
UNLIMITED = {name: rate for name, rate in storm.LIMITS.items() if name not in LIMITED}


def slowly(setting: Setting, *, bare: bool = False) -> Seen:
    """Half requests on hundreds of connections, and good reports beside them; `bare`: no nginx before us."""
    number = slow.TOO_MANY if bare else slow.SLOW
    with slow.guarded(setting.directory) as (own, key, made):
        before = None if bare else made
        with slow.besieged(number, key, own.port, before):
            told = slow.figures(slow.measured("beside", 5 if bare else SECONDS, key, own.port, before))
    figures = f"{number} slow; of {told.sent} good ones {told.taken:.1%} taken, p99 {1000 * told.p99:.0f} ms"
    return Seen(told.good, figures)


def stormy(setting: Setting, limits: dict[str, int] = LIMITED) -> Seen:
    """One sender posts all it can, another at its usual pace."""
    seen = storm.run(ROUNDS, limits)
    calm, *others = storm.p99s(seen).values()
    refused = storm.refused(seen)
    told = ", ".join(f"{1000 * p99:.1f}" for p99 in others)
    figures = f"p99 {1000 * calm:.1f} ms calm, {told} ms in a storm ({max(others) / calm:.2f} ×); {refused} refused"
    return Seen(max(others) < 2 * calm and not refused, figures)


ROWS += [
    Row(
        "slow clients before nginx",
        "≥ 99 % of good requests, p99 < 200 ms",
        slowly,
        partial(slowly, bare=True),
        "no nginx, more than gridgov has connections",
        needs=("nginx",),
    ),
    Row(
        "a storm of one sender",
        "the other's p99 < 2 × calm, none of his refused",
        stormy,
        partial(stormy, limits=UNLIMITED),
        "a key without a limit",
    ),
]
