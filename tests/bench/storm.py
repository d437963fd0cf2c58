"""One sender's storm beside another's calm: `python -m tests.bench.storm [ROUNDS]`. On this machine only.

A sender posts singles on a timetable; then again while another posts as fast as its connections take answers, under
this rate and that; then, as the control, while the other's key has no limit worth the name. The first must not notice a
limited storm (its p99 below twice the calm one), and must notice the other, else the storm was none.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, count
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench.figures import table
from tests.bench.load import Seen, Shape, drive, new_prefix, requests
from tests.gridgov import Gridgov, alone

RATE, CALM_CONNECTIONS, STORM_CONNECTIONS = 50, 4, 64
SECONDS: Final = 8  # of each condition in a round
CALM: Final = "calm"
LIMITS: Final = {"a storm of 200/s": 200, "one of the usual rate": 500, "control: no limit": 1_000_000}
SINGLE: Final = Shape("/v1/reports")


def posts(key: str, number: int) -> Iterator[bytes]:
    """Singles of one sender, `number` of them."""
    told = f"Authorization: Bearer {key}\r\n".encode()
    for one in requests(SINGLE, 1, new_prefix(), number):
        head, _, body = one.partition(b"\r\n\r\n")
        yield head + b"\r\n" + told + b"\r\n" + body


def storm(port: int, key: str, seconds: float) -> Seen:
    """As fast as it goes, deaf to Retry-After; in a process of its own that gives way to the service."""
    os.nice(10)
    import time

    end = time.perf_counter() + seconds
    endless = chain.from_iterable(posts(key, 1000) for _ in count())
    timely = iter(lambda: next(endless) if time.perf_counter() < end else b"", b"")
    return drive(port, timely, connections=STORM_CONNECTIONS)


def run(rounds: int, limits: Mapping[str, int] = LIMITS) -> dict[str, list[tuple[Seen, Seen | None]]]:
    """What both senders saw in each of the conditions, round by round: whatever else this machine does meets all."""
    seen: dict[str, list[tuple[Seen, Seen | None]]] = {}
    with tempfile.TemporaryDirectory(prefix="gridgov-storm-") as scratch, ProcessPoolExecutor(1) as elsewhere:
        own = Gridgov(Path(scratch) / "var", "127.0.0.1:1", {"GRIDGOV_ALLOW_VOLATILE": "yes"})
        calm, *storms = (
            own.run("keys", "add", f"s{n}", "--role", "sender", "--rate", str(rate), check=True).stdout.strip()
            for n, rate in enumerate((500, *limits.values()))
        )
        with alone(own):
            drive(own.port, posts(calm, 300), connections=2, rate=200)  # warm
            for _ in range(rounds):
                for name, key in ((CALM, ""), *zip(limits, storms, strict=True)):
                    other = elsewhere.submit(storm, own.port, key, SECONDS + 1) if key else None
                    told = drive(own.port, posts(calm, RATE * SECONDS), connections=CALM_CONNECTIONS, rate=RATE)
                    seen.setdefault(name, []).append((told, other.result() if other else None))
    return seen


def p99s(seen: Mapping[str, list[tuple[Seen, Seen | None]]]) -> dict[str, float]:
    """The calm sender's p99 in each condition, in seconds: the median of the rounds."""
    return {name: median(told.quantile(0.99) for told, _ in rounds) for name, rounds in seen.items()}


def refused(seen: Mapping[str, list[tuple[Seen, Seen | None]]]) -> int:
    """In how many rounds a request of the calm sender was refused."""
    return sum(told.taken != sum(told.statuses.values()) for rounds in seen.values() for told, _ in rounds)


def main() -> int:
    seen = run(int(sys.argv[1]) if sys.argv[1:] else 3)
    p99 = p99s(seen)
    rows = []
    for name, rounds in seen.items():
        spread = " ".join(f"{1000 * told.quantile(0.99):.1f}" for told, _ in rounds)
        p50 = median(told.quantile(0.5) for told, _ in rounds)
        others = [other for _, other in rounds if other is not None]
        theirs = [sum(each.statuses.get(status, 0) for each in others) / len(others) for status in (202, 429) if others]
        rows.append(
            [name, f"{1000 * p50:.1f}", f"{1000 * p99[name]:.1f}", spread, f"{p99[name] / p99[CALM]:.2f}"]
            + [f"{count / SECONDS:,.0f}/s" for count in theirs or ()]
            + ["–", "–"][len(theirs) :]
        )
    heads = ["the calm sender", "p50 ms", "p99 ms", "of the rounds", "× calm", "storm's 202", "storm's 429"]
    print(table(heads, rows))
    calm, *limited, control = p99.values()
    turned_away = refused(seen)
    print(f"the calm sender's requests refused: {turned_away} rounds; demanded: below 2 × calm, the control above")
    return 0 if max(limited) < 2 * calm < control and not turned_away else 1


if __name__ == "__main__":
    sys.exit(main())
