"""Good reports beside 500 slow connections: `python -m tests.bench.slow [SECONDS]`. On this machine only.

The slow ones have sent half a head or half a body and are opened anew when they are cut. Demanded through nginx: 99 %
of the good reports taken, p99 below 200 ms, each on a connection of its own with a TLS handshake. The control is
gridgov alone with more slow connections than it takes (1,100): nobody else may get an answer there.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from tests.bench.figures import table
from tests.front import Front, front, room_for, slow_clients
from tests.gridgov import NO_KAFKA, Gridgov, alone, report

SLOW: Final = 500
TOO_MANY: Final = 1100  # for gridgov alone: it has 1,024
RATE: Final = 40  # good reports a second
PATIENCE: Final = 2.0  # seconds until one counts as lost
LIVES: Final = 9.0  # seconds of a slow connection, less than nginx's limits: all of them are there all the time


@contextmanager
def besieged(number: int, key: str, port: int, made: Front | None) -> Iterator[None]:
    """So many slow connections for as long as this lasts, in two shifts that take turns."""
    ended, ready = threading.Event(), threading.Barrier(2)

    def besiege() -> None:
        with slow_clients(number, key, port, made):
            ready.wait()
            while not ended.wait(LIVES):
                with slow_clients(number, key, port, made):
                    ended.wait(LIVES)

    besieger = threading.Thread(target=besiege)
    besieger.start()
    ready.wait()
    try:
        yield
    finally:
        ended.set()
        besieger.join()


def good(number: str, key: str, port: int, made: Front | None) -> float | None:
    """Seconds from the first packet of a connection to its 202; None: there was none in time."""
    body = orjson.dumps(report(number))
    head = f"POST /v1/reports HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    start = time.perf_counter()
    try:
        with made.connect() if made else socket.create_connection(("127.0.0.1", port)) as connection:
            connection.settimeout(PATIENCE)
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            taken = connection.recv(4096).startswith(b"HTTP/1.1 202")
    except OSError:
        return None
    return time.perf_counter() - start if taken else None


def measured(name: str, seconds: float, key: str, port: int, made: Front | None) -> list[float | None]:
    """Good reports on a timetable, one at a time."""
    seen: list[float | None] = []
    start = time.perf_counter()
    while (now := time.perf_counter() - start) < seconds:
        time.sleep(max(0.0, len(seen) / RATE - now))
        seen.append(good(f"{name}-{len(seen)}", key, port, made))
    return seen


class Figures(NamedTuple):
    """Good reports: how many were sent, the share that was taken, the p99 of those in seconds."""

    sent: int
    taken: float
    p99: float

    @property
    def good(self) -> bool:
        """What is demanded behind nginx."""
        return self.taken >= 0.99 and self.p99 < 0.2


def figures(seen: list[float | None]) -> Figures:
    took = sorted(one for one in seen if one is not None)
    return Figures(len(seen), len(took) / len(seen), took[int(0.99 * len(took))] if took else float("inf"))


@contextmanager
def guarded(scratch: Path) -> Iterator[tuple[Gridgov, str, Front]]:
    """A gridgov alone, a sender's key, and nginx before it."""
    room_for(2 * TOO_MANY)
    own = Gridgov(scratch / "var", NO_KAFKA, {"GRIDGOV_TRUSTED_PROXIES": "127.0.0.1/32"})
    key = own.run("keys", "add", "sender", "--role", "sender", check=True).stdout.strip()
    with alone(own), front(scratch / "front", own.port) as made:
        yield own, key, made


def main() -> int:
    seconds = float(sys.argv[1]) if sys.argv[1:] else 25.0
    with tempfile.TemporaryDirectory(prefix="gridgov-slow-") as scratch, guarded(Path(scratch)) as (own, key, made):
        calm = figures(measured("calm", 5, key, own.port, made))
        with besieged(SLOW, key, own.port, made):
            behind = figures(measured("slow", seconds, key, own.port, made))
        with besieged(TOO_MANY, key, own.port, None):
            bare = figures(measured("bare", 5, key, own.port, None))
    named = {
        "nginx, nobody slow": calm,
        f"nginx, {SLOW} slow": behind,
        f"control: no nginx, {TOO_MANY} slow": bare,
    }
    rows = [[name, str(one.sent), f"{100 * one.taken:.1f} %", f"{1000 * one.p99:.0f}"] for name, one in named.items()]
    print(table(["good reports beside", "sent", "taken", "p99 ms"], rows))
    return 0 if behind.good and bare.taken < 0.99 else 1


if __name__ == "__main__":
    sys.exit(main())
