"""Files of the version before, with reports pending, under this version's processes: all arrive, each once.

The files are those of `tests/unit/made_by_0_1`, kept from that version: building it anew from the history would take a
whole environment in every run. Of its twelve reports, 1, 2 and 5 are settled, 4 is parked, the other eight pending.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson

from tests.broker import Kafka
from tests.gridgov import Gridgov, running, until

ROOT = Path(__file__).parents[2]
SENT = [orjson.loads(line) for line in (ROOT / "deploy/demo/ciie-2020.ndjson").read_bytes().splitlines()[:12]]
PENDING = {SENT[seq - 1]["report_id"] for seq in (3, 6, 7, 8, 9, 10, 11, 12)}
SETTLED = {SENT[seq - 1]["report_id"] for seq in (1, 2, 5)}
PARKED = SENT[3]


def test_an_upgrade_with_reports_pending(kafka: Kafka, tmp_path: Path) -> None:
    var = Path(shutil.copytree(ROOT / "tests" / "unit" / "made_by_0_1", tmp_path / "var"))
    gridgov = Gridgov(var, kafka.bootstrap, {"GRIDGOV_DEDUPE_DAYS": "3650"})  # the files are older than a week
    before = gridgov.status()
    assert (before["pending"], before["settled"], before["parked"]) == (8, 3, 1)
    with running(gridgov):
        key = gridgov.run("keys", "add", "platform", "--role", "sender", check=True).stdout.strip()
        reader = gridgov.run("keys", "add", "sub-centre", "--role", "reader", check=True).stdout.strip()
        gridgov.run("journal", "requeue", "--all", check=True)
        after = gridgov.settled()
        assert after["journal_id"] == before["journal_id"]
        assert (after["accepted"], after["settled"], after["parked"], after["mismatch"]) == (12, 12, 0, 0)

        mine = [one for one in gridgov.consumed() if one["headers"]["journal-id"] == before["journal_id"]]
        assert sorted(one["value"]["report_id"] for one in mine) == sorted(PENDING | {PARKED["report_id"]})
        assert {one["headers"]["ce_source"] for one in mine} == {"platform"}

        known = {"Authorization": f"Bearer {_accepted(gridgov, key)}"}
        for report in SENT:  # what was remembered is: each is a repeat, settled ones too
            status, receipt, _ = gridgov.post(report, **known)
            assert (status, receipt["duplicate"], receipt["state"]) == (202, True, "settled")
        sees = {"Authorization": f"Bearer {_accepted(gridgov, reader)}"}
        for case_id in {report["case_id"] for report in SENT}:  # what was folded is, and the rest with it
            status, case = gridgov.get(f"/v1/cases/{case_id}", **sees)
            stages = [report["report_id"] for report in SENT if report["case_id"] == case_id]
            assert status == 200
            assert sorted(stage["report_id"] for stage in case["stages"]) == sorted(stages)


def _accepted(gridgov: Gridgov, key: str) -> str:
    """The key, once the running process knows it."""
    until(lambda: gridgov.get("/v1/catalogue", Authorization=f"Bearer {key}")[0] == 200, "the key is known")
    return key
