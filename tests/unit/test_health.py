"""What the web process says of itself when it can or cannot keep a report."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from prometheus_client import CollectorRegistry

from service.intake.health import SLOW_SECONDS, WebHealth
from service.journal.journal import SqliteJournal
from service.ops import HANG_SECONDS, Health, Readiness, blueprint
from service.relay.pulse import heard


def health(journal: SqliteJournal, directory: Path, **writer: Any) -> WebHealth:
    told = {"error": None, "alive": True, "busy_seconds": 0.0, **writer}
    return WebHealth(journal, SimpleNamespace(**told), lambda: heard(directory), SimpleNamespace(problem=None))


@pytest.mark.parametrize(
    ("seconds", "ready", "alive"), [(0, True, True), (SLOW_SECONDS + 1, False, True), (HANG_SECONDS + 1, False, False)]
)
def test_a_write_that_does_not_end_is_told(tmp_path: Path, seconds: float, ready: bool, alive: bool) -> None:
    told = health(SqliteJournal(tmp_path, limit=1 << 24), tmp_path, busy_seconds=seconds)
    assert (told.ready().health is not Health.UNREADY, told.alive()) == (ready, alive)


def test_a_disk_that_others_have_filled_is_told_before_anybody_posts(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path, limit=1 << 24)
    assert health(journal, tmp_path).ready().health is Health.DEGRADED  # no relay has told of itself
    journal.room._reserve = 1 << 62
    assert health(journal, tmp_path).ready() == Readiness(Health.UNREADY, ("journal_full",))


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_who_is_told_503_is_told_when_to_come_again(path: str) -> None:
    app = Flask("probes")
    app.register_blueprint(
        blueprint(CollectorRegistry(), alive=lambda: False, ready=lambda: Readiness(Health.UNREADY, ("journal_full",)))
    )
    answer = app.test_client().get(path)
    assert (answer.status_code, answer.headers["Retry-After"].isdigit()) == (503, True)


PULSES = [b"", b"{", b"[]", b"null", b"7", b"{}", b'{"at": null}', b'{"at": "now", "connected": true, "paused": {}}']
PULSES += [
    b'{"at": 1e99, "connected": true, "paused": %s}' % paused
    for paused in (b"[]", b"[1]", b'"x"', b"null", b'{"a": {}}')
]


@pytest.mark.parametrize("pulse", PULSES)
def test_the_pulse_of_another_version_is_no_error(tmp_path: Path, pulse: bytes) -> None:
    (tmp_path / "relay.json").write_bytes(pulse)

    assert health(SqliteJournal(tmp_path, limit=1 << 24), tmp_path).ready().health is Health.DEGRADED
