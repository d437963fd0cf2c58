"""The rows of the edge suite, and what they share. Each module of this folder adds its rows to `ROWS`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.faults.launcher import sabotage
from tests.faults.rows import Row, Seen, Setting
from tests.gridgov import NO_KAFKA, Gridgov, alone

UNLIMITED = str(1_000_000)  # reports a second: what is tried here is not how often
PATIENT = {  # all that is tried comes from one address
    "GRIDGOV_TRUSTED_PROXIES": "127.0.0.1/32",
    "GRIDGOV_AUTH_FAILURES": "1000000",
    "GRIDGOV_LOG_LEVEL": "DEBUG",
}
ROWS: list[Row] = []


@contextmanager
def guarded(setting: Setting, odd: Mapping[str, dict[str, Any]] | None = None) -> Iterator[tuple[Gridgov, str]]:
    """A web process alone that asks for keys, and a sender's key; `odd`: what is done to it, see `sabotages`."""
    own = Gridgov(setting.directory / "var", NO_KAFKA, {**PATIENT, **(sabotage(**odd) if odd else {})})
    key = new_key(own, "sender")
    with alone(own):
        yield own, key


def new_key(own: Gridgov, name: str, role: str = "sender", *more: str) -> str:
    """A key without a limit worth the name."""
    command = ("keys", "add", name, "--role", role, "--rate", UNLIMITED, *more)
    return own.run(*command, check=True).stdout.strip()


def judged(wrong: Collection[str], figures: str) -> Seen:
    """Met when nothing is wrong; the table names the first few that are."""
    told = "; ".join(sorted(wrong)[:2])
    return Seen(not wrong, f"{figures}: {len(wrong)} wrong" + (f" ({told})" if wrong else ""))
