"""The load: closed loops by wrk, and a client of our own that sends on a timetable. For addresses of this machine only.

wrk costs a fifth of what a generator in Python costs, which matters where both share the cores. Ours sends each of a
number of prepared requests exactly once; with a rate it is an open loop, whose latencies count from when a request was
due, not from when a slow service let it go.
"""

from __future__ import annotations

import gc
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from tests.bench.reports import CYCLE, numbered, templates

LUA: Final = Path(__file__).with_name("report.lua")
BATCH: Final = 100  # reports; a multiple of CYCLE, so that one template does for all
PATIENCE: Final = 30.0  # seconds without any answer before a client gives up
CHUNK: Final = 262_144


@dataclass(frozen=True)
class Shape:
    """How a contestant wants its reports: `begin`, each as `item` with `between` them, `end`. `path` with its query."""

    path: str
    content_type: str = "application/json"
    begin: str = ""
    item: str = "@report@"
    between: str = ","
    end: str = ""

    def request(self, reports: Sequence[bytes]) -> bytes:
        """The bytes of one POST."""
        before, after = self.item.encode().split(b"@report@")
        items = self.between.encode().join(before + report + after for report in reports)
        return post(self.path, self.begin.encode() + items + self.end.encode(), self.content_type)


def post(path: str, body: bytes, content_type: str = "application/json") -> bytes:
    """The bytes of a POST with this body."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def new_prefix() -> str:
    """What ids begin with that nobody has had."""
    return f"b{time.time_ns() // 1_000_000}"


def requests(
    shape: Shape, size: int, prefix: str, count: int, first: int = 0, *, scattered: bool = False
) -> Iterator[bytes]:
    """`count` reports from number `first` on, `size` to a request; both are multiples of `size`."""
    if size == 1:
        made = _templates(shape, size, prefix, scattered)
        yield from (numbered(made[n % CYCLE], n) for n in range(first, first + count))
        return
    cycle = _cycle(prefix, size, scattered)
    for n in range(first, first + count, size):
        yield shape.request([numbered(one, n + at) for at, one in enumerate(cycle)])


def _cycle(prefix: str, size: int, scattered: bool) -> list[bytes]:
    cycle = templates(prefix, scattered=scattered)
    return [cycle[n % CYCLE] for n in range(size)]


def _templates(shape: Shape, size: int, prefix: str, scattered: bool) -> list[bytes]:
    if size == 1:
        return [shape.request([one]) for one in templates(prefix, scattered=scattered)]
    return [shape.request(_cycle(prefix, size, scattered))]


# ---- closed loops ----


@dataclass(frozen=True)
class Closed:
    """What wrk saw. `refused`: answers above 399; `broken`: connections that failed, and answers that never came."""

    answers: int
    refused: int
    broken: int
    seconds: float
    p50: float
    p99: float

    @property
    def taken(self) -> int:
        return self.answers - self.refused


def missing() -> str | None:
    """What to do before wrk can be used; None when it is here."""
    return None if shutil.which("wrk") else "wrk is not here: sh deploy/packages.sh bench"


def closed(
    port: int, shape: Shape, size: int, prefix: str, connections: int, seconds: int, *, scattered: bool = False
) -> Closed:
    """`connections` that each send the next request of `size` reports as soon as the last is answered."""
    made = _templates(shape, size, prefix, scattered)
    with tempfile.NamedTemporaryFile(prefix="gridgov-bench-") as file:
        file.write(b"%d %d\n" % (len(made), size) + b"".join(b"%d\n%b" % (len(one), one) for one in made))
        file.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(LUA)]
        told = subprocess.run(
            [*command, f"http://127.0.0.1:{port}", "--", file.name],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + 60,
        )
    try:
        return Closed(**orjson.loads(told.stdout.rstrip().rpartition("\n")[2]))
    except (orjson.JSONDecodeError, TypeError) as error:
        raise RuntimeError(f"wrk told nothing:\n{told.stdout}{told.stderr}") from error


# ---- on a timetable ----


@dataclass
class Seen:
    """What our client saw. Latencies in seconds, in the order of the answers; status 0: the connection ended."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def taken(self) -> int:
        """How many requests got an answer of success."""
        return sum(count for status, count in self.statuses.items() if 200 <= status < 300)

    def quantile(self, q: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def drive(port: int, requests: Iterable[bytes], *, connections: int, rate: float | None = None) -> Seen:
    """Send every request once and read every answer whole: `rate` a second, or as fast as the connections allow.

    Where no connection is free at a request's time it waits, and the wait is in its latency. RuntimeError: no answer
    at all within `PATIENCE`.
    """
    gc.collect()
    gc.disable()  # its pauses would be told as the service's
    try:
        return _Client(port, requests, connections, rate).run()
    finally:
        gc.enable()


class _Client:
    def __init__(self, port: int, requests: Iterable[bytes], connections: int, rate: float | None) -> None:
        self._port, self._waiting, self._rate = port, iter(requests), rate
        self._seen = Seen()
        self._idle = [self._connected() for _ in range(connections)]
        self._busy: dict[socket.socket, tuple[float, bytes]] = {}  # since when it waits, what it has heard so far
        self._began = self._due = time.perf_counter()
        self._next = next(self._waiting, None)
        self._sent = 0

    def run(self) -> Seen:
        while self._busy or self._next is not None:
            self._send()
            answering = select.select(list(self._busy), [], [], self._pause())[0]
            for sock in answering:
                self._hear(sock)
            if not answering and time.perf_counter() - self._due > PATIENCE:
                raise RuntimeError(f"no answer from port {self._port} for {PATIENCE:.0f} s")
        self._seen.seconds = time.perf_counter() - self._began
        for sock in self._idle:
            sock.close()
        return self._seen

    def _send(self) -> None:
        """Send what is due, as far as there are connections for it."""
        while self._idle and self._next is not None and (now := time.perf_counter()) >= self._due:
            sock = self._idle.pop()
            self._busy[sock] = (self._due if self._rate else now, b"")
            sock.sendall(self._next)
            self._sent += 1
            self._next = next(self._waiting, None)
            self._due = self._began + self._sent / self._rate if self._rate else now

    def _pause(self) -> float:
        if self._rate and self._idle and self._next is not None:
            return max(0.0, self._due - time.perf_counter())
        return PATIENCE

    def _hear(self, sock: socket.socket) -> None:
        since, heard = self._busy[sock]
        some = sock.recv(CHUNK)
        heard += some
        if some and not _whole(heard):
            self._busy[sock] = (since, heard)
            return
        del self._busy[sock]
        status = int(heard[9:12]) if some else 0
        self._seen.latencies.append(time.perf_counter() - since)
        self._seen.statuses[status] = self._seen.statuses.get(status, 0) + 1
        self._idle.append(sock if some else self._connected())

    def _connected(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self._port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock


def _whole(answer: bytes) -> bool:
    head, found, rest = answer.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
    return bool(found) and (len(rest) >= int(length) if length else rest.endswith(b"0\r\n\r\n"))  # else in chunks
