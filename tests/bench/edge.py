"""What keys, limits and masking cost intake: the application in process, on one thread, in turns with an open one.

All of it but server, journal and quarantine. Processor time, as everybody else on this machine takes their part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Final, NamedTuple

from flask import Flask

from service.intake import scopes
from service.intake.keys import Digest, Keys, Role
from service.intake.policies import STRICTEST, Policies
from tests.bench.figures import GUARDED, OPEN, Figures, shown, table
from tests.bench.load import BATCH
from tests.bench.reports import reports
from tests.edge.mutated import Forgetful, answered
from tests.edge.mutations import BATCH as BATCHES
from tests.edge.mutations import JSON, REPORTS, Body
from tests.system.test_signing import signed
from tests.unit.test_authorisation import whole

TURNS: Final = 20  # for each round of the closed loops
SINGLES: Final = 200  # of one turn; and as many reports in batches
TALKING: Final = f"{GUARDED}, a number to mask"
SIGNED: Final = "signed, limits, masking"
RATE: Final = 1_000_000  # reports a second: limited, and never refused


class Way(NamedTuple):
    """Into which application, with which headers, after which change of the body."""

    app: Flask
    headers: Callable[[Body], dict[str, str]]
    spelt: Callable[[bytes], bytes] = lambda data: data


class Doors:
    """Each way in is tried in turns; `scratch` is for the keys."""

    def __init__(self, figures: Figures, scratch: Path, say: Callable[[str], None]) -> None:
        self._figures, self._prefixes = figures, count()
        keys, none = Keys(scratch / "keys.json"), Keys(scratch / "none.json")
        key = keys.add("sender", Role.SENDER, scopes.parse({"rate": RATE}))
        signs = keys.add("signs", Role.SENDER, scopes.parse({"rate": RATE}), digest=Digest.SHA256)
        guarded = whole(keys, Forgetful(), policies=STRICTEST)
        bearer = {"HTTP_AUTHORIZATION": f"Bearer {key}"}
        self._ways = {
            OPEN: Way(whole(none, Forgetful(), policies=Policies.load(None, "keep")), lambda body: {}),
            GUARDED: Way(guarded, lambda body: bearer),
            SIGNED: Way(guarded, lambda body: _signature(signs, body)),
            TALKING: Way(guarded, lambda body: bearer, lambda data: data.replace("6 米".encode(), b"13812345678")),
        }
        say(f"keys, limits, masking: {TURNS} turns of {SINGLES} singles and as many in batches, a round")

    def round(self) -> None:
        """One turn each."""
        prefix = f"edge{next(self._prefixes)}"
        for name, way in self._ways.items():
            told = [way.spelt(one) for one in reports(prefix, SINGLES)]
            pieces = iter(told)
            batches = [b"[" + b",".join(islice(pieces, BATCH)) + b"]" for _ in range(SINGLES // BATCH)]
            singles = _cost(way, [Body(REPORTS, JSON, one) for one in told])
            self._figures.add(name, "singles", cost=singles)
            self._figures.add(name, "batches", cost=_cost(way, [Body(BATCHES, JSON, one) for one in batches]))


def _cost(way: Way, bodies: list[Body]) -> float:
    """Microseconds of processor time a report; there are `SINGLES` of them."""
    ready = [(body, way.headers(body)) for body in bodies]
    begun = time.thread_time()
    statuses = {answered(way.app, body, headers, "127.0.0.1") for body, headers in ready}
    spent = time.thread_time() - begun
    assert statuses == {202}, statuses
    return 1e6 * spent / SINGLES


def _signature(key: str, body: Body) -> dict[str, str]:
    made = signed(key, body.data, path=body.path)
    return {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in made.items()}


def tables(figures: Figures) -> Iterator[str]:
    """Each way in by what a report costs."""
    yield table(
        ["intake, µs of processor time a report", "singles", f"batches of {BATCH}"],
        (
            [way, *(shown(figures.median(way, cell, "cost")) for cell in ("singles", "batches"))]
            for way in (OPEN, GUARDED, SIGNED, TALKING)
        ),
    )
