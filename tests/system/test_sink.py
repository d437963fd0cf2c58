"""`gridgov sink` on a real Kafka, into SQLite and a real PostgreSQL: the sub-centre's tables are gridgov's cases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from tests.broker import Broker, free_port, serving
from tests.gridgov import Gridgov, running, until
from tests.histories import histories, mixed
from tests.postgresql import Postgresql
from tests.sunk import cases, count, differences, rows
from tests.system.case_pages import every_case
from tests.system.clients import EVERY_TOPIC

CASES = 300
GRACE = 2  # seconds: what is overdue is judged while the test looks


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker on whose topics nobody else has published: a sink takes all there is."""
    with serving(Broker(tmp_path_factory.mktemp("kafka"))) as own:
        yield own


@pytest.fixture(scope="module")
def district(own_kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gridgov]:
    """A gridgov that has had some hundred cases, all of them in Kafka."""
    directory, env = tmp_path_factory.mktemp("district"), {"GRIDGOV_CASE_GRACE": str(GRACE)}
    with running(Gridgov(directory / "var", own_kafka.bootstrap, env)) as own:
        told = mixed(Random(16), list(histories(Random(16), CASES, "h")))
        for start in range(0, len(told), 50):
            status, body, _ = own.post(told[start : start + 50], "/v1/reports/batch")
            assert (status, body["failed"]) == (202, 0), body
        own.settled()
        yield own


@pytest.mark.parametrize("where", ["sqlite", "postgresql"])
def test_the_tables_are_the_cases(
    district: Gridgov, postgresql: Postgresql, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While both judge what runs out of time: one may be a moment behind."""
    url = f"sqlite:///{tmp_path / 'sub centre.db'}" if where == "sqlite" else postgresql.url
    env = {"GRIDGOV_SINK_DATABASE": url.replace(" ", "%20"), "GRIDGOV_SINK_METRICS_PORT": str(free_port())}
    monkeypatch.setattr(district, "env", {**district.env, **env})
    seen: list[str] = []

    def same() -> bool:
        ours, as_of = every_case(district)
        seen[:] = differences(cases(url, as_of), ours)
        return not seen

    process, accepted = district.start("sink", "--group", f"{where}-{tmp_path.name}"), district.status()["accepted"]
    try:
        until(lambda: count(url) == accepted, "everything is worked in")
        with suppress(AssertionError):
            until(same, "the cases are the same", seconds=60, every=0.5)
        told = district.metrics(int(env["GRIDGOV_SINK_METRICS_PORT"]))
    finally:
        process.terminate()
        process.wait(20)

    assert seen == []
    assert rows(url, "SELECT COUNT(*) FROM reports") == [(accepted,)]
    assert told['gridgov_sink_records_total{result="reports"}'] == accepted
    lag = [value for name, value in told.items() if name.startswith("gridgov_sink_lag_records{")]
    assert len(lag) == len(EVERY_TOPIC) * 3
    assert set(lag) == {0}
    assert process.returncode == 0
    assert f"{accepted} reports worked in" in district.log
    assert "geheim" not in district.log
