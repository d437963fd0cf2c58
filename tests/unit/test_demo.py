"""The demo tells the operation as it was: the figures of its source, computed from the file itself."""

import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.catalogue import Catalogue, Standing

DEMO = Path(__file__).parents[2] / "deploy" / "demo"
TOLD = DEMO / "ciie-2020.ndjson"

Report = dict[str, Any]


def read() -> list[Report]:
    return [json.loads(line) for line in TOLD.read_text(encoding="utf-8").splitlines()]


def by_case(reports: list[Report]) -> dict[str, list[Report]]:
    cases = defaultdict(list)
    for report in reports:
        cases[report["case_id"]].append(report)
    return dict(cases)


REPORTS = read()
CASES = by_case(REPORTS)


def stages(case: list[Report]) -> list[str]:
    return [report["stage"] for report in case]


def seconds_to(case: list[Report], stage: str, which: int = 0) -> float:
    """From the first report to a stage: its first time, or with -1 its last."""
    at = [datetime.fromisoformat(report["occurred_at"]) for report in case if report["stage"] == stage]
    return (at[which] - datetime.fromisoformat(case[0]["occurred_at"])).total_seconds()


def test_the_file_is_what_the_generator_prints() -> None:
    command = [sys.executable, "-I", "-S", str(DEMO / "ciie_2020.py")]
    printed = subprocess.run(command, check=True, capture_output=True, env={"LC_ALL": "C"}).stdout
    assert printed == TOLD.read_bytes()


def test_the_figures_of_the_two_runs() -> None:
    first = [case[0] for case in CASES.values()]
    assert Counter((report["campaign"]["phase"], report["kind"]) for report in first) == {
        ("trial", "incident"): 7,
        ("trial", "repair"): 9,
        ("formal", "incident"): 22,
        ("formal", "repair"): 11,
    }
    assert Counter(report["campaign"]["phase"] for report in first) == {"trial": 16, "formal": 33}


def test_each_case_lies_in_the_days_of_its_run() -> None:
    days = {"trial": (date(2020, 10, 14), date(2020, 10, 25)), "formal": (date(2020, 10, 26), date(2020, 11, 10))}
    for report in REPORTS:
        first, last = days[report["campaign"]["phase"]]
        assert first <= datetime.fromisoformat(report["occurred_at"]).date() <= last


def test_every_report_is_urgent_and_of_the_campaign() -> None:
    assert {report["supervision"] for report in REPORTS} == {"urgent"}
    assert {(r["campaign"]["name"], r["campaign"]["level"]) for r in REPORTS} == {("第三届进博会", "一级")}


def test_every_case_is_told_whole_and_approved() -> None:
    for case in CASES.values():
        told_whole_and_approved(case)


def told_whole_and_approved(case: list[Report]) -> None:
    assert stages(case)[0] == "reported"
    assert stages(case)[-2:] == ["finished", "approved"]
    assert [stage for stage in stages(case) if stage in {"dispatched", "arrived"}] == ["dispatched", "arrived"]
    for unchanging in ("kind", "category", "campaign"):
        assert all(report[unchanging] == case[0][unchanging] for report in case)
    numbers = [report["report_id"] for report in case]
    assert numbers == [f"ciie2020-{case[0]['case_id']}-{n:02d}" for n in range(1, len(case) + 1)]


def test_every_standard_is_met() -> None:
    catalogue = Catalogue.load()
    for case in CASES.values():
        met(case, catalogue)


def met(case: list[Report], catalogue: Catalogue) -> None:
    kind, category = case[0]["kind"], case[0]["category"]
    completion, arrival = (catalogue.limit(kind, standard, category) for standard in ("completion", "arrival"))
    assert completion is not None
    assert 0 < seconds_to(case, "arrived") < seconds_to(case, "finished", -1) <= completion
    assert (arrival is None) is (kind == "incident")
    assert arrival is None or seconds_to(case, "arrived") <= arrival


