"""`GET /v1/cases`: who may see which cases, how they are found, and page by page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.gridgov import Gridgov, report, running, until
from tests.system.casebook import NOWHERE, Row, case
from tests.system.refusals import ask, refusal

MINUTE = 60.0
# case: kind, what happened so many minutes ago, what else its first report says
CASES: dict[str, tuple[str, dict[str, float], dict[str, Any]]] = {
    "early": ("repair", {"reported": 1}, {}),
    "soon": ("repair", {"reported": 10.5}, {"supervision": "urgent"}),
    "late": ("repair", {"reported": 20}, {"supervision": "urgent", "campaign": {"name": "进博会", "phase": "trial"}}),
    "soon-24h": ("repair", {"reported": 23 * 60, "arrived": 1379}, {}),
    "late-24h": ("repair", {"reported": 25 * 60, "arrived": 1495}, {"campaign": {"name": "进博会"}}),
    "stall-soon": ("incident", {"reported": 20.5, "arrived": 20}, {"supervision": "pressed"}),
    "stall-late": ("incident", {"reported": 30}, {}),
    "late-but-done": ("incident", {"reported": 40, "finished": 2}, {"supervision": "urgent"}),
    "done": (
        "repair",
        {"reported": 50, "arrived": 45, "finished": 30, "approved": 20},
        {"campaign": {"name": "进博会"}},
    ),
    "void": ("incident", {"reported": 60, "cancelled": 59}, {}),
    "on-hold": ("repair", {"reported": 10, "arrived": 9, "suspended": 8}, {}),
}
ALL = sorted(CASES)
OVERDUE = {"late", "late-24h", "stall-late"}
SOON = {"soon", "soon-24h", "stall-soon"}


def reports_of(case_id: str) -> Iterator[dict[str, Any]]:
    kind, events, more = CASES[case_id]
    for n, (stage, ago) in enumerate(events.items()):
        at = datetime.fromtimestamp(time.time() - ago * MINUTE, UTC).isoformat(timespec="milliseconds")
        named = {"case_id": case_id, "kind": kind, "category": "0211" if kind == "repair" else "0501"}
        yield report(f"{case_id}-{n}", **named, stage=stage, occurred_at=at, **(more if n == 0 else {}))


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gridgov]:
    """A gridgov with a case of every sort, without Kafka."""
    with running(Gridgov(tmp_path_factory.mktemp("varied") / "var", NOWHERE)) as own:
        status, body, _ = own.post([one for name in CASES for one in reports_of(name)], "/v1/reports/batch")
        assert (status, body["failed"]) == (202, 0), body
        assert len(own.run("cases").stdout.splitlines()) == len(CASES)  # it waits until all is folded
        yield own


def listed(gridgov: Gridgov, **parameters: object) -> Any:
    status, body = gridgov.get(f"/v1/cases?{urlencode(parameters)}")
    assert status == 200, body
    return body


def ids(body: Any) -> list[str]:
    return [one["case_id"] for one in body["cases"]]


FILTERS: dict[str, Callable[[Row], bool]] = {
    **{
        f"phase={phase}": lambda shown, phase=phase: shown["phase"] == phase  # type: ignore[misc]
        for phase in ("awaiting_arrival", "in_progress", "awaiting_approval", "suspended", "approved", "cancelled")
    },
    "kind=repair": lambda shown: shown["kind"] == "repair",
    "kind=incident": lambda shown: shown["kind"] == "incident",
    **{
        f"supervision={level}": lambda shown, level=level: shown["supervision"] == level  # type: ignore[misc]
        for level in ("none", "pressed", "supervised", "urgent")
    },
    f"campaign={quote('进博会')}": lambda shown: bool(shown["campaign"]),
    "campaign=other": lambda shown: False,
    "overdue=true": lambda shown: shown["case_id"] in OVERDUE,
    "overdue=false": lambda shown: shown["case_id"] not in OVERDUE,
    "due_soon=true": lambda shown: shown["case_id"] in SOON,
    "due_soon=false": lambda shown: shown["case_id"] not in SOON,
}


@pytest.mark.parametrize("one", FILTERS)
@pytest.mark.parametrize("other", ["", "kind=repair", "supervision=urgent", "overdue=true", "phase=awaiting_arrival"])
def test_filters_alone_and_two_at_a_time(varied: Gridgov, one: str, other: str) -> None:
    if one.startswith(other.partition("=")[0]):
        other = ""
    status, body = varied.get(f"/v1/cases?{one}&{other}")
    assert status == 200, body
    wanted = [FILTERS[each] for each in (one, other) if each]
    everything = listed(varied)["cases"]
    assert ids(body) == [shown["case_id"] for shown in everything if all(fits(shown) for fits in wanted)]
    assert body["next"] is None


def test_what_is_overdue_says_so_itself(varied: Gridgov) -> None:
    everything = listed(varied)["cases"]
    assert {one["case_id"] for one in everything if any(s["overdue"] for s in one["standards"])} == OVERDUE
    assert case(varied, "late-but-done")["phase"] == "awaiting_approval"


def test_a_listed_case_is_the_case(varied: Gridgov) -> None:
    def lasting(shown: Row) -> Row:
        lasts = [{name: one[name] for name in one if name != "elapsed_seconds"} for one in shown["standards"]]
        return shown | {"standards": lasts, "as_of": None}

    for shown in listed(varied)["cases"]:
        assert lasting(shown) == lasting(case(varied, shown["case_id"]))


@pytest.mark.parametrize("limit", [1, 2, 3, len(CASES) - 1, len(CASES), len(CASES) + 1])
def test_all_pages_are_the_whole_list_without_repeats(varied: Gridgov, limit: int) -> None:
    assert pages(varied, limit=limit) == ALL
    assert pages(varied, limit=limit, kind="repair") == [name for name in ALL if CASES[name][0] == "repair"]
    assert pages(varied, limit=limit, overdue="true") == sorted(OVERDUE)


def pages(gridgov: Gridgov, limit: int, **parameters: str) -> list[str]:
    body = listed(gridgov, limit=limit, **parameters)
    found = ids(body)
    while (cursor := body["next"]) is not None:
        assert len(body["cases"]) == limit
        body = listed(gridgov, limit=limit, cursor=cursor, **parameters)
        assert body["cases"], "an empty page at the end"
        found += ids(body)
    return found


BAD = (
    *("phase=", "phase=open", "phase=Approved", "kind=", "kind=Repair", "kind=repair%20", "supervision=high"),
    *("overdue=", "overdue=yes", "overdue=True", "overdue=1", "due_soon=no"),
    *("limit=", "limit=0", "limit=-1", "limit=1001", "limit=1e2", "limit=+5", "limit=%205", "limit=%EF%BC%95"),
    *("limit=" + "9" * 30, "limit=" + "1" * 5000),
    *("cursor=", "cursor=%20", "cursor=a%0A", "cursor=-a", "cursor=" + "a" * 65, "cursor=%E4%BA%BA", "cursor=a%00"),
    *("unknown=1", "Limit=5", "case_id=early", "limit=5&limit=6", "kind=repair&kind=repair", "sender=local"),
)


@pytest.mark.parametrize("query", BAD, ids=lambda query: query[:30])
def test_a_wrong_parameter_is_refused(varied: Gridgov, query: str) -> None:
    assert refusal(varied, method="GET", path=f"/v1/cases?{query}")[:2] == (400, "bad_parameter")


def test_a_case_nobody_has_reported_on_is_not_found(varied: Gridgov) -> None:
    for path in (
        "/v1/cases/unknown",
        "/v1/cases/EARLY",
        f"/v1/cases/{'a' * 65}",
        "/v1/cases/%00",
        "/v1/cases/%20early",
    ):
        assert refusal(varied, method="GET", path=path)[:2] == (404, "not_found")


def test_as_of_goes_on_and_never_past_a_report_that_is_not_folded(tmp_path: Path) -> None:
    own = Gridgov(tmp_path / "var", NOWHERE)
    try:
        own.start("web")
        own.ready()
        first = listed(own)["as_of"]
        until(lambda: listed(own)["as_of"] > first, "the moment goes on while nothing comes")
        assert moment(first) == pytest.approx(time.time(), abs=10)
        status, receipt, _ = own.post(report("waits"))
        assert status == 202
        assert own.post(report("too"))[0] == 202
        for _ in range(2):
            assert listed(own) == {"cases": [], "next": None, "as_of": receipt["received_at"]}
        relay = own.start("relay")
        until(lambda: ids(listed(own)) == ["20201104too", "20201104waits"], "they are folded")
        body = listed(own)
        assert body["as_of"] > receipt["received_at"]
        assert case(own, "20201104too")["as_of"] >= body["as_of"]
        relay.terminate()
        relay.wait(20)
        for file in list(own.data_dir.glob("cases.sqlite3*")):
            file.rename(file.with_name(f"away-{file.name}"))
        assert listed(own) == {"cases": [], "next": None, "as_of": receipt["received_at"]}
        assert not list(own.data_dir.glob("cases.sqlite3*")), "a reader makes no casebook"
    finally:
        own.stop()


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def made(gridgov: Gridgov, name: str, role: str, *scope: str) -> dict[str, str]:
    """The header of a new key."""
    key = gridgov.run("keys", "add", name, "--role", role, *scope, check=True).stdout.strip()
    return {"Authorization": f"Bearer {key}"}


def test_a_sender_sees_its_own_cases_and_those_of_all_see_all(tmp_path: Path) -> None:
    own = Gridgov(tmp_path / "var", NOWHERE)
    keys = {name: made(own, name, "sender") for name in ("platform", "hotline")}
    keys |= {"centre": made(own, "centre", "reader"), "overseer": made(own, "overseer", "sender", "--cases", "all")}
    reported = {"platform": ["both", "one", "three"], "hotline": ["both", "two"]}
    with running(own):
        for sender, cases in reported.items():
            for case_id in cases:
                one = report(case_id, case_id=case_id, report_id=f"same-{case_id}")  # as if they numbered alike
                assert ask(own, "POST", "/v1/reports", one, keys[sender]).status == 202
        everything = ["both", "one", "three", "two"]
        sees = {"platform": reported["platform"], "hotline": ["two"], "centre": everything, "overseer": everything}
        until(lambda: len(ask(own, "GET", "/v1/cases", headers=keys["centre"]).json["cases"]) == 4, "all are folded")
        until(lambda: len(ask(own, "GET", "/v1/cases/both", headers=keys["centre"]).json["stages"]) == 2, "by both")
        for who, visible in sees.items():
            for query in ("", "?overdue=true", "?kind=repair&limit=1000", "?phase=awaiting_arrival"):
                assert ids(ask(own, "GET", f"/v1/cases{query}", headers=keys[who]).json) == visible, (who, query)
            for case_id in sees["centre"]:
                answer = ask(own, "GET", f"/v1/cases/{case_id}", headers=keys[who])
                assert answer.status == (200 if case_id in visible else 404)
        hidden = ask(own, "GET", "/v1/cases/two", headers=keys["platform"]).json
        nowhere = ask(own, "GET", "/v1/cases/nowhere", headers=keys["platform"]).json
        assert hidden | {"request_id": None} == nowhere | {"request_id": None}, "whether it exists is not told"
        for path in ("/v1/cases", "/v1/cases/one"):
            assert refusal(own, method="GET", path=path)[:2] == (401, "unauthenticated")


def test_nobody_moves_anothers_case_but_who_may_speak_of_all(tmp_path: Path) -> None:
    own = Gridgov(tmp_path / "var", NOWHERE)
    platform, hotline = (made(own, name, "sender") for name in ("platform", "hotline"))
    overseer = made(own, "overseer", "sender", "--cases", "all")
    with running(own):

        def told(who: dict[str, str], name: str, **said: Any) -> Any:
            """The case, once a report on it is folded."""
            assert ask(own, "POST", "/v1/reports", report(name, case_id="c", **said), who).status == 202
            until(lambda: f"r-{name}" in str(overseen()), "it is folded")
            return overseen()

        def overseen() -> Any:
            return ask(own, "GET", "/v1/cases/c", headers=overseer).json

        assert told(platform, "first")["owner"] == "platform"
        shown = told(hotline, "foreign", stage="cancelled", location=None, supervision="urgent")
        assert (shown["phase"], shown["supervision"], shown["flags"]) == (
            "awaiting_arrival",
            "none",
            ["foreign_sender"],
        )
        assert [(one["sender"], one["foreign"]) for one in shown["stages"]] == [("platform", False), ("hotline", True)]
        assert ask(own, "GET", "/v1/reports/r-foreign", headers=hotline).json["state"] == "pending"  # to be published
        assert ask(own, "GET", "/v1/cases/c", headers=hotline).status == 404
        assert told(overseer, "allowed", stage="cancelled", location=None)["phase"] == "cancelled"
