"""What known senders got refused: kept without people, within its room, published, and sent again once it is mended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter

from schemas import event, rejected
from schemas.catalogue import Catalogue
from schemas.reasons import Reason
from schemas.report import Invalid, Problem, load
from service.cli.main import main
from service.domain.meaning import examine
from service.intake.keys import Keys, Role
from service.journal.journal import SqliteJournal
from service.ports import Delivery, Failure, ParkReason, PauseReason, Pending, RecordRefused
from service.quarantine.intake import MOST_WAITING, QuarantineDesk
from service.quarantine.publish import RejectsPublisher
from service.quarantine.store import Quarantine
from tests.gridgov import report
from tests.unit.test_personal import json_values

NOW_MS = 1_604_450_000_000
PHONE, NAME = "13812345678", "金丝雀先生"
UNKNOWN = [Problem("/category", Reason.UNKNOWN_CATEGORY)]


def unknown(number: int, **changes: Any) -> dict[str, Any]:
    """A report of a minor class that the catalogue does not have."""
    return report(number, category="0277", **changes)


# ---- what is kept ----


def test_what_is_kept_is_the_report_without_people() -> None:
    sent = unknown(1, description=f"联系{PHONE}", reporter={"name": NAME, "phone": PHONE}, extra={"电话": int(PHONE)})
    found = rejected.kept(sent)

    assert found.faithful
    assert found.report == sent | {
        "description": "联系138********",
        "reporter": {"name": "*"},
        "extra": {"电话": "138********"},
    }
    assert (found.report_id, found.case_id) == ("r-1", "202011041")


def test_it_is_still_the_same_report_to_us() -> None:
    """So its sender gets the receipt, not a conflict, when it sends it again itself after we have."""
    sent = report(
        1, description=f"联系{PHONE}", reporter={"name": NAME, "phone": None}, extra={PHONE: [PHONE]}, handler=None
    )
    again = rejected.kept(sent).report

    assert load(again, now_ms=NOW_MS).fingerprint() == load(sent, now_ms=NOW_MS).fingerprint()


WRONG: dict[str, dict[str, Any]] = {
    "an unknown field": report(1, wechat=NAME),
    "an unknown field inside": report(1, location={"address": "a", "owner": NAME}),
    "a person in an id": report(1, report_id=f"{NAME} {PHONE}", case_id=PHONE + " "),
    "a reporter that is a text": report(1, reporter=f"{NAME} {PHONE}"),
    "more of the reporter": report(1, reporter={"name": NAME, "wechat": PHONE}),
    "a number for a code": report(1, category=int(PHONE)),
    "text for a place": report(1, location=f"电话{PHONE}"),
    "an object for a text": report(1, description={"phone": PHONE}),
    "an attachment without an address": report(1, attachments=[{"url": f"tel:{PHONE}", "of": NAME}, PHONE]),
}


@pytest.mark.parametrize("sent", WRONG.values(), ids=WRONG)
def test_whatever_is_wrong_with_it_no_person_is_in_what_is_kept(sent: dict[str, Any]) -> None:
    found = rejected.kept(sent)
    value = rejected.build(found, at_ms=NOW_MS, sender="s", reason="r", problems=UNKNOWN, edition="e")

    assert PHONE.encode() not in value
    assert NAME.encode() not in value
    rejected.RejectedSchema().load(orjson.loads(value))


@given(st.dictionaries(st.sampled_from([*report(1), "reporter", "extra", "x"]), json_values))
def test_any_object_is_kept_in_a_form_that_the_contract_has(sent: dict[str, Any]) -> None:
    found = rejected.kept(sent)
    value = rejected.build(found, at_ms=NOW_MS, sender="s", reason="r", problems=(), edition="e")

    assert orjson.loads(value)["report"] == found.report
    assert set(found.report or {}) <= set(sent)
    if found.faithful and found.report is not None:
        try:
            fingerprint = load(sent, now_ms=NOW_MS).fingerprint()
        except Invalid:
            return
        assert load(found.report, now_ms=NOW_MS).fingerprint() == fingerprint


def test_what_is_too_large_is_told_without_its_content() -> None:
    found = rejected.kept(unknown(1, description="述" * 20000))

    assert found == rejected.Kept(None, False, "r-1", "202011041")


# ---- its file ----


def desk(directory: Path, *, limit: int = 1 << 24, days: int = 30, now: Callable[[], float] = lambda: NOW_MS / 1000):  # type: ignore[no-untyped-def]
    store = Quarantine(directory, limit=limit)
    counter = Counter("quarantine", "", ["result"], registry=CollectorRegistry())
    made = QuarantineDesk(
        directory, counter, open=lambda: Quarantine(directory, limit=limit), edition="e", keep_days=days, clock=now
    )
    return made, store, counter


def count(counter: Counter, result: str) -> float:
    return float(counter.labels(result)._value.get())


def test_the_same_again_is_one_row_with_its_number(tmp_path: Path) -> None:
    made, store, counter = desk(tmp_path)
    for number in (1, 1, 2, 1):
        made.refused("platform", unknown(number), Reason.INVALID_REPORT, UNKNOWN)
    made.turn()

    assert [(one.report_id, one.times, one.codes) for one in store.all()] == [
        ("r-1", 3, "unknown_category"),
        ("r-2", 1, "unknown_category"),
    ]
    assert count(counter, "kept") == 4
    assert b"\n".join(path.read_bytes() for path in tmp_path.glob("rejects*")).count(PHONE.encode()) == 0


def test_a_flood_takes_no_more_than_its_room(tmp_path: Path) -> None:
    limit = 1 << 20
    made, store, _ = desk(tmp_path, limit=limit)
    for number in range(3000):
        made.refused("platform", unknown(number, description="述" * 300), Reason.INVALID_REPORT, UNKNOWN)
        if number % 500 == 499:
            made.turn()
    kept = store.all()

    assert 100 < len(kept) < 2000
    assert kept[-1].report_id == "r-2999"  # the oldest gave way
    assert sum(len(one.value) for one in kept) < limit
    assert sum(path.stat().st_size for path in tmp_path.glob("rejects.sqlite3")) < 4 * limit


def test_what_waits_is_bounded_and_what_does_not_fit_is_counted(tmp_path: Path) -> None:
    made, store, counter = desk(tmp_path)
    sent = unknown(1, description="x" * 200_000)
    for _ in range(60):
        made.refused("platform", sent, Reason.INVALID_REPORT, UNKNOWN)
    assert made._bytes <= MOST_WAITING
    made.turn()
    assert count(counter, "kept") + count(counter, "dropped") == 60
    assert count(counter, "dropped") > 10
    made._quarantine.scarce = lambda: True
    made.refused("platform", sent, Reason.INVALID_REPORT, UNKNOWN)
    made.turn()

    assert [one.times for one in store.all()] == [count(counter, "kept")]


def test_it_is_kept_for_its_days(tmp_path: Path) -> None:
    now = NOW_MS / 1000
    made, store, _ = desk(tmp_path, days=30, now=lambda: now)
    made.refused("platform", unknown(1), Reason.INVALID_REPORT, UNKNOWN)
    made.turn()
    now += 29 * 86400
    made.turn()
    assert len(store.all()) == 1
    now += 2 * 86400
    made.turn()

    assert store.all() == []


def test_a_damaged_file_is_begun_anew_and_stops_nothing(tmp_path: Path) -> None:
    made, store, counter = desk(tmp_path)
    made.refused("platform", unknown(1), Reason.INVALID_REPORT, UNKNOWN)
    made.turn()
    made._quarantine.close()
    store.close()
    (tmp_path / "rejects.sqlite3").write_bytes(b"no database" * 1000)
    (tmp_path / "rejects.sqlite3-wal").unlink(missing_ok=True)
    made._quarantine = None
    for number in (2, 3):
        made.refused("platform", unknown(number), Reason.INVALID_REPORT, UNKNOWN)
        made.turn()

    assert (count(counter, "kept"), count(counter, "dropped")) == (2, 1)
    assert [one.report_id for one in Quarantine(tmp_path, limit=1 << 24).all()] == ["r-3"]


# ---- on its way to Kafka ----


class Watch:
    reachable = True
    topics: dict[str, Any] = {}  # noqa: RUF012
    paused: PauseReason | None = None

    def pause(self, name: str) -> PauseReason | None:
        assert name == rejected.TOPIC
        return self.paused


class Taken:
    """A publisher that acknowledges what it is told to, and refuses the rest."""

    def __init__(self, sent: list[Pending], refuse: int | None = None, fail_at: int | None = None) -> None:
        self._sent, self._refuse, self._fail_at = sent, refuse, fail_at
        self._handed: list[Pending] = []  # sent once it is pushed
        self._new: list[Delivery] = []
        self._failure: Failure | None = None

    def send(self, message: Pending) -> None:
        if message.seq == self._refuse:
            raise RecordRefused(ParkReason.RECORD_TOO_LARGE, "")
        if self._failure is None and message.seq == self._fail_at:
            self._failure = Failure(message.seq, "E", "", refused=ParkReason.RECORD_REFUSED)
        if self._failure is None:
            self._handed.append(message)

    def push(self) -> None:
        self._sent += self._handed
        self._new += [Delivery(message.seq, 0, 0, 0) for message in self._handed]
        self._handed = []

    def deliveries(self) -> list[Delivery]:
        new, self._new = self._new, []
        return new

    def failure(self) -> Failure | None:
        return self._failure

    def close(self) -> None:
        pass


def test_each_is_published_once_and_what_kafka_will_never_take_is_left(tmp_path: Path) -> None:
    made, store, _ = desk(tmp_path)
    for number in range(1, 7):
        made.refused("platform", unknown(number), Reason.INVALID_REPORT, UNKNOWN)
    made.turn()
    sent: list[Pending] = []
    faults = [{"refuse": 2, "fail_at": 4}, {}]
    watch = Watch()

    def connect(id_: str) -> Taken:
        assert id_ == store.id
        return Taken(sent, **faults.pop(0))

    publisher = RejectsPublisher(lambda: store, connect, watch)
    watch.paused = PauseReason.MISSING
    assert publisher.turn() == 0
    watch.paused = None
    assert publisher.turn() == 4  # 1, 3; 2 and 4 are refused
    assert publisher.turn() == 2
    assert publisher.turn() == 0
    assert [one.seq for one in sent] == [1, 3, 5, 6]
    told = dict(event.unpacked(sent[0].headers))
    assert (told["ce_type"], told["ce_source"], len(told["ce_id"])) == (b"gridgov.rejected", b"platform", 32)
    assert sent[0].case_id == "202011041"


def test_it_ends_when_it_is_told_to(tmp_path: Path) -> None:
    stop = threading.Event()
    publisher = RejectsPublisher(lambda: None, lambda _: pytest.fail("nothing to publish"), Watch())
    publisher.start(stop)
    stop.set()
    publisher.join()
    assert publisher._thread is not None
    assert not publisher._thread.is_alive()


# ---- the command line ----


def test_what_the_catalogue_knows_by_now_is_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDGOV_DATA_DIR", str(tmp_path))
    made, _, _ = desk(tmp_path)
    journal = SqliteJournal(tmp_path, limit=1 << 24)
    sent = unknown(1, description=f"联系{PHONE}", reporter={"name": NAME})
    made.refused("platform", sent, Reason.INVALID_REPORT, UNKNOWN)
    made.refused(
        "platform", unknown(2, wechat="x"), Reason.INVALID_REPORT, [*UNKNOWN, Problem("", Reason.UNKNOWN_FIELD)]
    )
    made.refused("platform", report(3), Reason.CONFLICT, [])
    made.turn()

    def run(*command: str) -> Result:
        return CliRunner().invoke(main, ["rejects", *command])

    assert run("list").output.count("\n") == 3
    assert PHONE not in run("show", "1").output
    assert run("show", "9").exit_code == 1
    assert "platform has no live key" in run("replay", "--all").output
    Keys(tmp_path / "keys.json").add("platform", Role.SENDER)
    assert "still refused: /category" in run("replay", "--all").output
    monkeypatch.setenv("GRIDGOV_UNKNOWN_MINOR", "accept_and_flag")  # as a new row in the catalogue would
    done = run("replay", "--all")
    assert (done.exit_code, "1: accepted as r-1 of platform" in done.output) == (0, True), done.output
    assert "accepted 0" in run("replay", "--all").output
    assert run("replay", "2").exit_code == 1
    receipt = journal.receipt("platform", "r-1")
    assert receipt is not None
    loaded = load(sent, now_ms=NOW_MS)  # the sender itself, after we have
    meaning = examine(loaded, Catalogue.load(), now_ms=NOW_MS, accept_unknown_minor=True)
    assert not isinstance(meaning, Problem)
    [row] = journal.pending(receipt.topic, 0, 10)
    assert event.fingerprint(row.value) == loaded.fingerprint()
    told = [orjson.loads(line) for line in (tmp_path / "audit" / "audit.jsonl").read_bytes().splitlines()]
    assert {line["what"] for line in told} == {"rejects_viewed", "rejects_replayed"}
    assert [
        line["about"].get("accepted")
        for line in told
        if line["what"] == "rejects_replayed" and line["result"] != "begun"
    ] == [0, 0, 1, 0, 0]


def test_erasing_a_case_deletes_what_was_refused_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDGOV_DATA_DIR", str(tmp_path))
    made, store, _ = desk(tmp_path)
    SqliteJournal(tmp_path, limit=1 << 24)
    for number in (1, 2):
        made.refused("platform", unknown(number, description=NAME), Reason.INVALID_REPORT, UNKNOWN)
    made.turn()
    store.published([1])
    done = CliRunner().invoke(main, ["erase", "--case", "202011041"])

    assert "gridgov.rejected: 1 records" in done.output
    assert [one.report_id for one in store.all()] == ["r-2"]
