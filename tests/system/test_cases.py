"""The figures of the operation of 2020, exact to the unit, however its reports come and whatever happens after."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from tests.broker import Kafka
from tests.gridgov import Gridgov, running, until
from tests.system.casebook import NOWHERE, case, corrections, figures, metrics_agree, past_sweeps, standard, total

DEMO = Path(__file__).parents[2] / "deploy" / "demo" / "ciie-2020.ndjson"
RAILING = "202010280031"
FIGURES_OF = ("--campaign", "第三届进博会", "--supervision", "urgent")
QUARTER_MS = 91 * 86_400_000
PIECES = 5


@pytest.fixture(scope="module")
def demo(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gridgov]:
    """A gridgov that has had every report of the operation once."""
    with running(Gridgov(tmp_path_factory.mktemp("demo") / "var", kafka.bootstrap)) as own:
        assert "accepted 266  duplicate 0  refused 0" in own.run("replay", str(DEMO)).stdout
        yield own


def assert_the_figures_of_2020(gridgov: Gridgov) -> None:
    rows = figures(gridgov, *FIGURES_OF)
    assert {place: row["reported"] for place, row in rows.items()} == {
        ("trial", "incident"): 7,
        ("trial", "repair"): 9,
        ("trial", "all"): 16,
        ("formal", "incident"): 22,
        ("formal", "repair"): 11,
        ("formal", "all"): 33,
        ("all", "all"): 49,
    }
    for row in rows.values():
        assert row["approved"] == row["reported"] == row["completion_met"]
        assert (row["completion_rate"], row["in_time_rate"]) == (1.0, 1.0)
        assert (row["missed"], row["overdue_unfinished"], row["cancelled"]) == (0, 0, 0)
    assert (rows["all", "all"]["arrival_met"], rows["all", "all"]["reworked"]) == (20, 1)
    metrics_agree(gridgov)
    assert (total(gridgov, "gridgov_cases_reported_total"), total(gridgov, "gridgov_cases_approved_total")) == (49, 49)


def test_the_figures_of_the_operation(demo: Gridgov) -> None:
    assert_the_figures_of_2020(demo)
    assert corrections(demo) == 0
    assert total(demo, "gridgov_case_arrival_seconds_count", kind="repair") == 20
    assert total(demo, "gridgov_case_completion_seconds_count") == 49
    open_now = (
        "gridgov_cases_open",
        "gridgov_cases_open_supervised",
        "gridgov_cases_overdue",
        "gridgov_cases_due_soon",
    )
    assert [total(demo, name) for name in open_now] == [0, 0, 0, 0]


def test_the_figures_as_a_table_and_as_csv(demo: Gridgov) -> None:
    table = demo.run("standards", *FIGURES_OF).stdout
    assert [line.split()[-8:-6] for line in table.splitlines() if line.startswith(("trial", "formal"))]
    lines = demo.run("standards", *FIGURES_OF, "--format", "csv").stdout.splitlines()
    assert [line.split(",")[:5] for line in lines[1:4]] == [
        ["trial", "incident", "7", "7", "1.0"],
        ["trial", "repair", "9", "9", "1.0"],
        ["trial", "all", "16", "16", "1.0"],
    ]
    days = figures(demo, "--from", "2020-10-26", "--to", "2020-11-11")
    assert {place for place, _ in days} == {"formal"}
    assert days["formal", "all"]["reported"] == 33


def test_the_railing_took_ten_hours(demo: Gridgov) -> None:
    shown = case(demo, RAILING)
    assert (shown["kind"], shown["category"], shown["phase"], shown["supervision"]) == (
        "repair",
        "0211",
        "approved",
        "urgent",
    )
    assert shown["campaign"] == {"name": "第三届进博会", "phase": "formal", "level": "一级"}
    assert (shown["flags"], shown["reopenings"]) == ([], 0)
    completion, arrival = standard(shown, "completion"), standard(shown, "arrival")
    assert completion == {
        "standard": "completion",
        "limit_seconds": 86400,
        "started_at": "2020-10-28T01:20:00.000Z",
        "deadline": "2020-10-29T01:20:00.000Z",
        "elapsed_seconds": 36_000.0,  # 10:00:00
        "outcome": "met",
        "overdue": False,
    }
    assert (arrival["limit_seconds"], arrival["elapsed_seconds"], arrival["outcome"]) == (900, 70.0, "met")
    assert [one["stage"] for one in shown["stages"]] == [
        *("reported", "dispatched", "arrived", "note", "note", "note", "finished", "approved")
    ]
    [line] = [one for one in demo.run("cases").stdout.splitlines() if one.startswith(RAILING)]
    assert "completion met 10:00:00" in line


def test_the_same_after_all_of_it_came_again(demo: Gridgov) -> None:
    assert "accepted 0  duplicate 266  refused 0" in demo.run("replay", str(DEMO), "--batch", "7").stdout
    assert_the_figures_of_2020(demo)
    assert corrections(demo) == 0


def test_the_same_after_a_restart(demo: Gridgov) -> None:
    demo.settled()
    demo.stop()
    demo.start()
    demo.ready()
    past_sweeps(demo, 2)
    assert_the_figures_of_2020(demo)
    assert corrections(demo) == 0


@pytest.mark.parametrize(("grace", "corrected"), [("120", False), ("0", True)])
def test_the_same_when_it_comes_in_pieces_past_several_sweeps(tmp_path: Path, grace: str, corrected: bool) -> None:
    """Without grace a piece is condemned before the next one comes, which acquits it: corrected, and exact."""
    lines = DEMO.read_bytes().splitlines(keepends=True)
    size = -(-len(lines) // PIECES)
    with running(Gridgov(tmp_path / "var", NOWHERE, {"GRIDGOV_CASE_GRACE": grace})) as own:
        for at in range(0, len(lines), size):
            status, body, _ = own.post(
                b"".join(lines[at : at + size]), "/v1/reports/batch", Content_Type="application/x-ndjson"
            )
            assert (status, body["failed"]) == (202, 0)
            past_sweeps(own, 2)
        assert_the_figures_of_2020(own)
        assert (corrections(own) > 0) == corrected
        assert standard(case(own, RAILING), "completion")["elapsed_seconds"] == 36_000


def test_the_same_after_retention_and_a_late_report_still_finds_its_case(demo: Gridgov) -> None:
    """GRIDGOV_CASE_KEEP_DAYS is a day at least: the days pass by moving the cases' last receipt back while all stands.

    That is the only thing done behind the service's back; what it makes of it is asked of the service.
    """
    before = case(demo, RAILING)
    demo.stop()
    with closing(sqlite3.connect(demo.data_dir / "cases.sqlite3")) as file, file:
        assert file.execute("UPDATE cases SET touched_at = touched_at - ?", (QUARTER_MS,)).rowcount == 49
    demo.start()
    demo.ready()
    until(lambda: len(case(demo, RAILING)["stages"]) < len(before["stages"]), "the old cases are stripped")
    assert_the_figures_of_2020(demo)
    shown = case(demo, RAILING)
    assert drop(shown) == drop(before)

    late = {"report_id": "late", "case_id": RAILING, "kind": "repair", "category": "0211", "stage": "note"}
    assert demo.post(late | {"occurred_at": "2020-10-29T08:00:00+08:00"})[0] == 202
    until(lambda: "late" in {one["report_id"] for one in case(demo, RAILING)["stages"]}, "the late report is folded")
    assert drop(case(demo, RAILING)) == drop(before)
    assert_the_figures_of_2020(demo)

    again = [one for one in map(orjson.loads, DEMO.read_bytes().splitlines()) if one["case_id"] == RAILING]
    status, body, _ = demo.post(again, "/v1/reports/batch")
    assert (status, body["duplicates"]) == (202, len(again))
    assert_the_figures_of_2020(demo)
    assert corrections(demo) == 0


def drop(shown: dict[str, object]) -> dict[str, object]:
    """All that is shown of a case but its stages and the moment."""
    return {name: value for name, value in shown.items() if name not in ("stages", "as_of")}
