"""A simulated district's day comes out of gridgov as the simulation says it must; and a day that does not is told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import pytest

from tests.broker import Kafka
from tests.gridgov import Gridgov, running

DAY = ("simulate", "--seed", "3", "--cases", "300", "--check")
WORST = [word for scenario in ("rain", "retry-storm", "operation") for word in ("--scenario", scenario)]
FIGURES = (
    *("campaign_phase", "kind", "reported", "approved", "cancelled", "arrival_met", "arrival_breached"),
    *("completion_met", "completion_breached", "overdue_unfinished", "reworked"),
)


@pytest.fixture
def impatient(kafka: Kafka, tmp_path: Path) -> Iterator[Gridgov]:
    """One that decides seconds after the deadline: long enough for all of a case to be posted."""
    with running(Gridgov(tmp_path / "var", kafka.bootstrap, env={"GRIDGOV_CASE_GRACE": "5"})) as started:
        yield started


def test_the_figures_of_a_day_are_those_of_the_simulation(impatient: Gridgov, tmp_path: Path) -> None:
    done = impatient.run(*DAY, *WORST, "--expect", str(tmp_path / "expected.json"))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "all as expected" in done.stdout
    expected = orjson.loads((tmp_path / "expected.json").read_bytes())
    assert len(expected["cases"]) >= 300
    assert expected["posts"] > expected["reports"] > 1500
    assert impatient.settled()["settled"] == expected["reports"]
    assert figures(impatient, expected["since"]) == [[row[name] for name in FIGURES] for row in expected["figures"]]

    approved = next(name for name, case in expected["cases"].items() if case["approved"])
    assert impatient.post(sent_back(approved))[0] == 202
    again = impatient.run(*DAY, *WORST, "--wait", "3")

    assert again.returncode == 1
    assert f"accepted 0  duplicate {expected['posts']}  refused 0" in again.stdout
    assert f"{approved}: " in again.stdout
    assert f"{len(expected['cases'])} cases: 1 differ" in again.stdout


def figures(gridgov: Gridgov, since: str) -> list[list[object]]:
    """What `gridgov standards` says of the cases of that day, without its sums."""
    day = datetime.fromisoformat(since).astimezone(ZoneInfo("Asia/Shanghai")).date()
    period = ("--from", f"{day}", "--to", f"{day + timedelta(days=1)}", "--format", "json")
    rows = orjson.loads(gridgov.run("standards", *period, check=True).stdout)["figures"]
    return [[row[name] for name in FIGURES] for row in rows if "all" not in (row["kind"], row["campaign_phase"])]


def sent_back(case_id: str) -> dict[str, str]:
    """What nobody has simulated."""
    report = {"report_id": "unexpected", "case_id": case_id, "kind": "repair", "category": "0211", "stage": "returned"}
    return report | {"occurred_at": datetime.now(ZoneInfo("Asia/Shanghai")).isoformat(timespec="seconds")}
