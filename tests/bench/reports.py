"""The reports of the load: about 700 bytes each, five stages a case in their order, over ten topics, every one new.

They differ in two numbers of ten digits, so that a generator only has to write digits where a template has marks.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

PLACES: Final = (
    *(("repair", "0101"), ("repair", "0211"), ("repair", "0305"), ("repair", "0404"), ("repair", "0602")),
    *(("incident", "0102"), ("incident", "0205"), ("incident", "0301"), ("incident", "0406"), ("incident", "0501")),
)
STAGES: Final = ("reported", "dispatched", "arrived", "finished", "approved")
CYCLE: Final = len(PLACES) * len(STAGES)  # after so many reports only the numbers differ
DIGITS: Final = 10
BEGAN: Final = datetime.now(UTC) - timedelta(minutes=10)  # cases of today: their deadlines lie ahead, as in service
NUMBER, BACKWARDS, CASE = (mark * DIGITS for mark in (b"#", b"~", b"$"))  # where a report's number and its case's go


def templates(prefix: str, *, scattered: bool = False) -> list[bytes]:
    """The `CYCLE` reports, with marks for the numbers; the same each time.

    `scattered`: an id begins with the last digit of its number, so that one after the other they are in no order.
    """
    report_id = f"{BACKWARDS.decode()}-{prefix}" if scattered else f"{prefix}-{NUMBER.decode()}"
    return [_template(report_id, prefix, *divmod(n, len(STAGES))) for n in range(CYCLE)]


def reports(prefix: str, count: int, first: int = 0) -> Iterator[bytes]:
    """`count` reports from number `first` on."""
    cycle = templates(prefix)
    for n in range(first, first + count):
        yield numbered(cycle[n % CYCLE], n)


def numbered(template: bytes, n: int) -> bytes:
    """Report number `n`."""
    number = b"%010d" % n
    return (
        template.replace(NUMBER, number).replace(BACKWARDS, number[::-1]).replace(CASE, b"%010d" % (n // len(STAGES)))
    )


def _template(report_id: str, prefix: str, place: int, stage: int) -> bytes:
    kind, category = PLACES[place]
    value: dict[str, Any] = {
        "report_id": report_id,
        "case_id": f"{prefix}.{CASE.decode()}",
        "kind": kind,
        "category": category,
        "stage": STAGES[stage],
        "occurred_at": (BEGAN + timedelta(minutes=stage)).isoformat(timespec="seconds"),
        "location": {
            "address": "杨树浦路 × 秦皇岛路 东北角 20 米",
            "street_code": "310109018000",
            "grid_code": "31010901800001",
            "x": 121.5123,
            "y": 31.2567,
            "crs": "WGS84",
        },
        "source": "inspector",
        "source_name": "网格监督员",
        "supervision": "pressed",
        "description": "隔离栏倒伏约 6 米，占用非机动车道，已摆放警示锥。请尽快处置，夜间须有照明。完毕后上报核查。",
        "handler": {"unit_code": "HK-018-07", "unit_name": "市政养护一队"},
        "extra": {"platform": "ywtg", "round": place},
    }
    return orjson.dumps(value)
