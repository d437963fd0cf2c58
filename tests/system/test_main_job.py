"""The main job end to end: HTTP in, real Kafka out."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import orjson

from tests.broker import Kafka, run_script
from tests.gridgov import Gridgov, report, until

DEMO = Path(__file__).parents[2] / "deploy" / "demo" / "ciie-2020.ndjson"


def test_one_report_reaches_its_topic(gridgov: Gridgov, kafka: Kafka) -> None:
    status, receipt, headers = gridgov.post(report("one"))
    assert (status, receipt["state"], receipt["duplicate"]) == (202, "pending", False)
    assert headers["Location"] == "/v1/reports/r-one"

    def settled() -> dict[str, object] | None:
        now: dict[str, object] = gridgov.get("/v1/reports/r-one")[1]
        return now if now["state"] == "settled" else None

    settled_receipt = until(settled, "the report is settled")
    [record] = [one for one in gridgov.consumed() if one["headers"]["ce_id"] == "r-one"]
    assert {name: record[name] for name in ("topic", "partition", "offset")} == {
        name: settled_receipt[name] for name in ("topic", "partition", "offset")
    }
    assert record["key"] == "20201104one"
    assert record["value"]["category_name"]["zh"] == "交通护栏"
    assert record["headers"]["ce_type"] == "gridgov.repair.reported"


def test_kafkas_own_consumer_reads_what_the_contract_says(gridgov: Gridgov, kafka: Kafka) -> None:
    reports = [
        report(f"k{n}", kind=kind, category=code)
        for n, (kind, code) in enumerate(
            [("repair", "0101"), ("repair", "0401"), ("incident", "0501"), ("incident", "0101"), ("repair", "0101")]
        )
    ]
    for one in reports:
        assert gridgov.post(one)[0] == 202
    gridgov.settled()
    for one in reports:
        receipt = gridgov.get(f"/v1/reports/{one['report_id']}")[1]
        printed = run_script(
            "console-consumer",
            "--",
            "--bootstrap-server",
            kafka.bootstrap,
            "--topic",
            receipt["topic"],
            "--partition",
            str(receipt["partition"]),
            "--offset",
            str(receipt["offset"]),
            "--max-messages",
            "1",
            "--formatter-property",
            "print.key=true",
            "--formatter-property",
            "print.headers=true",
            timeout=60,
        ).stdout.splitlines()[0]
        headers, key, value = printed.split("\t")
        assert key == one["case_id"]
        assert f"ce_id:{one['report_id']}" in headers
        assert "ce_source:local" in headers
        assert orjson.loads(value)["report_id"] == one["report_id"]  # the record at a receipt's offset is that report


def test_the_demo_arrives_once_and_in_order_of_its_cases(gridgov: Gridgov) -> None:
    done = gridgov.run("replay", str(DEMO))
    assert "accepted 266  duplicate 0  refused 0" in done.stdout, done.stdout + done.stderr
    assert "accepted 0  duplicate 266  refused 0" in gridgov.run("replay", str(DEMO), "--batch", "7").stdout
    gridgov.settled()
    sent = [orjson.loads(line) for line in DEMO.read_bytes().splitlines()]
    mine = {one["report_id"] for one in sent}
    journal = gridgov.status()["journal_id"]
    seen = [one for one in gridgov.consumed() if one["headers"]["journal-id"] == journal]
    assert sorted(one["value"]["report_id"] for one in seen) == sorted(mine)
    expected, found = defaultdict(list), defaultdict(list)
    for one in sent:
        expected[one["case_id"]].append(one["report_id"])
    for record in seen:
        found[record["key"]].append(record["value"]["report_id"])
    assert found == expected
