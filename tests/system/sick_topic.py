"""One sick topic among healthy ones: what tests of it share."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from tests.gridgov import Gridgov
from tests.system.checker import Json, Ledger
from tests.system.clients import EVERY_TOPIC, case_of

SICK = ("repair", "0499")
SICK_TOPIC = "gridgov.repair.greenery"
OTHERS = [place for place in EVERY_TOPIC if place != SICK]
BIG = "重" * 1900  # 5.7 kB in UTF-8
ROOMY = 1_048_588  # bytes; Kafka's default for max.message.bytes
SMALL_LIMIT = 4000  # bytes; ordinary reports of these tests take about 1 kB


def milliseconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp() * 1000


def lags(receipts: Mapping[str, Json], begin: float, end: float, topic: Callable[[str], bool]) -> list[float]:
    """Seconds from received_at to settled_at of the reports received within an interval (Unix seconds)."""
    return [
        (milliseconds(one["settled_at"]) - milliseconds(one["received_at"])) / 1000
        for one in receipts.values()
        if topic(one["topic"]) and begin * 1000 <= milliseconds(one["received_at"]) <= end * 1000
    ]


def set_limit(bootstrap: str, limit: int) -> None:
    """Set the sick topic's max.message.bytes, in milliseconds and not in a Java program's seconds."""
    resource = ConfigResource(ConfigResourceType.TOPIC, SICK_TOPIC, {"max.message.bytes": str(limit)})
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.alter_configs([resource])


def post_big(gridgov: Gridgov, ledger: Ledger, prefix: str, count: int) -> list[str]:
    """Reports to the sick topic that are larger than its small limit, each of a case of its own; their ids."""
    cases = [next(case_of(f"{prefix}-big-{uuid.uuid4().hex[:8]}", *SICK)) for _ in range(count)]
    reports = [{**one, "description": BIG} for one in cases]
    for one in reports:
        ledger.sent(one)
    status, body, _ = gridgov.post(reports, "/v1/reports/batch")
    assert (status, body["accepted"]) == (202, count)
    for one in reports:
        ledger.accepted({"report_id": one["report_id"]})
    return [one["report_id"] for one in reports]


def states(gridgov: Gridgov, ids: Sequence[str]) -> set[tuple[str, str | None]]:
    """State and reason of these reports' receipts."""
    receipts = [gridgov.get(f"/v1/reports/{one}")[1] for one in ids]
    return {(one["state"], one.get("reason")) for one in receipts}
