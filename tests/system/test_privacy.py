"""Who reported it is looked at and forgotten: a marked name and number are searched for in everything we write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from kafka import KafkaConsumer

from tests.broker import Kafka
from tests.gridgov import NO_KAFKA, Gridgov, alone, report, running, until
from tests.system.refusals import ENGLISH, ask

PHONE, NAME, MORE = "13812345678", "金丝雀先生", "CanarySmith"
MARKS = (PHONE, NAME, MORE)
REPORTER = {"name": NAME, "phone": PHONE}

REFUSED = {
    "a field too many": report("p1", reporter=REPORTER | {"wechat": MORE}),
    "a name as a key": report("p2", reporter={NAME: 1, PHONE: 2, MORE: 3}),
    "too long": report("p3", reporter={"name": NAME * 50, "phone": PHONE * 10}),
    "a number": report("p4", reporter={"name": NAME, "phone": int(PHONE)}),
    "a text": report("p5", reporter=f"{NAME} {PHONE}"),
    "a list": report("p6", reporter=[NAME, PHONE]),
    "an object inside": report("p7", reporter={"name": {MORE: NAME}, "phone": {PHONE: MORE}}),
    "a control character": report("p8", reporter={"name": NAME + "\0", "phone": PHONE + "\r"}),
    "something else is wrong": report("p9", reporter=REPORTER, category="0277"),
    "everything else is missing": {"reporter": REPORTER},
}
UNREADABLE = {
    "a key twice": orjson.dumps(report("q1", reporter=REPORTER))[:-1]
    + f',"reporter":{{"{PHONE}":"{NAME}"}}}}'.encode(),
    "the same name twice": f'{{"reporter":{{"{MORE}":1,"{MORE}":"{PHONE}"}}}}'.encode(),
    "broken off": orjson.dumps(report("q2", reporter=REPORTER))[:-5],
    "not UTF-8": f'{{"reporter":"{NAME}{PHONE}{MORE}"}}'.encode("gbk"),
}


@pytest.fixture(scope="module")
def talkative(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gridgov]:
    """A gridgov that logs all it can."""
    own = Gridgov(tmp_path_factory.mktemp("talkative") / "var", kafka.bootstrap, {"GRIDGOV_LOG_LEVEL": "DEBUG"})
    with running(own) as started:
        yield started


def marked(data: bytes, marks: Iterable[str] = MARKS) -> list[str]:
    """The marks that are in there, also as JSON escapes."""
    return [
        mark for mark in marks if mark.encode() in data or orjson.dumps(mark)[1:-1] in data or escaped(mark) in data
    ]


def escaped(mark: str) -> bytes:
    return mark.encode("ascii", "backslashreplace")


@pytest.mark.parametrize("language", [{}, ENGLISH], ids=["zh", "en"])
@pytest.mark.parametrize("given", [*REFUSED.values(), *UNREADABLE.values()], ids=[*REFUSED, *UNREADABLE])
def test_an_error_does_not_repeat_who_reported_it(
    talkative: Gridgov, given: dict[str, object] | bytes, language: dict[str, str]
) -> None:
    alone = ask(talkative, "POST", "/v1/reports", given, language)
    assert alone.status in {400, 422}
    line = given if isinstance(given, bytes) else orjson.dumps(given)
    lines = ask(talkative, "POST", "/v1/reports/batch", line, {**language, "Content-Type": "application/x-ndjson"})
    assert (lines.status, lines.json["failed"]) == (207, 1)
    assert marked(alone.data + lines.data + repr([alone.headers, lines.headers]).encode()) == []


def test_who_reported_it_is_kept_nowhere(talkative: Gridgov) -> None:
    assert talkative.post(report("private-1", reporter=REPORTER))[0] == 202
    items = [report("private-2", reporter={"name": MORE, "phone": PHONE}), REFUSED["a text"], report("private-3")]
    assert ask(talkative, "POST", "/v1/reports/batch", items).status == 207
    assert talkative.post(report("private-1", reporter=REPORTER))[1]["duplicate"] is True
    on_disk = [path.read_bytes() for path in talkative.data_dir.iterdir() if path.name != "relay.new"]
    journal = talkative.settled()["journal_id"]
    on_disk += [path.read_bytes() for path in talkative.data_dir.iterdir() if path.name != "relay.new"]
    records = {one["headers"]["ce_id"]: one for one in talkative.consumed() if one["headers"]["journal-id"] == journal}
    assert {name: one["value"].get("reporter_given") for name, one in records.items()} == {
        "r-private-1": True,
        "r-private-2": True,
        "r-private-3": None,
    }
    receipts = [ask(talkative, "GET", f"/v1/reports/{name}").data for name in records]
    scraped = [
        talkative.http.request("GET", f"http://127.0.0.1:{port}/metrics").data
        for port in (talkative.port, talkative.web_metrics, talkative.relay_metrics)
    ]
    assert any(b"r-private-1" in file for file in on_disk)  # so we do look where reports are
    assert all(b"gridgov_build_info" in text for text in scraped)
    for written in (*on_disk, orjson.dumps(records), *receipts, *scraped, talkative.log.encode()):
        assert marked(written) == []


def on_disk(gridgov: Gridgov) -> bytes:
    files = [path for path in gridgov.data_dir.rglob("*") if path.is_file() and path.suffix != ".new"]  # drafts go away
    return b"".join(path.read_bytes() for path in files)


def test_numbers_in_free_text_are_kept_nowhere_unless_that_is_wanted(tmp_path: Path) -> None:
    text = {"description": f"请联系{PHONE}", "extra": {"电话": [PHONE, int(PHONE)]}}
    given = [report("text-1", **text), report("text-2", **text)]
    masking = Gridgov(tmp_path / "var", NO_KAFKA, {"GRIDGOV_LOG_LEVEL": "DEBUG"})
    with alone(masking):
        assert ask(masking, "POST", "/v1/reports/batch", given).json["accepted"] == 2
        assert masking.metrics()['gridgov_report_flags_total{flag="personal_data_masked"}'] == 2
        assert b"138********" in on_disk(masking)
        assert marked(on_disk(masking) + masking.log.encode()) == []
    keeping = Gridgov(masking.data_dir, NO_KAFKA, {"GRIDGOV_PERSONAL_NUMBERS": "keep"})
    with alone(keeping):  # the control; and what was masked is still known
        again = ask(keeping, "POST", "/v1/reports/batch", [*given, report("text-3", **text)]).json
        assert (again["accepted"], again["duplicates"]) == (1, 2)
        assert marked(on_disk(keeping)) == [PHONE]
    with alone(masking):
        assert ask(masking, "POST", "/v1/reports", report("text-3", **text)).json["duplicate"] is True


def refused_in_kafka(kafka: Kafka, report_id: str) -> list[dict[str, Any]]:
    """The records of the topic of refused reports that are about one."""
    reader = KafkaConsumer(
        "gridgov.rejected",
        bootstrap_servers=kafka.bootstrap,
        auto_offset_reset="earliest",
        consumer_timeout_ms=1500,
        enable_auto_commit=False,
    )
    try:
        records = [(record.key, dict(record.headers), orjson.loads(record.value)) for record in reader]
    finally:
        reader.close()
    return [
        {"key": key, "headers": headers, "value": value}
        for key, headers, value in records
        if value.get("report_id") == report_id
    ]


def test_what_was_refused_is_kept_published_and_sent_again_without_people(talkative: Gridgov, kafka: Kafka) -> None:
    given = report(
        "refused-1", category="0277", reporter=REPORTER, description=f"请联系{PHONE}", extra={PHONE: int(PHONE)}
    )
    for _ in range(3):
        assert ask(talkative, "POST", "/v1/reports", given).status == 422
    [one] = until(lambda: refused_in_kafka(kafka, "r-refused-1"), "it is in Kafka", seconds=60)
    assert one["key"] == b"20201104refused-1"
    assert one["headers"]["ce_type"] == b"gridgov.rejected"
    assert (one["value"]["reason"], one["value"]["problems"]) == (
        "invalid_report",
        [{"pointer": "/category", "code": "unknown_category"}],
    )
    listed = [orjson.loads(line) for line in talkative.run("rejects", "list", "--json", check=True).stdout.splitlines()]
    [id_] = [one["id"] for one in listed if one["report_id"] == "r-refused-1"]
    shown = talkative.run("rejects", "show", str(id_), check=True).stdout
    assert '"r-refused-1"' in shown

    assert talkative.run("rejects", "replay", str(id_)).returncode == 1
    mended = Gridgov(talkative.data_dir, kafka.bootstrap, {"GRIDGOV_UNKNOWN_MINOR": "accept_and_flag"})
    assert mended.run("rejects", "replay", "--all").returncode == 0
    talkative.settled()
    status, receipt = talkative.get("/v1/reports/r-refused-1")
    assert (status, receipt["state"]) == (200, "settled")
    assert marked(orjson.dumps([repr(one), shown, listed]) + on_disk(talkative) + talkative.log.encode()) == []
    assert talkative.metrics()['gridgov_quarantine_reports_total{result="kept"}'] >= 3
