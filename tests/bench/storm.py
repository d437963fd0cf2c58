"""One sender's storm beside another's calm: `python -m tests.bench.storm [SECONDS]`. On this machine only.

A sender posts singles on a timetable; then again while another posts as fast as its connections take answers; then, as
the control, while the other's key has no limit worth the name. The first must not notice the limited storm (its p99
below twice the calm one), and must notice the other, else the storm was none.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, count
from pathlib import Path
from typing import Final

from tests.bench.figures import table
from tests.bench.load import Seen, Shape, drive, new_prefix, requests
from tests.gridgov import Gridgov, alone

RATE, CALM_CONNECTIONS, STORM_CONNECTIONS = 50, 4, 64
LIMIT: Final = 200  # reports a second of the storm's key
NO_LIMIT: Final = 1_000_000
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


def run(seconds: int) -> dict[str, tuple[Seen, Seen | None]]:
    """What both senders saw in each of the three."""
    seen: dict[str, tuple[Seen, Seen | None]] = {}
    with tempfile.TemporaryDirectory(prefix="gridgov-storm-") as scratch, ProcessPoolExecutor(1) as elsewhere:
        own = Gridgov(Path(scratch) / "var", "127.0.0.1:1", {"GRIDGOV_ALLOW_VOLATILE": "yes"})
        calm, limited, boundless = (
            own.run("keys", "add", name, "--role", "sender", "--rate", str(rate), check=True).stdout.strip()
            for name, rate in (("calm", 1000), ("storm", LIMIT), ("control", NO_LIMIT))
        )
        with alone(own):
            drive(own.port, posts(calm, 300), connections=8)  # warm
            for name, key in (("calm", ""), ("beside a storm", limited), ("control: no limit", boundless)):
                other = elsewhere.submit(storm, own.port, key, seconds + 1) if key else None
                told = drive(own.port, posts(calm, RATE * seconds), connections=CALM_CONNECTIONS, rate=RATE)
                seen[name] = told, other.result() if other else None
    return seen


def main() -> int:
    seen = run(int(sys.argv[1]) if sys.argv[1:] else 15)
    rows = []
    for name, (told, other) in seen.items():
        figures = [f"{1000 * told.quantile(q):.1f}" for q in (0.5, 0.99)]
        theirs = "–" if other is None else f"{sum(other.statuses.values()) / other.seconds:,.0f}/s {other.statuses}"
        rows.append([name, *figures, str(told.statuses), theirs])
    print(table(["the calm sender", "p50 ms", "p99 ms", "answers", "the storm's answers"], rows))
    calm, beside, control = (told.quantile(0.99) for told, _ in seen.values())
    print(f"p99 beside a storm {beside / calm:.2f} × calm (< 2), without a limit {control / calm:.2f} × (> 2)")
    refused = sum(told.statuses.get(202, 0) != sum(told.statuses.values()) for told, _ in seen.values())
    return 0 if beside < 2 * calm < control and not refused else 1


if __name__ == "__main__":
    sys.exit(main())