def test_every_category_is_in_the_catalogue_for_its_kind() -> None:
    catalogue = Catalogue.load()
    for case in CASES.values():
        assert catalogue.lookup(case[0]["kind"], case[0]["category"]).standing is Standing.KNOWN
    repairs = {case[0]["category"][:2] for case in CASES.values() if case[0]["kind"] == "repair"}
    incidents = {case[0]["category"][:2] for case in CASES.values() if case[0]["kind"] == "incident"}
    assert repairs == {"01", "02", "03", "04", "05", "06"}
    assert incidents == {"01", "02", "03", "04", "05"}


@pytest.mark.parametrize("category", ["0211", "0404"])
def test_the_worked_example_took_ten_hours(category: str) -> None:
    (case,) = [c for c in CASES.values() if (c[0]["kind"], c[0]["category"]) == ("repair", category)]
    assert case[0]["campaign"]["phase"] == "formal"
    assert case[0]["location"]["address"] == "杨树浦路秦皇岛路口"
    assert seconds_to(case, "finished") == 36_000
    assert seconds_to(case, "arrived") <= 120
    assert stages(case) == ["reported", "dispatched", "arrived", "note", "note", "note", "finished", "approved"]
    test_at_night = case[5]
    assert "试灯" in test_at_night["description"]
    assert datetime.fromisoformat(test_at_night["occurred_at"]).hour >= 18


def test_one_repair_was_reworked() -> None:
    (case,) = [case for case in CASES.values() if "returned" in stages(case)]
    assert case[0]["kind"] == "repair"
    told = [stage for stage in stages(case) if stage in {"finished", "returned", "approved"}]
    assert told == ["finished", "returned", "finished", "approved"]


def test_the_variety_of_stages() -> None:
    told = Counter(report["stage"] for report in REPORTS)
    assert told["suspended"] == told["resumed"] == 2
    assert told.keys() == Catalogue.load().stages.keys() - {"cancelled"}


def test_the_reports_come_in_order_and_each_once() -> None:
    times = [datetime.fromisoformat(report["occurred_at"]) for report in REPORTS]
    assert times == sorted(times)
    assert {time.utcoffset() for time in times} == {timedelta(hours=8)}
    assert len({report["report_id"] for report in REPORTS}) == len(REPORTS)
    assert all(re.fullmatch(r"2020(10|11)[0-9]{6}", case_id) for case_id in CASES)
    assert all(c[0]["occurred_at"][:10].replace("-", "") == case_id[:8] for case_id, c in CASES.items())


def test_the_reports_keep_to_the_contract() -> None:
    fields = {"report_id", "case_id", "kind", "category", "stage", "occurred_at", "supervision", "campaign"}
    fields |= {"location", "source", "source_name", "description", "attachments", "handler", "reporter"}
    catalogue = Catalogue.load()
    for report in REPORTS:
        assert report.keys() <= fields
        assert ("location" in report) is (report["stage"] == "reported")
        for attachment in report.get("attachments", []):
            assert attachment["url"].startswith("https://media.gridgov.example/")
        if location := report.get("location"):
            assert location["street_code"] == "310109018000"
            assert re.fullmatch(r"310109018[0-9]{5}", location.get("grid_code", "31010901800000"))
            assert location.get("component_id", f"310109{report['category']}")[:10] == f"310109{report['category']}"
            assert "x" not in location or catalogue.box.contains(location["x"], location["y"])


def test_the_people_in_it_are_nobody() -> None:
    reporters = [report["reporter"] for report in REPORTS if "reporter" in report]
    assert len(reporters) == 3
    assert all(person["name"].startswith("虚构") and person["phone"].startswith("000") for person in reporters)


def test_the_page_beside_it_counts_what_is_there() -> None:
    page = (DEMO / "ciie-2020.md").read_text(encoding="utf-8")
    assert f"{len(CASES)} cases, {len(REPORTS)} reports" in page
    assert f"{len(CASES)} 个案件，{len(REPORTS)} 条报告" in page
