"""Three gridgovs on one PostgreSQL: whoever is asked knows what was accepted, one publishes, and any may die."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.broker import Kafka
from tests.gridgov import Gridgov, report, until
from tests.postgresql import Postgresql

log = logging.getLogger(__name__)

LEADS = "gridgov_relay_leader"
CASES = 'gridgov_cases_reported_total{kind="repair",major="02"}'


@pytest.fixture
def replicas(kafka: Kafka, postgresql: Postgresql, tmp_path: Path) -> Iterator[list[Gridgov]]:
    """All ready, each with files of its own."""
    env = {"GRIDGOV_JOURNAL": postgresql.url}
    made = [Gridgov(tmp_path / f"replica-{number}", kafka.bootstrap, env) for number in range(3)]
    try:
        for one in made:
            one.start()
        for one in made:
            one.ready()
        yield made
    finally:
        for one in made:
            one.stop()


def leaders(replicas: list[Gridgov]) -> list[Gridgov]:
    """Who says that it leads."""
    found = []
    for one in replicas:
        with suppress(urllib3.exceptions.HTTPError):
            found += [one] if one.metrics(one.relay_metrics)[LEADS] else []
    return found


def counted(replicas: list[Gridgov]) -> list[float]:
    """The cases that were reported, as each tells that tells any."""
    told = [one.metrics(one.relay_metrics) for one in replicas]
    return [one[CASES] for one in told if CASES in one]


class Platform:
    """Posts to all of them in turn, each report until one takes it."""

    def __init__(self, replicas: list[Gridgov]) -> None:
        self._replicas, self._stop = replicas, threading.Event()
        self.accepted: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Platform:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def more(self, count: int = 20) -> None:
        """Wait until so many more are accepted."""
        wanted = len(self.accepted) + count
        until(lambda: len(self.accepted) >= wanted, f"{count} more are accepted", seconds=120)

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            one = report(f"p{number}", case_id=f"case-{number}")
            with suppress(urllib3.exceptions.HTTPError):
                status, receipt, _ = self._replicas[number % 3].post(one)
                if status in (200, 202):
                    self.accepted[one["report_id"]] = receipt
                    number += 1
                    continue
            self._stop.wait(0.1)


def test_three_replicas_are_one_gateway(replicas: list[Gridgov], postgresql: Postgresql) -> None:
    until(lambda: len(leaders(replicas)) == 1, "one of them leads")
    receipts = [one.post(report("same"))[1] for one in replicas]
    assert [receipt.pop("duplicate") for receipt in receipts] == [False, True, True]
    assert len({receipt["received_at"] for receipt in receipts}) == 1
    with Platform(replicas) as platform:
        platform.more()
        first = until(lambda: len(now := leaders(replicas)) == 1 and now[0], "one of them leads")
        os.kill(first.child("relay"), signal.SIGKILL)
        began = time.monotonic()
        until(lambda: (now := leaders(replicas)) and now != [first], "another leads")
        log.info("another leads %.1f s after SIGKILL", time.monotonic() - began)
        platform.more()
        until(lambda: len(leaders(replicas)) == 1, "one of them leads")

        postgresql.crash()
        until(lambda: replicas[0].get("/readyz")[1]["reasons"] == ["journal_unavailable"], "readiness tells")
        status, body, _ = replicas[1].post(report("away"))
        assert (status, body["code"]) == (503, "journal_unavailable")
        postgresql.start()
        for one in replicas:
            one.ready()
        platform.more()

    everything_is_there(replicas, platform.accepted)


def everything_is_there(replicas: list[Gridgov], accepted: dict[str, Any]) -> None:
    told = replicas[0].settled()
    assert (told["mismatch"], told["parked"], told["pending"]) == (0, 0, 0)
    assert told["accepted"] == len(accepted) + 1
    read = [one for one in replicas[0].consumed() if one["headers"]["journal-id"] == told["journal_id"]]
    assert sorted(one["value"]["report_id"] for one in read) == sorted([*accepted, "r-same"])
    until(lambda: counted(replicas) == [len(accepted) + 1], "one of them tells what was counted")
    for one in replicas:
        for report_id in ("r-p0", "r-same"):
            assert one.get(f"/v1/reports/{report_id}")[1]["state"] == "settled"
        until(lambda one=one: one.get("/v1/cases/case-0")[0] == 200, "the case is known")  # type: ignore[misc]
        assert len(one.get("/v1/cases?limit=1000")[1]["cases"]) == len(accepted) + 1
        assert "synchronous_commit=on" in one.get("/readyz")[1]["accepted"]
