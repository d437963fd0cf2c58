"""A load generator that costs little: one process, many keep-alive connections, prepared requests, one epoll loop.

Bounded in count; only for addresses of this machine.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import orjson

KINDS = (("repair", "0101"), ("repair", "0211"), ("repair", "0305"), ("repair", "0404"), ("incident", "0102"))
MORE = (("incident", "0205"), ("incident", "0301"), ("incident", "0406"), ("incident", "0501"), ("repair", "0602"))
STAGES = ("reported", "dispatched", "arrived", "finished", "approved")


@dataclass
class Result:
    """What a run saw. Latencies in seconds, unsorted."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    def quantile(self, q: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def reports(prefix: str, count: int) -> Iterator[bytes]:
    """`count` reports of about 600 bytes, five stages per case, over ten topics."""
    for n in range(count):
        case, stage = divmod(n, len(STAGES))
        kind, category = (KINDS + MORE)[case % 10]
        yield orjson.dumps(
            {
                "report_id": f"{prefix}-{n}",
                "case_id": f"{prefix}{case}",
                "kind": kind,
                "category": category,
                "stage": STAGES[stage],
                "occurred_at": f"2026-01-{1 + case % 28:02}T08:{stage:02}:00+08:00",
                "location": {
                    "address": "杨树浦路 × 秦皇岛路 东北角 20 米",
                    "street_code": "310109018000",
                    "grid_code": "31010901800001",
                    "x": 121.5123,
                    "y": 31.2567,
                    "crs": "WGS84",
                },
                "source": "inspector",
                "source_name": "网格监督员",
                "supervision": "pressed",
                "description": "隔离栏倒伏约 6 米,占用非机动车道,已摆放警示锥。请尽快处置。",
                "handler": {"unit_code": "HK-018-07", "unit_name": "市政养护一队"},
                "extra": {"platform": "ywtg", "round": n % 7},
            }
        )


def request(path: str, body: bytes, kind: str = "application/json") -> bytes:
    """The bytes of one POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def drive(port: int, requests: Iterable[bytes], *, connections: int) -> Result:
    """Send every request once, `connections` at a time, and read every answer whole."""
    result, waiting = Result(), iter(requests)
    loop = selectors.EpollSelector()
    started = time.perf_counter()
    for _ in range(connections):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop.register(sock, selectors.EVENT_READ, [b"", 0.0])
        if not _send(loop.get_key(sock), waiting):
            _close(loop, sock)
    while loop.get_map():
        for key, _ in loop.select(30):
            _receive(loop, key, waiting, result)
    result.seconds = time.perf_counter() - started
    loop.close()
    return result


def _send(key: selectors.SelectorKey, waiting: Iterator[bytes]) -> bool:
    body = next(waiting, None)
    if body is None:
        return False
    key.data[:] = [b"", time.perf_counter()]
    sock = key.fileobj
    assert isinstance(sock, socket.socket)
    sock.sendall(body)
    return True


def _receive(
    loop: selectors.BaseSelector, key: selectors.SelectorKey, waiting: Iterator[bytes], result: Result
) -> None:
    sock = key.fileobj
    assert isinstance(sock, socket.socket)
    key.data[0] += sock.recv(262_144)
    head, found, rest = key.data[0].partition(b"\r\n\r\n")
    if not found or len(rest) < int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]):
        return
    result.latencies.append(time.perf_counter() - key.data[1])
    status = int(head[9:12])
    result.statuses[status] = result.statuses.get(status, 0) + 1
    if not _send(key, waiting):
        _close(loop, sock)


def _close(loop: selectors.BaseSelector, sock: socket.socket) -> None:
    loop.unregister(sock)
    sock.close()
