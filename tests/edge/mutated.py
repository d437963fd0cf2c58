"""Rows about bodies that were reports once: a million in process, fifty thousand over HTTP. None may be a 500."""

from __future__ import annotations

import io
import logging
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from flask import Flask

from service.intake import scopes
from service.intake.keys import Keys, Role
from service.ports import Conflict, Message, Receipt, State
from tests.bench.load import drive
from tests.bench.load import post as request_of
from tests.edge import sabotages
from tests.edge.mutations import Body, mutated
from tests.edge.rows import ROWS, UNLIMITED, guarded
from tests.faults.rows import Row, Seen, Setting
from tests.gridgov import Gridgov
from tests.unit.test_authorisation import Owned, whole

CORES = 2
MOST_GROWTH = 8  # MiB in process
MOST_GROWTH_OF_WEB = 32  # MiB: it has caches and a quarantine to fill
FAILS, LEAKS = 0.01, 64 << 10  # of the handler that is planted: this share, so many bytes a request


class Figures(NamedTuple):
    """How often each status came, and by how many bytes the process grew once it was warm."""

    statuses: Counter[int]
    grown: int

    def seen(self, most: int) -> Seen:
        """0 errors of ours, no more than `most` MiB."""
        errors = sum(count for status, count in self.statuses.items() if not 200 <= status < 500)
        told = ", ".join(f"{count:,} × {status}" for status, count in sorted(self.statuses.items()))
        return Seen(errors == 0 and self.grown < most << 20, f"{told}; + {self.grown / (1 << 20):.1f} MiB")


# ---- in process ----


class Forgetful(Owned):
    """A journal that keeps nothing: what grows is ours."""

    def submit(self, messages: Sequence[Message]) -> list[Receipt | Conflict]:
        return [Receipt(m.report_id, m.case_id, m.topic, m.received_at, State.PENDING) for m in messages]


def in_process(setting: Setting, *, fails: float = 0.0, leaks: int = 0) -> Seen:
    """The whole application but server, journal and quarantine, called as the server calls it."""
    count = (10_000 if setting.short else 500_000) if not leaks else 5_000
    begun = time.perf_counter()
    with ProcessPoolExecutor(CORES, get_context("spawn")) as pool:
        futures = [pool.submit(_called, setting.seed + core, count, fails, leaks) for core in range(CORES)]
        parts = [future.result() for future in futures]
    rate = CORES * count / (time.perf_counter() - begun)
    seen = Figures(sum((one.statuses for one in parts), Counter()), max(one.grown for one in parts)).seen(MOST_GROWTH)
    return Seen(seen.met, f"{seen.figures} ({rate:,.0f}/s)")


def _called(seed: int, count: int, fails: float, leaks: int) -> Figures:
    os.nice(5)
    logging.disable()
    if leaks:
        sabotages.planted(fails, leaks, seed)
    with tempfile.TemporaryDirectory() as directory:
        keys = Keys(Path(directory) / "keys.json")
        key = keys.add("sender", Role.SENDER, scopes.parse({"rate": int(UNLIMITED)}))
        app, told, warm = whole(keys, Forgetful()), Counter[int](), 0
        let_in = {"HTTP_AUTHORIZATION": f"Bearer {key}"}
        for number, body in enumerate(mutated(seed, count)):
            if number == count // 5:
                warm = _resident()
            told[answered(app, body, let_in)] += 1
        return Figures(told, _resident() - warm)


def answered(app: Flask, body: Body, headers: Mapping[str, str], address: str = "203.0.113.9") -> int:
    """The status that the application answers a post with, called as the server calls it."""
    found: list[str] = []
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": body.path,
        "QUERY_STRING": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "gridgov",
        "SERVER_PORT": "0",
        "REMOTE_ADDR": address,
        "HTTP_HOST": "127.0.0.1",
        "CONTENT_TYPE": body.content_type,
        "CONTENT_LENGTH": str(len(body.data)),
        "wsgi.input": io.BytesIO(body.data),
        "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http",
        **headers,
    }
    b"".join(app.wsgi_app(environ, lambda status, headers, *_: found.append(status)))  # type: ignore[arg-type]
    return int(found[0][:3])


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


# ---- over HTTP ----


def over_http(setting: Setting, **odd: dict[str, Any]) -> Seen:
    """The real service, with its journal on the disk and what it refuses in its quarantine."""
    count = 2_000 if setting.short or odd else 50_000
    with guarded(setting, odd) as (own, key):
        warm = drive(own.port, requests(setting.seed, count // 4, key), connections=16).statuses
        before = _memory(own)
        told = drive(own.port, requests(setting.seed + 1, count, key), connections=16).statuses
        return Figures(Counter(warm) + Counter(told), _memory(own) - before).seen(MOST_GROWTH_OF_WEB)


def requests(seed: int, count: int, key: str) -> Iterator[bytes]:
    """The bytes of so many posts."""
    for body in mutated(seed, count):
        head, _, data = request_of(body.path, body.data, body.content_type).partition(b"\r\n\r\n")
        yield head + f"\r\nAuthorization: Bearer {key}\r\n\r\n".encode() + data


def _memory(own: Gridgov) -> int:
    return int(own.metrics()["process_resident_memory_bytes"])


ROWS += [
    Row(
        "mutated bodies, in process",
        f"0 × 5xx of 1,000,000, + < {MOST_GROWTH} MiB",
        in_process,
        partial(in_process, fails=FAILS, leaks=LEAKS),
        "a handler that fails and leaks",
        in_short=True,
    ),
    Row(
        "mutated bodies, over HTTP",
        f"0 × 5xx of 50,000, none broken, + < {MOST_GROWTH_OF_WEB} MiB",
        over_http,
        partial(over_http, planted={"fails": FAILS, "leaks": LEAKS, "seed": 1}),
        "a handler that fails and leaks",
        in_short=True,
    ),
]
